"""Log for MLflow, in a local folder unless MLflow's variable MLFLOW_TRACKING_URI names a server."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from deploy.errors import UserError

from .run import Run

SERVER = "MLFLOW_TRACKING_URI"


def write(run: Run, folder: Path) -> str:
    """Add the run to the log in `folder`; return the command that shows it. UserError if MLflow fails."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if SERVER not in os.environ:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions would use a database
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it would report every experiment that it creates
    place = os.environ.get(SERVER, folder.absolute().as_uri())
    mlflow.set_tracking_uri(place)
    try:
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "paddlepatch"))
        with mlflow.start_run(run_name=run.name):
            mlflow.log_params(run.settings)
            mlflow.log_metrics(run.figures)
            for name, path in run.pictures.items():
                mlflow.log_artifact(str(path), os.path.dirname(name))
    except mlflow.MlflowException as error:
        cause = " ".join(str(error).split())[:200]
        raise UserError(f"--log mlflow: {cause}; its place is {place}") from error
    return f"mlflow ui --backend-store-uri {place}"
