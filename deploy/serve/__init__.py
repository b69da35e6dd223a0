"""Answers over HTTP. The packages of the extra `serve` are imported when a server is started, and not before."""

from __future__ import annotations

from ..errors import UserError
from .settings import Settings


def serve(settings: Settings) -> int:
    """Answer until told to end (then 0).

    Raises:
        UserError: a package is missing, the address cannot be used, or a model not be loaded.
    """
    try:
        from .service import run
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("fastapi", "uvicorn", "prometheus_client"):
            raise
        raise UserError(
            f"--serve needs {error.name}, which is not installed: pip install 'paddlepatch[serve]'"
        ) from error
    return run(settings)
