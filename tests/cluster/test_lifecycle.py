"""Upgrade to two entries and back, uninstall, emergency, while Pods are created: by tool, interrupted, with pauses."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.lifecycle import (
    BINDING,
    MUTATING,
    NAME,
    NAMESPACE,
    POLICY,
    VALIDATING,
    kustomization,
    opened,
    rendered,
)
from tests.controlplane.netns import reason_unavailable
from tests.controlplane.polling import wait_for
from tests.controlplane.requirement import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.cluster.creates import Creates
    from tests.cluster.lifecycle import Site
    from tests.controlplane import binaries

REQUESTED: Final = f"{NAME}-requested"
OFF: Final = ("--set", "requested.action=Off")  # Helm keeps the values of the release if none is given
DENY: Final = ("--set", "requested.action=Deny")
TWO: Final = (*DENY, "--set", "webhook.redundancy=2")
EMERGENCY: Final = (
    f"kubectl delete --ignore-not-found {BINDING}/{REQUESTED} {MUTATING}/{NAME} {MUTATING}/{NAME}-2 {VALIDATING}/{NAME}"
)
DENIED: Final = re.compile(rf"pods \"shop\" is forbidden: ValidatingAdmissionPolicy '{REQUESTED}'")
UNSERVED: Final = re.compile(r'failed calling webhook "inject.*service "dapr-token-injector" not found')
# An API server looks for changed policies and bindings once a second; a changed webhook configuration it knows at once.
POLICY_DELAY: Final = 5.0
NO_ENDPOINT: Final = re.compile(r"failed calling webhook \"inject\.\S+\": .*no endpoints available for service")


@dataclass(frozen=True, slots=True)
class Order:
    """The objects that a tool changes between one entry and two, in the order of its requests."""

    up: tuple[str, ...]
    down: tuple[str, ...]
    deleted: tuple[str, ...]


def keys(*resources: str) -> tuple[str, ...]:
    """Resources with the names of our objects; a suffix of the name is given with the resource."""
    parts = (resource.partition("-") for resource in resources)
    return tuple(f"{resource}/{NAME}{dash}{suffix}" for resource, dash, suffix in parts)


POLICIES: Final = keys("validatingadmissionpolicies-requested", "validatingadmissionpolicybindings-requested")
# Read from the audit logs of Helm 3.22.0 and 4.3.1, which are alike, and of kubectl 1.37.2. All of them write other
# objects, too, without a change. From one entry without the policy `requested`; with it, the policy does not change.
ORDERS: Final = {
    "helm": Order(
        up=keys(
            *("poddisruptionbudgets", "clusterroles", "deployments", "deployments-2"),
            *("mutatingwebhookconfigurations", "mutatingwebhookconfigurations-2", "services-2"),
        )
        + POLICIES,
        down=keys("poddisruptionbudgets", "clusterroles", "deployments", "mutatingwebhookconfigurations"),
        deleted=keys("deployments-2", "mutatingwebhookconfigurations-2", "services-2") + POLICIES,
    ),
    "kubectl": Order(
        up=keys("mutatingwebhookconfigurations", "clusterroles", "deployments", "poddisruptionbudgets")
        + POLICIES
        + keys("mutatingwebhookconfigurations-2", "deployments-2", "services-2"),
        down=keys("mutatingwebhookconfigurations", "clusterroles", "deployments", "poddisruptionbudgets"),
        deleted=keys("mutatingwebhookconfigurations-2", "deployments-2", "services-2") + POLICIES[::-1],
    ),
}


@pytest.fixture(scope="module")
def site(report: binaries.Report) -> Iterator[Site]:
    require(reason_unavailable())
    with opened(report) as made:
        yield made


@pytest.fixture(autouse=True)
def clean(site: Site) -> Iterator[None]:
    """Leave nothing, whatever a test has left."""
    yield
    site.clean()


def test_plain_uninstall_denies_only_until_the_policy_is_gone(site: Site) -> None:
    site.install(*DENY)

    with site.creating() as creates:
        assert all(one.has_token for one in creates.wait_for_more(20))
        site.uninstall()
        wait_until_bare(site)

    assert site.names() == set()
    # Helm 3 deletes the Deployment first, and no Pod that is ready answers before the configuration is deleted, too.
    allowed = (DENIED, NO_ENDPOINT) if site.helm.major_version() == 3 else (DENIED,)
    assert not [one.message for one in creates.refused if not any(text.search(one.message) for text in allowed)]
    print(window(creates))


def test_binding_deleted_some_seconds_earlier_refuses_no_create(site: Site) -> None:
    site.apply(*DENY)

    with site.creating(workers=2) as creates:
        creates.wait_for_more(20)
        site.run(f"kubectl delete --ignore-not-found {BINDING}/{REQUESTED}")
        wait_for_seconds(POLICY_DELAY)
        site.run(EMERGENCY)
        creates.wait_for_more(10)

    assert creates.refused == []
    assert not creates.done[-1].has_token


@pytest.mark.parametrize("tool", ["helm", "kubectl"])
def test_interrupted_uninstall_denies_until_the_emergency_command(site: Site, tool: str, tmp_path: Path) -> None:
    if tool == "helm":
        site.install(*DENY)
        uninstall = [str(site.helm.binary), "uninstall", NAME, "--namespace", NAMESPACE]
    else:
        overlay = kustomization(tmp_path, "ha", "requested")
        site.kubectl.run("apply", "-k", overlay)
        site.wait_until_served()
        uninstall = [*site.kubectl.command(), "delete", "-k", overlay, "--ignore-not-found"]

    with site.held("services") as held:
        with subprocess.Popen(uninstall, env=site.helm.environment(), stdout=subprocess.DEVNULL) as process:
            held.accept()[0].close()  # what comes before the Service is deleted, what comes after it is not
            process.kill()
        assert site.names() >= {f"{POLICY}/{REQUESTED}", f"{BINDING}/{REQUESTED}"}
        assert f"{MUTATING}/{NAME}" not in site.names()
        denial = wait_for("a denial by the policy", site.refusal)

    assert DENIED.search(denial)
    assert denial.endswith(f"in an emergency: {EMERGENCY}")
    site.run(EMERGENCY)
    wait_until_bare(site)
    subprocess.run(uninstall, env=site.helm.environment(), stdout=subprocess.DEVNULL, check=True)
    assert site.names() == set()


@pytest.mark.parametrize(("values", "problem"), [(DENY, UNSERVED), (TWO, DENIED)], ids=["one entry", "two entries"])
def test_emergency_command_helps_where_the_namespace_was_deleted_first(
    site: Site, values: Sequence[str], problem: re.Pattern[str]
) -> None:
    site.apply(*values)
    before = site.names()

    site.kubectl.delete("namespace", NAMESPACE)

    wait_for("the refusal", lambda: problem.search(site.refusal()))
    assert site.names() == before
    site.run(EMERGENCY)
    wait_until_bare(site)


@pytest.mark.parametrize("values", [DENY, TWO], ids=["one entry", "two entries"])
def test_nothing_creates_again_what_the_emergency_command_deleted(site: Site, values: Sequence[str]) -> None:
    site.apply(*values)

    with site.creating(workers=1) as creates:
        creates.wait_for_more(5)
        site.run(EMERGENCY)
        wait_until_bare(site)
    assert not [one.message for one in creates.refused if not DENIED.search(one.message)]
    after = site.names()
    wait_until_missed(site)
    site.kubectl.run("delete", "pods", "--all", "--wait=false")
    wait_until_missed(site)

    assert not after & {f"{MUTATING}/{NAME}", f"{MUTATING}/{NAME}-2", f"{VALIDATING}/{NAME}", f"{BINDING}/{REQUESTED}"}
    assert site.names() == after
    assert not site.refusal()


@pytest.mark.parametrize("tool", ["helm", "kubectl"])
def test_upgrade_to_two_entries_and_back_loses_nothing(site: Site, tool: str, tmp_path: Path) -> None:
    start, two, end = changes_by(site, tool, tmp_path)
    order = ORDERS[tool]
    start()
    site.wait_until_served()
    same = POLICIES if f"{POLICY}/{REQUESTED}" in site.names() else ()
    up = tuple(key for key in order.up if key not in same)

    with site.creating(workers=1, rest=0.2) as creates:
        for change, expected in ((two, up), (end, order.down + order.deleted)):
            creates.wait_for_more(3)
            before = len(site.writes())
            change()
            site.wait_until_served()
            assert [key for key in site.writes()[before:] if key in expected] == list(expected)
        creates.wait_for_more(3)

    assert (creates.refused, creates.bare) == ([], [])
    assert not [name for name in site.names() if name.endswith("-2")]


def changes_by(site: Site, tool: str, folder: Path) -> tuple[Callable[[], object], ...]:
    """The tool's commands for one entry, for two with the policy `requested`, and for one entry without it.

    The chart refuses to install the policy and the second entry in one step.
    """
    if tool == "helm":
        return lambda: site.upgrade(*DENY), lambda: site.upgrade(*TWO), lambda: site.upgrade(*OFF)
    overlays = [
        kustomization(folder / "one", "ha"),
        kustomization(folder / "two", "ha", "requested", "redundant"),
    ]

    def one() -> None:
        site.audited.run("apply", "-k", overlays[0])
        site.audited.run("delete", "--ignore-not-found", *ORDERS[tool].deleted)  # `apply` deletes nothing

    return one, lambda: site.audited.run("apply", "-k", overlays[1]), one


def test_pause_between_any_two_objects_loses_nothing(site: Site) -> None:
    # New replicas start at the end, or at once.
    for values, same, held in ((OFF, set(), {NAME, f"{NAME}-2"}), (DENY, set(POLICIES), set[str]())):
        site.apply(*values)
        one, two = ({site.key(item): item for item in rendered(site.helm, *each)} for each in (values, TWO))
        changed = {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)}
        for tool, order in ORDERS.items():
            assert changed | same == set(order.up) == {*order.down, *order.deleted}
            with site.creating(workers=1, rest=0.2) as creates:
                for target, steps in ((two, order.up), (one, order.down + order.deleted)):
                    site.kubelet.held = held
                    for key in steps:
                        if key not in same:
                            site.put(key, target.get(key))
                            site.wait_until_started()
                            creates.wait_for_more(2)
                    site.kubelet.held = set()
                    site.wait_until_served()
                    creates.wait_for_more(2)
            assert (creates.refused, creates.bare) == ([], []), (tool, held)


def wait_until_bare(site: Site) -> None:
    wait_for("a Pod without a token", lambda: not site.refusal())


def wait_until_missed(site: Site) -> None:
    """Wait until each replica has noticed that the configuration is gone."""

    def probe() -> bool:
        names = {one["metadata"]["name"] for one in site.pods()}
        return len(names) == 2 and names <= site.kubelet.logs("does not exist")

    wait_for("replicas that miss the configuration", probe)


def wait_for_seconds(seconds: float) -> None:
    end = time.monotonic() + seconds
    wait_for(f"{seconds} s", lambda: time.monotonic() >= end)


def window(creates: Creates) -> str:
    """How many were refused, and from the first to the last of them."""
    refused = creates.refused
    seconds = refused[-1].ended - refused[0].sent if refused else 0.0
    policy = sum(bool(DENIED.search(one.message)) for one in refused)
    return f"{len(refused)} of {len(creates.done)} refused, {policy} by the policy, in {seconds:.3f} s"
