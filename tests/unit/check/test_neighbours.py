"""The checks of Reloader and Dapr Shared, against the store of the fake API server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from injector.check.model import Result
from injector.check.neighbours import workload_facts
from injector.check.pods import workload_of
from injector.core.token_state import Ref
from tests.fake_cluster.client import StoreApi
from tests.fake_cluster.store import Refusal, Store
from tests.unit.check.checking import outcome
from tests.unit.check.objects import forbidden, pod, reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from injector.kube.errors import KubeError
    from injector.kube.resources import Resource

Json = dict[str, Any]
AUTO = {"reloader.stakater.com/auto": "true"}
NAMED = "secret.reloader.stakater.com/reload"


def reloader(image: str = "ghcr.io/stakater/reloader:v1.4.21", *arguments: str) -> Json:
    containers = [{"name": "reloader-reloader", "image": image, "args": list(arguments) or None}]
    return {
        "metadata": {"namespace": "tools", "name": "reloader-reloader"},
        "spec": {"template": {"spec": {"containers": containers}}},
    }


def workload(
    own: Mapping[str, str] | None = None, template: Mapping[str, str] | None = None, *env: Json, name: str = "web"
) -> Json:
    spec = {"containers": [{"name": "app", "env": list(env)}]}
    return {
        "metadata": {"namespace": "shop", "name": name, "annotations": own},
        "spec": {"template": {"metadata": {"annotations": template}, "spec": spec}},
    }


def cluster(*deployments: Json, pods: tuple[Json, ...] = (pod(reference()),)) -> Store:
    store = Store()
    for one in deployments:
        store.put("deployments", one)
    for one in pods:
        store.put("pods", one)
    return store


def problems(store: Store) -> tuple[Result, list[tuple[str, str]]]:
    found = outcome("reloader-sees-tokens", StoreApi(store))
    return found.result, [(one.message, one.fix) for one in found.problems]


UNSEEN = (
    "Reloader does not restart Deployment shop/web when token changes: the reference is injected and not in the Pod "
    "template"
)
ANNOTATE = "kubectl --namespace shop annotate --overwrite deployment/web"


@pytest.mark.parametrize(
    "annotations",
    [
        AUTO,
        {"reloader.stakater.com/auto": "1"},
        {"secret.reloader.stakater.com/auto": "true"},
        {"reloader.stakater.com/search": "true"},
    ],
)
def test_injected_reference_is_invisible_to_reloader(annotations: Json) -> None:
    wanted = (UNSEEN, f"{ANNOTATE} {NAMED}=token")

    assert problems(cluster(reloader(), workload(annotations))) == (Result.WARNING, [wanted])


def test_annotations_of_the_template_are_kept_by_the_fix() -> None:
    _, ((_, fix),) = problems(cluster(reloader(), workload(None, AUTO)))

    assert fix == f"{ANNOTATE} reloader.stakater.com/auto=true {NAMED}=token"


def test_names_in_the_annotation_are_kept_by_the_fix() -> None:
    _, ((_, fix),) = problems(cluster(reloader(), workload({**AUTO, NAMED: "other, more"})))

    assert fix == f"{ANNOTATE} {NAMED}=more,other,token"


@pytest.mark.parametrize(
    "watched",
    [
        workload(None),
        workload({"reloader.stakater.com/auto": "false"}),
        workload({"reloader.stakater.com/search": "yes"}),
        workload({**AUTO, NAMED: "other, token"}),
        workload({**AUTO, NAMED: "to.*,other"}),
        workload({**AUTO, "secrets.exclude.reloader.stakater.com/reload": "token"}),
        workload(AUTO, None, reference(variable="OTHER")),
        # The annotation of the workload makes Reloader ignore that of the template.
        workload({NAMED: "token"}, AUTO),
        workload(AUTO, name="other"),
    ],
)
def test_workload_that_reloader_sees_or_does_not_watch(watched: Json) -> None:
    assert problems(cluster(reloader(), watched)) == (Result.PASSED, [])


@pytest.mark.parametrize("spec", [None, {}, {"template": None}, {"template": {"spec": {"containers": None}}}])
def test_workload_of_odd_shape_is_read(spec: Json | None) -> None:
    odd = {"metadata": {"namespace": "shop", "name": "web", "annotations": AUTO}, "spec": spec}

    assert [message for message, _ in problems(cluster(reloader(), odd))[1]] == [UNSEEN]


@pytest.mark.parametrize(("own", "count"), [(None, 1), ({"reloader.stakater.com/auto": "false"}, 0), (AUTO, 1)])
def test_reloader_that_watches_every_workload(own: Json | None, count: int) -> None:
    image = "registry:5000/x/reloader@sha256:00"

    assert len(problems(cluster(reloader(image, "--auto-reload-all=true"), workload(own)))[1]) == count


@pytest.mark.parametrize("image", ["", "x/reloader-tools:1", "reloader/app:1", "app:reloader"])
def test_other_images_are_not_reloader(image: str) -> None:
    assert problems(cluster(reloader(image), workload(AUTO))) == (Result.SKIPPED, [])


@pytest.mark.parametrize("plural", ["statefulsets", "daemonsets", "rollouts"])
def test_other_kinds_are_read(plural: str) -> None:
    kind = {"statefulsets": "StatefulSet", "daemonsets": "DaemonSet", "rollouts": "Rollout"}[plural]
    owner = {"kind": kind, "name": "web", "controller": True}
    labels: Json = {}
    if kind == "Rollout":
        owner, labels = (
            {"kind": "ReplicaSet", "name": "web-5d", "controller": True},
            {"rollouts-pod-template-hash": "5d"},
        )
    store = cluster(reloader(), pods=(pod(reference(), ownerReferences=[owner], labels=labels),))
    store.put(plural, workload(AUTO))

    ((message, fix),) = problems(store)[1]

    assert f"{kind} shop/web" in message
    assert f" {kind.lower()}/web " in fix


def test_cluster_without_argo_rollouts_is_checked() -> None:
    store = cluster(reloader(), workload(AUTO))
    store.refusals.append(Refusal("GET .*rollouts", 404, reason="NotFound"))

    assert problems(store)[0] is Result.WARNING


@pytest.mark.parametrize("name", ["reloader-sees-tokens", "dapr-shared-token"])
def test_no_permission_is_unknown(name: str) -> None:
    assert outcome(name, StoreApi(cluster(reloader()), forbidden)).result is Result.UNKNOWN


def test_hostile_names_are_quoted_and_escaped() -> None:
    odd = workload(AUTO, name="web;\x1b[31m")
    owner = {"kind": "Deployment", "name": "web;\x1b[31m", "controller": True}

    ((message, fix),) = problems(cluster(reloader(), odd, pods=(pod(reference("a b"), ownerReferences=[owner]),)))[1]

    assert message.isprintable()
    assert "'deployment/web;\\u001b[31m'" in fix
    assert f"'{NAMED}=a b'" in fix


def test_only_few_fields_of_a_workload_are_kept() -> None:
    facts = workload_facts({"kind": "Deployment", **workload({**AUTO, "large": "x" * 100_000})})

    assert facts.annotations == AUTO


@pytest.mark.parametrize(
    ("owners", "labels", "expected"),
    [
        (None, None, Ref("Pod", "shop", "p")),
        ([{"kind": "ReplicaSet", "name": "web-7f", "controller": True}], None, Ref("ReplicaSet", "shop", "web-7f")),
        (
            [{"kind": "Job", "name": "web-7f", "controller": True}],
            {"pod-template-hash": "7f"},
            Ref("Job", "shop", "web-7f"),
        ),
    ],
)
def test_workload_of_a_pod(owners: list[Json] | None, labels: Json | None, expected: Ref) -> None:
    assert workload_of({"namespace": "shop", "name": "p", "ownerReferences": owners, "labels": labels}) == expected


# --- Dapr Shared ---

SHARED = pod(reference("shared", "dapr-api-token"), annotations={"dapr.io/app-id": "shared"}, deployment="shared")


def test_dapr_shared_is_unknown_with_a_probe() -> None:
    found = outcome("dapr-shared-token", StoreApi(cluster(pods=(SHARED, pod(reference())))))

    assert (found.result, found.seen) == (Result.UNKNOWN, "Dapr Shared: Deployment shop/shared")
    (problem,) = found.problems
    assert problem.message.startswith("Deployment shop/shared runs Dapr Shared for callers in other Pods")
    assert problem.fix == "dapr-token-injector probe --namespace shop deployment/shared"


def test_pod_of_a_cronjob_is_named_by_it_unless_jobs_are_forbidden() -> None:
    owners = [{"apiVersion": "batch/v1", "kind": "Job", "name": "sync-29", "uid": "jobs-sync-29", "controller": True}]
    store = cluster(pods=(pod(reference("s", "dapr-api-token"), ownerReferences=owners, annotations={}),))
    cron = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "sync", "uid": "1", "controller": True}
    store.put("jobs", {"metadata": {"namespace": "shop", "name": "sync-29", "ownerReferences": [cron]}})

    def fault(verb: str, resource: Resource) -> KubeError | None:
        return forbidden(verb, resource) if resource.plural == "jobs" else None

    seen = [outcome("dapr-shared-token", api).seen for api in (StoreApi(store), StoreApi(store, fault))]
    assert seen == ["Dapr Shared: CronJob shop/sync", "Dapr Shared: Job shop/sync-29"]


@pytest.mark.parametrize("one", [pod(reference()), pod(reference("s", "dapr-api-token")), pod()])
def test_sidecar_is_not_dapr_shared(one: Json) -> None:
    assert outcome("dapr-shared-token", StoreApi(cluster(pods=(one,)))).result is Result.SKIPPED
