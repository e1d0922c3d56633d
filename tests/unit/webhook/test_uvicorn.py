"""The private parts of uvicorn that `injector.webhook.protocol` is built on: each is as the code expects it."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, cast

import pytest
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tests.unit.webhook.test_protocol import answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn._types import HTTPScope

CHANGED = (
    "a new uvicorn changed {}; read injector/webhook/protocol.py against it before you raise the bound in pyproject"
)


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (HttpToolsProtocol.__init__, ["self", "config", "server_state", "app_state", "_loop"]),
        (HttpToolsProtocol.connection_made, ["self", "transport"]),
        (HttpToolsProtocol.connection_lost, ["self", "exc"]),
        (HttpToolsProtocol.data_received, ["self", "data"]),
        (HttpToolsProtocol.eof_received, ["self"]),
        (HttpToolsProtocol.pause_writing, ["self"]),
        (HttpToolsProtocol.resume_writing, ["self"]),
        (HttpToolsProtocol.on_message_begin, ["self"]),
        (HttpToolsProtocol.on_url, ["self", "url"]),
        (HttpToolsProtocol.on_header, ["self", "name", "value"]),
        (HttpToolsProtocol.on_headers_complete, ["self"]),
        (HttpToolsProtocol.on_body, ["self", "body"]),
        (HttpToolsProtocol.on_message_complete, ["self"]),
        (HttpToolsProtocol.on_response_complete, ["self"]),
        (HttpToolsProtocol._start_asgi_task, ["self", "cycle", "app"]),
        (
            RequestResponseCycle.__init__,
            [
                "self",
                "scope",
                "transport",
                "flow",
                "logger",
                "access_logger",
                "access_log",
                "default_headers",
                "message_event",
                "expect_100_continue",
                "keep_alive",
                "on_response",
            ],
        ),
        (RequestResponseCycle.run_asgi, ["self", "app"]),
        (FlowControl.pause_reading, ["self"]),
        (FlowControl.resume_reading, ["self"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_signature_is_the_one_that_is_called(function: Callable[..., object], parameters: list[str]) -> None:
    found = list(inspect.signature(function).parameters)
    assert found == parameters, CHANGED.format(function.__qualname__)


def test_callbacks_of_the_parser_are_those_that_we_replace() -> None:
    found = {name for name in vars(HttpToolsProtocol) if name.startswith("on_")}
    assert found == {
        "on_message_begin",
        "on_url",
        "on_header",
        "on_headers_complete",
        "on_body",
        "on_message_complete",
        "on_response_complete",
    }, CHANGED.format("the callbacks of HttpToolsProtocol")


def test_attributes_that_are_read_are_there() -> None:
    config = Config(answer, http="httptools", ws="none", lifespan="off", log_config=None, proxy_headers=False)
    config.load()
    loop = asyncio.new_event_loop()
    try:
        protocol = HttpToolsProtocol(config, ServerState(), {}, loop)
        transport = asyncio.Transport({"sslcontext": object()})
        protocol.connection_made(transport)
        scope = cast("HTTPScope", {})
        options = {"access_log": False, "default_headers": [], "expect_100_continue": False, "keep_alive": True}
        cycle = RequestResponseCycle(
            scope,
            transport,
            protocol.flow,
            protocol.logger,
            protocol.access_logger,
            message_event=asyncio.Event(),
            on_response=lambda: None,
            **options,  # type: ignore[arg-type] # each of the type that its name says
        )
    finally:
        loop.close()
    expected = {
        config: ("loaded_app",),
        protocol: (
            *(
                "config",
                "connections",
                "access_logger",
                "client",
                "cycle",
                "flow",
                "headers",
                "logger",
                "loop",
                "parser",
            ),
            *("scheme", "server", "tasks", "transport"),
        ),
        protocol.flow: ("read_paused", "write_paused"),
        cycle: ("keep_alive", "message_event", "more_body", "response_complete"),
        ServerState(): ("connections",),
    }
    for owner, names in expected.items():
        for name in names:
            assert hasattr(owner, name), CHANGED.format(f"{type(owner).__name__}.{name}")
    assert protocol.scheme == "https", CHANGED.format("what HttpToolsProtocol.scheme says of TLS")
    assert protocol in protocol.connections, CHANGED.format("HttpToolsProtocol.connections")
    assert STATUS_LINE[200] == b"HTTP/1.1 200 OK\r\n", CHANGED.format("STATUS_LINE")
