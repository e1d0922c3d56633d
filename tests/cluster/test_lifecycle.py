"""How the webhook is removed, whole and by halves, while Pods are created: what is refused, and the way out."""

from __future__ import annotations

import re
import subprocess
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.lifecycle import BINDING, MUTATING, NAME, NAMESPACE, POLICY, VALIDATING, kustomization, opened
from tests.controlplane.netns import reason_unavailable
from tests.controlplane.polling import wait_for
from tests.controlplane.requirement import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.lifecycle import Site
    from tests.cluster.steady import Creates
    from tests.controlplane import binaries

REQUESTED: Final = f"{NAME}-requested"
DENY: Final = ("--set", "requested.action=Deny")
EMERGENCY: Final = f"kubectl delete --ignore-not-found {BINDING}/{REQUESTED} {MUTATING}/{NAME} {VALIDATING}/{NAME}"
DENIED: Final = re.compile(rf"pods \"shop\" is forbidden: ValidatingAdmissionPolicy '{REQUESTED}'")
UNSERVED: Final = re.compile(r'failed calling webhook "inject.*service "dapr-token-injector" not found')
# An API server looks for changed policies and bindings once a second; a changed webhook configuration it knows at once.
POLICY_DELAY: Final = 5.0
NO_ENDPOINT: Final = re.compile(r"failed calling webhook \"inject\.\S+\": .*no endpoints available for service")


@pytest.fixture(scope="module")
def site(report: binaries.Report) -> Iterator[Site]:
    require(reason_unavailable())
    with opened(report) as made:
        yield made


@pytest.fixture(autouse=True)
def clean(site: Site) -> Iterator[None]:
    """Leave nothing, whatever a test has left."""
    yield
    for found in site.names():
        site.kubectl.delete(*found.split("/"))
    site.kubectl.delete("namespace", NAMESPACE)
    wait_for("the namespace gone", lambda: site.kubectl.find("namespace", NAMESPACE) is None)


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


def test_documented_order_of_uninstall_refuses_no_create(site: Site) -> None:
    site.install(*DENY)

    with site.creating(workers=2) as creates:
        creates.wait_for_more(20)
        site.run(f"kubectl delete --ignore-not-found {BINDING}/{REQUESTED}")
        wait_for_seconds(POLICY_DELAY)
        site.run(EMERGENCY)
        site.uninstall()
        creates.wait_for_more(5)

    assert creates.refused == []
    assert site.names() == set()


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
    site.run(denial.split("in an emergency: ")[1])
    wait_until_bare(site)
    subprocess.run(uninstall, env=site.helm.environment(), stdout=subprocess.DEVNULL, check=True)
    assert site.names() == set()


def test_emergency_command_helps_where_the_namespace_was_deleted_first(site: Site) -> None:
    site.apply(*DENY)
    before = site.names()

    site.kubectl.delete("namespace", NAMESPACE)

    wait_for("the Service gone", lambda: UNSERVED.search(site.refusal()))
    assert site.names() == before
    site.run(EMERGENCY)
    wait_until_bare(site)


def test_nothing_creates_again_what_the_emergency_command_deleted(site: Site) -> None:
    site.apply(*DENY)

    with site.creating(workers=1) as creates:
        creates.wait_for_more(5)
        site.run(EMERGENCY)
        wait_until_bare(site)
    assert not [one.message for one in creates.refused if not DENIED.search(one.message)]
    after = site.names()
    wait_until_missed(site)
    site.kubectl.run("delete", "pods", "--all", "--wait=false")
    wait_for(
        "new replicas", lambda: not any("deletionTimestamp" in one["metadata"] for one in site.kubectl.list("pods"))
    )
    wait_until_missed(site)

    assert not after & {f"{MUTATING}/{NAME}", f"{VALIDATING}/{NAME}", f"{BINDING}/{REQUESTED}"}
    assert site.names() == after
    assert not site.refusal()


def wait_until_bare(site: Site) -> None:
    wait_for("a Pod without a token", lambda: not site.refusal())


def wait_until_missed(site: Site) -> None:
    """Wait until each replica has noticed that the configuration is gone."""

    def probe() -> bool:
        names = {one["metadata"]["name"] for one in site.kubectl.list("pods")}
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
