"""Runs both ports in one event loop, from bind to close.

This module accepts connections itself. uvicorn's server has no limit of connections that does not count idle ones, no
deadline for handshakes, and one set of signal handlers per server. Connections above the limit are closed immediately.
All others are passed to `loop.connect_accepted_socket`, with a deadline for the handshake.

When Kubernetes removes a replica, requests continue to arrive until all EndpointSlices and API servers are updated, and
there is no failover. So after SIGTERM the replica is not ready, but keeps serving, with `Connection: close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from injector.frames import frames
from injector.telemetry.logs import LOGGER
from injector.webhook.protocol import CLOSE_TIMEOUT, Connection, Port

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from injector.telemetry.logs import LogSink
    from injector.webhook.certs.source import CertificateSource
    from injector.webhook.health import Health
    from injector.webhook.overload import LoopMonitor
    from injector.webhook.slots import Victim

logger = logging.getLogger(f"{LOGGER}.server")

# Connections that the kernel queues while the event loop is busy.
_BACKLOG: Final = 2048
# Limits of the connections that are accepted in one iteration, so that many new connections do not block requests. One
# connection is accepted per this number of slots, so that a new connection has dozens of iterations for its first
# request before as many others arrive as there are slots.
_SLOTS_PER_ACCEPT: Final = 64
_MOST_AT_ONCE: Final = 64
# Bytes that the kernel keeps per connection: of requests that the event loop has not read, and of responses that the
# client has not read. Linux doubles the value. Without it, Linux would keep up to 4 MB of an unread response. Memory of
# the kernel counts for the container, too. In addition, uvloop keeps a buffer of 256 KiB per TLS connection, which
# takes only as much memory as the largest read. Ordinary reviews and their responses fit.
_KERNEL_BUFFER: Final = 32 * 1024
# Seconds without accepting when the kernel has no descriptors or memory for another connection.
_ACCEPT_PAUSE: Final = 0.1
# Seconds between two checks of the deadlines of all connections.
SWEEP: Final = 0.1
# Maximum number of connections of probes and metrics scrapers.
MAX_OPS_CONNECTIONS: Final = 256
# Seconds that an idle connection of the ops port is kept. A kubelet opens a new connection for each probe, a scraper
# when it needs one.
OPS_KEEP_ALIVE: Final = 5.0


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; an empty host means all addresses, including IPv6 if available.

    Raises:
        OSError: The address is in use, unknown or not an address of this host.
    """
    if not host and socket.has_dualstack_ipv6():
        try:
            return _listening(("", port), socket.AF_INET6, dual=True)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
    if not host:
        return _listening(("", port), socket.AF_INET, dual=False)
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return _listening(address, family, dual=False)


def _listening(address: tuple[Any, ...], family: int, *, dual: bool) -> socket.socket:
    listening = socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
    # Accepted sockets inherit both options.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BUFFER)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER)
    listening.setblocking(False)
    return listening


# Errors if IPv6 is disabled in this kernel or network namespace.
_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class Listener:
    """Accepts connections of one port and enforces their deadlines."""

    def __init__(
        self,
        listening: socket.socket,
        port: Port,
        *,
        max_connections: int,
        context: ssl.SSLContext | None = None,
        handshake_timeout: float = 5.0,
    ) -> None:
        self.port = port
        self.open = 0  # connections, including those in a handshake
        self.last_accepted = 0.0  # time of the last accepted connection, in the monitor's time
        self._listening = listening
        self._max_connections = max_connections
        self._accept_at_once = max(1, min(max_connections // _SLOTS_PER_ACCEPT, _MOST_AT_ONCE))
        self._tls: dict[str, Any] = {}
        if context is not None:
            self._tls = {
                "ssl": context,
                "ssl_handshake_timeout": handshake_timeout,
                "ssl_shutdown_timeout": CLOSE_TIMEOUT,
            }
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def number(self) -> int:
        """The port's number."""
        return int(self._listening.getsockname()[1])

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start accepting connections."""
        loop.add_reader(self._listening, self._accept, loop)
        self.port.monitor.every(SWEEP, self._sweep)

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop accepting connections."""
        loop.remove_reader(self._listening)
        self._listening.close()

    def connections(self) -> tuple[Connection, ...]:
        """Return the connections that have completed their handshake."""
        return tuple(each for each in self.port.state.connections if isinstance(each, Connection))

    def _accept(self, loop: asyncio.AbstractEventLoop) -> None:
        port = self.port
        for _ in range(self._accept_at_once):
            is_full, victim = port.slots.count >= self._max_connections, None
            if is_full:
                victim = port.slots.victim(port.monitor.now, self._max_connections)
                if victim is not None and victim.ready > port.monitor.now:
                    self._pause(loop, victim.ready - port.monitor.now)
                    return
            try:
                accepted, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                port.limited(logging.ERROR, "cannot accept connections", "accept", {"open": self.open})
                self._evict(victim or port.slots.victim(port.monitor.now, self._max_connections))
                self._pause(loop, _ACCEPT_PAUSE)
                return
            if is_full and victim is None:
                port.metrics.refused["limit"] += 1
                accepted.close()
                continue
            self._evict(victim)
            self.open += 1
            self.last_accepted = port.monitor.now
            accepted.setblocking(False)
            self._greet(_Counted(self, loop), accepted, loop)

    def _evict(self, victim: Victim | None) -> None:
        if victim is not None:
            self.port.slots.evict(victim)
            self.port.metrics.evicted[victim.kind] += 1

    def _pause(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Stop accepting for some seconds; the kernel queues new connections."""
        loop.remove_reader(self._listening)
        loop.call_later(seconds, self._resume, loop)

    def _resume(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._listening.fileno() >= 0:
            loop.add_reader(self._listening, self._accept, loop)

    def _greet(self, connection: _Counted, accepted: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        """Open a connection in a task, which eviction can cancel at any time, even before it starts."""
        self.port.slots.enter(connection, self.port.monitor.now)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            connection.handshake = None
            if not connection.opened:
                if not task.cancelled():
                    self.port.metrics.refused["handshake"] += 1
                connection.release()
                accepted.close()

        task = loop.create_task(self._open(connection, accepted, loop))
        connection.handshake = task
        self._tasks.add(task)
        task.add_done_callback(done)

    async def _open(self, connection: Connection, accepted: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        # Failed handshakes, such as those of port scanners, are counted but not logged.
        with contextlib.suppress(OSError):
            await loop.connect_accepted_socket(lambda: _ConnectionReader(connection), accepted, **self._tls)

    def _sweep(self) -> None:
        now = self.port.monitor.now
        for connection in self.connections():
            if connection.deadline < now:
                connection.expire()


class _ConnectionReader(asyncio.BufferedProtocol):
    """Reads for one connection into a buffer shared by all connections: each read is processed before the next one.

    For a protocol that provides no buffer, uvloop allocates 256 KiB for each read of TLS.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.connection_made = connection.connection_made  # type: ignore[method-assign] # no call in between
        self.eof_received = connection.eof_received  # type: ignore[method-assign] # as above
        self.pause_writing = connection.pause_writing  # type: ignore[method-assign] # as above
        self.resume_writing = connection.resume_writing  # type: ignore[method-assign] # as above
        self._feed = connection.data_received

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection, which references the transport, which references `buffer_updated`.

        Otherwise this reference cycle, about 330 KB, would stay until the garbage collector runs, which is rare here.
        """
        connection = self._connection
        vars(self).clear()
        connection.connection_lost(exc)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - the event loop's signature
        """Return the shared buffer."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Pass the read bytes to the connection, which must copy the parts that it keeps."""
        self._feed(_VIEW[:nbytes])


_BUFFER: Final = bytearray(256 * 1024)
_VIEW: Final = memoryview(_BUFFER)


class _Counted(Connection):
    """A connection that its listener counts."""

    def __init__(self, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(listener.port, loop)
        self._listener = listener
        self._is_counted = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.release()
        super().connection_lost(exc)

    def release(self) -> None:
        """Release the slot and decrease the count, once."""
        self.port.slots.leave(self)
        if self._is_counted:
            self._is_counted = False
            self._listener.open -= 1


@dataclass(frozen=True, slots=True)
class Drain:
    """Minimum and maximum seconds to keep serving after SIGTERM."""

    at_least: float
    at_most: float


class Server:
    """Runs the admission port and the ops port until a signal arrives."""

    def __init__(  # noqa: PLR0913 - collaborators, all passed by name
        self,
        admission: Listener,
        ops: Listener,
        *,
        monitor: LoopMonitor,
        health: Health,
        drain: Drain,
        sink: LogSink,
        certificates: CertificateSource,
    ) -> None:
        self._admission = admission
        self._ops = ops
        self._monitor = monitor
        self._health = health
        self._drain = drain
        self._sink = sink
        self._certificates = certificates
        self._stopping = asyncio.Event()
        self._immediate = asyncio.Event()

    async def serve(self) -> None:
        """Serve until a signal arrives, then drain."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_exception)
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop_now)
        loop.add_signal_handler(signal.SIGHUP, self._certificates.wake)
        self._monitor.every(0, self._sink.flush)
        for listener in self._listeners:
            listener.start(loop)
        self._monitor.start(loop)
        fields = {"port": self._admission.number, "ops_port": self._ops.number}
        logger.info("listening", extra={"fields": fields})
        certificates = asyncio.ensure_future(self._certificates.run())
        try:
            await self._stopping.wait()
            await self._serve_on(loop)
            await self._close(loop)
        finally:
            self._monitor.stop()
            certificates.cancel()
            await asyncio.gather(certificates, return_exceptions=True)

    def stop(self) -> None:
        """Drain and stop; a second call stops immediately."""
        if self._stopping.is_set():
            self._immediate.set()
        self._stopping.set()

    def stop_now(self) -> None:
        """Stop without draining: SIGINT comes from a user at a terminal, not from a cluster."""
        self._immediate.set()
        self._stopping.set()

    @property
    def _listeners(self) -> Sequence[Listener]:
        return (self._admission, self._ops)

    async def _serve_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._health.draining = True
        for listener in self._listeners:
            listener.port.draining = True
        if self._immediate.is_set():
            return
        fields = {"connections": self._admission.open, "at_most_seconds": self._drain.at_most}
        logger.info("draining", extra={"fields": fields})
        began = loop.time()
        while (elapsed := loop.time() - began) < self._drain.at_most:
            if elapsed >= self._drain.at_least and self._is_unused():
                break
            if await _is_set(self._immediate, min(_DRAIN_LOOK, self._drain.at_most - elapsed)):
                break

    def _is_unused(self) -> bool:
        """Whether no connection is open and no new ones arrive.

        Each response of a draining port closes its connection, so there is often none between two requests. Clients
        that still connect have not noticed that this replica is stopping.
        """
        return not self._admission.open and self._monitor.now - self._admission.last_accepted >= _QUIET

    async def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        for listener in self._listeners:
            listener.stop(loop)
            for connection in listener.connections():
                connection.close_if_idle()
        until = loop.time() + CLOSE_TIMEOUT
        while any(listener.open for listener in self._listeners) and loop.time() < until:
            if await _is_set(self._immediate, _DRAIN_LOOK):
                break
        fields = {"connections": self._admission.open}
        logger.info("stopped", extra={"fields": fields})


# Seconds without a new connection after which no more are expected.
_QUIET: Final = 3.0
# Seconds between two checks of whether connections remain.
_DRAIN_LOOK: Final = 0.05


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _log_exception(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log type and location of an unhandled exception; its message may quote a body."""
    exception = context.get("exception")
    fields: dict[str, object] = {}
    if isinstance(exception, BaseException):
        fields = {"exception": type(exception).__qualname__, "frames": frames(exception.__traceback__)}
    logger.error("unhandled exception in the event loop", extra={"fields": fields})
