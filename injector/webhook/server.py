"""Two ports in one event loop, from the first bind to the last close.

The listening sockets are ours: uvicorn's server has no cap on connections that idle ones do not count against, no
deadline for a handshake of its own, and one set of signal handlers per server. So connections are accepted here, over
the cap they are closed at once, and everybody else is handed to `loop.connect_accepted_socket` with a deadline for the
handshake.

Stopping follows from how Kubernetes takes a replica away: requests keep coming until every EndpointSlice and every API
server has noticed, and there is no failover. So after SIGTERM we are not ready but serve on, with `Connection: close`.
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
from injector.webhook.protocol import GOODBYE, Connection, Port

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from injector.telemetry.logs import LogSink
    from injector.webhook.certs.source import CertificateSource
    from injector.webhook.health import Health
    from injector.webhook.overload import LoopMonitor
    from injector.webhook.slots import Victim

logger = logging.getLogger(f"{LOGGER}.server")

# Connections that the kernel keeps for us while the loop is busy.
_BACKLOG: Final = 2048
# Accepted in one turn, so that a storm of connections leaves room for requests: one for each so many slots, so that a
# new connection has dozens of turns for its first request before as many others have come as there are slots.
_SLOTS_PER_ACCEPT: Final = 64
_MOST_AT_ONCE: Final = 64
# Bytes that the kernel keeps of what a connection sent and the loop has not read, and of answers that the client has
# not read; Linux doubles it, and would let an unread answer grow to 4 MB by itself. The kernel's memory counts for the
# container, too. And uvloop keeps a buffer of 256 KiB for each connection with TLS, of which only as much becomes real
# memory as one read has brought. Ordinary reviews and their answers fit.
_KERNEL_BUFFER: Final = 32 * 1024
# Seconds to leave the kernel alone when it has no descriptors or memory for another connection.
_ACCEPT_PAUSE: Final = 0.1
# Seconds between two looks at the deadlines of all connections.
SWEEP: Final = 0.1
# Connections of probes and scrapers.
MAX_OPS_CONNECTIONS: Final = 256
# Seconds that an idle connection of the ops port is kept. A kubelet's probe is a new connection each time, and a
# scraper opens one again where it has to.
OPS_KEEP_ALIVE: Final = 5.0


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; an empty host means every address, IPv6 included where there is any.

    Raises:
        OSError: The address is taken, unknown or not ours.
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
    # Accepted sockets inherit both.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BUFFER)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER)
    listening.setblocking(False)
    return listening


# Switched off in this kernel or network namespace.
_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class Listener:
    """Accepts connections of one port and keeps them to their deadlines."""

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
        self.open = 0  # connections, those in a handshake included
        self.last_accepted = 0.0  # when somebody connected the last time, in the monitor's time
        self._listening = listening
        self._max_connections = max_connections
        self._accept_at_once = max(1, min(max_connections // _SLOTS_PER_ACCEPT, _MOST_AT_ONCE))
        self._tls: dict[str, Any] = {}
        if context is not None:
            self._tls = {
                "ssl": context,
                "ssl_handshake_timeout": handshake_timeout,
                "ssl_shutdown_timeout": GOODBYE,
            }
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def number(self) -> int:
        """The port's number."""
        return int(self._listening.getsockname()[1])

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to accept."""
        loop.add_reader(self._listening, self._accept, loop)
        self.port.monitor.every(SWEEP, self._sweep)

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Accept no more."""
        loop.remove_reader(self._listening)
        self._listening.close()

    def connections(self) -> tuple[Connection, ...]:
        """Connections whose handshake is through."""
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
        """Accept nothing for a moment; the kernel keeps what comes."""
        loop.remove_reader(self._listening)
        loop.call_later(seconds, self._resume, loop)

    def _resume(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._listening.fileno() >= 0:
            loop.add_reader(self._listening, self._accept, loop)

    def _greet(self, connection: _Counted, accepted: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        """Open a connection in a task that eviction can end at any time, even before it began."""
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
        # Strangers and port scanners fail here: counted, not logged one by one.
        with contextlib.suppress(OSError):
            await loop.connect_accepted_socket(lambda: _Reader(connection), accepted, **self._tls)

    def _sweep(self) -> None:
        now = self.port.monitor.now
        for connection in self.connections():
            if connection.deadline < now:
                connection.expire()


class _Reader(asyncio.BufferedProtocol):
    """Reads for one connection into a buffer that all of them share: it is emptied before the next one is read.

    For a protocol without a buffer of its own uvloop makes a quarter of a megabyte anew for each read of TLS.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.connection_made = connection.connection_made  # type: ignore[method-assign] # no call in between
        self.eof_received = connection.eof_received  # type: ignore[method-assign] # as above
        self.pause_writing = connection.pause_writing  # type: ignore[method-assign] # as above
        self.resume_writing = connection.resume_writing  # type: ignore[method-assign] # as above
        self._feed = connection.data_received

    def connection_lost(self, exc: Exception | None) -> None:
        """The end: let go of the connection, which holds the transport, which holds on to `buffer_updated`.

        In a ring they would wait for the cycle collector, a third of a megabyte each, and it hardly ever runs here.
        """
        connection = self._connection
        vars(self).clear()
        connection.connection_lost(exc)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - the event loop's signature
        """The shared buffer."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what was read; whoever keeps a part of it copies it."""
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
        """Give slot and count back, once."""
        self.port.slots.leave(self)
        if self._is_counted:
            self._is_counted = False
            self._listener.open -= 1


@dataclass(frozen=True, slots=True)
class Drain:
    """How long to serve on after SIGTERM, in seconds: at least, and at most."""

    at_least: float
    at_most: float


class Server:
    """Runs the admission port and the ops port until a signal ends them."""

    def __init__(  # noqa: PLR0913 - collaborators, all of them named at the one call
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
        self._hurry = asyncio.Event()

    async def serve(self) -> None:
        """Serve until a signal says otherwise, then drain."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_tell_exception)
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
        """Drain and end; asked a second time, end at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    def stop_now(self) -> None:
        """End without waiting: somebody at a terminal asks, not a cluster."""
        self._hurry.set()
        self._stopping.set()

    @property
    def _listeners(self) -> Sequence[Listener]:
        return (self._admission, self._ops)

    async def _serve_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._health.draining = True
        for listener in self._listeners:
            listener.port.draining = True
        if self._hurry.is_set():
            return
        fields = {"connections": self._admission.open, "at_most_seconds": self._drain.at_most}
        logger.info("draining", extra={"fields": fields})
        began = loop.time()
        while (elapsed := loop.time() - began) < self._drain.at_most:
            if elapsed >= self._drain.at_least and self._is_left_alone():
                break
            if await _is_set(self._hurry, min(_DRAIN_LOOK, self._drain.at_most - elapsed)):
                break

    def _is_left_alone(self) -> bool:
        """Whether nobody is connected and nobody comes any more.

        Every answer of a draining port ends its connection, so between two requests there is often none. Whoever still
        comes has not heard that this replica leaves.
        """
        return not self._admission.open and self._monitor.now - self._admission.last_accepted >= _QUIET

    async def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        for listener in self._listeners:
            listener.stop(loop)
            for connection in listener.connections():
                connection.close_if_idle()
        until = loop.time() + GOODBYE
        while any(listener.open for listener in self._listeners) and loop.time() < until:
            if await _is_set(self._hurry, _DRAIN_LOOK):
                break
        fields = {"connections": self._admission.open}
        logger.info("stopped", extra={"fields": fields})


# Seconds without a new connection after which nobody is expected to come.
_QUIET: Final = 3.0
# Seconds between two looks at whether connections are left.
_DRAIN_LOOK: Final = 0.05


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _tell_exception(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody caught; by type and place only, for its words may quote a body."""
    exception = context.get("exception")
    fields: dict[str, object] = {}
    if isinstance(exception, BaseException):
        fields = {"exception": type(exception).__qualname__, "frames": frames(exception.__traceback__)}
    logger.error("unhandled in the event loop", extra={"fields": fields})
