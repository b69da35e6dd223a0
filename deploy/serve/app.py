"""The HTTP application: scores, list of models, health, metrics, and the page that describes them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import Any, Optional

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect

from .answers import Health, Model, Refusal, Score
from .bodies import BUSY, FULL, Bodies
from .metrics import Metrics
from .model import ModelProcess
from .settings import Settings, names_text

ABOUT = """Send the bytes of a picture file (PNG, JPEG, TIFF, BMP, WebP, GIF, JPEG 2000, PNM) to
`/models/NAME/score`. Where the server has a token, send it as `Authorization: Bearer TOKEN`."""
REASONS = {
    400: "not a picture, or a damaged one",
    401: "no token, or another one",
    404: "no such model",
    413: "the file or the picture is too large",
    415: "a form, or a compressed body",
    429: "too many pictures wait",
    500: "scoring failed",
    503: "the model's process is being started again",
}
PLAIN = "send the picture's file itself as the body, not in a form or compressed (curl --data-binary @picture.png)"
REFUSALS: dict[Any, Any] = {status: {"model": Refusal, "description": text} for status, text in REASONS.items()}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("application/octet-stream", "image/*")
        },
    }
}


def create_app(models: Mapping[str, ModelProcess], metrics: Metrics, settings: Settings, token: str | None) -> FastAPI:
    """Make the application.

    Args:
        models: the process of each model, by the model's name.
        metrics: the server's metrics.
        settings: the limits.
        token: the token that clients must send, if any; health and the description need none.
    """
    app = FastAPI(title="PaddlePatch", version="1", description=ABOUT, redoc_url=None)
    bodies = Bodies(settings.max_body, settings.max_held)
    metrics.held.set_function(lambda: float(bodies.held))
    waiting = dict.fromkeys(models, 0)
    bearer = HTTPBearer(auto_error=False)

    async def known(given: Optional[HTTPAuthorizationCredentials] = Depends(bearer)) -> None:  # noqa: B008, UP007
        right = token is None or (given and secrets.compare_digest(given.credentials.encode(), token.encode()))
        if not right:
            raise HTTPException(
                401, "send the server's token: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
            )

    guarded = [Depends(known)]

    async def answer(name: str, request: Request, heat_map: bool) -> Response:
        if waiting[name] >= settings.max_waiting:  # checked before the body is read
            raise HTTPException(429, FULL, headers=BUSY)
        async with bodies.receive(request) as body:
            if waiting[name] >= settings.max_waiting:
                raise HTTPException(429, FULL, headers=BUSY)
            waiting[name] += 1
            metrics.waiting.labels(name).set(waiting[name])
            try:
                found = await asyncio.wrap_future(models[name].submit(name, body, heat_map))
            finally:
                waiting[name] -= 1
                metrics.waiting.labels(name).set(waiting[name])
        if found.defective:
            metrics.defective.labels(name).inc()
        return Response(
            found.body, found.status, media_type="application/json", headers=BUSY if found.status == 503 else None
        )

    @app.post(
        "/models/{name}/score",
        response_model=Score,
        response_model_exclude_none=False,
        responses=REFUSALS,
        dependencies=guarded,
        openapi_extra=BODY,
    )
    async def score(name: str, request: Request, heat_map: bool = False) -> Response:
        """Score one picture, sent as the request's body; `heat_map=true` asks for the heat map as well."""
        if name not in models:
            raise HTTPException(404, f"no model {name[:40]!r} here; there are: {names_text(models)}")
        for key in request.query_params.keys() - {"heat_map"}:
            raise HTTPException(422, f"unknown parameter {key[:40]!r}: there is heat_map alone")
        form = request.headers.get("content-type", "").startswith("multipart/")
        if form or request.headers.get("content-encoding", "identity") != "identity":
            raise HTTPException(415, PLAIN)
        begin, status = time.perf_counter(), 499
        try:
            response = await answer(name, request, heat_map)
            status = response.status_code
            return response
        except ClientDisconnect:
            return Response(status_code=status)  # the client is gone and does not read it
        except HTTPException as refusal:
            status = refusal.status_code
            raise
        finally:
            metrics.requests.labels(name, str(status)).inc()
            metrics.seconds.labels(name).observe(time.perf_counter() - begin)

    @app.get("/models", response_model=list[Model], dependencies=guarded, responses={401: REFUSALS[401]})
    async def list_models() -> Any:
        """The models by name."""
        return [Model(name=name, about=of.about[name], up=of.up) for name, of in models.items()]

    @app.get("/health", response_model=Health, responses={503: {"model": Health}})
    async def health(response: Response) -> Any:
        """Whether every model can be asked; needs no token."""
        down = not all(process.up for process in models.values())
        response.status_code = 503 if down else 200
        return Health(status="a model is being started again" if down else "ok")

    @app.get("/metrics", dependencies=guarded, response_class=Response)
    async def figures() -> Response:
        """Counts, times and memory in Prometheus' format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app
