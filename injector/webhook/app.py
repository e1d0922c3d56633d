"""The FastAPI app: every route but the hot path. Collaborators are arguments; nothing lives in this module.

The ops port serves the app as it is; the admission port serves `endpoint.AdmissionFront`, which hands on what it does
not answer itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client.exposition import choose_encoder

from injector import __version__
from injector.webhook import openapi

if TYPE_CHECKING:
    from injector.telemetry import Metrics
    from injector.webhook.health import Health

DOCS_PATH: Final = "/docs"
OPENAPI_PATH: Final = "/openapi.json"
# What the admission port shows of the app; /docs is a 404 of the app's own unless it was asked for.
PUBLIC_PATHS: Final = frozenset({DOCS_PATH, OPENAPI_PATH})


def create_app(health: Health, metrics: Metrics, *, docs: bool) -> FastAPI:
    """The app with health, metrics and its own description; `docs` adds a page for people."""
    app = FastAPI(
        title="dapr-token-injector",
        version=__version__,
        description="Mutating admission webhook that gives every Dapr sidecar its API token.",
        docs_url=DOCS_PATH if docs else None,
        redoc_url=None,
        openapi_url=OPENAPI_PATH,
    )

    @app.get("/livez", tags=["health"], summary="The process runs; depends on nothing.")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    not_ready: dict[int | str, dict[str, Any]] = {503: {"description": "A check failed, or the process is stopping."}}

    @app.get(
        "/readyz",
        tags=["health"],
        summary="Whether to send reviews here, with each check by name.",
        responses=not_ready,
    )
    async def readyz() -> JSONResponse:
        ready, checks = health.ready()
        return JSONResponse({"status": "ok" if ready else "failed", "checks": checks}, 200 if ready else 503)

    @app.get("/metrics", tags=["metrics"], summary="Samples for Prometheus.", response_class=Response)
    async def samples(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), media_type=content_type)

    described: dict[str, Any] = {}

    def describe() -> dict[str, Any]:
        if not described:
            described.update(openapi.document(app))
        return described

    app.openapi = describe  # type: ignore[method-assign] # the extension point that FastAPI documents
    return app
