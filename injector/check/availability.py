"""Checks that the webhook answers, and keeps answering while Pods, nodes and certificates are replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.check import expiry, startup
from injector.check.installation import condition, endpoints_of, for_all_services, for_each_service, pods_of
from injector.check.model import Category, Check, Outcome, failed, unknown, warning
from injector.check.selectors import Selector
from injector.core.messages import listed
from injector.kube.api_messages import single_line
from injector.kube.errors import ForbiddenError
from injector.kube.resources import DISRUPTION_BUDGETS, NODES, SERVICES
from injector.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from injector.check.installation import CalledService
    from injector.check.model import CheckProblem
    from injector.check.reader import ClusterReader
    from injector.kube.resources import Object

_ZONE: Final = "topology.kubernetes.io/zone"


async def _endpoints(reader: ClusterReader, service: CalledService) -> Outcome:
    try:
        found = await reader.get(SERVICES, service.name, service.namespace)
    except ForbiddenError:
        port = None
    else:
        if found is None:
            missing = failed(f"{service} does not exist: {service.consequence}")
            return Outcome(seen=str(service), problems=(missing,))
        ports = found["spec"].get("ports") or ()
        port = next((str(one.get("name") or "") for one in ports if one["port"] == service.port), None)
        if port is None:
            missing = failed(f"{service} has no port {service.port}, which is registered: {service.consequence}")
            return Outcome(seen=str(service), problems=(missing,))
    endpoints = await endpoints_of(reader, service, port)
    seen = f"{len(endpoints.ready):,} of {counted(endpoints.known, 'endpoint')} of {service} ready"
    if not endpoints.ready:
        show = f"kubectl get pods,endpointslices --namespace {service.namespace}"
        gone = failed(f"the endpoints of {service} are gone, none is ready: {service.consequence}", show)
        return Outcome(seen=seen, problems=(gone,))
    if len(endpoints.ready) == 1 and not service.others:
        single = warning(f"only one endpoint of {service} is ready: while its Pod is replaced, {service.consequence}")
        return Outcome(seen=seen, problems=(single,))
    return Outcome(seen=seen)


async def _budget(reader: ClusterReader, services: Sequence[CalledService]) -> Outcome:
    pods = [pod for service in services for pod in await pods_of(reader, service)]
    named = listed(list(map(str, services)))
    if not pods:
        return Outcome(seen=f"{named} has no Pods", is_skipped=True)
    namespaces = dict.fromkeys(service.namespace for service in services)
    found = [one for namespace in namespaces for one in await reader.list(DISRUPTION_BUDGETS, namespace)]
    of_pods = [[one for one in found if _selects(one, pod["metadata"].get("labels") or {})] for pod in pods]
    budgets = {str(one["metadata"]["name"]): one for of_pod in of_pods for one in of_pod}
    budget_names = listed(sorted(budgets))
    seen = (
        f"PodDisruptionBudget {budget_names}" if budgets else f"no PodDisruptionBudget for {counted(len(pods), 'Pod')}"
    )
    if not budgets and len(pods) > 1:
        missing = warning(
            f"no PodDisruptionBudget selects the Pods of {named}: drains of several nodes may evict all at once",
            "helm upgrade dapr-token-injector CHART --reset-then-reuse-values --set podDisruptionBudget.enabled=true",
        )
        return Outcome(seen=seen, problems=(missing,))
    if any(len(of_pod) > 1 for of_pod in of_pods):
        several = failed(
            f"several PodDisruptionBudgets select the same Pods ({budget_names}): Kubernetes evicts no Pod then, and "
            "node drains do not end"
        )
        return Outcome(seen=seen, problems=(several,))
    return Outcome(seen=seen, problems=tuple(problem for one in budgets.values() for problem in _budget_problems(one)))


def _selects(budget: Object, labels: Mapping[str, str]) -> bool:
    selector = (budget.get("spec") or {}).get("selector")
    return selector is not None and Selector(selector).matches(labels)  # of a budget, none selects nothing


def _budget_problems(budget: Object) -> Iterator[CheckProblem]:
    meta, status = budget["metadata"], budget.get("status") or {}
    name = f"PodDisruptionBudget {meta['name']}"
    describe = f"kubectl describe poddisruptionbudget {meta['name']} --namespace {meta['namespace']}"
    allowed = condition(budget, "DisruptionAllowed")
    expected = status.get("expectedPods") or 0
    if allowed.get("reason") == "SyncFailed":
        why = single_line(str(allowed.get("message") or "its controller cannot evaluate it"))
        yield failed(f"{name} allows no eviction, and node drains do not end: {why}", describe)
    elif status.get("observedGeneration") is None:
        yield unknown(f"{name} has not been evaluated by its controller yet", describe)
    elif not status.get("disruptionsAllowed") and (status.get("currentHealthy") or 0) >= expected > 0:
        healthy = counted(expected, "Pod")
        yield failed(f"{name} allows no eviction, with {healthy} healthy: node drains do not end", describe)


async def _spread(reader: ClusterReader, services: Sequence[CalledService]) -> Outcome:
    ready = [one for service in services for one in (await endpoints_of(reader, service, None)).ready]
    service, outage = listed(list(map(str, services))), services[0].outage
    if len(ready) < 2:  # noqa: PLR2004 - one endpoint is the subject of another check
        return Outcome(seen=f"{counted(len(ready), 'ready endpoint')} of {service}", is_skipped=True)
    nodes = {one.get("nodeName") for one in ready}
    zones = {one.get("zone") for one in ready}
    seen = f"{counted(len(ready), 'ready endpoint')} of {service} on {counted(len(nodes), 'node')}"
    if None in nodes:
        return Outcome(seen=seen, problems=(unknown(f"endpoints of {service} do not name their node"),))
    if len(nodes) == 1:
        together = warning(f"all ready endpoints of {service} are on node {nodes.pop()}: if it fails, {outage}")
        return Outcome(seen=seen, problems=(together,))
    zone = zones.pop()
    if zones or zone is None:
        return Outcome(seen=seen)
    try:
        others = await _zones(reader) - {zone}
    except ForbiddenError as error:
        unseen = unknown(f"all ready endpoints of {service} are in zone {zone}; whether there is another one: {error}")
        return Outcome(seen=seen, problems=(unseen,))
    if not others:
        return Outcome(seen=f"{seen}, in the only zone")
    together = warning(
        f"all ready endpoints of {service} are in zone {zone}, and there are others ({listed(sorted(others), 3)}): if "
        f"that zone fails, {outage}"
    )
    return Outcome(seen=seen, problems=(together,))


async def _zones(reader: ClusterReader) -> set[str]:
    """Return the zones of all nodes, from their metadata: the rest of a node is large."""
    nodes = await reader.api.list(
        NODES, label_selector=_ZONE, metadata_only=True, keep=lambda node: {_ZONE: node["metadata"]["labels"][_ZONE]}
    )
    return {str(one[_ZONE]) for one in nodes}


CHECKS: Final = (
    Check(
        id="DTC030",
        name="endpoints",
        category=Category.AVAILABILITY,
        summary="The API server has ready endpoints to call, more than one.",
        why="The API server calls the endpoints of the registered Service. Without one, each Pod that requests a token "
        "is rejected (`failurePolicy: Fail`) or created without it (`Ignore`). With only one, the same happens while "
        "its Pod is replaced.",
        how="Reads which Services the MutatingWebhookConfigurations name, whatever their names, each Service with the "
        "registered port, and its EndpointSlices. No ready endpoint with that port fails the check, also of one of two "
        "groups (`webhook.redundancy: 2`). Only one is a warning, with two groups it is not. "
        "Without the right to read Services, endpoints count with any port. Whether the API server's network reaches "
        "an endpoint is not visible here; the checks of admission show it.",
        fix="Look at the Pods: the check `pods-start` names their problem. If there are none, scale the Deployment up. "
        "If the Service has another name or port than the registration, install the chart again.",
        run=for_each_service(_endpoints),
    ),
    Check(
        id="DTC031",
        name="pods-start",
        category=Category.AVAILABILITY,
        summary="The Pods of the webhook can start.",
        why="A Pod that cannot start is invisible as long as older Pods answer. With the next node drain it becomes an "
        "outage.",
        how="Reads the Pods that the Service selects, without those that end and those of Jobs and `helm test`. A Pod "
        "that cannot be scheduled, or a container that waits with an error of the kubelet (such as `ErrImagePull`, "
        "`ImagePullBackOff`, `InvalidImageName`, `ErrImageNeverPull` or `CrashLoopBackOff`), fails the check; the "
        "problem quotes the kubelet. A Pod that is not ready for two minutes without an error is a warning. Pods with "
        "the same problem are shown as one. Times are compared with the clock of the API server.",
        fix="For an image, compare its name with the registry, and check `imagePullSecrets` and the node's access to "
        "the registry. For `CrashLoopBackOff`, read the log of the previous container. For a Pod that is not "
        "scheduled, compare its requests, selectors and tolerations with the nodes.",
        run=for_each_service(startup.pods_start),
    ),
    Check(
        id="DTC032",
        name="rolled-out",
        category=Category.AVAILABILITY,
        summary="The Deployment runs its current template.",
        why="If an upgrade is stuck, the Pods of the previous ReplicaSet answer with the previous version and policy, "
        "and nothing else shows it.",
        how="Reads the Deployments in the namespace of the Service whose Pods it selects, whatever their names. It "
        "fails if one has exceeded its progress deadline, cannot create Pods (a quota, an admission rule), or is "
        "scaled to 0. A rollout that is in progress or paused is a warning, and so are several Deployments behind one "
        "Service, which may differ in version and policy.",
        fix="See `pods-start` for what the new Pods wait for. `kubectl rollout undo` returns to the previous "
        "template. Remove a Deployment that is left of another installation.",
        run=for_each_service(startup.rolled_out),
    ),
    Check(
        id="DTC033",
        name="disruption-budget",
        category=Category.AVAILABILITY,
        summary="Node drains evict the Pods one after the other, and end.",
        why="Without a PodDisruptionBudget, drains of several nodes can evict all Pods at the same time. A budget that "
        "allows no eviction blocks every drain, and with it the upgrade of the cluster.",
        how="Reads the PodDisruptionBudgets whose selectors match Pods of the webhook, and their status. None is a "
        "warning if there are several Pods; two groups are taken together. It fails if a budget allows no eviction "
        "although all its Pods are healthy, if its controller cannot evaluate it, or if several select the same Pod: "
        "the Eviction API rejects that. It cannot see a budget's effect on Pods that are not healthy.",
        fix="Use the budget of the chart (`podDisruptionBudget.enabled`): it allows one Pod at a time and evicts Pods "
        "that are not ready. Delete other budgets for the same Pods.",
        run=for_all_services(_budget),
    ),
    Check(
        id="DTC034",
        name="spread",
        category=Category.AVAILABILITY,
        summary="The Pods are on several nodes and zones.",
        why="If all Pods are on one node or in one zone, the failure of that node or zone takes the webhook away, and "
        "the Pods that are created elsewhere in the cluster depend on it.",
        how="Reads node and zone of the ready endpoints in the EndpointSlices, which needs no right on nodes. All on "
        "one node is a warning; all in one zone, too, if a node of the cluster is in another zone. That requires "
        "`list` on nodes; without it, the result is unknown. Two groups are taken together. It is skipped with less "
        "than two ready endpoints.",
        fix="Keep `topologySpreadConstraints` of the chart, and restart the Deployment (`kubectl rollout restart`): "
        "Pods are not moved after they are scheduled. If all nodes are full, add one.",
        run=for_all_services(_spread),
    ),
    Check(
        id="DTC035",
        name="serving-certificate",
        category=Category.AVAILABILITY,
        summary="The serving certificates are renewed in time.",
        why="When its certificate expires, the API server no longer accepts the answers of a Pod. The certificate is "
        "renewed long before; if it is not, this is the only sign.",
        how="Makes a TLS handshake with at most 20 ready Pods through the API server, and reads the status of "
        "Certificates of cert-manager whose Secrets the Pods mount. Certificates are renewed after two thirds of their "
        "lifetime. With less than three tenths of it left, the renewal is overdue: a warning. With less than a tenth "
        "left, or if it has expired or is not valid yet, the check fails. The clock of the API server counts. It "
        "requires `get` and `create` on `pods/portforward`; without it, the result is unknown, and without "
        "`list` on Certificates if cert-manager is installed and the Pods mount a Secret. No Secret is read.",
        fix="With `--tls-mode self`, `/readyz` of the ops port and the log name the problem. With cert-manager, "
        "`kubectl describe certificate` names it. With your own files, renew the pair; it is loaded without a restart.",
        run=for_each_service(expiry.serving),
    ),
    Check(
        id="DTC036",
        name="ca-certificate",
        category=Category.AVAILABILITY,
        summary="The CA in the caBundle is renewed in time.",
        why="When the registered CA expires, the API server trusts no certificate of the webhook, however new.",
        how="Reads the caBundle of each entry in the webhook configurations; the CA's Secret is not read. A new CA "
        "is added to the caBundle before the previous one ends, so the certificate that ends last counts. The limits "
        "are those of `serving-certificate`: less than three tenths of the lifetime left is a warning, less than a "
        "tenth fails. A caBundle without a readable certificate is the subject of `ca-bundle`, and whether it "
        "trusts what the Pods serve that of `served-certificate`.",
        fix="With `--tls-mode self`, request a new CA with `dapr-token-injector ca rotate`. With cert-manager, renew "
        "the CA's Certificate. With your own files, set the new CA in `tls.files.caBundle` before it signs.",
        run=expiry.ca_bundle,
    ),
)
