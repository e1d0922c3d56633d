"""The listener and the loop's edges: what sockets do only when something is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import socket
import ssl
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from uvicorn.config import Config

from injector.webhook import server as module
from injector.webhook.metrics import RequestMetrics
from injector.webhook.overload import LoopMonitor
from injector.webhook.protocol import Limits, Port
from injector.webhook.server import Listener, bind
from tests.http.certificates import Files, Issuer, key_pem, new_key
from tests.http.client import client_context
from tests.unit.webhook.test_protocol import GET, answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LIMITS = Limits(headers_timeout=30, body_timeout=30, keep_alive_timeout=30, max_body_bytes=1000, max_bodies=1)


def test_empty_host_listens_on_both_families() -> None:
    with bind("", 0) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            assert connection.getpeername()[1] == port


def test_empty_host_without_ipv6_is_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    make = socket.create_server

    def no_ipv6(address: tuple[str, int], *, family: int, **rest: Any) -> socket.socket:  # noqa: ANN401 - passed on
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "no IPv6 here")
        return make(address, family=family, **rest)

    monkeypatch.setattr(socket, "create_server", no_ipv6)
    with bind("", 0) as listening:
        assert listening.family == socket.AF_INET
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with bind("", 0) as listening:
        assert listening.family == socket.AF_INET


def test_port_in_use_is_an_error() -> None:
    with bind("", 0) as listening, pytest.raises(OSError, match="in use"):
        bind("", listening.getsockname()[1])


class Failing:
    """A listening socket whose accept fails until the test resets it."""

    def __init__(self, real: socket.socket, error: OSError | None) -> None:
        self.real = real
        self.error = error
        self.asked = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.real.accept()

    def fileno(self) -> int:
        return self.real.fileno()

    def getsockname(self) -> Any:  # noqa: ANN401 - passed on
        return self.real.getsockname()

    def close(self) -> None:
        self.real.close()


def make_port() -> Port:
    config = Config(answer, http="httptools", ws="none", lifespan="off", log_config=None, proxy_headers=False)
    config.load()
    return Port({}, LIMITS, LoopMonitor(), RequestMetrics(), config)


def make_listener(real: socket.socket, error: OSError | None = None) -> tuple[Listener, Failing]:
    failing = Failing(real, error)
    listener = Listener(failing, make_port(), max_connections=10)  # type: ignore[arg-type] # as much of a socket as is used
    return listener, failing


async def until(probe: Callable[[], object]) -> None:
    async with asyncio.timeout(90):
        while not probe():  # noqa: ASYNC110 - a counter of a plain object has no change event
            await asyncio.sleep(0.005)


def test_accept_pauses_without_descriptors_and_resumes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_ACCEPT_PAUSE", 0.01)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        listener, failing = make_listener(bind("127.0.0.1", 0), OSError(errno.EMFILE, "too many"))
        listener.start(loop)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.number)
        await until(lambda: failing.asked > 2)
        failing.error = None
        writer.write(GET)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()
        await until(lambda: not listener.open)
        listener.stop(loop)
        # A pause that ends after the listener was stopped wakes nothing.
        listener._resume(loop)

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert {record.message for record in caplog.records} == {"cannot accept connections"}


def test_connection_that_fails_before_its_start_is_released() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        listener, failing = make_listener(bind("127.0.0.1", 0))
        for greeting in ({"ssl": object()}, {}):  # no context for a handshake; a closed socket
            gone = socket.socket()
            gone.close()
            listener.open += 1
            listener._tls = greeting
            listener._greet(module._Counted(listener, loop), gone, loop)
            (task,) = listener._tasks
            with contextlib.suppress(TypeError, ValueError):
                await task
        assert (listener.open, listener.port.slots.count, listener._tasks) == (0, 0, set())
        assert listener.port.metrics.refused["handshake"] == 2
        failing.close()

    asyncio.run(scenario())


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Rings of objects stay, as they do for a long time in a server that makes hardly any."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("is_tls", [True, False])
def test_ended_connection_is_released(tmp_path: Path, *, is_tls: bool) -> None:
    issuer, key = Issuer(), new_key()
    files = Files.write(tmp_path, issuer.issue(key), key_pem(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.chain, files.key)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        listening = bind("127.0.0.1", 0)
        listener = Listener(listening, make_port(), max_connections=10, context=context if is_tls else None)
        listener.start(loop)
        trust = client_context(issuer.pem) if is_tls else None
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.number, ssl=trust)
        try:
            writer.write(GET)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            connections = [weakref.ref(connection) for connection in listener.connections()]
        finally:
            writer.close()
            await writer.wait_closed()
        try:
            await until(lambda: not listener.open)
            await until(lambda: [each() for each in connections] == [None])
        finally:
            listener.stop(loop)

    uvloop.run(scenario())


def test_uncaught_exception_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(module._log_exception)
        loop.call_exception_handler({"message": "hunter2", "exception": ValueError("hunter2")})
        loop.call_exception_handler({"message": "hunter2"})
        loop.close()
    fields = [record.__dict__["fields"] for record in caplog.records]
    assert fields == [{"exception": "ValueError", "frames": []}, {}]
    assert "hunter2" not in caplog.text
