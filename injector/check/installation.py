"""Finds the Services that the API server calls, their endpoints, and the Pods behind them, whatever their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from injector.check.model import Outcome
from injector.core import names
from injector.core.errors import ConfigError
from injector.core.messages import listed
from injector.kube.errors import ForbiddenError, NotFoundError
from injector.kube.resources import DEPLOYMENTS, ENDPOINTSLICES, PODS, SERVICES
from injector.rotation.decode import is_ending_or_ended
from injector.rotation.webhook_policy import read_policy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from injector.check.reader import ClusterReader
    from injector.core.model import Policy
    from injector.kube.resources import Object, Objects

DEFAULT_PORT: Final = 443  # of a Service or a URL without one
_CONSEQUENCES: Final = {
    "Fail": "the API server rejects Pods that request a token (failurePolicy Fail)",
    "Ignore": "Pods that request a token are created without it (failurePolicy Ignore)",
}


@dataclass(frozen=True, slots=True)
class CalledService:
    """A Service that entries of the registration name.

    `policies`: their failure policies, none if they are unknown. `others`: the Services of the other group of replicas.
    """

    namespace: str
    name: str
    port: int = DEFAULT_PORT
    policies: frozenset[str] = frozenset()
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"Service {self.namespace}/{self.name}"

    @property
    def consequence(self) -> str:
        """What happens while no endpoint answers."""
        return f"if {listed(self.others)} does not answer either, {self.outage}" if self.others else self.outage

    @property
    def outage(self) -> str:
        """What happens while no endpoint of any group answers."""
        if self.others:
            return "Pods that request a token are denied (policy requested) or created without it"
        known = [words for policy, words in _CONSEQUENCES.items() if policy in self.policies]
        return " or ".join(known) or "Pods that request a token are rejected or created without it"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The endpoints of a Service with the port that is called, each once."""

    ready: tuple[Object, ...]
    known: int


async def called_services(reader: ClusterReader) -> tuple[CalledService, ...]:
    """Return the registered Services; that of the chart if nothing is registered; none if only a URL is registered.

    Raises:
        KubeError: The registration cannot be read, and no namespace was given.
    """
    namespace = await reader.namespace()
    try:
        registrations = await reader.registrations()
    except ForbiddenError:
        registrations = []
    policies: dict[tuple[str, str, int], set[str]] = {}
    callers: dict[tuple[str, str, int], set[str]] = {}
    has_entries = False
    for registration in registrations:
        for entry in registration.get("webhooks") or ():
            has_entries = True
            service = entry["clientConfig"].get("service")
            if service is not None:
                key = (str(service["namespace"]), str(service["name"]), int(service.get("port") or DEFAULT_PORT))
                policies.setdefault(key, set()).add(str(entry.get("failurePolicy") or "Fail"))
                callers.setdefault(key, set()).add(registration["metadata"]["name"])
    if has_entries and not policies:
        return ()
    services = tuple(CalledService(*key, frozenset(found), _others(key, callers)) for key, found in policies.items())
    return services or (CalledService(namespace, names.MANAGER),)


def _others(called: tuple[str, str, int], callers: Mapping[tuple[str, str, int], set[str]]) -> tuple[str, ...]:
    """Return the Services that only other configurations call."""
    return tuple(str(CalledService(*key)) for key, found in callers.items() if not found & callers[called])


async def deployments_of_groups(reader: ClusterReader) -> Objects:
    """Return the Deployments of the installation that exist: one for each group of replicas.

    Raises:
        KubeError: They cannot be read.
    """
    return await reader.existing(((DEPLOYMENTS, name) for name in names.GROUPS), await reader.namespace())


async def is_redundant(reader: ClusterReader) -> bool:
    """Return whether two groups of replicas are installed (`webhook.redundancy: 2`), even if parts of one are missing.

    The caller of the check may know it.

    Raises:
        KubeError: The registration cannot be read, or shows one group and Deployments cannot be read.
    """
    if reader.expected.groups:
        return reader.expected.groups == len(names.GROUPS)
    if len(await reader.registrations()) > 1:
        return True
    deployments = await deployments_of_groups(reader)
    return any(one["metadata"]["name"] != names.MANAGER or _fails_over(one) for one in deployments)


def _fails_over(deployment: Object) -> bool:
    containers = deployment["spec"]["template"]["spec"].get("containers") or ()
    return any(argument == "--fail-over" for one in containers for argument in one.get("args") or ())


async def policy_of(reader: ClusterReader) -> Policy | None:
    """Return the webhook's Policy, None if there is none or it is not valid.

    Raises:
        KubeError: It cannot be read.
    """
    try:
        return await reader.once(policy_of, lambda: read_policy(reader.api))
    except (NotFoundError, LookupError, ConfigError):
        return None


async def selector_of(reader: ClusterReader, service: CalledService) -> str:
    """Return the label selector of a Service; that of the chart if the Service has none or cannot be read."""
    try:
        found = await reader.get(SERVICES, service.name, service.namespace)
    except ForbiddenError:
        found = None
    labels = ((found or {}).get("spec") or {}).get("selector") or {
        names.APP_NAME_LABEL: service.name if service.name in names.GROUPS else names.MANAGER
    }
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


async def pods_of(reader: ClusterReader, service: CalledService) -> Objects:
    """Return the Pods behind a Service by name, without ended and terminating ones and those of Jobs and `helm test`.

    Raises:
        KubeError: Pods cannot be listed, or the Service cannot be read and no Pod has the labels of the chart.
    """
    found = await reader.list(PODS, service.namespace, await selector_of(reader, service))
    pods = sorted((pod for pod in found if _serves(pod)), key=lambda pod: str(pod["metadata"]["name"]))
    if not pods:
        await reader.get(SERVICES, service.name, service.namespace)
    return pods


def _serves(pod: Object) -> bool:
    return not is_ending_or_ended(pod) and (pod.get("spec") or {}).get("restartPolicy") in {None, "Always"}


def condition(item: Object, kind: str) -> Object:
    """Return a condition of an object's status; empty if there is none."""
    conditions = (item.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind), {})


async def slices_of(reader: ClusterReader, namespace: str, service: str) -> Objects:
    """Return the EndpointSlices of a Service.

    Raises:
        KubeError: They cannot be listed.
    """
    return await reader.list(ENDPOINTSLICES, namespace, f"kubernetes.io/service-name={service}")


async def endpoints_of(reader: ClusterReader, service: CalledService, port: str | None) -> Endpoints:
    """Return the endpoints of a Service that have the named port; None: with any port.

    A dual-stack Service has each Pod in two slices, and a Pod may be in two slices of one family for a while:
    https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#duplicate-endpoints

    Raises:
        KubeError: EndpointSlices cannot be listed.
    """
    families: dict[str, dict[str, Object]] = {}
    for one in await slices_of(reader, service.namespace, service.name):
        ports = one.get("ports") or ()
        if port is not None and not any((each.get("name") or "") == port for each in ports):
            continue
        family = families.setdefault(str(one.get("addressType")), {})
        for endpoint in one.get("endpoints") or ():
            key = str((endpoint.get("targetRef") or {}).get("name") or endpoint["addresses"])
            if key not in family or is_ready(endpoint):
                family[key] = endpoint
    of_family = [Endpoints(tuple(filter(is_ready, found.values())), len(found)) for found in families.values()]
    return max(of_family, key=lambda one: (len(one.ready), one.known), default=Endpoints((), 0))


def is_ready(endpoint: Object) -> bool:
    """Return whether an endpoint is ready; one whose readiness is not reported counts as ready.

    https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoint-slice-v1/
    """
    return (endpoint.get("conditions") or {}).get("ready") is not False


def for_all_services(
    check: Callable[[ClusterReader, Sequence[CalledService]], Awaitable[Outcome]],
) -> Callable[[ClusterReader], Awaitable[Outcome]]:
    """Return a check of the registered Services together; skipped if only a URL is registered."""

    async def run(reader: ClusterReader) -> Outcome:
        services = await called_services(reader)
        return await check(reader, services) if services else _BY_URL

    return run


_BY_URL: Final = Outcome(seen="the webhook is registered by its URL, without a Service", is_skipped=True)


def for_each_service(
    check: Callable[[ClusterReader, CalledService], Awaitable[Outcome]],
) -> Callable[[ClusterReader], Awaitable[Outcome]]:
    """Return a check of all registered Services from a check of one; skipped if only a URL is registered."""

    async def run(reader: ClusterReader, services: Sequence[CalledService]) -> Outcome:
        found = [await check(reader, service) for service in services]
        # Two Services may have the same Pods.
        problems = dict.fromkeys(problem for one in found for problem in one.problems)
        seen = "; ".join(dict.fromkeys(one.seen for one in found))
        return Outcome(seen=seen, problems=tuple(problems), is_skipped=all(one.is_skipped for one in found))

    return for_all_services(run)
