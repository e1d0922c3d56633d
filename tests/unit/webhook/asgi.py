"""The smallest ASGI caller: one request in, one answer out, no server between."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message


def call(
    app: ASGIApp,
    path: str,
    *,
    method: str = "GET",
    body: bytes | list[bytes] = b"",
    headers: dict[str, str] | None = None,
    **scope: object,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer; a list is a body in pieces."""
    pieces = body if isinstance(body, list) else [body]
    sent: list[Message] = []
    arriving = iter(pieces)
    left = len(pieces)

    async def receive() -> Message:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": next(arriving), "more_body": left > 0}

    async def send(message: Message) -> None:
        sent.append(message)

    path, _, query = path.partition("?")
    asked: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "https",
        "http_version": "1.1",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "server": ("webhook.test", 443),
        "client": ("127.0.0.1", 1),
        **scope,
    }

    async def run() -> None:
        await app(asked, receive, send)

    asyncio.run(run())
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])
