"""`probe`: check whether sidecars require the token, and which other ports are open."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

import click

from injector.cli import connection, signals
from injector.cli.connection import ONE_NAMESPACE, Connect
from injector.cli.input import read_input
from injector.cli.namespace_option import namespace_option, reject_with_all_namespaces
from injector.cli.output import Reporter, output_option
from injector.cli.probe.report import show
from injector.cli.token.source import given_token, given_token_options
from injector.core.exposure import Exposure, ProbeReport, ProbeVerdict, Purpose
from injector.kube import workload_target
from injector.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from injector.kube.workload_target import WorkloadTarget
    from injector.probe.prober import ExpectedToken
    from injector.probe.rounds import Selection, Workloads
    from injector.probe.target import ProbeTarget

_PURPOSES: Final = {"http": Purpose.HTTP, "https": Purpose.HTTP, "grpc": Purpose.GRPC, "grpcs": Purpose.GRPC}
_TLS: Final = frozenset({"https", "grpcs"})


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the command."""

    namespace: str | None
    connect: Connect
    expected: ExpectedToken
    ca_certificates: bytes | None
    timeout_seconds: float


@click.command(short_help="Check that sidecars require the token.")
@click.argument("targets", nargs=-1, metavar="[TARGET...]")
@namespace_option("Set the namespace of Pods and workloads. [default: that of the context]")
@click.option(
    "-A", "--all-namespaces", is_flag=True, help="In all namespaces, probe Pods that have or request a sidecar."
)
@click.option(
    "-l", "--selector", metavar="SELECTOR", help="Probe Pods with these labels that have or request a sidecar."
)
@connection.options
@given_token_options
@click.option(
    "--accept",
    multiple=True,
    type=click.Choice([exposure.value for exposure in Exposure]),
    metavar="FINDING",
    help="Report a finding, but do not fail because of it. Repeatable.",
)
@click.option(
    "--ca-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Trust these CA certificates for https:// and grpcs://. [default: those of the system]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1, max=600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Limit the time of each call.",
)
@output_option("table", "json")
def command(  # noqa: PLR0913 - one parameter per option, all by name
    *,
    targets: tuple[str, ...],
    namespace: str | None,
    all_namespaces: bool,
    selector: str | None,
    token_file: Path | None,
    token_stdin: bool,
    accept: tuple[str, ...],
    ca_file: Path | None,
    timeout: float,
    output: str,
    **cluster: str | None,
) -> int:
    """Check that sidecars require the token.

    Each API port is called without a token, with a wrong one and with the
    right one. The answers must be: refused, refused, served.

    \b
    TARGET is one of
      http://HOST:PORT   grpc://HOST:PORT   (or https://, grpcs://)
      pod/NAME
      deployment/NAME, statefulset/NAME, daemonset/NAME, replicaset/NAME,
      job/NAME, cronjob/NAME, rollout/NAME: all of its Pods
    In place of targets, -A and -l select Pods that have a sidecar.

    The right token is read from the Secret that daprd's DAPR_API_TOKEN
    references, if you can read it; --token-file and --token-stdin take
    precedence. It is sent only to a sidecar that refused the other two calls.
    No token is printed.

    \b
    Examples:
      dapr-token-injector probe deployment/shop -n shop
      dapr-token-injector probe -A -l team=shop
      dapr-token-injector probe http://127.0.0.1:3500 --token-file token

    Exit codes: 0 closed, 1 something is open, 2 usage error, request rejected
    or a target could not be probed, 3 internal error.
    """  # noqa: D301 - click does not wrap a paragraph after \b
    from injector.probe.prober import ExpectedToken  # noqa: PLC0415 - only probe needs gRPC

    expected = ExpectedToken(given_token(token_file, token_stdin=token_stdin))
    ca_certificates = read_input(str(ca_file), "certificates") if ca_file is not None else None
    accepted = frozenset(map(Exposure, accept))
    options = Options(namespace, Connect.of(cluster), expected, ca_certificates, timeout)
    with signals.interrupt_on_termination():
        if all_namespaces or selector is not None:
            _check_selection(targets, namespace, selector, all_namespaces=all_namespaces)
            reports = signals.run(_probe_selected(selector or "", options, all_namespaces=all_namespaces))
        elif targets:
            reports = signals.run(_probe([_parse(target, options) for target in targets], options))
        else:
            raise click.UsageError("name a TARGET, or select Pods with -A or -l SELECTOR")
    show(reports, accepted, output, with_namespace=all_namespaces)
    verdicts = {report.verdict(accepted) for report in reports}
    if ProbeVerdict.OPEN in verdicts:
        return 1
    return 2 if ProbeVerdict.UNKNOWN in verdicts else 0


def _check_selection(
    targets: tuple[str, ...], namespace: str | None, selector: str | None, *, all_namespaces: bool
) -> None:
    given = "-A" if all_namespaces else "-l"
    if targets:
        raise click.UsageError(f"{given} selects the Pods; it cannot be combined with {targets[0]!r}")
    reject_with_all_namespaces(namespace, all_namespaces=all_namespaces)
    if selector is not None and not selector.strip():
        raise click.UsageError("-l: the selector is empty; use for example -l app=shop")


@dataclass(frozen=True, slots=True)
class _AddressTarget:
    label: str
    target: ProbeTarget
    purpose: Purpose


def _parse(target: str, options: Options) -> _AddressTarget | WorkloadTarget:
    if "://" in target:
        return _parse_address(target, options.ca_certificates)
    workload = workload_target.parse(target)
    if workload is None:
        expected = f"http://HOST:PORT, grpc://HOST:PORT, {workload_target.EXPECTED}"
        raise click.UsageError(f"invalid target {target!r}: expected {expected}")
    return workload


def _parse_address(target: str, ca_certificates: bytes | None) -> _AddressTarget:
    from injector.probe.target import ProbeTarget, system_ca_certificates  # noqa: PLC0415 - only probe needs gRPC

    try:
        url = urlsplit(target)
        port = url.port
    except ValueError:
        raise click.UsageError("invalid target: malformed address or port; expected http://HOST:PORT") from None
    if url.username is not None or url.password is not None:
        raise click.UsageError("invalid target: contains a user or password; expected http://HOST:PORT")
    if url.scheme not in _PURPOSES or not url.hostname or port is None or _has_more(url):
        raise click.UsageError(
            f"invalid target {target!r}: expected http://HOST:PORT or grpc://HOST:PORT without a path"
        )
    tls = None
    if url.scheme in _TLS:
        tls, ca_certificates = _tls(ca_certificates), ca_certificates or system_ca_certificates()
    probe_target = ProbeTarget(url.hostname, port, tls=tls, ca_certificates=ca_certificates)
    return _AddressTarget(target, probe_target, _PURPOSES[url.scheme])


def _has_more(url: SplitResult) -> bool:
    return url.path not in {"", "/"} or bool(url.query) or bool(url.fragment)


def _tls(ca_certificates: bytes | None) -> ssl.SSLContext:
    try:
        if ca_certificates is not None and b"BEGIN CERTIFICATE" not in ca_certificates:
            raise ValueError  # noqa: TRY301 - OpenSSL would load the certificates of the system
        return ssl.create_default_context(
            cadata=ca_certificates.decode("ascii") if ca_certificates is not None else None
        )
    except (ssl.SSLError, ValueError):
        raise click.UsageError("--ca-file: no PEM certificates in the file") from None


async def _probe(targets: Sequence[_AddressTarget | WorkloadTarget], options: Options) -> list[ProbeReport]:
    from injector.probe.prober import probe_address  # noqa: PLC0415 - as above

    workloads = [target for target in targets if not isinstance(target, _AddressTarget)]
    reports: list[ProbeReport] = []
    for one in targets:
        if isinstance(one, _AddressTarget):
            seconds = options.timeout_seconds
            reports += await probe_address(
                one.label, one.target, one.purpose, options.expected, timeout_seconds=seconds
            )
    if workloads:
        from injector.probe.rounds import Workloads  # noqa: PLC0415 - as above

        reports += await _probe_pods(Workloads(_namespace(options), workloads), options)
    return reports


async def _probe_selected(selector: str, options: Options, *, all_namespaces: bool) -> list[ProbeReport]:
    from injector.kube.errors import ForbiddenError  # noqa: PLC0415 - as above
    from injector.probe.rounds import Selection  # noqa: PLC0415 - as above

    try:
        return await _probe_pods(Selection(None if all_namespaces else _namespace(options), selector), options)
    except ForbiddenError as error:
        advice = ONE_NAMESPACE.format("probe") if all_namespaces else "request that permission"
        raise click.ClickException(f"{error}; {advice}") from None


async def _probe_pods(source: Workloads | Selection, options: Options) -> list[ProbeReport]:
    from injector.probe.pods import Prober  # noqa: PLC0415 - as above
    from injector.probe.rounds import probe_pods  # noqa: PLC0415 - as above

    reporter = Reporter(0, quiet=False, noun="Pods", every=1)
    try:
        async with await options.connect() as api:
            prober = Prober(api, options.expected, options.timeout_seconds)
            probed = await probe_pods(api, source, prober, expect=reporter.expect, passed=reporter.passed)
    finally:
        reporter.clear()
    for gone in probed.ended:
        click.echo(f"note: {gone} ended during the probe and is not reported", err=True)
    if probed.without_sidecar:
        click.echo(f"note: {counted(probed.without_sidecar, 'Pod')} without a sidecar not probed", err=True)
    return probed.reports


def _namespace(options: Options) -> str:
    from injector.kube.kubeconfig import default_namespace  # noqa: PLC0415 - as above

    return options.namespace or default_namespace(options.connect.kubeconfig, options.connect.context)
