"""Checks which permissions the caller has for each command, and the webhook's own ServiceAccount for its certificates.

A permission that the caller lacks is not a fault of the installation: a warning, with the rule to request. One that the
webhook lacks is a fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from injector.check import admission, dapr
from injector.check.installation import called_services, for_each_service, pods_of
from injector.check.model import Category, Check, CheckProblem, Outcome, Result, failed, unknown
from injector.check.reader import is_permitted
from injector.core import names
from injector.kube import resources
from injector.kube.errors import ForbiddenError
from injector.kube.resources import Resource
from injector.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from injector.check.installation import CalledService
    from injector.check.reader import ClusterReader
    from injector.kube.resources import Object

_WORKLOADS: Final = (resources.DEPLOYMENTS, resources.STATEFULSETS, resources.DAEMONSETS)
# https://kubernetes.io/docs/reference/kubernetes-api/authorization-resources/subject-access-review-v1/
_ACCESS_REVIEWS: Final = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
# What the chart creates with its default values: charts/dapr-token-injector/templates.
INSTALLED_KINDS: Final = (
    resources.SECRETS,
    resources.CONFIGMAPS,
    resources.SERVICES,
    Resource("", "v1", "serviceaccounts", "ServiceAccount"),
    resources.DEPLOYMENTS,
    resources.DISRUPTION_BUDGETS,
    resources.ROLES,
    resources.ROLE_BINDINGS,
    resources.CLUSTER_ROLES,
    resources.CLUSTER_ROLE_BINDINGS,
    resources.MUTATING_WEBHOOKS,
    resources.VALIDATING_WEBHOOKS,
    resources.POLICIES,
    resources.POLICY_BINDINGS,
)


@dataclass(frozen=True, slots=True)
class Need:
    """Verbs on a kind of object, and what is not possible without them."""

    verbs: tuple[str, ...]
    resource: Resource
    without: str
    subresource: str = ""
    name: str = ""

    @property
    def what(self) -> str:
        """The kind as RBAC names it."""
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural

    def rule(self, verbs: Iterable[str]) -> str:
        """Return a rule of a Role or ClusterRole."""
        group = self.resource.group or '""'
        by_name = f", resourceNames: [{self.name}]" if self.name else ""
        return f"{{apiGroups: [{group}], resources: [{self.what}]{by_name}, verbs: [{', '.join(verbs)}]}}"


# What each command reads and writes. Without a permission, it works without that part, or not at all.
STATUS: Final = (
    Need(("list",), resources.PODS, "status finds no Pods"),
    Need(("list",), resources.REPLICASETS, "status shows ReplicaSets in place of Deployments"),
    Need(("list",), resources.JOBS, "status shows Jobs in place of CronJobs"),
    Need(("list",), resources.NAMESPACES, "status does not know the defaults and exemptions of namespaces"),
    Need(("list",), resources.DEPLOYMENTS, "status does not know the webhook's Policy"),
    Need(("get",), resources.CONFIGMAPS, "status does not know the webhook's Policy"),
)
CURRENCY: Final = (Need(("list",), resources.SECRETS, "status does not know which Pods run an outdated token"),)
LIST: Final = (
    Need(("list",), resources.PODS, "secret list does not work"),
    Need(("list",), resources.SECRETS, "secret list does not work"),
    *(
        Need(("list",), one, f"secret list names no {one.kind}s")
        for one in (*_WORKLOADS, resources.REPLICASETS, resources.JOBS, resources.CRONJOBS)
    ),
)
CREATE: Final = (
    Need(("create",), resources.SECRETS, "secret create creates no Secret"),
    Need(("get",), resources.SECRETS, "secret create notices an existing Secret only when it creates it"),
)
ROTATE: Final = (
    Need(("get", "update"), resources.SECRETS, "secret rotate writes no new token"),
    Need(("list",), resources.PODS, "secret rotate does not find the Pods that use a Secret"),
    Need(("create",), resources.PODS, "secret rotate does not know whether new Pods would be injected (a dry run)"),
    Need(("get",), resources.REPLICASETS, "secret rotate does not find the Deployments that use a Secret"),
    *(
        Need(("get",), one, f"secret rotate does not work if Pods of {one.kind}s use the Secret")
        for one in (resources.JOBS, resources.CRONJOBS)
    ),
    *(Need(("get", "patch"), one, f"secret rotate --restart restarts no {one.kind}") for one in _WORKLOADS),
)
PROBE: Final = (
    Need(("list", "get"), resources.PODS, "probe finds no Pods"),
    Need(("get", "create"), resources.PODS, "probe reaches no sidecar", subresource="portforward"),
    Need(("get",), resources.SECRETS, "probe does not send the right token, so it shows only what is open"),
)
_SEES: Final = "check does not see"
CHECK_CLUSTER: Final = (
    *(Need(("get",), one, f"{_SEES} the registration", name=name) for one, name in resources.WEBHOOK_CONFIGURATIONS),
    Need(("get", "list"), resources.MUTATING_WEBHOOKS, f"{_SEES} Dapr's injector and other webhooks"),
    Need(("get",), resources.POLICIES, f"{_SEES} the guard"),
    Need(("get", "list"), resources.POLICY_BINDINGS, f"{_SEES} what the guard does"),
    *(
        Need(("get",), one, f"{_SEES} whether another installation exists", name=names.MANAGER)
        for one in (resources.CLUSTER_ROLES, resources.CLUSTER_ROLE_BINDINGS)
    ),
    Need(("get", "list"), resources.NAMESPACES, f"{_SEES} the labels of namespaces"),
    Need(("list",), resources.PODS, f"{_SEES} which Pods run daprd or read a token"),
    Need(("list",), resources.JOBS, "check shows Jobs in place of CronJobs"),
    Need(("list",), resources.SECRETS, f"{_SEES} the token Secrets (it requests only their metadata)"),
    *(
        Need(("list",), one, f"{_SEES} which {one.kind}s Reloader restarts")
        for one in (*_WORKLOADS, resources.ROLLOUTS)
    ),
    Need(("list",), resources.NODES, "check does not know the zones and kubelets of the cluster"),
    Need(("create",), _ACCESS_REVIEWS, f"{_SEES} the permissions of the webhook"),
)
CHECK_NAMESPACE: Final = (
    Need(("get",), resources.SERVICES, f"{_SEES} which port and Pods the Service selects"),
    *(
        Need(("list",), one, f"check sees no {one.kind} of the webhook")
        for one in (resources.ENDPOINTSLICES, resources.PODS, resources.DISRUPTION_BUDGETS)
    ),
    Need(("get", "list"), resources.DEPLOYMENTS, "check sees no Deployment of the webhook"),
    Need(("get",), resources.CONFIGMAPS, f"{_SEES} whether the webhook's Policy seals Pods"),
    Need(("get",), resources.SERVICES, f"{_SEES} which version the Pods run", subresource="proxy"),
    Need(("get", "create"), resources.PODS, "check sees no serving certificate", subresource="portforward"),
)
CHECK_DAPR: Final = tuple(
    Need(("get",), one, f"{_SEES} Dapr's control plane") for one in (resources.DEPLOYMENTS, resources.STATEFULSETS)
)
CHECK_CANARY: Final = (
    Need(("create",), resources.PODS, "check does not know whether new Pods are injected (a dry run)"),
)


async def _problems(
    reader: ClusterReader, needs: Iterable[Need], namespace: str | None, result: Result = Result.WARNING
) -> list[CheckProblem]:
    """Return a problem for each need of which the caller lacks verbs."""
    problems = []
    for need in needs:
        where = namespace if need.resource.namespaced else None
        missing = [
            verb
            for verb in need.verbs
            if not await reader.may(verb, need.resource, where, need.name, subresource=need.subresource)
        ]
        if missing:
            scope = _scope(need, where)
            message = f"you may not {', '.join(missing)} {need.what}{scope}: {need.without}"
            problems.append(CheckProblem(result=result, message=message, fix=f"request the rule {need.rule(missing)}"))
    return problems


def _scope(need: Need, namespace: str | None) -> str:
    if not need.resource.namespaced:
        return f" {need.name}" if need.name else ""
    return f" in namespace {namespace}" if namespace else " in all namespaces"


async def _of_check(reader: ClusterReader) -> Outcome:
    problems = await _problems(reader, CHECK_CLUSTER, None)
    try:
        of_dapr = await dapr.namespace_of(reader)
    except ForbiddenError:
        of_dapr = dapr.NAMESPACE
    problems += await _problems(reader, CHECK_DAPR, of_dapr)
    try:
        namespaces = dict.fromkeys(service.namespace for service in await called_services(reader))
        problems += await _problems(reader, CHECK_CANARY, await admission.namespace_of_canary(reader))
    except ForbiddenError as error:
        problems.append(unknown(f"the namespace of the installation is not known; set it with -n: {error}"))
        namespaces = {}
    for namespace in namespaces:
        problems += await _problems(reader, CHECK_NAMESPACE, namespace)
    return Outcome(seen="your permissions for check", problems=tuple(problems))


async def _of_installation(reader: ClusterReader) -> Outcome:
    namespace, result = await reader.namespace(), Result.FAILED
    try:
        if await reader.registrations():
            return Outcome(seen="the webhook is installed", is_skipped=True)
    except ForbiddenError:
        result = Result.UNKNOWN  # if it is installed, no permission is needed
    without = "the installation fails half-way"
    needs = [Need(("get", "create"), one, without) for one in INSTALLED_KINDS]
    problems = await _problems(reader, needs, namespace, result)
    # https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping
    can_escalate = [
        await reader.may(verb, resource, namespace if resource.namespaced else None)
        for verb in ("escalate", "bind")
        for resource in (resources.ROLES, resources.CLUSTER_ROLES)
    ]
    if not all(can_escalate):
        granted = "RBAC rejects the Role of the webhook: you can grant only permissions that you have"
        needs = [Need(need.verbs, need.resource, granted, name=need.name) for need in _own_needs({})]
        problems += await _problems(reader, needs, namespace, result)
    return Outcome(
        seen=f"your permissions for the objects of the chart in namespace {namespace}", problems=tuple(problems)
    )


def _own_needs(flags: Mapping[str, str]) -> tuple[Need, ...]:
    """Return what the webhook needs with `--tls-mode self`: charts/dapr-token-injector/templates/rbac."""
    secret = flags.get("--ca-secret-name", f"{names.MANAGER}-ca")
    configuration = flags.get("--webhook-configuration-name", names.MANAGER)
    second = flags.get("--second-webhook-configuration-name", "")
    configurations = (
        (resources.MUTATING_WEBHOOKS, configuration),
        *(((resources.MUTATING_WEBHOOKS, second),) if second else ()),
        (resources.VALIDATING_WEBHOOKS, configuration),
    )
    return (
        Need(("get", "watch", "update"), resources.SECRETS, "it can neither read nor replace its CA", name=secret),
        *(
            Need(("get", "watch", "patch"), kind, "it can neither write nor repair the caBundle", name=name)
            for kind, name in configurations
        ),
    )


async def _of_webhook(reader: ClusterReader, service: CalledService) -> Outcome:
    accounts: dict[str, dict[str, str]] = {}
    for pod in await pods_of(reader, service):
        flags = _flags(pod)
        if flags.get("--tls-mode") == "self":
            accounts.setdefault(str(pod["spec"].get("serviceAccountName") or "default"), flags)
    if not accounts:
        return Outcome(seen=f"no Pod of {service} has --tls-mode self", is_skipped=True)
    problems = []
    for account, flags in accounts.items():
        for need in _own_needs(flags):
            missing = [
                verb for verb in need.verbs if not await _account_may(reader, service.namespace, account, need, verb)
            ]
            if missing:
                who = f"ServiceAccount {service.namespace}/{account}"
                what = f"{', '.join(missing)} {need.what} {need.name}"
                problems.append(failed(f"{who} may not {what}: {need.without}", f"grant the rule {need.rule(missing)}"))
    seen = f"the permissions of {counted(len(accounts), 'ServiceAccount')} of {service}"
    return Outcome(seen=seen, problems=tuple(problems))


def _flags(pod: Object) -> dict[str, str]:
    """Return the options of the webhook's container that have a value."""
    arguments = [str(one) for container in pod["spec"].get("containers") or () for one in container.get("args") or ()]
    return dict(one.split("=", 1) for one in arguments if one.startswith("--") and "=" in one)


async def _account_may(reader: ClusterReader, namespace: str, account: str, need: Need, verb: str) -> bool:
    attributes = {"verb": verb, "group": need.resource.group, "resource": need.resource.plural, "name": need.name}
    attributes |= {"namespace": namespace} if need.resource.namespaced else {}
    spec = {
        "user": f"system:serviceaccount:{namespace}:{account}",
        "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
        "resourceAttributes": attributes,
    }
    return await is_permitted(reader.api, _ACCESS_REVIEWS, spec, "review the permissions of the webhook")


_REQUEST: Final = (
    "Request the rules that the problems show, in a ClusterRole, or in a Role for one namespace. Skip the check "
    "(`--skip`) if you do not use the command."
)


def _command_check(number: int, name: str, command: str, why: str, *needs: Need) -> Check:
    """Return the check of what a command needs in all namespaces."""

    async def run(reader: ClusterReader) -> Outcome:
        return Outcome(seen=f"your permissions for {command}", problems=tuple(await _problems(reader, needs, None)))

    return Check(
        id=f"DTC{number:03}",
        name=name,
        category=Category.RIGHTS,
        summary=f"You have the permissions for `{command}`.",
        why=why,
        how="Asks the API server with a SelfSubjectAccessReview for each verb, for all namespaces. A missing "
        "permission is a warning, with the rule to request. If a Role grants it in some namespaces, the command works "
        "there with `-n NAMESPACE`. It cannot see whether an admission policy of the cluster rejects a "
        "write that RBAC allows.",
        fix=_REQUEST,
        run=run,
    )


CHECKS: Final = (
    _command_check(
        40,
        "status-rights",
        "status -A",
        "`status` finds the Pods without a token. It shows as much as your permissions allow. The ClusterRole `view` "
        "is enough for protection.",
        *STATUS,
    ),
    _command_check(
        41,
        "currency-rights",
        "status -A (currency)",
        "Whether a Pod runs the current token is visible only to users who can list Secrets, which `view` does not "
        "include. `status` requests only their metadata, but RBAC knows no such distinction.",
        *CURRENCY,
    ),
    _command_check(
        42,
        "secret-list-rights",
        "secret list -A",
        "`secret list` shows all token Secrets and the workloads that use them.",
        *LIST,
    ),
    _command_check(
        43,
        "secret-create-rights",
        "secret create",
        "`secret create` creates the Secret of a namespace with your permissions; the webhook has none on Secrets.",
        *CREATE,
    ),
    _command_check(
        44,
        "secret-rotate-rights",
        "secret rotate --restart",
        "`secret rotate --restart` needs the most permissions: it writes Secrets, restarts workloads and "
        "tests the injection first. It stops before the first write if a permission is missing; this check names all "
        "of them before that.",
        *ROTATE,
    ),
    _command_check(
        45,
        "probe-rights",
        "probe",
        "`probe` proves that sidecars reject calls without a token. It reaches them through the API server.",
        *PROBE,
    ),
    Check(
        id="DTC046",
        name="check-rights",
        category=Category.RIGHTS,
        summary="You have the permissions for `check`.",
        why="A check without its permission is unknown. This one names all of them at once.",
        how="Asks the API server with a SelfSubjectAccessReview for each verb, on all kinds that the checks read: in "
        "the whole cluster, in the namespaces of the installation and of Dapr, and to create Pods where the dry run is "
        "sent. A missing permission is a warning, with the rule to request. Certificates of cert-manager are left "
        "out: without them, `check` reads the certificate that is served.",
        fix=_REQUEST,
        run=_of_check,
    ),
    Check(
        id="DTC047",
        name="webhook-rights",
        category=Category.RIGHTS,
        summary="The webhook may maintain its certificates.",
        why="With `--tls-mode self` the replicas need get, watch and update on one Secret, and get, watch and patch on "
        "their webhook configurations, all by name. Without them, the active certificate stays until it expires, and a "
        "caBundle that another client changes is not repaired.",
        how="Reads the ServiceAccount and the options of the webhook's Pods, and asks the API server with a "
        "SubjectAccessReview for each verb, which counts every authorizer. A missing permission fails the check. You "
        "need `create` on `subjectaccessreviews`; without it, the result is unknown. It is skipped if no Pod has "
        "`--tls-mode=self`: the other modes need no permission. It cannot see a policy that rejects the write.",
        fix="Install the chart again; it creates Role, ClusterRole and their bindings. No restart is needed.",
        run=for_each_service(_of_webhook),
    ),
    Check(
        id="DTC048",
        name="install-rights",
        category=Category.RIGHTS,
        summary="You may create the objects of the chart.",
        why="Helm creates one object after the other. If a permission is missing, the installation ends half-way: "
        "under `failurePolicy: Fail` possibly with a registration that points to nothing.",
        how="Asks the API server with a SelfSubjectAccessReview whether you may get and create each kind that the "
        "chart creates with its default values, and whether RBAC lets you grant the permissions of the webhook: you "
        "need them yourself, or `escalate` and `bind` on roles. It is skipped if the webhook is installed, and unknown "
        "if you may not see whether it is. Set the namespace with `-n`. Kinds that only other values create "
        "(NetworkPolicy, ServiceMonitor, PrometheusRule, and those of cert-manager) are not checked.",
        fix="Let a cluster administrator install the chart, or request the rules that the problems show.",
        run=_of_installation,
        is_pre=True,
    ),
)
