"""Build the server from the settings. Each object is created here once and passed to the objects that use it."""

from __future__ import annotations

import asyncio
import gc
import resource
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

import uvloop
from uvicorn.config import Config

from injector.config.settings import Settings, flag
from injector.config.shapes import LogFormat, LogLevel, TlsVersion
from injector.core.admit import admit
from injector.core.errors import ConfigError, ConfigProblem
from injector.files import error_text
from injector.kube.metrics import KubeMetrics
from injector.telemetry.logs import AdmissionLog, LogSink, set_up_logging
from injector.telemetry.metrics import ProcessMetrics, new_registry
from injector.webhook.app import PUBLIC_PATHS, create_app, probe_routes
from injector.webhook.certs.files import CertificateWatcher
from injector.webhook.certs.metrics import CertificateMetrics
from injector.webhook.certs.pair import CertificateError, ServingPair, server_context
from injector.webhook.certs.self_managed import SelfManaged
from injector.webhook.endpoint import ENDPOINTS, FAIL_OVER, OVERLOADED, AdmissionEndpoint, AdmissionPortApp
from injector.webhook.health import Health, certificate_check
from injector.webhook.metrics import RequestMetrics, ServerMetrics
from injector.webhook.overload import LoadShedder, LoopMonitor
from injector.webhook.protocol import Limits, Port
from injector.webhook.server import MAX_OPS_CONNECTIONS, OPS_KEEP_ALIVE, Drain, Listener, Server, bind
from injector.webhook.slots import Slots
from injector.webhook.unread import UnreadAnswers

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from starlette.types import ASGIApp

    from injector.core.model import Policy
    from injector.webhook.certs.self_managed import Connect
    from injector.webhook.certs.source import CertificateSource

_VERSIONS: Final = {TlsVersion.V1_2: ssl.TLSVersion.TLSv1_2, TlsVersion.V1_3: ssl.TLSVersion.TLSv1_3}
_STDERR: Final = 2

# The pair that was read from files, or the function that connects to the cluster for self-managed certificates.
Certificates: TypeAlias = "ServingPair | Connect"


def serve(settings: Settings, policy: Policy, certificates: Certificates, *, terminal: bool) -> int:
    """Run until a signal arrives, and return the exit code.

    Raises:
        ConfigError: A port cannot be opened, or OpenSSL rejects the pair.
    """
    context = _context(certificates, settings)
    sockets = _bind(settings)
    sink = LogSink(_STDERR)
    try:
        _raise_descriptors(settings.max_connections)
        as_json = settings.log_format is LogFormat.JSON or (settings.log_format is LogFormat.AUTO and not terminal)
        server = build(settings, policy, certificates, context=context, sockets=sockets, sink=sink, as_json=as_json)
        # The objects that exist now live as long as the process, so the garbage collector can skip them.
        gc.collect()
        gc.freeze()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve())
    finally:
        sink.close()
    return 0


def build(  # noqa: PLR0913 - everything that the process was started with
    settings: Settings,
    policy: Policy,
    certificates: Certificates,
    *,
    context: ssl.SSLContext,
    sockets: tuple[socket.socket, socket.socket],
    sink: LogSink,
    as_json: bool,
) -> Server:
    """Return the complete server, ready to run in the caller's event loop."""
    set_up_logging(sink, settings.log_level, as_json=as_json)
    metrics, certificate_metrics, kube_metrics = RequestMetrics(), CertificateMetrics(), KubeMetrics()
    monitor = LoopMonitor()
    registry = new_registry(metrics, certificate_metrics, kube_metrics, ProcessMetrics(sink))
    source = _certificate_source(settings, certificates, context, metrics, certificate_metrics, kube_metrics)
    health = Health({"certificate": certificate_check(source)})
    app = create_app(health, registry, docs=settings.docs)
    debug = settings.log_level is LogLevel.DEBUG
    overloaded = FAIL_OVER if settings.fail_over else OVERLOADED
    endpoint = AdmissionEndpoint(
        admit,
        policy=policy,
        shedder=LoadShedder(settings.max_lag, fail_over=settings.fail_over),
        overloaded=overloaded,
        metrics=metrics,
        log=AdmissionLog(sink, as_json=as_json, debug=debug),
    )
    limits = Limits(
        headers_timeout=settings.headers_timeout,
        body_timeout=settings.body_timeout,
        keep_alive_timeout=settings.keep_alive_timeout,
        max_body_bytes=settings.max_body_bytes,
        max_bodies=settings.max_bodies,
    )
    port_app = AdmissionPortApp(app, PUBLIC_PATHS, metrics)
    sync_routes = dict.fromkeys(ENDPOINTS, endpoint.answer)
    unread = UnreadAnswers()
    admission = Listener(
        sockets[0],
        Port(
            sync_routes,
            limits,
            monitor,
            metrics,
            _uvicorn(port_app),
            slots=Slots(by_history=True),
            unread=unread,
            overloaded=overloaded,
        ),
        max_connections=settings.max_connections,
        context=context,
        handshake_timeout=settings.handshake_timeout,
    )
    ops_limits = replace(limits, keep_alive_timeout=min(limits.keep_alive_timeout, OPS_KEEP_ALIVE))
    ops = Listener(
        sockets[1],
        Port(probe_routes(health), ops_limits, monitor, metrics, _uvicorn(app), unread=unread),
        max_connections=MAX_OPS_CONNECTIONS,
    )
    registry.register(ServerMetrics(lambda: admission.open, lambda: monitor.lag))
    drain = Drain(settings.drain_min_seconds, settings.drain_max_seconds)
    return Server(admission, ops, monitor=monitor, health=health, drain=drain, sink=sink, certificates=source)


def _certificate_source(
    settings: Settings,
    certificates: Certificates,
    context: ssl.SSLContext,
    requests: RequestMetrics,
    metrics: CertificateMetrics,
    kube: KubeMetrics,
) -> CertificateSource:
    if not isinstance(certificates, ServingPair):
        return SelfManaged(settings, certificates, context=context, metrics=metrics, kube=kube, requests=requests)
    files = (_needed(settings.tls_cert_file), _needed(settings.tls_private_key_file))
    interval = settings.tls_reload_interval
    return CertificateWatcher(files, certificates, context, metrics, interval_seconds=interval)


def _context(certificates: Certificates, settings: Settings) -> ssl.SSLContext:
    pair = certificates if isinstance(certificates, ServingPair) else None
    try:
        return server_context(_VERSIONS[settings.tls_min_version], pair)
    except CertificateError as error:
        raise ConfigError([ConfigProblem(flag("tls_cert_file"), problem) for problem in error.problems]) from None


def _bind(settings: Settings) -> tuple[socket.socket, socket.socket]:
    sockets: list[socket.socket] = []
    problems: list[ConfigProblem] = []
    for name, host, port in (
        ("port", settings.host, settings.port),
        ("ops_port", settings.ops_host, settings.ops_port),
    ):
        try:
            sockets.append(bind(host, port))
        except OSError as error:
            problems.append(ConfigProblem(flag(name), f"cannot listen on {host or '*'}:{port}: {error_text(error)}"))
    if problems:
        for opened in sockets:
            opened.close()
        raise ConfigError(problems)
    return sockets[0], sockets[1]


def _uvicorn(app: ASGIApp) -> Config:
    """Return the configuration for uvicorn's protocol class; uvicorn's server, logs and timers are not used."""
    config = Config(
        app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False
    )
    config.load()
    return config


def _raise_descriptors(connections: int) -> None:
    """Raise the limit of file descriptors to one per connection, up to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


# Descriptors in addition to the connections of the admission port. An evicted connection keeps its descriptor for some
# milliseconds.
_OTHER_DESCRIPTORS: Final = MAX_OPS_CONNECTIONS + 256


def _needed(path: Path | None) -> Path:
    if path is None:
        raise ValueError("both TLS files must be set; Settings checks this")
    return path
