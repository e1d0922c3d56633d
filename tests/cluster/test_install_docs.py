"""Commands of the pages about installing, run as they are printed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.test_chart_on_api_server import NAMESPACE, install, names
from tests.controlplane.helm import CHART, Helm
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from tests.controlplane import binaries
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl

HOW_TO: Final = Path(__file__).parents[2] / "docs/how-to"


def command(page: str, beginning: str) -> str:
    """The only command of a page with this start, including continuation lines."""
    text = (HOW_TO / page).read_text()
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    found = [
        line.strip() for block in blocks for line in re.split(r"^ *\$ ", block, flags=re.MULTILINE)
        if line.startswith(beginning)
    ]  # fmt: skip
    assert found, f"{page} has no command that begins with {beginning}"
    return found[0]


def shell(own: ControlPlane, line: str, namespace: str = "default") -> str:
    """Run a command as its reader does, in a namespace of the test's."""
    wrapped = f'kubectl() {{ {own.kubectl.binary} --namespace={namespace} "$@"; }}\n{line}'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", wrapped],
        env={**os.environ, "KUBECONFIG": str(own.kubeconfig), "KUBERC": "off"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.usefixtures("injecting")
def test_documented_dry_run_shows_the_token_reference(own_control_plane: ControlPlane, kubectl: Kubectl) -> None:
    output = shell(own_control_plane, command("install.md", "kubectl run canary"), kubectl.namespace)

    assert "DAPR_API_TOKEN" in output
    assert "name: dapr-api-token" in output
    assert kubectl.list("pods") == ()


def test_documented_commands_clean_up_after_a_deleted_namespace(
    own_control_plane: ControlPlane, report: binaries.Report
) -> None:
    own = own_control_plane
    helm = Helm.find(own.folder, own.kubeconfig, report=report)
    before = names(own.kubectl)
    install(helm)
    own.kubectl.run("delete", "namespace", NAMESPACE)
    left = names(own.kubectl)
    assert left["mutatingwebhookconfigurations"] - before["mutatingwebhookconfigurations"] == {"dapr-token-injector"}

    first = "kubectl delete mutatingwebhookconfiguration"
    shell(own, command("uninstall.md", first))
    shell(own, command("uninstall.md", "kubectl delete validatingadmissionpolicybinding"))

    assert names(own.kubectl) == before
    assert "No resources found" in shell(own, command("uninstall.md", "kubectl get mutatingwebhookconfigurations"))
    install(helm)  # the release was deleted with its namespace, so it can be installed again
    helm.run("uninstall", "dapr-token-injector", "--namespace", NAMESPACE)
    own.kubectl.run("delete", "namespace", NAMESPACE)
    wait_for("all gone", lambda: names(own.kubectl) == before)


def test_emergency_command_admits_pods_until_the_next_upgrade(
    own_control_plane: ControlPlane, report: binaries.Report
) -> None:
    own = own_control_plane
    helm = Helm.find(own.folder, own.kubeconfig, report=report)
    before = names(own.kubectl)
    install(helm)

    shell(own, command("choose-a-failure-policy.md", "kubectl delete mutatingwebhookconfiguration"))
    assert names(own.kubectl)["mutatingwebhookconfigurations"] == before["mutatingwebhookconfigurations"]
    helm.run("upgrade", "dapr-token-injector", str(CHART), "--namespace", NAMESPACE)
    assert names(own.kubectl)["mutatingwebhookconfigurations"] >= {"dapr-token-injector"}

    helm.run("uninstall", "dapr-token-injector", "--namespace", NAMESPACE)
    own.kubectl.run("delete", "namespace", NAMESPACE)
    wait_for("all gone", lambda: names(own.kubectl) == before)
