"""Mode `cert-manager` with the real cert-manager: what it issues is served and trusted, also while it changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.certmanager import (
    AUTHORITY,
    AUTHORITY_SECRET,
    CONFIGURATIONS,
    NAME,
    Managed,
    leaf_of,
    managed,
)
from tests.cluster.conftest import wait_until_injecting
from tests.cluster.creates import creating_by_proxy
from tests.cluster.objects import ASKING, pod, token_variable, tokens
from tests.cluster.test_check import check
from tests.controlplane.cluster import own_namespace
from tests.controlplane.helm import Helm
from tests.controlplane.pki import Authority
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.controlplane import binaries
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl

Capture = pytest.CaptureFixture[str]
# Creates after which the API server has long taken notice of a changed configuration, which it does within 20 ms.
ENOUGH: Final = 25


@pytest.fixture(scope="module")
def installed(
    own_control_plane: ControlPlane,
    foreign_kinds: None,  # noqa: ARG001 - a fixture cannot say it otherwise
    report: binaries.Report,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Managed]:
    """The chart with cert-manager, and two replicas that serve its certificates."""
    folder = tmp_path_factory.mktemp("cert-manager")
    kubeconfig = own_control_plane.kubeconfig
    helm = Helm.find(own_control_plane.folder, kubeconfig, report=report)
    with (
        own_namespace(own_control_plane.kubectl) as kubectl,
        managed(kubectl, helm, kubeconfig, folder, report) as made,
    ):
        made.wait_for("the serving pair", made.secret)
        made.wait_for("the CA in every bundle", lambda: made.trusts(made.authority()))
        for _ in range(2):
            made.start()
        yield made


def test_issuers_and_certificates_become_ready_and_fill_the_secret(installed: Managed) -> None:
    for kind in ("issuer", "certificate"):
        for item in installed.kubectl.list(kind):
            name = item["metadata"]["name"]
            installed.wait_for(f"{kind} {name} ready", lambda k=kind, n=name: installed.is_ready(k, n))  # type: ignore[misc] # mypy cannot infer a lambda with defaults

    assert {item["metadata"]["name"] for item in installed.kubectl.list("certificate")} == {NAME, AUTHORITY}
    assert installed.kubectl.get("secret", "dapr-token-injector-tls")["type"] == "kubernetes.io/tls"
    files, authority = installed.secret(), installed.authority()
    assert set(files) == {"tls.crt", "tls.key", "ca.crt"}
    assert authority is not None
    leaf_of(files).verify_directly_issued_by(authority)


def test_cainjector_fills_every_entry_and_owns_no_other_field(installed: Managed) -> None:
    assert [entry["name"].partition(".")[0] for entry in installed.entries()] == ["inject", "default", "warn"]
    assert installed.trusts(installed.authority())
    for kind in CONFIGURATIONS:
        fields = fields_of(installed, kind)
        assert [manager for manager in fields if "f:caBundle" in fields[manager]] == ["cert-manager-cainjector"]
        assert "f:rules" not in fields["cert-manager-cainjector"]


def fields_of(installed: Managed, kind: str) -> dict[str, str]:
    """What each manager owns of a configuration."""
    output = installed.kubectl.run("get", kind, NAME, "-o", "json", "--show-managed-fields").stdout
    return {one["manager"]: json.dumps(one["fieldsV1"]) for one in json.loads(output)["metadata"]["managedFields"]}


@pytest.fixture
def users(own_control_plane: ControlPlane, installed: Managed) -> Iterator[Kubectl]:
    """A namespace that the installed webhook serves."""
    installed.process.ensure_running()
    with own_namespace(own_control_plane.kubectl) as kubectl:
        wait_until_injecting(kubectl)
        yield kubectl


def test_pod_is_injected(users: Kubectl) -> None:
    assert tokens(users.create(pod(ASKING))) == [token_variable()]


def test_creates_succeed_while_leaf_and_ca_are_replaced(installed: Managed, users: Kubectl, tmp_path: Path) -> None:
    first = installed.authority()
    assert first is not None

    with creating_by_proxy(users, tmp_path) as seen:
        seen.wait_for_more(ENOUGH)
        # The leaf alone.
        installed.serve(installed.renewed())
        seen.wait_for_more(ENOUGH)

        # The CA is renewed, as after six years: it keeps its key, so who trusts one of the two trusts leaves of both.
        installed.renew(AUTHORITY)
        installed.wait_for("a renewed CA", lambda: installed.authority() not in {None, first})
        second = installed.authority()
        assert second is not None
        assert second.public_key() == first.public_key()
        installed.wait_for("both in every bundle", lambda: installed.trusts(first, second))
        seen.wait_for_more(ENOUGH)
        installed.serve(installed.renewed())
        seen.wait_for_more(ENOUGH)

        # The CA gets another key: it is in every bundle before it signs.
        installed.kubectl.run("delete", "secret", AUTHORITY_SECRET)
        installed.wait_for("another CA", lambda: installed.authority() not in {None, second})
        third = installed.authority()
        assert third is not None
        assert third.public_key() != first.public_key()
        installed.wait_for("all in every bundle", lambda: installed.trusts(first, second, third))
        seen.wait_for_more(ENOUGH)
        files = installed.renewed()
        leaf_of(files).verify_directly_issued_by(third)
        installed.serve(files)
        seen.wait_for_more(ENOUGH)

        # The previous CAs are not needed, and cert-manager leaves them in the bundles: a user removes them. (It writes
        # what it last read, so it may undo a change that it has not seen.)
        def alone() -> bool:
            if installed.trusts(third):
                return True
            installed.trust_only(third)
            return False

        for _ in range(2):
            installed.wait_for("the new CA alone in every bundle", alone)
            seen.wait_for_more(ENOUGH)

    assert seen.wrong == []
    assert len(seen.done) >= 8 * ENOUGH


def test_cainjector_takes_over_and_keeps_trust_in_the_replicas(installed: Managed) -> None:
    before = Authority.create("what replicas in mode self signed with").certificate
    installed.trust_as_replicas(before)

    installed.wait_for("both in every bundle", lambda: installed.trusts(before, installed.authority()))

    for kind in CONFIGURATIONS:
        assert "f:caBundle" in fields_of(installed, kind)["cert-manager-cainjector"]


def test_check_reports_a_certificate_that_is_not_renewed(installed: Managed, capsys: Capture) -> None:
    kubectl = installed.kubectl
    started = f"Certificate {kubectl.namespace}/{NAME} of cert-manager is not ready: "

    def reported() -> list[str]:
        _, found = check(capsys, kubectl.kubeconfig, "--only", "serving-certificate")
        messages = [problem["message"] for problem in found["serving-certificate"]["problems"]]
        return [message for message in messages if message.startswith(started)]

    def issue_by(issuer: str) -> None:
        patch = {"spec": {"issuerRef": {"name": issuer}}}
        kubectl.run("patch", "certificate", NAME, "--type=merge", f"--patch={json.dumps(patch)}")

    assert reported() == []
    issue_by("missing")
    try:
        (message,) = wait_for("the finding", reported, describe=installed.process.log)
    finally:
        issue_by(AUTHORITY)
    assert len(message) > len(started)  # and what cert-manager says
    installed.wait_for("the certificate ready again", lambda: installed.is_ready("certificate", NAME))
    assert reported() == []
