"""Scoring with Ray, on one machine or many. The packages of the extra `ray` are imported only when it is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..command_line.parser import ALL, NONE, Arguments
from ..errors import UserError
from ..runtime.program import Runtime

if TYPE_CHECKING:
    from .ray_data import RayPredictor

LOCAL, RAY = ENGINES = ("local", "ray")
"""Values of --engine."""
NOT_FOR_RAY = (
    *("watch", "serve", "save_mask", "save_map", "save_regions", "min_area"),
    *("gpu", "enable_benchmark", "model_name"),
)
"""Options that do not work with Ray: its workers only return scores and write no files, and Ray assigns the GPUs."""


def ray_predictor(args: Arguments, runtime: Runtime) -> RayPredictor:
    """Return the export that infer.py's options name, ready to be run by Ray. No heat maps are drawn.

    Raises:
        UserError: an option does not work with Ray, a package is missing, or the export cannot be read.
    """
    moot = [name for name in NOT_FOR_RAY if name in args.given]
    moot += ["save_pic"] if "save_pic" in args.given and args.save_pic == ALL else []
    if moot:
        raise UserError(f"--engine ray scores --input_file and writes tables alone: leave out --{' --'.join(moot)}")
    args.save_pic = NONE
    try:
        from .ray_data import RayPredictor
    except ImportError as error:  # error.name is None if pyarrow needs a newer numpy
        package = (error.name or "pyarrow").partition(".")[0]
        if package not in ("ray", "pyarrow", "pandas", "fsspec"):
            raise
        raise UserError(f"--engine ray needs {package}: {error}; pip install 'paddlepatch[ray]'") from error
    files = args.stats[0], args.model_file, args.params_file
    return RayPredictor(*files, runtime, Path(args.save_path) / "infer.parts")
