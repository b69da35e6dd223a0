"""Log for Weights & Biases, offline unless wandb's variable WANDB_MODE is set."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from deploy.errors import UserError

from .run import Run

MODE = "WANDB_MODE"


def write(run: Run, folder: Path) -> str:
    """Add the run to the log in `folder`; return the command that uploads it. UserError if wandb fails."""
    os.environ.setdefault(MODE, "offline")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # wandb would report its own errors to its developers
    import wandb

    quiet = wandb.Settings(silent=True, console="off", disable_git=True)
    project = os.environ.get("WANDB_PROJECT", "paddlepatch")
    try:
        with wandb.init(project=project, name=run.name, config=run.settings, dir=str(folder), settings=quiet) as log:
            place = Path(log.dir).parent
            log.log({**run.figures, **{name: wandb.Image(str(path)) for name, path in run.pictures.items()}})
    except wandb.Error as error:
        cause = " ".join(str(error).split())[:200]
        raise UserError(f"--log wandb: {cause}; without {MODE} it needs no server") from error
    finally:
        wandb.teardown()  # waits until wandb's own process has written everything and ended
    return f"wandb sync {shlex.quote(str(place))}" if os.environ[MODE] == "offline" else f"{place}, and wandb's server"
