"""Two groups that answer differently, and a group that ends between the two rounds of one create."""

from __future__ import annotations

import contextlib
import json
import secrets
from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.core import names
from tests.cluster.annotator import served
from tests.cluster.objects import APP, ASKING, SIDECAR, pod, token_variable, tokens
from tests.cluster.policies import refusal, requested
from tests.cluster.test_requested import in_force
from tests.cluster.two_entries import first_entries, second_entries
from tests.controlplane.polling import wait_for
from tests.controlplane.registration import Endpoint, dapr_sidecar_injector, foreign_webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.cluster.conftest import StartWebhook
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.target import Cluster
    from tests.controlplane.webhook import DaprInjector, Webhook

FIRST_ENTRY: Final = "inject.dapr-token-injector.svc"
SECOND_ENTRY: Final = "inject-2.dapr-token-injector.svc"
# Configurations are called in the order of their names.
DAPR_FIRST: Final = "dapr-sidecar-injector"
BETWEEN: Final = "dapr-token-injector-1"
LAST: Final = "zz-later"
NAMES_LATE: Final = {**ASKING, names.APP_CONTAINERS: "late"}
ADD_CONTAINER: Final = {"op": "add", "path": "/spec/containers/-"}
LATE: Final = {**ADD_CONTAINER, "value": {"name": "late", "image": "i"}}
BAD_PATCH: Final = [{"op": "replace", "path": "/spec/nowhere/7", "value": 1}]

Register = "Callable[[Json], None]"


class Groups:
    """Two groups of one replica each, registered for a namespace."""

    def __init__(self, kubectl: Kubectl, first: Webhook, second: Webhook) -> None:
        self.kubectl = kubectl
        self.first = first
        self.second = second

    def register(self, register: Callable[[Json], None]) -> None:
        """Register both, and wait until the API server calls them."""
        register(first_entries(self.first.endpoint, namespace=self.kubectl.namespace))
        register(second_entries(self.second.endpoint, namespace=self.kubectl.namespace))
        # A Pod without a sidecar reaches both; so does one for which there is nothing to do.
        wait_for("both groups called", lambda: all(self.calls(pod({**ASKING, "dapr.io/enabled": "false"}))))

    def calls(self, item: Json) -> tuple[float, float]:
        """How often each group was called for a dry run."""
        before = self.first.requests_served(), self.second.requests_served()
        refusal(self.kubectl, item)
        return self.first.requests_served() - before[0], self.second.requests_served() - before[1]


@pytest.fixture
def start_groups(
    kubectl: Kubectl, start_webhook: StartWebhook, register: Callable[[Json], None]
) -> Callable[..., Groups]:
    """Start both groups, each with its Policy."""

    def start(first: Mapping[str, object] | None = None, second: Mapping[str, object] | None = None) -> Groups:
        groups = Groups(kubectl, start_webhook(first), start_webhook(second))
        groups.register(register)
        return groups

    return start


@pytest.fixture
def denied(cluster: Cluster, kubectl: Kubectl) -> Iterator[None]:
    """The policy `requested`, in the test's namespace."""
    label = f"requested-by-test-{secrets.token_hex(4)}"
    with in_force(cluster, kubectl, requested(label=label), label):
        yield


@contextlib.contextmanager
def later(
    name: str, kubectl: Kubectl, operations: Callable[[Json], list[Json]], register: Callable[[Json], None]
) -> Iterator[None]:
    """Another webhook; its operations apply once to each Pod."""
    with served(operations) as endpoint:
        register(foreign_webhook(endpoint, namespace=kubectl.namespace, name=name))
        yield


def adds(operation: Json, then: Callable[[], object] = lambda: None) -> Callable[[Json], list[Json]]:
    """Add a container to each Pod that does not have it; `then` is called whenever the container was added."""

    def operations(review: Json) -> list[Json]:
        item = review["request"]["object"]
        if item["metadata"]["name"] == "probe" or has(item, operation["value"]["name"]):
            return []
        then()
        return [operation]

    return operations


def has(item: Json, name: str) -> bool:
    return name in [one["name"] for one in item["spec"]["containers"]]


# --- group 1 ends between the rounds ---


@pytest.mark.usefixtures("denied")
@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        (NAMES_LATE, 'container "late" has no DAPR_API_TOKEN'),
        ({**ASKING, names.APP_CONTAINERS: "*"}, ""),
        (ASKING, ""),
    ],
    ids=["named", "by *", "not named"],
)
def test_container_added_after_group_1_served_and_ended(
    start_groups: Callable[..., Groups], register: Callable[[Json], None], annotations: dict[str, str], message: str
) -> None:
    """Group 2 was not called in the first round, so the API server does not call it in the second one."""
    groups = start_groups()
    before = groups.second.requests_served()
    with later(LAST, groups.kubectl, adds(LATE, groups.first.kill), register):
        found = wait_for("the later webhook", lambda: outcome(groups.kubectl, pod(annotations), "late"))

    assert groups.second.requests_served() == before
    if message:
        assert message in found["error"]
    else:
        assert tokens(found) == [token_variable()]
        assert tokens(found, "late") == []


@pytest.mark.usefixtures("denied")
def test_sidecar_added_after_the_end_of_group_1_is_served_by_group_2(
    start_groups: Callable[..., Groups], register: Callable[[Json], None]
) -> None:
    groups = start_groups(second={"defaultKeys": {"api": "current"}}, first={"defaultKeys": {"api": "current"}})
    dapr = {**ADD_CONTAINER, "value": {**SIDECAR, "env": [token_variable()]}}
    asking = {**ASKING, names.APP_CONTAINERS: "web"}  # which group 1 serves in the first round
    with later(LAST, groups.kubectl, adds(dapr, groups.first.kill), register):
        found = wait_for("the later webhook", lambda: outcome(groups.kubectl, pod(asking, APP), "daprd"))

    assert tokens(found) == tokens(found, "web") == [token_variable(key="current")]


def outcome(kubectl: Kubectl, item: Json, name: str) -> Json | None:
    """The Pod as the API server would store it, or its error; None before another webhook added a container."""
    done = kubectl.try_run("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=item)
    if done.returncode:
        return {"error": done.stderr}
    made: Json = json.loads(done.stdout)
    return made if has(made, name) else None


# --- a denial, and a patch that does not apply ---

ONLY_OTHER: Final = {"allowedSecrets": ["other"]}


def test_denial_of_group_1_refuses_although_group_2_would_serve(start_groups: Callable[..., Groups]) -> None:
    groups = start_groups(first=ONLY_OTHER)

    assert f'admission webhook "{FIRST_ENTRY}" denied' in refusal(groups.kubectl, pod(ASKING))


def test_denial_of_group_2_refuses_what_group_1_has_not_served(start_groups: Callable[..., Groups]) -> None:
    groups = start_groups(second=ONLY_OTHER)

    assert f'admission webhook "{SECOND_ENTRY}" denied' in refusal(groups.kubectl, pod(ASKING, APP))
    # What group 1 has served does not reach group 2.
    assert refusal(groups.kubectl, pod(ASKING)) == ""
    groups.first.kill()
    assert f'admission webhook "{SECOND_ENTRY}" denied' in refusal(groups.kubectl, pod(ASKING))


@pytest.mark.parametrize("bad", ["first", "second"])
def test_bad_patch_of_either_group_refuses(
    kubectl: Kubectl, webhook: Webhook, register: Callable[[Json], None], bad: str
) -> None:
    with served(lambda _review: BAD_PATCH) as endpoint:
        first: Endpoint = endpoint if bad == "first" else webhook.endpoint
        second: Endpoint = webhook.endpoint if bad == "first" else endpoint
        register(first_entries(first, namespace=kubectl.namespace))
        register(second_entries(second, namespace=kubectl.namespace))
        message = wait_for("a refusal", lambda: refusal(kubectl, pod(ASKING, APP)))

        assert "Internal error" in message
        # A served Pod does not reach group 2.
        assert bool(refusal(kubectl, pod(ASKING))) == (bad == "first")


# --- different Policies ---

SEALING: Final = {"sealImage": "example.invalid/seal:1"}
LITERAL: Final = {"name": "DAPR_API_TOKEN", "value": "own"}
OWN: Final = {"name": "DAPR_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "own", "key": "k"}}}
# Two Policies, and a Pod about which they disagree.
DIFFERENT: Final[dict[str, tuple[Json, Json, Json]]] = {
    "conflict": (
        {"conflict": "keep"}, {"conflict": "replace"}, pod(ASKING, APP, {**SIDECAR, "env": [LITERAL]}),
    ),
    "conflict, another Secret": (
        {"conflict": "keep"}, {"conflict": "replace"}, pod(ASKING, APP, {**SIDECAR, "env": [OWN]}),
    ),
    "defaultKeys": ({"defaultKeys": {"api": "a"}}, {"defaultKeys": {"api": "b"}}, pod(ASKING)),
    "defaultKeys with app containers": (
        {"defaultKeys": {"api": "token"}}, {"defaultKeys": {"api": "b"}}, pod({**ASKING, names.APP_CONTAINERS: "*"}),
    ),
    "seal": ({"seal": "always", **SEALING}, {"seal": "off", **SEALING}, pod(ASKING)),
    "defaultAppContainers": ({"defaultAppContainers": ["*"]}, {"defaultAppContainers": []}, pod(ASKING)),
}  # fmt: skip


# While both groups add to one Pod, the key of its app container may be another one than that of its sidecar.
MIXED: Final = ("defaultKeys with app containers", False, BETWEEN)


@pytest.mark.parametrize("case", DIFFERENT)
def test_groups_with_different_policies_do_not_undo_each_other(
    request: pytest.FixtureRequest, cluster: Cluster, kubectl: Kubectl, start_webhook: StartWebhook, case: str
) -> None:
    if case == "seal":
        request.getfixturevalue("env_files")
    *policies, item = DIFFERENT[case]
    pair = [start_webhook(policy) for policy in policies]
    alone = pod(item["metadata"]["annotations"], *item["spec"]["containers"][:-1])
    operation = {**ADD_CONTAINER, "value": item["spec"]["containers"][-1]}
    for swapped in (False, True):
        with registering(cluster) as register:
            Groups(kubectl, *(pair[::-1] if swapped else pair)).register(register)
            results = {("own", swapped): kubectl.dry_run(item)}
            for name in (LAST, BETWEEN):
                with registering(cluster) as later_only, later(name, kubectl, adds(operation), later_only):
                    results[name, swapped] = wait_for("the sidecar", lambda: outcome(kubectl, alone, "daprd"))
            for (added_by, _), found in results.items():
                assert len(tokens(found)) == 1
                assert is_closed(tokens(found)[0])
                is_mixed = tokens(found, "web") not in ([], tokens(found))
                assert is_mixed == ((case, swapped, added_by) == MIXED), (swapped, added_by, found)
                # Nothing is left to do for both groups.
                again = {**item, "metadata": {**item["metadata"], **found["metadata"]}, "spec": found["spec"]}
                assert envs(kubectl.dry_run(again)) == envs(found), (swapped, added_by)


@contextlib.contextmanager
def registering(cluster: Cluster) -> Iterator[Callable[[Json], None]]:
    """Create configurations, and delete them at the end."""
    with contextlib.ExitStack() as stack:

        def create(configuration: Json) -> None:
            cluster.kubectl.create(configuration)
            stack.callback(cluster.kubectl.delete, configuration["kind"], configuration["metadata"]["name"])

        yield create


def is_closed(entry: Json) -> bool:
    source: Any = entry.get("valueFrom") or {}
    return bool(entry.get("value") or source) and not any(ref.get("optional") for ref in source.values())


def envs(item: Json) -> list[Json]:
    spec = item["spec"]
    return [one.get("env") for one in (*spec["containers"], *spec.get("initContainers", ()))]


# --- Dapr's own injector, before both groups, between them and after them ---


@pytest.mark.parametrize("dapr_name", [DAPR_FIRST, BETWEEN, LAST])
def test_final_pod_with_daprs_injector_has_what_the_pod_requests(
    start_groups: Callable[..., Groups],
    daprs_injector: DaprInjector,
    register: Callable[[Json], None],
    dapr_name: str,
) -> None:
    groups = start_groups()
    kubectl = groups.kubectl
    register(dapr_sidecar_injector(daprs_injector.endpoint, namespace=kubectl.namespace, name=dapr_name))
    wait_for("Dapr's injector called", lambda: has(kubectl.dry_run(pod(ASKING, APP)), "daprd"))
    asked = {**ASKING, names.API_TOKEN_KEY: "api.key", names.APP_CONTAINERS: "*"}
    before = groups.second.requests_served()

    item = kubectl.dry_run(pod(asked, APP))

    assert tokens(item) == tokens(item, "web") == [token_variable(key="api.key")]
    # Group 2 is called until the Pod has a sidecar that group 1 has served.
    assert (groups.second.requests_served() > before) == (dapr_name != DAPR_FIRST)
    groups.first.kill()
    alone = kubectl.dry_run(pod(asked, APP))
    assert tokens(alone) == tokens(alone, "web") == [token_variable(key="api.key")]


@pytest.mark.parametrize("case", ["nothing to do", "an app container"])
def test_sidecar_with_daprs_own_token_reaches_group_2(
    start_groups: Callable[..., Groups], daprs_injector: DaprInjector, register: Callable[[Json], None], case: str
) -> None:
    """Dapr's key is the requested one: group 1 has nothing to do, and leaves no record."""
    groups = start_groups()
    kubectl = groups.kubectl
    register(dapr_sidecar_injector(daprs_injector.endpoint, namespace=kubectl.namespace, name=DAPR_FIRST))
    wait_for("Dapr's injector called", lambda: has(kubectl.dry_run(pod(ASKING, APP)), "daprd"))
    asked = ASKING if case == "nothing to do" else {**ASKING, names.APP_CONTAINERS: "web"}

    first, second = groups.calls(pod(asked, APP))

    assert first > 0
    assert bool(second) == (case == "nothing to do")
