from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from injector.core import names
from injector.core.ownership import SecretKey
from injector.core.token_state import Ref, annotation_for
from injector.kube.client import Api
from injector.rotation.observe import Observed, Owners, observe
from tests.fake_cluster.server import ApiServer
from tests.fake_cluster.store import Refusal
from tests.unit.cli.objects import controlled_by, deployment, namespace, pod, replica_set

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

Json = dict[str, Any]
_T = TypeVar("_T")
KEY = SecretKey("shop", "s", "token")
WEB = Ref("Deployment", "shop", "web")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(folder=tmp_path) as running:
        running.put("namespaces", namespace())
        running.put("replicasets", replica_set("web"))
        running.put("deployments", deployment("web"))
        yield running


def call(server: ApiServer, work: Callable[[Api], Awaitable[_T]]) -> _T:
    async def within() -> _T:
        async with await Api.from_kubeconfig(str(server.kubeconfig)) as api:
            return await work(api)

    return asyncio.run(within())


def observed(server: ApiServer, *keys: SecretKey) -> Observed:
    return call(server, lambda api: observe(api, keys or (KEY,), Owners(api)))


def bare(name: str, annotations: Json | None = None, env: list[Json] | None = None) -> Json:
    """A Pod of the Deployment with this environment of its sidecar."""
    found = pod("web")
    found["metadata"] |= {"name": name, "annotations": annotations or {}}
    found["spec"]["containers"][0]["env"] = env or []
    return found


def test_pods_that_read_request_or_are_marked_for_a_key_are_observed(server: ApiServer) -> None:
    server.put("pods", pod("web"))
    server.put("pods", pod("web", 2, secret="other"))
    server.put("pods", bare("requests", {names.ENABLED: "true", names.API_TOKEN_SECRET: "s"}))
    server.put("pods", bare("marked", {annotation_for("s"): "x"}))
    server.put("pods", bare("marked-for-another", {annotation_for("t"): "x"}))
    server.put("pods", bare("neither"))
    seen = observed(server)
    assert [one.name for one in seen.pods] == ["marked", "requests", "web-1-1"]
    assert {one.workload for one in seen.pods} == {WEB} == set(seen.workloads)
    assert [one.key for one in seen.pods[1].missing] == [KEY]


# --- the Policy's default Secret, which no Pod names ---

ENABLED = {names.ENABLED: "true"}
TOKEN = {"name": names.API_TOKEN_ENV, "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}}
RECORDED = {names.OBSERVED_DEFAULT: "s/token"}
RELOADED = {"secret.reloader.stakater.com/reload": "t, s"}


def missing_in(server: ApiServer, *keys: SecretKey) -> dict[str, list[SecretKey]]:
    """The keys that Pods miss, by Pod."""
    return {pod.name: [one.key for one in pod.missing] for pod in observed(server, *keys).pods}


@pytest.mark.parametrize("names_of", [("a-open", "b"), ("b-open", "a")], ids=["before", "after"])
def test_pods_of_one_workload_have_the_same_default_secret(server: ApiServer, names_of: tuple[str, str]) -> None:
    without, injected = names_of
    server.put("pods", bare(injected, ENABLED, [TOKEN]))
    new = bare(without, ENABLED)
    new["metadata"]["ownerReferences"] = [{**controlled_by("ReplicaSet", "web-2"), "uid": "replicasets-web-2"}]
    server.put("replicasets", {**replica_set("web"), "metadata": {**replica_set("web")["metadata"], "name": "web-2"}})
    server.put("pods", new)
    assert missing_in(server) == {without: [KEY], injected: []}


def test_default_secret_of_earlier_pods_is_remembered(server: ApiServer) -> None:
    server.put("pods", bare("earlier", ENABLED, [TOKEN]))

    async def look(api: Api) -> list[list[SecretKey]]:
        owners = Owners(api)
        await observe(api, [KEY], owners)
        server.remove("pods", "shop", "earlier")
        server.put("pods", bare("later", ENABLED))
        owners.forget([WEB])
        return [[one.key for one in pod.missing] for pod in (await observe(api, [KEY], owners)).pods]

    assert call(server, look) == [[KEY]]


@pytest.mark.parametrize("token", [{**TOKEN, "name": names.APP_TOKEN_ENV}, {**TOKEN, "name": "OTHER"}])
def test_other_variables_of_a_sidecar_are_not_a_default_secret(server: ApiServer, token: Json) -> None:
    server.put("pods", bare("open", ENABLED))
    server.put("pods", bare("reads", ENABLED, [token]))
    assert missing_in(server) == {"reads": []}


def test_requested_secret_of_a_pod_is_not_a_default_secret(server: ApiServer) -> None:
    server.put("pods", bare("open", ENABLED))
    server.put("pods", bare("requests", ENABLED | {names.API_TOKEN_SECRET: "s"}, [TOKEN]))
    assert missing_in(server) == {"requests": []}


@pytest.mark.parametrize("annotations", [RECORDED, RELOADED])
def test_workload_shows_the_default_secret_of_its_pods(server: ApiServer, annotations: Json) -> None:
    server.put("pods", bare("open", ENABLED))
    server.objects["deployments", "shop", "web"]["metadata"]["annotations"] = annotations
    assert missing_in(server) == {"open": [KEY]}
    (found,) = observed(server).pods
    assert [(one.container, one.variable, one.is_default) for one in found.missing] == [
        ("daprd", names.API_TOKEN_ENV, True)
    ]


@pytest.mark.parametrize("text", ["t/token", "s/other", "s", "/", "", "s/token/more", "  s/token"])
def test_record_of_another_key_says_nothing_about_this_one(server: ApiServer, text: str) -> None:
    """The Policy may have another default Secret than before."""
    server.put("pods", bare("open", ENABLED))
    meta = server.objects["deployments", "shop", "web"]["metadata"]
    meta["annotations"] = {names.OBSERVED_DEFAULT: text}
    assert missing_in(server) == {}
    meta["annotations"] |= RELOADED
    assert missing_in(server) == {"open": [KEY]}


@pytest.mark.parametrize(
    "annotations", [{annotation_for("s"): "earlier"}, {names.APP_TOKEN_SECRET: "other"}], ids=["marked", "app-token"]
)
def test_other_annotations_do_not_hide_what_reloader_names(server: ApiServer, annotations: Json) -> None:
    server.put("pods", bare("open", ENABLED | annotations))
    server.objects["deployments", "shop", "web"]["metadata"]["annotations"] = RELOADED
    assert missing_in(server) == {"open": [KEY]}


def test_app_with_the_api_token_shows_that_its_sidecar_misses_it(server: ApiServer) -> None:
    found = bare("open", ENABLED)
    found["spec"]["containers"].append({"name": "app", "env": [TOKEN]})
    server.put("pods", found)
    server.objects["deployments", "shop", "web"]["metadata"]["annotations"] = RELOADED
    assert missing_in(server) == {"open": [KEY]}


@pytest.mark.parametrize(
    ("annotations", "env"),
    [
        ({}, [{**TOKEN, "name": "TOKEN"}]),
        ({names.APP_TOKEN_SECRET: "s"}, [{**TOKEN, "name": names.APP_TOKEN_ENV}]),
    ],
    ids=["app", "app-token"],
)
def test_secret_with_another_use_in_a_reloaded_pod_is_not_its_default(
    server: ApiServer, annotations: Json, env: list[Json]
) -> None:
    """Unless it is recorded: an app may read the Secret for a sidecar of another Pod."""
    found = bare("app-reads-it", ENABLED | annotations)
    found["spec"]["containers"][0]["env"] = [one for one in env if one["name"] == names.APP_TOKEN_ENV]
    found["spec"]["containers"].append({"name": "app", "env": env})
    server.put("pods", found)
    meta = server.objects["deployments", "shop", "web"]["metadata"]
    meta["annotations"] = RELOADED
    assert missing_in(server) == {"app-reads-it": []}
    meta["annotations"] = RECORDED
    assert missing_in(server) == {"app-reads-it": [KEY]}


@pytest.mark.parametrize(
    ("annotations", "env"),
    [
        ({}, []),
        ({names.ENABLED: "false"}, []),
        (ENABLED | {names.API_TOKEN_SECRET: "other"}, []),
        (ENABLED, [{"name": names.API_TOKEN_ENV, "value": "literal"}]),
        (ENABLED, [{"name": names.API_TOKEN_ENV, "valueFrom": {"secretKeyRef": {"name": "other", "key": "token"}}}]),
    ],
)
def test_pod_that_needs_no_default_secret_misses_nothing(server: ApiServer, annotations: Json, env: list[Json]) -> None:
    server.put("pods", bare("other", annotations, env))
    server.objects["deployments", "shop", "web"]["metadata"]["annotations"] = RECORDED
    assert missing_in(server) == {}


@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        ([KEY, SecretKey("shop", "s", "other")], [KEY]),
        ([SecretKey("shop", "s", "b"), SecretKey("shop", "s", "a")], [SecretKey("shop", "s", name) for name in "ab"]),
    ],
)
def test_key_that_nothing_shows_is_token_or_each(
    server: ApiServer, keys: list[SecretKey], missing: list[SecretKey]
) -> None:
    server.put("pods", bare("open", ENABLED))
    server.objects["deployments", "shop", "web"]["metadata"]["annotations"] = RELOADED
    assert missing_in(server, *keys) == {"open": missing}


@pytest.mark.parametrize("plural", ["replicasets", "deployments"])
def test_owner_that_may_not_be_read_shows_nothing(server: ApiServer, plural: str) -> None:
    server.put("pods", bare("open", ENABLED))
    server.put("pods", bare("open-too", ENABLED))
    server.objects["deployments", "shop", "web"]["metadata"]["annotations"] = RECORDED
    server.refusals = [Refusal(f"GET .*/{plural}/", 403, "no")]
    assert missing_in(server) == {}
    assert server.counted()[f"GET {plural}"] == 1


def test_pods_without_an_owner_that_is_known_show_nothing(server: ApiServer) -> None:
    alone = bare("alone", ENABLED)
    del alone["metadata"]["ownerReferences"]
    server.put("pods", alone)
    gone = bare("gone", ENABLED)
    gone["metadata"]["ownerReferences"] = [controlled_by("ReplicaSet", "gone")]
    server.put("pods", gone)
    other = bare("other", ENABLED)
    other["metadata"]["ownerReferences"] = [controlled_by("CloneSet", "x")]
    server.put("pods", other)
    assert missing_in(server) == {}


def test_ended_pods_are_not_observed(server: ApiServer) -> None:
    ended = bare("ended", {annotation_for("s"): "x"})
    ended["status"]["phase"] = "Succeeded"
    server.put("pods", ended)
    assert observed(server).pods == ()


def test_sidecar_of_a_workload_is_observed_without_its_environment(server: ApiServer) -> None:
    server.put("pods", pod("web"))
    assert observed(server).sidecars == {WEB: ("containers", {"name": "daprd"})}


@pytest.mark.parametrize(
    ("owner", "ref"),
    [
        (None, Ref("Pod", "shop", "web-1-1")),
        ({**controlled_by("Node", "node"), "apiVersion": "v1"}, Ref("Pod", "shop", "web-1-1")),
        ({**controlled_by("Rollout", "r"), "apiVersion": "argoproj.io/v1"}, Ref("Rollout", "shop", "r")),
        ({**controlled_by("Deployment", "web"), "apiVersion": "example.com/v1"}, WEB),
        (controlled_by("ReplicaSet", "gone"), Ref("ReplicaSet", "shop", "gone")),
        (controlled_by("ReplicaSet", "web-1"), WEB),
    ],
)
def test_workload_is_the_last_owner(server: ApiServer, owner: Json | None, ref: Ref) -> None:
    found = pod("web", owner=False)
    found["metadata"]["ownerReferences"] = [] if owner is None else [owner]
    server.put("pods", found)
    seen = observed(server)
    assert [one.workload for one in seen.pods] == [ref]
    assert (seen.workloads[ref].skip_reason is None) is (owner == controlled_by("ReplicaSet", "web-1"))


def test_container_is_remembered_until_it_starts_again(server: ApiServer) -> None:
    server.put("pods", pod("web"))

    async def look(api: Api) -> list[bool]:
        owners = Owners(api)
        before = await observe(api, [KEY], owners)
        owners.remember_running(before.pods)
        seen = [before, await observe(api, [KEY], owners)]
        status = server.objects["pods", "shop", "web-1-1"]["status"]["containerStatuses"][0]
        status["state"] = {"running": {"startedAt": "2019-01-01T00:00:01Z"}}
        seen.append(await observe(api, [KEY], owners))
        status["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
        owners.remember_running(seen[-1].pods)
        seen.append(await observe(api, [KEY], owners))
        return [one.pods[0].usages[0].ran_before for one in seen]

    assert call(server, look) == [False, True, False, False]


def test_recreated_pod_of_the_same_name_is_another_pod(server: ApiServer) -> None:
    server.put("pods", pod("web"))

    async def look(api: Api) -> bool:
        owners = Owners(api)
        owners.remember_running((await observe(api, [KEY], owners)).pods)
        server.objects["pods", "shop", "web-1-1"]["metadata"]["uid"] = "another"
        return (await observe(api, [KEY], owners)).pods[0].usages[0].ran_before

    assert call(server, look) is False


def test_owners_that_lists_do_not_have_are_not_requested(server: ApiServer) -> None:
    """As `secret list` finds them: one request for each of thousands of Pods would take minutes."""
    deleted = pod("web", owner=False)
    deleted["metadata"]["ownerReferences"] = [{**controlled_by("ReplicaSet", "web-1"), "uid": "deleted"}]
    server.put("pods", deleted)
    server.put("pods", pod("web", 2))

    async def listed(api: Api) -> Observed:
        owners = Owners(api)
        await owners.read_all("shop")
        return await observe(api, (KEY,), owners)

    seen = call(server, listed)

    assert {one.workload for one in seen.pods} == {Ref("ReplicaSet", "shop", "web-1"), WEB}
    assert any("/replicasets" in one for one in server.calls)
    assert not [one for one in server.calls if "/web-1" in one]
