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
