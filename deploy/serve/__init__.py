"""HTTP server for scores. The packages of the extra `serve` are imported only when a server is started."""

from __future__ import annotations

from ..errors import UserError
from .settings import Settings


def serve(settings: Settings) -> int:
    """Run the server until it is told to end; return 0 then.

    Raises:
        UserError: a package is missing, the address cannot be used, or a model cannot be loaded.
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
