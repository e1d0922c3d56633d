"""JSON over the HTTP server of the standard library, for fake API servers and webhooks, and a kubeconfig."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from http.server import BaseHTTPRequestHandler


def read_json(handler: BaseHTTPRequestHandler) -> Any:  # noqa: ANN401 - JSON
    """The request's body; None when it has none."""
    length = int(handler.headers.get("Content-Length") or 0)
    return json.loads(handler.rfile.read(length)) if length else None


def send_json(handler: BaseHTTPRequestHandler, status: int, content: object, warnings: Sequence[str] = ()) -> None:
    """The whole response, with warnings as an API server sends them (RFC 7234, code 299)."""
    send_content(handler, status, json.dumps(content).encode(), warnings)


def send_content(
    handler: BaseHTTPRequestHandler, status: int, content: bytes, warnings: Sequence[str] = (), retry_after: str = ""
) -> None:
    """The same for JSON that is already encoded."""
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    for warning in warnings:
        handler.send_header("Warning", f'299 - "{warning}"')
    if retry_after:
        handler.send_header("Retry-After", retry_after)
    handler.end_headers()
    handler.wfile.write(content)


def kubeconfig(server: str) -> dict[str, Any]:
    """A kubeconfig for a server, without credentials."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
    }
