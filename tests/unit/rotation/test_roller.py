"""Rollouts against an API server on loopback: what a run calls, look by look, and when it stops."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

import pytest

from injector.core import names
from injector.core.ownership import SecretKey, SecretRef
from injector.core.rollout import DELETED, State, plan
from injector.core.token_state import annotation_for, revision_of
from injector.kube.client import Api
from injector.kube.errors import UnavailableError
from injector.rotation import admission
from injector.rotation.observe import Owners, observe
from injector.rotation.roller import Pace, Roller, SupersededError
from injector.tokens.decode import token_secret
from tests.fake_cluster.server import ApiServer
from tests.fake_cluster.store import Refusal
from tests.unit.cli.controllers import Controllers
from tests.unit.cli.objects import WRITTEN, deployment, namespace, pod, replica_set, secret

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from injector.core.rollout import PlannedAction, Progress
    from injector.core.token_state import Ref
    from injector.rotation.observe import Observed

Json = dict[str, Any]
KEY = SecretKey("shop", "s", "token")
PACE = Pace(max_concurrent_per_namespace=4, timeout=60)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(folder=tmp_path) as running:
        running.put("namespaces", namespace())
        running.put("secrets", secret("s"))
        yield running


def put_workloads(server: ApiServer, count: int, within: str = "shop") -> None:
    for number in range(count):
        name = f"{'web' if within == 'shop' else within}{number}"
        server.put("pods", pod(name, within=within))
        server.put("replicasets", replica_set(name, within))
        server.put("deployments", deployment(name, within))


def put_namespaces(server: ApiServer, *names: str, count: int) -> None:
    """Put namespaces with the Secret and this many workloads."""
    for name in names:
        server.put("namespaces", namespace(name))
        server.put("secrets", secret("s", within=name))
        put_workloads(server, count, name)


def roll(
    server: ApiServer,
    pace: Pace = PACE,
    *,
    wait: bool = True,
    planned: Callable[[Sequence[PlannedAction]], None] = lambda _: None,
    report: Callable[[Progress], None] = lambda _: None,
) -> dict[str, Progress]:
    """Restart everything that uses the Secrets; the progress by the workload's name. `planned`: called in between."""
    progress: dict[str, Progress] = {}
    seconds = 0.0

    async def sleep(interval: float) -> None:
        nonlocal seconds
        seconds += interval

    async def work() -> None:
        async with await Api.from_kubeconfig(str(server.kubeconfig)) as api:
            revisions = {
                SecretKey.of(SecretRef(within, name), "token"): revision_of(token_secret(found), "token")
                for (plural, within, name), found in server.objects.items()
                if plural == "secrets"
            }
            owners = Owners(api)
            seen = await observe(api, revisions.keys(), owners)

            def planned_for(now: Observed) -> Sequence[PlannedAction]:
                return plan(revisions, now.workloads, now.pods)

            actions = planned_for(seen)
            admissions = admission.assumed(actions, seen.pods)
            planned(actions)
            server.calls.clear()
            roller = Roller(api, revisions, admissions, pace, report, owners, clock=lambda: seconds, sleep=sleep)
            try:
                await roller.roll(seen, planned_for, wait=wait)
            finally:
                progress.update({ref.name: one for ref, one in roller.progress.items()})

    asyncio.run(work())
    return progress


def delete(server: ApiServer) -> None:
    del server.objects["deployments", "shop", "web0"]


def states(progress: dict[str, Progress]) -> dict[str, State]:
    return {name: one.state for name, one in progress.items()}


def without_token(name: str) -> Json:
    """A Pod whose sidecar came without the token."""
    new = copy.deepcopy(pod(name))
    new["spec"]["containers"][0]["env"] = []
    return new


def test_owners_are_read_once_per_roll(tmp_path: Path) -> None:
    count = 8

    def calls(looks: int) -> Counter[str]:
        with ApiServer(folder=tmp_path) as server:
            server.put("namespaces", namespace())
            server.put("secrets", secret("s"))
            put_workloads(server, count)
            Controllers(server, looks)
            assert set(states(roll(server)).values()) == {State.READY}
            return server.counted()

    rounds = 3  # of 1, 4 and 3 workloads
    for looks in (1, 5):
        counted = calls(looks)
        assert counted["LIST pods"] == rounds * looks
        assert counted["GET replicasets"] == count, "the new ones; the owners of the old ones are known"
        assert counted["GET deployments"] == count * looks, "each that is being restarted, at each look"


def test_new_pod_without_the_token_stops_all_later_restarts(server: ApiServer) -> None:
    put_workloads(server, 3)
    controllers = Controllers(server, make=without_token)
    progress = roll(server)
    assert states(progress) == {"web0": State.NOT_INJECTED, "web1": State.NOT_STARTED, "web2": State.NOT_STARTED}
    assert progress["web0"].message == "new Pod web0-2-1 has no token in daprd: the webhook did not inject it"
    assert progress["web1"].message == "Deployment shop/web0 failed"
    assert controllers.restarted == ["web0"]


def test_new_pod_without_the_token_ends_the_wait(server: ApiServer) -> None:
    put_workloads(server, 4)
    controllers = Controllers(server, make=lambda name: without_token(name) if name == "web2" else pod(name))
    # A wait for web1 would not end: its Pod is never replaced.
    patched = server.patched
    server.patched = lambda changed: patched(changed) if changed["metadata"]["name"] != "web1" else None
    progress = roll(server, Pace(max_concurrent_per_namespace=2, timeout=10**6))
    assert states(progress) == {
        "web0": State.READY,
        "web1": State.RESTARTING,
        "web2": State.NOT_INJECTED,
        "web3": State.NOT_STARTED,
    }
    assert controllers.restarted == ["web0", "web2"]


def test_pod_that_is_not_replaced_in_time_fails_its_workload(server: ApiServer) -> None:
    put_workloads(server, 2)
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}
    server.objects["deployments", "shop", "web0"]["status"]["conditions"] = [condition]
    progress = roll(server, Pace(timeout=0))
    assert states(progress) == {"web0": State.FAILED, "web1": State.NOT_STARTED}
    assert progress["web0"].message == "not ready within 0 s: exceeded quota: small"
    assert progress["web0"].outdated == ("web0-1-1",)


def test_roll_without_waiting_starts_every_workload(server: ApiServer) -> None:
    put_workloads(server, 3)
    controllers = Controllers(server)
    assert set(states(roll(server, wait=False)).values()) == {State.STARTED}
    assert controllers.restarted == ["web0", "web1", "web2"]
    assert server.counted()["LIST pods"] == 0


def test_workload_deleted_since_the_plan_is_ready(server: ApiServer) -> None:
    put_workloads(server, 2)
    Controllers(server)
    progress = roll(server, planned=lambda _: delete(server))
    assert (progress["web0"].state, progress["web0"].message) == (State.READY, DELETED)
    assert progress["web1"].state is State.READY, "a deleted workload is not a failure"


def test_workload_deleted_during_the_rollout_is_ready(server: ApiServer) -> None:
    put_workloads(server, 1)
    server.patched = lambda _: delete(server)
    progress = roll(server)
    assert (progress["web0"].state, progress["web0"].message) == (State.READY, DELETED)


def test_secret_rotated_again_stops_the_roll(server: ApiServer) -> None:
    put_workloads(server, 2)
    Controllers(server)
    patched = server.patched

    def rotate_again(changed: Json) -> None:
        patched(changed)
        server.objects["secrets", "shop", "s"]["metadata"]["annotations"]["dapr-token-injector/token-id"] = "later"

    server.patched = rotate_again
    with pytest.raises(SupersededError, match="Secret shop/s was rotated again by another process"):
        roll(server)
    assert server.counted()["PATCH deployments"] == 1


def test_roll_survives_one_failed_observation(server: ApiServer) -> None:
    put_workloads(server, 1)
    controllers = Controllers(server, looks=2)
    called = server.called

    def fail_once(call: str) -> None:
        called(call)
        is_first = controllers.restarted and server.counted()["LIST pods"] == 1
        server.refusals = [Refusal("GET .*/pods", 503, "away")] if is_first else []

    server.called = fail_once
    assert states(roll(server)) == {"web0": State.READY}
    assert server.counted()["LIST pods"] == 2


def test_roll_fails_when_the_api_server_is_away_at_the_deadline(server: ApiServer) -> None:
    put_workloads(server, 1)
    server.patched = lambda _: server.refusals.append(Refusal("GET .*/pods", 503, "away"))
    with pytest.raises(UnavailableError, match="cannot list pods"):
        roll(server, Pace(timeout=0))


@pytest.mark.parametrize("injects", [True, False])
def test_restart_by_another_tool_is_waited_for_and_checked(server: ApiServer, *, injects: bool) -> None:
    def make(name: str) -> Json:
        found = copy.deepcopy(pod(name)) if injects else without_token(name)
        annotations = {names.ENABLED: "true", names.API_TOKEN_SECRET: "s"}
        found["metadata"] |= {"creationTimestamp": WRITTEN.replace("00Z", "30Z"), "annotations": annotations}
        return found

    put_workloads(server, 1)
    meta = server.objects["deployments", "shop", "web0"]["metadata"]
    meta["annotations"] = {"secret.reloader.stakater.com/reload": "s"}
    controllers = Controllers(server, looks=2, make=make)
    progress = roll(server, planned=lambda _: controllers.restart("web0"))
    assert states(progress) == {"web0": State.READY if injects else State.NOT_INJECTED}
    assert controllers.restarted == []


@pytest.mark.parametrize("seconds", [0, 1, 30])
@pytest.mark.parametrize("injected", [0, 1])
def test_new_pod_without_mark_and_request_fails_a_foreign_restart(
    server: ApiServer, injected: int, seconds: int
) -> None:
    created = WRITTEN.replace("00Z", f"{seconds:02}Z")

    def make(name: str) -> Json:
        """The webhook gave the Pods a default Secret until now, so that nothing in the template names it."""
        found = without_token(name)
        found["metadata"] |= {"creationTimestamp": created, "annotations": {names.ENABLED: "true"}}
        return found

    put_workloads(server, 2)
    meta = server.objects["deployments", "shop", "web0"]["metadata"]
    meta["annotations"] = {"secret.reloader.stakater.com/reload": "s"}
    for number in range(injected):
        found = copy.deepcopy(pod("web0"))
        found["metadata"] |= {"name": f"web0-new-{number}", "creationTimestamp": WRITTEN.replace("00Z", "30Z")}
        server.put("pods", found)
    controllers = Controllers(server, looks=2, make=make)
    progress = roll(server, planned=lambda _: controllers.restart("web0"))
    assert states(progress)["web0"] is State.NOT_INJECTED
    assert progress["web0"].message == "new Pod web0-2-1 has no token in daprd: the webhook did not inject it"


def test_plan_without_restarts_makes_no_calls(server: ApiServer) -> None:
    assert roll(server) == {}
    assert server.calls == []


def test_progress_is_reported_at_each_change(server: ApiServer) -> None:
    put_workloads(server, 1)
    Controllers(server, looks=2)
    reports: list[State] = []
    roll(server, report=lambda progress: reports.append(progress.state))
    assert reports == [State.PLANNED, State.RESTARTING, State.READY]


@pytest.mark.parametrize("count", [1, 8, 16])
def test_reports_grow_with_the_number_of_workloads(server: ApiServer, count: int) -> None:
    put_workloads(server, count)
    Controllers(server, looks=3)
    reports: list[str] = []
    roll(server, report=lambda progress: reports.append(progress.ref.name))
    assert sorted(reports) == sorted(f"web{number}" for number in range(count) for _ in range(3))


class KilledError(Exception):
    """Ends a run at any of its reports."""


@pytest.mark.parametrize("reports", range(5, 15))
def test_killed_and_resumed_roll_restarts_each_workload_once(server: ApiServer, reports: int) -> None:
    count = 5
    put_workloads(server, count)
    controllers = Controllers(server, looks=2)
    left = reports

    def kill(_: Progress) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise KilledError

    with pytest.raises(KilledError):
        roll(server, Pace(max_concurrent_per_namespace=2, timeout=60), report=kill)
    progress = roll(server, Pace(max_concurrent_per_namespace=2, timeout=60))
    assert sorted(controllers.restarted) == [f"web{number}" for number in range(count)]
    assert set(states(progress).values()) <= {State.READY, State.UP_TO_DATE}


def test_workload_deployed_since_the_plan_is_not_restarted(server: ApiServer) -> None:
    put_workloads(server, 2)
    controllers = Controllers(server)
    patched = server.patched

    def deploy_the_other(changed: Json) -> None:
        patched(changed)
        server.objects["pods", "shop", "web1-1-1"]["metadata"]["creationTimestamp"] = WRITTEN.replace("00Z", "30Z")

    server.patched = deploy_the_other
    assert states(roll(server)) == {"web0": State.READY, "web1": State.UP_TO_DATE}
    assert controllers.restarted == ["web0"]


def test_workload_deployed_without_its_default_secret_is_restarted(server: ApiServer) -> None:
    put_workloads(server, 2)
    server.objects["pods", "shop", "web1-1-1"]["metadata"]["annotations"] = {names.ENABLED: "true"}
    controllers = Controllers(server)
    patched = server.patched

    def deploy_the_other(changed: Json) -> None:
        patched(changed)
        if server.objects["pods", "shop", "web1-1-1"]["metadata"]["uid"] != "another":
            new = without_token("web1")
            new["metadata"] |= {
                "annotations": {names.ENABLED: "true"},
                "creationTimestamp": WRITTEN.replace("00Z", "30Z"),
                "uid": "another",
            }
            server.put("pods", new)

    server.patched = deploy_the_other
    assert states(roll(server)) == {"web0": State.READY, "web1": State.READY}
    assert controllers.restarted == ["web0", "web1"]


def test_workload_without_pods_is_not_restarted(server: ApiServer) -> None:
    put_workloads(server, 2)
    controllers = Controllers(server)
    patched = server.patched

    def scale_the_other_down(changed: Json) -> None:
        patched(changed)
        del server.objects["pods", "shop", "web1-1-1"]

    server.patched = scale_the_other_down
    assert states(roll(server)) == {"web0": State.READY, "web1": State.UP_TO_DATE}
    assert controllers.restarted == ["web0"]


def test_restart_by_another_run_uses_the_budget(server: ApiServer) -> None:
    put_workloads(server, 3)
    found = server.objects["deployments", "shop", "web2"]
    found["spec"]["template"] = {"metadata": {"annotations": {annotation_for("s"): "bcdfghjklm"}}}
    controllers = Controllers(server, looks=2)
    reports: list[tuple[str, State]] = []

    def report(progress: Progress) -> None:
        if progress.state in {State.RESTARTING, State.READY}:
            reports.append((progress.ref.name, progress.state))

    roll(server, planned=lambda _: controllers.restart("web2"), report=report)
    assert reports[:3] == [("web2", State.RESTARTING), ("web2", State.READY), ("web0", State.RESTARTING)]
    assert controllers.restarted == ["web0", "web1"]


# --- many namespaces ---


@pytest.mark.parametrize(("total", "most"), [(1, 1), (3, 3), (100, 4)])
def test_restarts_of_all_namespaces_share_a_budget(server: ApiServer, total: int, most: int) -> None:
    put_namespaces(server, *"abcd", count=2)
    controllers = Controllers(server, looks=2)
    running: set[Ref] = set()
    highest = 0

    def report(progress: Progress) -> None:
        nonlocal highest
        (running.add if progress.state is State.RESTARTING else running.discard)(progress.ref)
        highest = max(highest, len(running))

    pace = Pace(max_concurrent=total, max_concurrent_per_namespace=1, timeout=60)
    assert set(states(roll(server, pace, report=report)).values()) == {State.READY}
    assert highest == most
    assert len(controllers.restarted) == 8


@pytest.mark.parametrize("make", [pod, without_token], ids=["timeout", "not-injected"])
def test_failed_workload_stops_only_its_namespace_on_request(server: ApiServer, make: Callable[[str], Json]) -> None:
    put_namespaces(server, "a", "b", "c", count=2)
    controllers = Controllers(server, make=lambda name: make(name) if name == "a0" else pod(name))
    patched = server.patched
    if make is pod:  # the Pods in a are never replaced
        server.patched = lambda changed: patched(changed) if changed["metadata"]["namespace"] != "a" else None
    pace = Pace(max_concurrent=1, timeout=30, keep_going=True)
    progress = roll(server, pace)
    failed = State.FAILED if make is pod else State.NOT_INJECTED
    ready = {f"{within}{number}": State.READY for within in "bc" for number in range(2)}
    assert states(progress) == {"a0": failed, "a1": State.NOT_STARTED, **ready}
    assert progress["a1"].message == "Deployment a/a0 failed"
    assert "a1" not in controllers.restarted


def test_secret_rotated_again_stops_only_its_namespace_on_request(server: ApiServer) -> None:
    put_namespaces(server, "a", "b", count=2)
    Controllers(server, looks=2)
    patched = server.patched

    def rotate_again(changed: Json) -> None:
        patched(changed)
        server.objects["secrets", "a", "s"]["metadata"]["annotations"]["dapr-token-injector/token-id"] = "later"

    server.patched = rotate_again
    progress = roll(server, Pace(keep_going=True))
    assert states(progress) == {
        "a0": State.FAILED,
        "a1": State.NOT_STARTED,
        "b0": State.READY,
        "b1": State.READY,
    }
    assert progress["a0"].message == "Secret a/s was rotated again by another process"


def test_secret_rotated_before_any_restart_stops_only_its_namespace(server: ApiServer) -> None:
    put_namespaces(server, "a", "b", count=1)
    Controllers(server)

    def rotate_again(_: Sequence[PlannedAction]) -> None:
        server.objects["secrets", "a", "s"]["metadata"]["annotations"]["dapr-token-injector/token-id"] = "later"

    progress = roll(server, Pace(max_concurrent=1, keep_going=True), planned=rotate_again)
    assert states(progress) == {"a0": State.FAILED, "b0": State.READY}
