"""Checks of tools next to Dapr that decide whether a token is used: Reloader and Dapr Shared."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Final

from injector.check.model import Category, Check, CheckProblem, Outcome, unknown, warning
from injector.check.pods import all_pods, workloads
from injector.core.images import repository_and_tag
from injector.core.secret_names import is_secret_name
from injector.core.token_state import Ref
from injector.kube.errors import NotFoundError
from injector.kube.resources import DAEMONSETS, DEPLOYMENTS, ROLLOUTS, STATEFULSETS, Resource
from injector.rotation import decode
from injector.rotation.reloader import AUTO, NAMED, SEARCH, names_in, reloader_annotations
from injector.words import counted, escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from injector.check.pods import PodFacts
    from injector.check.reader import ClusterReader
    from injector.kube.resources import Object

_EXCLUDED: Final = "secrets.exclude.reloader.stakater.com/reload"
_ALL: Final = "--auto-reload-all=true"
_TRUE: Final = frozenset({"1", "t", "true"})
_KINDS: Final = (DEPLOYMENTS, STATEFULSETS, DAEMONSETS, ROLLOUTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadFacts:
    """What Reloader sees of a workload.

    `annotations`: those of Reloader that count. `in_template`: whether they are those of the Pod template. `excluded`,
    `visible`: names of Secrets that it ignores, and that are in the template. `is_reloader`: it runs Reloader;
    `reloads_all`: and watches every workload.
    """

    ref: Ref
    annotations: Mapping[str, str]
    in_template: bool
    excluded: frozenset[str]
    visible: frozenset[str]
    is_reloader: bool
    reloads_all: bool


async def _reloader(reader: ClusterReader) -> Outcome:
    facts = [one for resource in _KINDS for one in await _workloads(reader, resource)]
    reloaders = [one for one in facts if one.is_reloader]
    if not reloaders:
        return Outcome(seen="Reloader is not installed", is_skipped=True)
    used: dict[Ref, set[str]] = defaultdict(set)
    for pod in await all_pods(reader):
        used[pod.workload] |= {key.name for _, key in pod.tokens}
    reloads_all = any(one.reloads_all for one in reloaders)
    watched = [one for one in facts if is_watched(one, reloads_all=reloads_all)]
    return Outcome(
        seen=f"{escaped(str(reloaders[0].ref))} runs Reloader, which watches {counted(len(watched), 'workload')}",
        problems=tuple(problem for one in watched for problem in unseen_problems(one, used.get(one.ref, ()))),
    )


async def _workloads(reader: ClusterReader, resource: Resource) -> list[WorkloadFacts]:
    """Return the workloads of a kind; none if the cluster does not have the kind."""

    async def read() -> list[Object]:
        try:
            return await reader.api.list(resource, keep=lambda item: {"facts": workload_facts(item)})
        except NotFoundError:
            return []

    return [one["facts"] for one in await reader.once((_workloads, resource), read)]


def workload_facts(workload: Object) -> WorkloadFacts:
    """Return what Reloader sees of a workload."""
    meta = workload["metadata"]
    template = (workload.get("spec") or {}).get("template") or {}
    found, in_template = reloader_annotations(workload)
    containers = (template.get("spec") or {}).get("containers") or ()
    is_reloader = workload["kind"] == DEPLOYMENTS.kind and any(map(_runs_reloader, containers))
    return WorkloadFacts(
        ref=Ref(workload["kind"], meta["namespace"], meta["name"]),
        annotations=found,
        in_template=in_template,
        excluded=names_in((meta.get("annotations") or {}).get(_EXCLUDED, "")),
        visible=frozenset(one.secret for one in decode.references(template)),
        is_reloader=is_reloader,
        reloads_all=is_reloader and any(_ALL in (one.get("args") or ()) for one in containers),
    )


def _runs_reloader(container: Object) -> bool:
    """Return whether the last part of the image's path is `reloader`, in any registry, with any tag or digest."""
    path, _ = repository_and_tag(container.get("image") or "")
    return path.rpartition("/")[2] == "reloader"


def is_watched(workload: WorkloadFacts, *, reloads_all: bool) -> bool:
    """Return whether Reloader restarts a workload for the Secrets in its template."""
    automatic = [workload.annotations[name] for name in AUTO if workload.annotations.get(name)]
    return (
        workload.annotations.get(SEARCH) == "true"
        or any(value.lower() in _TRUE for value in automatic)
        or (reloads_all and not automatic)
    )


def unseen_problems(workload: WorkloadFacts, used: Iterable[str]) -> Iterator[CheckProblem]:
    """Yield the token Secrets of a watched workload's Pods that Reloader does not see, in one problem.

    An annotation may name Secrets by regular expressions: then none is reported.
    """
    named = names_in(workload.annotations.get(NAMED, ""))
    unseen = sorted(set(used) - workload.visible - workload.excluded - named)
    if not unseen or not all(map(is_secret_name, named)):
        return
    ref = workload.ref
    # An annotation of the workload makes Reloader ignore those of the template.
    kept = {name: value for name, value in workload.annotations.items() if workload.in_template and name != NAMED}
    wanted = {**kept, NAMED: ",".join(sorted({*named, *unseen}))}
    pairs = " ".join(quote(escaped(f"{name}={value}")) for name, value in wanted.items())
    target = quote(escaped(f"{ref.kind.lower()}/{ref.name}"))
    yield warning(
        f"Reloader does not restart {escaped(str(ref))} when {escaped(', '.join(unseen))} changes: the reference is "
        "injected and not in the Pod template",
        f"kubectl --namespace {quote(escaped(ref.namespace))} annotate --overwrite {target} {pairs}",
    )


# --- Dapr Shared ---


async def _dapr_shared(reader: ClusterReader) -> Outcome:
    shared = [pod for pod in await all_pods(reader) if pod.is_shared]
    by_workload: dict[Ref, list[PodFacts]] = defaultdict(list)
    for pod in shared:
        by_workload[pod.workload].append(pod)
    return Outcome(
        seen=f"Dapr Shared: {workloads(shared)}" if shared else "no Pod runs Dapr Shared",
        problems=tuple(map(shared_problem, sorted(by_workload))),
        is_skipped=not shared,
    )


def shared_problem(ref: Ref) -> CheckProblem:
    """Return what is not known about the token of a workload of Dapr Shared."""
    target = quote(escaped(f"{ref.kind.lower()}/{ref.name}"))
    return unknown(
        f"{escaped(str(ref))} runs Dapr Shared for callers in other Pods; its chart leaves the token empty by default, "
        "and whether it is empty is not visible without its value",
        f"dapr-token-injector probe --namespace {quote(escaped(ref.namespace))} {target}",
    )


CHECKS: Final = (
    Check(
        id="DTC070",
        name="reloader-sees-tokens",
        category=Category.NEIGHBOURS,
        summary="Reloader restarts the workloads that it watches when an injected token changes.",
        why="Reloader finds the Secrets of a workload in its Pod template. A reference that the webhook injects is in "
        "the Pods only, so the annotations `reloader.stakater.com/auto` and `reloader.stakater.com/search` and the "
        "flag `--auto-reload-all` do not cover it: after a rotation, Pods keep the previous token without a sign. The "
        f"annotation `{NAMED}` names Secrets, and Reloader then restarts the workload whether or not its template "
        "contains them: https://github.com/stakater/Reloader.",
        how="Reloader is a Deployment with an image whose last part is `reloader`. Of Deployments, StatefulSets, "
        "DaemonSets and Argo Rollouts that it watches automatically, the check compares the token Secrets that their "
        "Pods read with those in the template and in the annotations. It does not see annotations that flags of "
        "Reloader rename, the namespaces that Reloader watches, workloads without Pods, or which Secrets a regular "
        "expression in the annotation matches: of such a workload nothing is reported.",
        fix="Name the Secret on the workload: `kubectl --namespace NAMESPACE annotate --overwrite deployment/NAME "
        f'{NAMED}=SECRET`, or `{NAMED}: "SECRET"` under `metadata.annotations` of its manifest. Keep the other '
        "annotations of Reloader in the same place: it does not read those of the Pod template if the workload has "
        "one. Or remove Reloader from the workload and use `dapr-token-injector secret rotate --restart`.",
        run=_reloader,
    ),
    Check(
        id="DTC071",
        name="dapr-shared-token",
        category=Category.NEIGHBOURS,
        summary="Dapr Shared runs with a token.",
        why="Dapr Shared is one daprd for callers in other Pods, so its API is open to the network. Its reference to a "
        "Secret looks like that of a protected Pod, but its chart writes an empty value by default, and with an empty "
        "token daprd checks nothing: "
        "https://github.com/dapr/dapr-shared/blob/main/chart/dapr-shared/templates/secret.yaml.",
        how="Looks for Pods that run daprd with the key `dapr-api-token` of its chart and without `dapr.io/enabled`. "
        "Values of Secrets are not read, so the result is unknown as long as Dapr Shared runs. Once `probe` has shown "
        "that it demands a token, leave out this check with `--skip DTC071`.",
        fix="Find out whether it demands a token: `dapr-token-injector probe --namespace NAMESPACE daemonset/NAME`. To "
        "set one, give its chart a file with the token and no line end: `helm upgrade NAME "
        "oci://registry-1.docker.io/daprio/dapr-shared-chart --namespace NAMESPACE --reuse-values --set-file "
        "shared.daprd.token=FILE`.",
        run=_dapr_shared,
    ),
)
