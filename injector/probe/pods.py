"""Probes sidecars of Pods: finds the Pods of a workload, the ports of daprd, and the token that it should require."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from injector.core import names
from injector.core.errors import TokenError
from injector.core.exposure import CallResult, Exposure, ExposureFinding, PortResult, ProbeReport, Purpose
from injector.core.sidecar import Listening, is_dapr_shared, is_daprd, listening, meets_loopback
from injector.core.token import parse_token
from injector.kube import resources
from injector.kube.api_messages import redact_words
from injector.kube.errors import KubeError
from injector.kube.owners import BETWEEN, controller_of, controllers
from injector.kube.portforward import forwarded
from injector.probe.prober import ExpectedToken, ask_api, ask_other_port, findings
from injector.probe.target import ProbeTarget
from injector.rotation import decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from injector.kube.client import Api
    from injector.kube.resources import Object, Resource


async def pods_of(api: Api, kind: Resource, name: str, namespace: str) -> list[Object]:
    """Return the Pods that a workload controls, without ended and terminating ones; a Pod by name in any state.

    Raises:
        KubeError: The object does not exist or cannot be read.
    """
    owner = await api.get(kind, name, namespace)
    if kind is resources.PODS:
        return [owner]
    between = await api.list(BETWEEN[kind], namespace) if kind in BETWEEN else []
    known = {one["metadata"]["uid"]: one["metadata"] for one in between}
    mine = [
        pod
        for pod in await api.list(resources.PODS, namespace)
        if not decode.is_ending_or_ended(pod)
        and any(one.uid == owner["metadata"]["uid"] for one in controllers(controller_of(pod["metadata"]), known))
    ]
    return sorted(mine, key=lambda pod: str(pod["metadata"]["name"]))


async def pods_with_sidecar(api: Api, namespace: str | None, selector: str) -> tuple[list[Object], int]:
    """Return the Pods that have a sidecar or request one, ordered by name, and the number of others.

    Ended and terminating Pods are in neither. Only what a probe reads is kept of each Pod. `namespace` None: all.

    Raises:
        KubeError: Pods cannot be listed.
    """
    others = 0

    def keep(pod: Object) -> Object | None:
        nonlocal others
        if decode.is_ending_or_ended(pod):
            return None
        slim = _slim(pod)
        others += slim is None
        return slim

    pods = await api.list(resources.PODS, namespace, label_selector=selector, keep=keep)
    return sorted(pods, key=lambda pod: (str(pod["metadata"]["namespace"]), str(pod["metadata"]["name"]))), others


def _slim(pod: Object) -> Object | None:
    """Return what a probe reads of a Pod; None if it neither has a sidecar nor requests one."""
    container = _sidecar(pod)
    if container is None and not decode.requests_sidecar(pod):
        return None
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    enabled = (meta.get("annotations") or {}).get(names.ENABLED)
    return {
        "metadata": {
            **{key: meta[key] for key in ("namespace", "name", "uid")},
            "annotations": {names.ENABLED: enabled} if enabled is not None else {},
        },
        "spec": {"nodeName": spec.get("nodeName"), "containers": [] if container is None else [container]},
        "status": {
            "phase": status.get("phase"),
            "reason": status.get("reason"),
            "conditions": [one for one in status.get("conditions") or () if one.get("type") == _SCHEDULED],
            "containerStatuses": [_state_of_sidecar(pod)],
        },
    }


@dataclass(slots=True)
class Prober:
    """Probes Pods. `given`: the token from the command line, which takes precedence over Secrets."""

    api: Api
    given: ExpectedToken
    timeout_seconds: float
    _tokens: dict[tuple[str, str, str], asyncio.Task[ExpectedToken]] = field(default_factory=dict)

    async def probe(self, pod: Object) -> ProbeReport:
        """Probe every port of one Pod's daprd."""
        target, namespace = f"pod/{pod['metadata']['name']}", str(pod["metadata"]["namespace"])
        container = _sidecar(pod)
        if container is None:
            return ProbeReport(target, namespace=namespace, failure=_why_no_sidecar(pod))
        reason = _why_not_running(pod)
        if reason:
            return ProbeReport(target, namespace=namespace, failure=reason)
        try:
            where = listening(_words(container))
        except ValueError as error:
            return ProbeReport(target, namespace=namespace, failure=f"cannot probe daprd: {error}")
        if where.socket:
            message = "daprd listens on Unix sockets (--unix-domain-socket); there is no port to probe"
            return ProbeReport(target, namespace=namespace, failure=message)
        return replace(await self._ask(target, pod, container, where), namespace=namespace)

    async def _ask(self, target: str, pod: Object, container: Object, where: Listening) -> ProbeReport:
        expected, cause = await self._expected_token(container, str(pod["metadata"]["namespace"]))
        asked = [
            await self._api(pod, where.http, Purpose.HTTP, expected),
            await self._api(pod, where.grpc, Purpose.GRPC, expected),
        ]
        failures = {one.failure for one in asked}
        if len(failures) == 1 and "" not in failures and all(one.without is CallResult.NOT_ASKED for one in asked):
            return ProbeReport(target, failure=failures.pop())
        for port, purpose, listens_at in (
            (where.public, Purpose.PUBLIC, (where.public_address,)),
            (where.metrics, Purpose.METRICS, (where.metrics_address,)),
            (where.profiling, Purpose.PROFILING, where.addresses),
        ):
            if port is None:
                continue
            other = await self._other_port(pod, port, purpose)
            if other is None and not any(map(meets_loopback, listens_at)):
                other = PortResult(purpose, port, failure=_ELSEWHERE)
            if other is not None:
                asked.append(other)
        found = list(findings(asked, cause))
        if not where.is_local:
            exposure = Exposure.DAPR_SHARED if _is_shared(pod, container) else Exposure.LISTEN_ADDRESS
            found.append(ExposureFinding(exposure, _redact_addresses(where.addresses)))
        return ProbeReport(target, tuple(asked), tuple(found), failure="" if where.is_certain else _UNCERTAIN)

    async def _api(self, pod: Object, port: int, purpose: Purpose, expected: ExpectedToken) -> PortResult:
        async with forwarded(self.api, pod, port) as (path, forward):
            target = ProbeTarget("localhost", port, socket=path, trouble=forward.trouble)
            return await ask_api(target, purpose, expected, timeout_seconds=self.timeout_seconds)

    async def _other_port(self, pod: Object, port: int, purpose: Purpose) -> PortResult | None:
        async with forwarded(self.api, pod, port) as (path, forward):
            target = ProbeTarget("localhost", port, socket=path, trouble=forward.trouble)
            return await ask_other_port(target, purpose, timeout_seconds=self.timeout_seconds)

    async def _expected_token(self, container: Object, namespace: str) -> tuple[ExpectedToken, str]:
        """Return the token that daprd should require, and the likely cause if it requires none."""
        entry = decode.effective_entry(container, names.API_TOKEN_ENV)
        if not entry:
            reason = _ENV_FROM if container.get("envFrom") else _NO_VARIABLE
            return self._or_given(reason), reason
        source = entry.get("valueFrom") or {}
        selector = source.get("secretKeyRef")
        if selector is not None:
            reference = f"key {selector.get('key')} of Secret {selector.get('name')}"
            optional = ", which may be missing (optional: true)" if selector.get("optional") else ""
            cause = f"its DAPR_API_TOKEN comes from {reference}{optional}"
            return self.given if self.given.token else await self._read(namespace, selector, reference), cause
        if source:
            return self._or_given(f"DAPR_API_TOKEN comes from a {next(iter(source))}"), "its DAPR_API_TOKEN is empty"
        value = str(entry.get("value") or "")
        cause = "its DAPR_API_TOKEN is empty" if not value else "its DAPR_API_TOKEN is written into the Pod"
        return self.given if self.given.token else _literal(value), cause

    def _or_given(self, reason: str) -> ExpectedToken:
        return self.given if self.given.token else ExpectedToken(skipped_reason=reason)

    async def _read(self, namespace: str, selector: Mapping[str, Any], reference: str) -> ExpectedToken:
        name, key = str(selector.get("name")), str(selector.get("key"))
        at = (namespace, name, key)
        if at not in self._tokens:  # Pods of one workload share one request
            self._tokens[at] = asyncio.ensure_future(_token(self.api, at, reference))
        return await self._tokens[at]


async def _token(api: Api, at: tuple[str, str, str], reference: str) -> ExpectedToken:
    namespace, name, key = at
    try:
        secret = await api.get(resources.SECRETS, name, namespace)
    except KubeError as error:
        return ExpectedToken(skipped_reason=str(error))
    encoded = (secret.get("data") or {}).get(key)
    if encoded is None:
        return ExpectedToken(skipped_reason=f"Secret {name} has no key {key}")
    try:
        return ExpectedToken(parse_token(base64.b64decode(encoded)))
    except TokenError as error:
        return ExpectedToken(skipped_reason=f"{reference} is not a token: {error}")
    except (binascii.Error, ValueError):
        return ExpectedToken(skipped_reason=f"{reference} is not base64")


_NO_VARIABLE: Final = "daprd has no DAPR_API_TOKEN"
_ENV_FROM: Final = "DAPR_API_TOKEN can only come from daprd's envFrom"
_ELSEWHERE: Final = "listens on an address of the Pod that port forwarding does not reach"
_UNCERTAIN: Final = "daprd's flags are in a shell command line, so ports other than these are unknown"

# Addresses only: a Pod's author can write anything, and a terminal interprets control characters.
_ADDRESSES: Final = re.compile(r"[0-9A-Za-z.:,\[\]%-]{1,100}")


def _redact_addresses(addresses: tuple[str, ...]) -> str:
    joined = ",".join(addresses)
    if not any(addresses):
        return "no --dapr-listen-addresses, so daprd listens on all addresses"
    return f"--dapr-listen-addresses {joined if _ADDRESSES.fullmatch(joined) else '(not addresses)'}"


def _literal(value: str) -> ExpectedToken:
    if "$(" in value:
        return ExpectedToken(skipped_reason="DAPR_API_TOKEN is composed from other variables")
    try:
        return ExpectedToken(parse_token(value.encode()))
    except TokenError as error:
        return ExpectedToken(skipped_reason=f"DAPR_API_TOKEN is not a token: {error}")


def _is_shared(pod: Object, container: Object) -> bool:
    entry = decode.effective_entry(container, names.API_TOKEN_ENV)
    selector = (entry.get("valueFrom") or {}).get("secretKeyRef") or {}
    return is_dapr_shared(is_requested=decode.requests_sidecar(pod), key=str(selector.get("key")))


def _sidecar(pod: Object) -> Object | None:
    """Return the container named daprd, else the first that runs daprd under another name.

    In a sealed Pod, its variable is that of the seal container, which reads the Secret.
    """
    spec = pod.get("spec") or {}
    both = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    running = (one for one in both if is_daprd(str(one.get("image") or ""), _words(one)))
    named: Object | None = next((one for one in both if one.get("name") == names.SIDECAR), None)
    found = named if named is not None else next(running, None)
    if found is None:
        return None
    sealed = decode.sealed_references(pod).get((found["name"], names.API_TOKEN_ENV))
    if sealed is None:
        return found
    selector = {"name": sealed.secret, "key": sealed.key, "optional": sealed.is_optional}
    entry = {"name": names.API_TOKEN_ENV, "valueFrom": {"secretKeyRef": selector}}
    return {**found, "env": [*(one for one in found["env"] if one["name"] != names.API_TOKEN_ENV), entry]}


def _words(container: Object) -> tuple[str, ...]:
    return (*(container.get("command") or ()), *(container.get("args") or ()))


def _why_no_sidecar(pod: Object) -> str:
    if decode.requests_sidecar(pod):
        return "no container daprd although dapr.io/enabled requests one: Dapr's injector did not process this Pod"
    return "no container daprd"


_SCHEDULED: Final = "PodScheduled"
# Reasons of the kubelet why a container waits.
_WAITING: Final[Mapping[str, str]] = {
    "ContainerCreating": "daprd has not started yet",
    "PodInitializing": "daprd has not started yet: the init containers have not ended",
    "CreateContainerConfigError": "daprd cannot start: a Secret, ConfigMap or key that it references does not exist",
    "CrashLoopBackOff": "daprd ends again and again",
    **dict.fromkeys(("ErrImagePull", "ImagePullBackOff", "InvalidImageName"), "the image of daprd cannot be pulled"),
}


def _why_not_running(pod: Object) -> str:
    """Return why daprd is not running; empty if it is."""
    status = pod.get("status") or {}
    phase = str(status.get("phase") or "Unknown")
    state: Object = _state_of_sidecar(pod).get("state") or {}
    if state.get("running") is not None:
        return ""
    if not (pod.get("spec") or {}).get("nodeName"):
        messages = (one.get("message") for one in status.get("conditions") or () if one.get("type") == _SCHEDULED)
        return "the Pod is not scheduled yet" + _quoted(next(messages, None))
    if decode.has_ended(pod):
        return f"the Pod has ended (phase {phase})" + _quoted(status.get("reason"))
    if state.get("terminated") is not None:
        ended = state["terminated"]
        return f"daprd has ended with exit code {ended.get('exitCode', 'unknown')}" + _quoted(ended.get("reason"))
    if state.get("waiting") is not None:
        waiting = state["waiting"]
        reason = str(waiting.get("reason") or "no reason")
        return _WAITING.get(reason, f"daprd waits ({redact_words(reason)})") + _quoted(waiting.get("message"))
    return f"the kubelet has not reported that daprd runs (phase {redact_words(phase)})"


def _quoted(message: object) -> str:
    return f": {redact_words(str(message))}" if message else ""


def _state_of_sidecar(pod: Object) -> Object:
    status = pod.get("status") or {}
    states = (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ()))
    name = (_sidecar(pod) or {}).get("name")
    found: Object = next((one for one in states if one.get("name") == name), {})
    return found
