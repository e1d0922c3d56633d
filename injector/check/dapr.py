"""Checks of Dapr: its control plane, its sidecar injector, and the versions of daprd."""

from __future__ import annotations

from collections import defaultdict
from shlex import quote
from typing import TYPE_CHECKING, Final

from injector.check.installation import CalledService, endpoints_of
from injector.check.model import Category, Check, CheckProblem, Outcome, failed, unknown, warning
from injector.check.pods import all_pods, workloads
from injector.core import names
from injector.core.advisories import advisories, daprd_version, fixed_in
from injector.core.messages import listed
from injector.kube.errors import ForbiddenError
from injector.kube.resources import DEPLOYMENTS, MUTATING_WEBHOOKS, STATEFULSETS, Resource
from injector.words import counted, escaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from injector.check.pods import PodFacts
    from injector.check.reader import ClusterReader
    from injector.kube.resources import Object

# Names in Dapr's chart: https://github.com/dapr/dapr/tree/v1.18.3/charts/dapr/charts
INJECTOR: Final = "dapr-sidecar-injector"
INJECTOR_ENTRY: Final = "sidecar-injector.dapr.io"
NAMESPACE: Final = "dapr-system"
# The component, and whether every installation has it: Dapr 1.14 added the scheduler, and actors can be disabled.
COMPONENTS: Final[Mapping[str, tuple[Resource, bool]]] = {
    "dapr-operator": (DEPLOYMENTS, True),
    "dapr-sentry": (DEPLOYMENTS, True),
    INJECTOR: (DEPLOYMENTS, True),
    "dapr-placement-server": (STATEFULSETS, False),
    "dapr-scheduler-server": (STATEFULSETS, False),
}
_SIDECAR_IMAGE: Final = "SIDECAR_IMAGE"
# How much of an image's name is shown: API servers accept any text.
_SHOWN_IMAGE: Final = 128


# --- the control plane ---


async def _control_plane(reader: ClusterReader) -> Outcome:
    namespace = await namespace_of(reader)
    components = {name: await reader.get(resource, name, namespace) for name, (resource, _) in COMPONENTS.items()}
    shown = escaped(namespace)
    if not any(components.values()):
        nothing = failed(
            f"Dapr is not installed in namespace {shown}: no Pod gets a sidecar",
            "helm upgrade --install dapr dapr --repo https://dapr.github.io/helm-charts/ "
            f"--namespace {quote(shown)} --create-namespace --wait",
        )
        return Outcome(seen=f"namespace {shown}", problems=(nothing,))
    versions = sorted({version_of(name, one) or "unknown version" for name, one in components.items() if one})
    present = [name for name, one in components.items() if one]
    return Outcome(
        seen=f"Dapr {', '.join(versions)} in namespace {shown}: {', '.join(present)}",
        problems=tuple(component_problems(components, shown)),
    )


def component_problems(components: Mapping[str, Object | None], namespace: str) -> Iterator[CheckProblem]:
    """Yield what is missing of Dapr's control plane, or has no ready replica."""
    for name, found in components.items():
        resource, is_always_there = COMPONENTS[name]
        kind = resource.kind.lower()
        if found is None:
            if is_always_there:
                yield failed(
                    f"{resource.kind} {name} does not exist in namespace {namespace}",
                    f"helm upgrade dapr dapr --repo https://dapr.github.io/helm-charts/ --namespace {quote(namespace)} "
                    "--reuse-values --wait",
                )
            continue
        is_scaled_down = (found.get("spec") or {}).get("replicas") == 0 and not is_always_there
        if not (found.get("status") or {}).get("readyReplicas") and not is_scaled_down:
            yield failed(
                f"{resource.kind} {name} in namespace {namespace} has no ready replica",
                f"kubectl --namespace {quote(namespace)} describe {kind} {name}",
            )


def version_of(name: str, component: Object) -> str:
    """Return the version of a component, by its image or, if the tag has none, by its label; empty if unknown."""
    containers = ((((component.get("spec") or {}).get("template") or {}).get("spec") or {}).get("containers")) or ()
    images = (one.get("image") or "" for one in containers if one.get("name") == name)
    label = (component["metadata"].get("labels") or {}).get(names.APP_VERSION_LABEL, "")
    return next(filter(None, map(daprd_version, (*images, f"{name}:{label}"))), "")


async def namespace_of(reader: ClusterReader) -> str:
    """Return the namespace of Dapr's control plane: that of its registered Service, or the default one.

    Raises:
        KubeError: Dapr's registration cannot be read.
    """
    found = await reader.get(MUTATING_WEBHOOKS, INJECTOR)
    entry = injector_entry(found or {}) or {}
    return str(((entry.get("clientConfig") or {}).get("service") or {}).get("namespace") or NAMESPACE)


# --- the sidecar injector ---


def injector_entry(configuration: Object) -> Object | None:
    """Return the entry that adds sidecars; None if there is none."""
    return next((one for one in configuration.get("webhooks") or () if one["name"] == INJECTOR_ENTRY), None)


async def _injector_registered(reader: ClusterReader) -> Outcome:
    found = await reader.get(MUTATING_WEBHOOKS, INJECTOR)
    seen = f"MutatingWebhookConfiguration {INJECTOR}"
    fix = (  # with --install: there may be no release yet
        "helm upgrade --install dapr dapr --repo https://dapr.github.io/helm-charts/ "
        f"--namespace {NAMESPACE} --create-namespace --reuse-values --wait"
    )
    result = f"Pods with {names.ENABLED} are created without a sidecar"
    if found is None:
        return Outcome(seen=seen, problems=(failed(f"{seen} does not exist: {result}", fix),))
    if injector_entry(found) is None:
        return Outcome(seen=seen, problems=(failed(f"{seen} has no entry {INJECTOR_ENTRY}: {result}", fix),))
    return Outcome(seen=f"{seen} has the entry {INJECTOR_ENTRY}")


async def _injector_failure_policy(reader: ClusterReader) -> Outcome:
    entry = injector_entry(await reader.get(MUTATING_WEBHOOKS, INJECTOR) or {})
    if entry is None:
        return Outcome(seen="Dapr's sidecar injector is not registered", is_skipped=True)
    namespace = escaped(await namespace_of(reader))
    policy = _failure_policy(entry)
    return Outcome(
        seen=f"the failure policy of Dapr's sidecar injector is {policy}",
        problems=tuple(policy_problems(entry, namespace)),
    )


def _failure_policy(entry: Object) -> str:
    return "Ignore" if entry.get("failurePolicy") == "Ignore" else "Fail"


def policy_problems(entry: Object, namespace: str) -> Iterator[CheckProblem]:
    """Yield what the failure policy of Dapr's injector lets happen while the injector does not answer."""
    needs = (
        '{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"NotIn",'
        f'"values":["kube-system","{namespace}"]}}]}}'
    )
    fix = (
        "helm upgrade dapr dapr --repo https://dapr.github.io/helm-charts/ "
        f"--namespace {quote(namespace)} --reuse-values --wait --set global.ha.enabled=true "
        "--set dapr_sidecar_injector.webhookFailurePolicy=Fail "
        f"--set-json {quote(f'dapr_sidecar_injector.namespaceSelector={needs}')}"
    )
    if _failure_policy(entry) == "Ignore":
        yield warning(
            f"the failure policy is Ignore: Pods with {names.ENABLED} are created without a sidecar while Dapr's "
            "injector does not answer",
            fix,
        )
    elif not entry.get("namespaceSelector") and not entry.get("objectSelector"):
        yield warning(
            f"the failure policy is Fail for all namespaces, also {namespace}: once all Pods of Dapr's injector are "
            "gone, no Pod can be created, not even theirs",
            fix,
        )


async def _injector_available(reader: ClusterReader) -> Outcome:
    entry = injector_entry(await reader.get(MUTATING_WEBHOOKS, INJECTOR) or {})
    if entry is None:
        return Outcome(seen="Dapr's sidecar injector is not registered", is_skipped=True)
    service = (entry.get("clientConfig") or {}).get("service")
    if not service:
        by_url = unknown("Dapr's sidecar injector is registered by URL: whether it answers cannot be determined")
        return Outcome(seen="Dapr's sidecar injector", problems=(by_url,))
    namespace, name = str(service["namespace"]), str(service["name"])
    ready = len((await endpoints_of(reader, CalledService(namespace, name), None)).ready)
    where = f"Service {escaped(namespace)}/{escaped(name)}"
    seen = f"{where} has {counted(ready, 'ready endpoint')}"
    if ready:
        return Outcome(seen=seen)
    result = (
        "Pods in the namespaces that it selects cannot be created"
        if _failure_policy(entry) == "Fail"
        else f"Pods with {names.ENABLED} are created without a sidecar"
    )
    gone = failed(
        f"{where} has no ready endpoint: {result}",
        f"kubectl --namespace {quote(escaped(namespace))} get pods --selector app={INJECTOR}",
    )
    return Outcome(seen=seen, problems=(gone,))


# --- versions of daprd ---


async def _daprd_advisories(reader: ClusterReader) -> Outcome:
    users: dict[str, list[PodFacts]] = defaultdict(list)
    for pod in await all_pods(reader):
        for image in pod.images:
            users[image].append(pod)
    namespace, added, problems = NAMESPACE, "", []
    try:
        namespace = escaped(await namespace_of(reader))
        injector = await reader.get(DEPLOYMENTS, INJECTOR, namespace)
        added = sidecar_image(injector) if injector is not None else ""
    except ForbiddenError as error:
        problems.append(unknown(f"which daprd new Pods get is unknown: {error}"))
    problems = [*image_problems(users, namespace), *added_image_problems(added, namespace), *problems]
    versions = sorted({daprd_version(image) for image in (*users, added)} - {""}, key=_by_number)
    seen = f"daprd {', '.join(versions)}" if versions else "no Pod runs a known version of daprd"
    return Outcome(seen=seen, problems=tuple(problems), is_skipped=not users and not added)


def sidecar_image(injector: Object) -> str:
    """Return the image that Dapr's injector adds to new Pods; empty if it cannot be seen."""
    template = (injector.get("spec") or {}).get("template") or {}
    containers = (template.get("spec") or {}).get("containers") or ()
    entries = (entry for one in containers if one["name"] == INJECTOR for entry in one.get("env") or ())
    given = [entry.get("value") or "" for entry in entries if entry["name"] == _SIDECAR_IMAGE]
    return given[-1] if given else ""


def image_problems(users: Mapping[str, list[PodFacts]], namespace: str) -> Iterator[CheckProblem]:
    """Yield the advisories about the images of Pods, by version; and the images without a version."""
    by_version: dict[str, list[str]] = defaultdict(list)
    for image in users:
        by_version[daprd_version(image)].append(image)
    for version in sorted(by_version.keys() - {""}, key=_by_number):
        images = by_version[version]
        ids = advisories(images[0])
        if ids:
            pods = [pod for image in images for pod in users[image]]
            yield failed(
                f"{counted(len(pods), 'Pod')} with daprd {version}, which has {', '.join(ids)}: {workloads(pods)}; "
                f"update to {fixed_in(images[0])} or newer, then restart them",
                _update(namespace, images[0]),
            )
    nameless = sorted(by_version[""])
    if nameless:
        pods = [pod for image in nameless for pod in users[image]]
        yield unknown(
            f"{counted(len(pods), 'Pod')} with {listed([*map(_shown, nameless)], 1)}, without a version in its tag: "
            f"{workloads(pods)}"
        )


def added_image_problems(image: str, namespace: str) -> Iterator[CheckProblem]:
    """Yield the advisories about the image that Dapr's injector adds to new Pods."""
    if advisories(image):
        yield warning(
            f"Dapr's injector adds daprd {daprd_version(image)} to new Pods, which has {', '.join(advisories(image))}; "
            f"update to {fixed_in(image)} or newer",
            _update(namespace, image),
        )
    elif image and not daprd_version(image):
        yield unknown(f"Dapr's injector adds {_shown(image)} to new Pods, without a version in its tag")


def _update(namespace: str, image: str) -> str:
    return (
        "helm upgrade dapr dapr --repo https://dapr.github.io/helm-charts/ "
        f"--namespace {quote(namespace)} --version {fixed_in(image)} --reuse-values --wait"
    )


def _shown(image: str) -> str:
    return f"image {escaped(image[:_SHOWN_IMAGE])}" if image else "an image without a name"


def _by_number(version: str) -> tuple[tuple[int, ...], str]:
    number, _, candidate = version.partition("-")
    return tuple(int(part) for part in number.split(".")), candidate


CHECKS: Final = (
    Check(
        id="DTC050",
        name="dapr-control-plane",
        category=Category.DAPR,
        summary="Dapr's control plane is installed, and each component has a ready replica.",
        why="Without Dapr's control plane no Pod gets a sidecar, and a sidecar that starts while dapr-sentry or "
        "dapr-operator is away gets neither its certificate nor its components. There is nothing to protect by a token "
        "then.",
        how="Reads the Deployments dapr-operator, dapr-sentry and dapr-sidecar-injector and the StatefulSets "
        "dapr-placement-server and dapr-scheduler-server, which an installation may lack, in the namespace of the "
        "Service that MutatingWebhookConfiguration `dapr-sidecar-injector` names, or in `dapr-system`. The version is "
        "that of the image's tag or of the label `app.kubernetes.io/version`. It cannot see a control plane under "
        "other names, or outside the cluster.",
        fix="Install Dapr: `helm upgrade --install dapr dapr --repo https://dapr.github.io/helm-charts/ "
        "--namespace dapr-system --create-namespace --wait`. If a component has no ready replica, its Pods say why: "
        "`kubectl --namespace dapr-system describe deployment NAME`.",
        run=_control_plane,
        is_pre=True,
    ),
    Check(
        id="DTC051",
        name="dapr-injector-registered",
        category=Category.DAPR,
        summary="Dapr's sidecar injector is registered at the API server.",
        why="The API server calls only registered webhooks. Without the registration of Dapr's injector, Pods with "
        "`dapr.io/enabled` are created without a sidecar, so calls to it fail.",
        how="Reads the MutatingWebhookConfiguration `dapr-sidecar-injector` and looks for its entry "
        "`sidecar-injector.dapr.io`. It does not see whether selectors leave out a namespace on purpose.",
        fix="Install Dapr's chart again: `helm upgrade dapr dapr --repo https://dapr.github.io/helm-charts/ "
        "--namespace dapr-system --reuse-values --wait`. Then restart the Pods that `status` shows as `no-sidecar`: "
        "`kubectl --namespace NAMESPACE rollout restart deployment/NAME`.",
        run=_injector_registered,
        is_pre=True,
    ),
    Check(
        id="DTC052",
        name="dapr-injector-failure-policy",
        category=Category.DAPR,
        summary="While Dapr's injector is away, no Pod is created without its sidecar, and Dapr can recover.",
        why="Dapr's chart registers its injector with the failure policy Ignore: in all versions from 1.0 to 1.18, the "
        "default of `dapr_sidecar_injector.webhookFailurePolicy` is `Ignore`, see "
        "https://github.com/dapr/dapr/blob/v1.18.3/charts/dapr/charts/dapr_sidecar_injector/values.yaml. A Pod that is "
        "created while the injector does not answer then runs without a sidecar until it is replaced: "
        "https://github.com/dapr/dapr/issues/4270. With Fail such a Pod is not created, and its controller retries. "
        "But Fail for all namespaces includes Dapr's own: once all Pods of the injector are gone, the API server "
        "rejects new ones, because nothing answers for them.",
        how="Reads failure policy and selectors of the entry `sidecar-injector.dapr.io`. With Fail, it is a warning if "
        "there is neither a namespace selector nor an object selector; what a selector matches is not determined. It "
        "does not see Dapr's watchdog (`dapr_operator.watchInterval`), which replaces Pods without a sidecar later.",
        fix="Run several replicas, leave out Dapr's own namespace (since Dapr 1.15), and let the API server reject "
        "Pods: `helm upgrade dapr dapr --repo https://dapr.github.io/helm-charts/ --namespace dapr-system "
        "--reuse-values --wait --set global.ha.enabled=true --set dapr_sidecar_injector.webhookFailurePolicy=Fail "
        '--set-json \'dapr_sidecar_injector.namespaceSelector={"matchExpressions":[{"key":'
        '"kubernetes.io/metadata.name","operator":"NotIn","values":["kube-system","dapr-system"]}]}\'`. To '
        "keep Ignore, let the watchdog replace Pods without a sidecar: add `--set dapr_operator.watchInterval=2m` "
        "instead, and leave out this check with `--skip DTC052`.",
        run=_injector_failure_policy,
        is_pre=True,
    ),
    Check(
        id="DTC053",
        name="dapr-injector-available",
        category=Category.DAPR,
        summary="The Service of Dapr's injector has a ready endpoint.",
        why="Without a ready endpoint, the API server cannot call Dapr's injector. With the failure policy Ignore, "
        "Pods are created without a sidecar. With Fail, no Pod can be created in the namespaces that its selector "
        "matches.",
        how="Reads the EndpointSlices of the Service that the entry `sidecar-injector.dapr.io` names, and counts "
        "endpoints that are not marked as not ready. It does not call the injector, so it does not see a NetworkPolicy "
        "or a wrong certificate.",
        fix="See why its Pods are not ready: `kubectl --namespace dapr-system describe pods --selector "
        "app=dapr-sidecar-injector`.",
        run=_injector_available,
        is_pre=True,
    ),
    Check(
        id="DTC054",
        name="daprd-advisories",
        category=Category.DAPR,
        summary="No Pod runs a version of daprd with a published advisory about tokens or access control.",
        why="A token protects only if daprd checks it and keeps it. GO-2023-1955: the token is not checked for some "
        "paths of the HTTP API. GO-2024-2879: the app token is sent to other apps. GO-2026-5242: a path of service "
        "invocation evades access control. See https://pkg.go.dev/vuln/.",
        how="Compares the version in the tag of each image of daprd with a table in this program: of running Pods, "
        "which fails the check, and the image that Dapr's injector adds to new Pods (`SIDECAR_IMAGE`), which is a "
        "warning. An image without a version in its tag, such as `latest`, `edge` or a digest alone, is unknown. "
        "Advisories that were published after this program, and images of your own under another version, are not "
        "seen.",
        fix="Update Dapr to the version that the finding names, after reading the release notes: `helm upgrade dapr "
        "dapr --repo https://dapr.github.io/helm-charts/ --namespace dapr-system --version VERSION --reuse-values "
        "--wait`. Then restart the workloads, since a sidecar keeps its version: `kubectl --namespace NAMESPACE "
        "rollout restart deployment/NAME`. A Pod with the annotation `dapr.io/sidecar-image` needs a new value there.",
        run=_daprd_advisories,
        is_pre=True,
    ),
)
