"""Checks of the way from the API server to the webhook: Service, caBundle, and the certificate that is served."""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from injector.check.certificates import readable, seconds_valid, verifying_context
from injector.check.chart import MUTATING
from injector.check.installation import DEFAULT_PORT, is_ready, slices_of
from injector.check.model import Category, Check, Outcome, failed, unknown
from injector.check.serving import HANDSHAKE_SECONDS, MOST_HANDSHAKES, unverified
from injector.core import names
from injector.core.messages import listed
from injector.files import error_text
from injector.kube.portforward import forwarded
from injector.kube.resources import SERVICES
from injector.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from injector.check.model import CheckProblem
    from injector.check.reader import ClusterReader
    from injector.check.serving import Connect
    from injector.kube.resources import Object


@dataclass(frozen=True, slots=True)
class _Target:
    """Where an API server sends reviews: a Service, or the host and port of a URL, for which `service` is empty."""

    namespace: str
    service: str
    host: str
    port: int

    def __str__(self) -> str:
        if self.service:
            return f"Service {self.service} in namespace {self.namespace}"
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class _Call:
    """A target, the bundle that verifies it, and the entries that have both."""

    target: _Target
    bundle: bytes
    entries: str


async def _calls(reader: ClusterReader) -> list[_Call]:
    """Return the targets of all configurations with their bundles, each pair once."""
    found: dict[tuple[_Target, bytes], list[str]] = {}
    for one in await reader.configurations():
        for entry in one.get("webhooks") or ():
            config = entry.get("clientConfig") or {}
            bundle = base64.b64decode(config.get("caBundle") or "", validate=True)
            found.setdefault((_target(config), bundle), []).append(entry["name"])
    return [_Call(target, bundle, ", ".join(entries)) for (target, bundle), entries in found.items()]


def _target(config: Mapping[str, Any]) -> _Target:
    service = config.get("service")
    if service is None:
        url = urlsplit(config["url"])
        return _Target("", "", str(url.hostname), url.port or DEFAULT_PORT)
    namespace, name = service["namespace"], service["name"]
    return _Target(namespace, name, f"{name}.{namespace}.svc", service.get("port") or DEFAULT_PORT)


async def _ca_bundle(reader: ClusterReader) -> Outcome:
    calls = await _calls(reader)
    if not calls:
        return Outcome(seen=f"{MUTATING} has no entry", is_skipped=True)
    problems = [problem for call in calls for problem in _of_bundle(call)]
    return Outcome(seen="; ".join(call.entries for call in calls), problems=tuple(problems))


def _of_bundle(call: _Call) -> Iterator[CheckProblem]:
    if call.bundle:
        if not readable(call.bundle):
            yield failed(f"{call.entries}: caBundle has no readable certificate: every call fails")
    elif call.target.service:  # a URL is verified with the certificates of the API server's system
        group = call.target.service if call.target.service in names.GROUPS else names.MANAGER
        logs = f"kubectl logs --namespace {call.target.namespace} deployment/{group}"
        yield failed(f"{call.entries}: caBundle is empty, so the API server does not trust the webhook", logs)


async def _service(reader: ClusterReader) -> Outcome:
    targets = list(dict.fromkeys(call.target for call in await _calls(reader) if call.target.service))
    if not targets:
        return Outcome(seen="no entry has a Service", is_skipped=True)
    problems = []
    for target in targets:
        found = await reader.get(SERVICES, target.service, target.namespace)
        show = f"kubectl get services --namespace {target.namespace}"
        if found is None:
            problems.append(failed(f"{target} does not exist: every call fails", show))
        elif target.port not in [port["port"] for port in (found.get("spec") or {}).get("ports") or ()]:
            problems.append(failed(f"{target} has no port {target.port}: every call fails", show))
    problems += map(failed, dict.fromkeys([text for one in await reader.configurations() for text in _mixed(one)]))
    return Outcome(seen=listed([f"{one}, port {one.port}" for one in targets]), problems=tuple(problems))


def _mixed(configuration: Object) -> Iterator[str]:
    """Yield what is wrong with the Services of a configuration: its entries have one, that of its own group."""
    name = configuration["metadata"]["name"]
    targets = [_target(entry.get("clientConfig") or {}) for entry in configuration.get("webhooks") or ()]
    services = {(one.namespace, one.service) for one in targets if one.service}
    if len(services) > 1:
        yield f"the entries of {name} have several Services; they need one"
    elif services and (service := services.pop()[1]) in names.GROUPS and service != name:
        yield f"the entries of {name} have Service {service}, which is that of the other group"


async def _served_certificate(reader: ClusterReader) -> Outcome:
    calls = [call for call in await _calls(reader) if _can_verify(call, reader.now)]
    if not calls:
        return Outcome(seen="no entry has a caBundle that can verify a certificate", is_skipped=True)
    results = await asyncio.gather(*(_of_call(reader, call) for call in calls))
    seen = ", ".join(dict.fromkeys(where for where, _ in results))
    return Outcome(seen=seen, problems=tuple(problem for _, problems in results for problem in problems))


def _can_verify(call: _Call, now: int) -> bool:
    """Return whether a certificate in the bundle has not expired; other bundles are the subject of other checks."""
    return any(now <= seconds_valid(one)[1] for one in readable(call.bundle)) or not (
        call.bundle or call.target.service
    )


async def _of_call(reader: ClusterReader, call: _Call) -> tuple[str, list[CheckProblem]]:
    """Return what was connected to, and the problems of the certificates that it serves."""
    target = call.target
    if not target.service:
        return str(target), await _handshake(
            call, str(target), partial(asyncio.open_connection, target.host, target.port)
        )
    pods, others = await _replicas(reader, target)
    if not pods:
        others.append(unknown(f"{target} has no ready Pod whose certificate could be verified"))
    found = await asyncio.gather(*(_of_pod(reader, call, pod, port) for pod, port in pods[:MOST_HANDSHAKES]))
    verified = counted(min(len(pods), MOST_HANDSHAKES), "ready Pod")
    return f"{verified} of {target}", others + [problem for problems in found for problem in problems]


async def _replicas(reader: ClusterReader, target: _Target) -> tuple[list[tuple[Object, int]], list[CheckProblem]]:
    """Return the ready Pods behind a Service, each with the port to connect to, and problems with its endpoints."""
    service = await reader.get(SERVICES, target.service, target.namespace) or {}
    ports = (service.get("spec") or {}).get("ports") or ()
    wanted = {port.get("name") or "" for port in ports if port["port"] == target.port}
    found: dict[str, tuple[Object, int]] = {}
    strange = []
    for one in await slices_of(reader, target.namespace, target.service):
        numbers = [port["port"] for port in one.get("ports") or () if (port.get("name") or "") in wanted]
        for endpoint in one.get("endpoints") or ():
            if not is_ready(endpoint) or not numbers:
                continue
            reference = endpoint.get("targetRef") or {}
            if reference.get("kind") != "Pod":
                strange.append(", ".join(endpoint.get("addresses") or ()))
                continue
            pod = {
                "metadata": {"namespace": target.namespace, "name": reference["name"]},
                "spec": {"nodeName": endpoint.get("nodeName")},
            }
            found[reference["name"]] = pod, numbers[0]
    problems = [unknown(f"{target} has endpoints that are not Pods: {listed(strange)}")] if strange else []
    return [found[name] for name in sorted(found)], problems


async def _of_pod(reader: ClusterReader, call: _Call, pod: Object, port: int) -> list[CheckProblem]:
    async with forwarded(reader.api, pod, port) as (path, forward):
        where = f"Pod {pod['metadata']['name']}"
        return await _handshake(call, where, partial(asyncio.open_unix_connection, path), forward.trouble)


# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/: not valid yet, expired. The certificate that is served is
# compared with the clock last, after its chain, its signature and its names.
_OUT_OF_TIME: Final = (9, 10)


async def _handshake(call: _Call, where: str, connect: Connect, trouble: Callable[[], str] = str) -> list[CheckProblem]:
    """Return the problem of a TLS handshake, if any; nothing is sent after it.

    Whether the certificate of a Pod has expired is the subject of another check.
    """
    context = verifying_context(readable(call.bundle))
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            try:
                _, writer = await connect(ssl=context, server_hostname=call.target.host)
            except ssl.SSLCertVerificationError as error:
                if call.target.service and error.verify_code in _OUT_OF_TIME and await _is_out_of_time(connect):
                    return []
                return [
                    failed(
                        f"{where} serves a certificate that caBundle of {call.entries} does not verify for "
                        f"{call.target.host} ({error.verify_message}): every call to it fails"
                    )
                ]
    except TimeoutError:
        reason = trouble() or f"no answer within {HANDSHAKE_SECONDS:g} s"
    except OSError as error:
        reason = trouble() or ("the connection was closed" if isinstance(error, ConnectionError) else error_text(error))
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError) and not trouble():
            return [failed(f"{where} does not speak TLS on the registered port: every call to it fails")]
    else:
        writer.transport.abort()
        return []
    return [unknown(f"{where} cannot be connected to: {reason}")]


async def _is_out_of_time(connect: Connect) -> bool:
    """Return whether it is the served certificate that has expired or is not valid yet, and not one of its chain.

    The clock here counts, as for OpenSSL.
    """
    begins, ends = seconds_valid(await unverified(connect))
    return not begins <= time.time() <= ends


_RESTART: Final = "`kubectl rollout restart --namespace dapr-token-injector deployment/dapr-token-injector`"

CHECKS: Final = (
    Check(
        id="DTC014",
        name="ca-bundle",
        category=Category.REGISTRATION,
        summary="Every entry has a caBundle with a certificate.",
        why="The API server verifies the webhook with `caBundle` alone. If it is empty or unreadable, every call "
        "fails: with `failurePolicy: Fail` no Pod that requests a token is created, with `Ignore` each is created "
        "without it.",
        how="Decodes `caBundle` of the entries of all configurations. It fails if an entry with a Service has none, "
        "or if no certificate in it can be read. An entry with a `url` may have none: then the API server trusts the "
        "certificates of its system. Whether the certificates are valid at this time is the subject of "
        "`ca-certificate`, and whether they verify what the webhook serves that of `served-certificate`.",
        fix="With `tls.mode=self` the webhook writes the field within seconds: read its log with `kubectl logs "
        f"--namespace dapr-token-injector deployment/dapr-token-injector`, and restart it with {_RESTART}. With "
        "cert-manager the cainjector writes it; with files it is the value `tls.files.caBundle`.",
        run=_ca_bundle,
    ),
    Check(
        id="DTC015",
        name="served-certificate",
        category=Category.REGISTRATION,
        summary="The caBundle verifies the certificate that each replica serves.",
        why="A caBundle of another CA looks complete, and every call fails. If only one replica serves another "
        "certificate, only some Pods are affected.",
        how="Performs a TLS handshake for the name that the API server uses with every ready Pod of the Service (at "
        "most 20), through the API server's port forwarding, and verifies the certificate with the caBundle of each "
        "entry that has not expired. Whether the certificate itself has expired is the subject of "
        "`serving-certificate`. With two groups (`webhook.redundancy: 2`) and `tls.mode=files`, this "
        "shows whether the certificate has the names of both Services. Nothing is sent. It requires `get` and "
        "`create` on `pods/portforward` in the namespace of the installation; without them the result is unknown. For "
        "an entry with a `url`, also an expired certificate fails; it connects to that address from here, where the "
        "name can have another meaning than for the API server. It cannot see a proxy or a network policy between API "
        "server and Pod.",
        fix=f"Restart the webhook with {_RESTART}; with `tls.mode=self` it publishes its CA again. If another tool "
        "writes `caBundle`, such as the cainjector or a GitOps tool, correct its source. With your own files, the "
        "certificate needs the name of the Service, and of both with two groups: "
        "[Troubleshoot](../../how-to/troubleshoot.md).",
        run=_served_certificate,
    ),
    Check(
        id="DTC016",
        name="registered-service",
        category=Category.REGISTRATION,
        summary="The Service of every entry exists and has the registered port.",
        why="The API server resolves the Service itself. If it is missing, or has another port, every call fails.",
        how="Reads the Service that each entry names, and its ports. All entries of a configuration have the same "
        "Service, and each of two groups has its own. It is skipped if the entries have a `url`. Whether the Service "
        "has ready endpoints is the subject of the checks of availability.",
        fix="Run `helm upgrade dapr-token-injector CHART --reset-then-reuse-values`, or `kubectl apply -k` again. If "
        "the chart was uninstalled, delete the registration with `kubectl delete mutatingwebhookconfiguration "
        "dapr-token-injector`.",
        run=_service,
    ),
)
