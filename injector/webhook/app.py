"""The FastAPI app: all routes except the admission paths. Collaborators are arguments; the module has no state.

The ops port serves the app, except for probes: `probe_routes` answers them directly. The admission port serves
`endpoint.AdmissionPortApp`, which passes the paths in `PUBLIC_PATHS` to the app.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from injector import __version__
from injector.webhook import openapi
from injector.webhook.endpoint import ErrorResponse
from injector.webhook.exposition import Exposition

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    from injector.webhook.endpoint import HTTPRequest, HTTPResponse
    from injector.webhook.health import Health

    _Probe = Callable[[], tuple[dict[str, object], int]]

LIVEZ_PATH: Final = "/livez"
READYZ_PATH: Final = "/readyz"
DOCS_PATH: Final = "/docs"
OPENAPI_PATH: Final = "/openapi.json"
# Paths of the app that the admission port serves. Without `--docs` the app answers /docs with 404.
PUBLIC_PATHS: Final = frozenset({DOCS_PATH, OPENAPI_PATH})


def probe_routes(health: Health) -> dict[str, Callable[[HTTPRequest], HTTPResponse]]:
    """Return the probes as plain functions that the connection calls directly, without a task or a router.

    A kubelet restarts a container whose probes time out. So the cost of a probe limits how many connections per second
    the ops port can handle. The app has the same routes, for their description in /openapi.json.
    """
    probes: dict[str, _Probe] = {LIVEZ_PATH: _livez, READYZ_PATH: functools.partial(_readyz, health)}
    return {path: functools.partial(_answer, probe) for path, probe in probes.items()}


def _livez() -> tuple[dict[str, object], int]:
    return {"status": "ok"}, 200


def _readyz(health: Health) -> tuple[dict[str, object], int]:
    ready, checks = health.ready()
    return {"status": "ok" if ready else "failed", "checks": checks}, 200 if ready else 503


def _answer(probe: _Probe, request: HTTPRequest) -> HTTPResponse:
    if request.method not in _READING:
        return _GET_ONLY.response
    content, status = probe()
    body = msgspec.json.encode(content)
    return STATUS_LINE[status] + b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body), body


_READING: Final = (b"GET", b"HEAD")
_GET_ONLY: Final = ErrorResponse.of(405, "method-not-allowed", "Use GET.", (b"allow", b"GET"))


def create_app(health: Health, registry: CollectorRegistry, *, docs: bool) -> FastAPI:
    """Return the app with health, metrics and OpenAPI description; `docs` adds the HTML documentation."""
    app = FastAPI(
        title="dapr-token-injector",
        version=__version__,
        description="Mutating admission webhook that gives every Dapr sidecar its API token.",
        docs_url=DOCS_PATH if docs else None,
        redoc_url=None,
        openapi_url=OPENAPI_PATH,
    )

    @app.get(LIVEZ_PATH, tags=["health"], summary="Whether the process is running; has no dependencies.")
    async def livez() -> JSONResponse:
        return JSONResponse(*_livez())

    not_ready: dict[int | str, dict[str, Any]] = {503: {"description": "A check failed, or the process is stopping."}}

    @app.get(
        READYZ_PATH,
        tags=["health"],
        summary="Whether this replica can serve reviews, with the result of each check.",
        responses=not_ready,
    )
    async def readyz() -> JSONResponse:
        return JSONResponse(*_readyz(health))

    exposition = Exposition(registry)

    @app.get("/metrics", tags=["metrics"], summary="Metrics in the Prometheus text format.", response_class=Response)
    async def samples(request: Request) -> Response:
        rendered = exposition.render(request.headers.get("accept", ""))
        return Response(rendered.text, media_type=rendered.media_type)

    app.openapi = functools.cache(lambda: openapi.document(app))  # type: ignore[method-assign] # the extension point that FastAPI documents
    return app
