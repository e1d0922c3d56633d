"""The pages whose commands need an API server, typed as they are printed, on one control plane."""

from __future__ import annotations

import base64
import contextlib
import functools
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.chart.test_monitoring import API_SERVER
from tests.cluster.conftest import wait_until_injecting
from tests.cluster.cronjob import CronJob
from tests.cluster.kubelet import Kubelet, wait_until_starts_are_past
from tests.cluster.objects import APP, ASKING, DAPR, SECRET, SIDECAR, deployment, pod, token_variable
from tests.cluster.policies import guard, refusal
from tests.cluster.test_chart_on_api_server import NAME, NAMESPACE, install, names
from tests.cluster.tokencommands import workload
from tests.controlplane.cluster import create_namespace, own_namespace, wait_for_service_account
from tests.controlplane.helm import CHART, Helm
from tests.controlplane.pki import Authority
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import free_port
from tests.controlplane.registration import Endpoint, token_injector
from tests.pages.blocks import ROOT
from tests.pages.families import run_by
from tests.pages.terminal import follow_page, terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.controlplane import binaries
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.webhook import Webhook
    from tests.pages.blocks import Block

LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a reader sits: a cluster, a folder, and what the tests have for them."""

    own: ControlPlane
    helm: Helm
    folder: Path
    webhook: Webhook
    register: Callable[[dict[str, Any]], None]

    def inject(self, kubectl: Kubectl) -> None:
        """Let the webhook serve kubectl's namespace."""
        self.register(token_injector(self.webhook.endpoint, namespace=kubectl.namespace))
        wait_until_injecting(kubectl)

    def uninstall(self) -> None:
        """Remove the release, if there is one, and its namespace."""
        self.helm.run("uninstall", NAME, "--namespace", NAMESPACE, "--ignore-not-found")
        self.own.kubectl.run("delete", "namespace", NAMESPACE, "--ignore-not-found")


@dataclass(frozen=True, slots=True)
class Scene:
    """What a page finds: the namespace of kubectl, and what changes before each block."""

    kubectl: Kubectl
    replace: Mapping[str, str] | None = None
    before: Callable[[Block], object] = lambda _: None


@contextlib.contextmanager
def shop(desk: Desk, name: str = "shop") -> Iterator[Kubectl]:
    """The namespace that the pages speak of."""
    create_namespace(desk.own.kubectl, name)
    try:
        kubectl = desk.own.kubectl.within(name)
        wait_for_service_account(kubectl)
        yield kubectl
    finally:
        desk.own.kubectl.run("delete", "namespace", name)


@contextlib.contextmanager
def left_clean(kubectl: Kubectl) -> Iterator[None]:
    """Delete what a failed page leaves in the whole cluster."""
    clean = names(kubectl)
    try:
        yield
    finally:
        for kind, found in names(kubectl).items():
            for name in found - clean[kind]:
                kubectl.run("delete", kind, name)


@contextlib.contextmanager
def emergency(desk: Desk) -> Iterator[Scene]:
    """No Pod answers the webhook, the page's command admits Pods without tokens, and an upgrade protects again."""
    with released(desk, *REQUESTED) as scene, own_namespace(desk.own.kubectl) as users:
        wait_for("the webhook called", lambda: refusal(users, pod(ASKING)))
        yield scene
        wait_for("a Pod without a token", lambda: not refusal(users, pod(ASKING)))
        desk.helm.run("upgrade", NAME, str(CHART), "--namespace", NAMESPACE, *REQUESTED)
        wait_for("the webhook called again", lambda: refusal(users, pod(ASKING)))
        desk.own.kubectl.delete("mutatingwebhookconfiguration", NAME)
        wait_for("the policy in force", lambda: f"'{NAME}-requested' denied" in refusal(users, pod(ASKING)))


REQUESTED: Final = ("--set", "requested.action=Deny")


@contextlib.contextmanager
def released(desk: Desk, *values: str) -> Iterator[Scene]:
    """The chart is installed."""
    install(desk.helm, *values)
    try:
        yield Scene(desk.own.kubectl)
    finally:
        desk.uninstall()


@contextlib.contextmanager
def tokens(desk: Desk) -> Iterator[Scene]:
    """Three workloads run when the first rotation is planned; one is paused, one is a Job."""
    with shop(desk) as kubectl, Kubelet(kubectl):
        desk.inject(kubectl)

        def before(block: Block) -> None:
            if "--dry-run" in block.text:
                for name in ("checkout", "web"):
                    kubectl.create(deployment(ASKING, name=name))
                kubectl.run("rollout", "pause", "deployment/web")
                kubectl.create(workload("Job", "import"))
                wait_for("all Pods running", functools.partial(are_running, kubectl, 5))
                wait_until_starts_are_past(kubectl)
            elif "secret revoke" in block.text:
                kubectl.run("rollout", "resume", "deployment/web")
                kubectl.delete("job", "import")

        yield Scene(kubectl, before=before)


def are_running(kubectl: Kubectl, count: int) -> bool:
    return sum(bool(one["status"].get("containerStatuses")) for one in kubectl.list("pods")) == count


@contextlib.contextmanager
def one_pod(desk: Desk) -> Iterator[Scene]:
    """An injected Pod."""
    with own_namespace(desk.own.kubectl) as kubectl:
        desk.inject(kubectl)
        asking = {key: value for key, value in ASKING.items() if key != "dapr.io/app-id"}
        kubectl.create({**pod(asking), "metadata": {"name": "orders", "annotations": asking}})
        yield Scene(kubectl)


@contextlib.contextmanager
def protected_pod(desk: Desk) -> Iterator[Scene]:
    """A Pod with its token; the context of the kubeconfig is called `test`."""
    with shop(desk) as kubectl:
        kubectl.run("create", "secret", "generic", SECRET, "--from-literal=token=0123456789abcdef")
        sidecar = {**SIDECAR, "args": ["--dapr-listen-addresses=127.0.0.1"], "env": [token_variable()]}
        kubectl.create(pod(ASKING, APP, sidecar))
        yield Scene(kubectl, {"--context production": "--context test"})


@contextlib.contextmanager
def process_outside(desk: Desk) -> Iterator[Scene]:
    """No webhook: the page starts one, here on free ports of loopback."""
    with own_namespace(desk.own.kubectl) as kubectl:
        port, ops_port = free_port(), free_port()
        yield Scene(
            kubectl,
            {
                "default/": f"{kubectl.namespace}/",
                "ADDRESS=172.18.0.1 ": "ADDRESS=127.0.0.1 ",
                ":10250": f":{port}",
                ":8080": f":{ops_port}",
                "serve --tls-mode": f"serve --host 127.0.0.1 --port {port} --ops-port {ops_port} --tls-mode",
            },
        )
        references = [
            entry["valueFrom"]["secretKeyRef"]
            for found in kubectl.list("pods")
            for container in found["spec"]["initContainers"]
            for entry in container["env"]
        ]
        assert [one["name"] for one in references] == [SECRET]
        assert set(kubectl.get("secret", SECRET)["data"]) == {references[0]["key"]}  # the Pod can start


@contextlib.contextmanager
def installed_each_way(desk: Desk) -> Iterator[Scene]:
    """Before each block the webhook is installed as the block has it; after it nothing remains."""
    kubectl = desk.own.kubectl
    clean = names(kubectl)

    def before(block: Block) -> None:
        assert {**names(kubectl), "namespaces": set()} == {**clean, "namespaces": set()}
        kubectl.run("delete", "namespace", NAMESPACE, "other", "--ignore-not-found")
        if "-k " in block.text:
            kubectl.within(NAMESPACE).run("apply", "-k", str(ROOT / "deploy/overlays/production"))
        elif "-n other" in block.text:
            kubectl.run("create", "namespace", "other")
            rendered = desk.helm.run("template", NAME, str(CHART), "-n", "other", "--no-hooks")
            (desk.folder / "rendered.yaml").write_text(rendered)
            kubectl.within("other").run("apply", "-f", str(desk.folder / "rendered.yaml"))
        elif "kubectl get" not in block.text:
            install(desk.helm, *REQUESTED)
        if "clusterrolebinding,clusterrole " in block.text:
            kubectl.run("delete", "namespace", NAMESPACE)

    yield Scene(kubectl, before=before)
    assert names(kubectl) == clean
    install(desk.helm)  # the release was deleted with its namespace, so it can be installed again
    desk.uninstall()


@contextlib.contextmanager
def cert_manager(desk: Desk) -> Iterator[Scene]:
    """The kinds of cert-manager, and the files of a company's CA."""
    authority = Authority.create("company-ca")
    pair = authority.issue_server(hosts=[f"{NAME}.{NAMESPACE}.svc"])
    for name, content in {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": authority.pem}.items():
        (desk.folder / name).write_bytes(content)

    def before(block: Block) -> None:
        if "create namespace" in block.text:
            desk.uninstall()

    try:
        yield Scene(desk.own.kubectl, before=before)
    finally:
        desk.uninstall()


@contextlib.contextmanager
def with_guard(kubectl: Kubectl) -> Iterator[None]:
    """The guard, for kubectl's namespace."""
    label = f"docs-{secrets.token_hex(4)}"
    kubectl.run("label", "namespace", kubectl.namespace, f"{label}=on")
    policies = guard(label=label)
    try:
        for item in policies:
            kubectl.create(item)
        yield
    finally:
        for item in policies:
            kubectl.delete(item["kind"], item["metadata"]["name"])


@contextlib.contextmanager
def audited(desk: Desk) -> Iterator[Scene]:
    """A Pod with an open sidecar, in the audit log."""
    with shop(desk) as kubectl, with_guard(kubectl):

        def lines() -> list[str]:
            kubectl.create({**pod(DAPR, APP, SIDECAR), "metadata": {"generateName": "open-"}})
            return [line for line in desk.own.audit_log.read_text().splitlines()
                if '"namespace":"shop"' in line and "validation_failure" in line]  # fmt: skip

        found = wait_for("the guard's finding", lines)
        (desk.folder / "audit.log").write_text(found[0] + "\n")
        yield Scene(kubectl)


@contextlib.contextmanager
def written_by_another_tool(desk: Desk) -> Iterator[Scene]:
    """Workloads in two namespaces with a Secret of External Secrets; afterwards the CronJobs run with their rights."""
    with shop(desk) as first, shop(desk, "billing") as second, Kubelet(first), Kubelet(second):
        for each in (first, second):
            change_token(each)
            for kind in ("Deployment", "StatefulSet"):
                each.create(workload(kind, "checkout", replicas=1))
            wait_for("all Pods running", functools.partial(are_running, each, 2))
        change_token(first)
        yield Scene(first)

        one = CronJob.of(desk.own, desk.folder / "restart-shop.yaml")
        for missing, lesser in one.lesser_roles():
            first.apply(lesser)
            done = one.run()
            assert done.returncode != 0, f"{missing} is not needed: {done.stdout}{done.stderr}"
        first.apply(one.object("Role"))
        assert one.run().returncode == 0
        again = one.run()  # nothing is outdated
        assert (again.returncode, "restarting" in again.stderr) == (0, False)
        change_token(first)
        change_token(second)
        every = CronJob.of(desk.own, desk.folder / "restart-all.yaml")
        done = every.run()
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("ready") == 4
        desk.own.kubectl.run("delete", "namespace", "dapr-token-restart")


def change_token(kubectl: Kubectl) -> None:
    """Write a new token as External Secrets does, at a time that makes every running container outdated."""
    wait_until_starts_are_past(kubectl)
    data = {"token": base64.b64encode(secrets.token_hex(20).encode()).decode()}
    item = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "data": data}
    kubectl.apply(item, "--server-side", "--field-manager=external-secrets")


@contextlib.contextmanager
def failed_open(desk: Desk) -> Iterator[Scene]:
    """The guard, and a webhook that is down under `Ignore`, so that a Pod is created without its token."""
    with shop(desk) as kubectl, with_guard(kubectl):
        dead = Endpoint(f"https://127.0.0.1:{free_port()}", Authority.create("gone").pem)
        configuration = token_injector(dead, namespace="shop")
        for entry in configuration["webhooks"]:
            entry["failurePolicy"] = "Ignore"
        desk.register(configuration)

        def samples(name: str) -> list[dict[str, str]]:
            text = kubectl.run("get", "--raw", "/metrics").stdout
            return [dict(LABEL.findall(labels)) for labels in re.findall(rf"^{name}{{(.*)}} [1-9]", text, re.MULTILINE)]

        def are_counted() -> bool:
            kubectl.apply(pod(ASKING), "--dry-run=server")
            return all(map(samples, API_SERVER))

        wait_for("both counters", are_counted)
        kubectl.create({**pod(ASKING), "metadata": {"name": "orders", "annotations": ASKING}})
        for name, known in API_SERVER.items():
            assert any(labels in known for labels in samples(name)), samples(name)
        # Other tests with this API server have let it count other entries.
        yield Scene(kubectl, replace={"fail_open_count.*": 'fail_open_count.*"inject.'})


@contextlib.contextmanager
def served(desk: Desk) -> Iterator[Scene]:
    """The webhook serves the namespace."""
    with shop(desk) as kubectl:
        desk.inject(kubectl)
        yield Scene(kubectl)


SCENES: Final[Mapping[str, Callable[[Desk], AbstractContextManager[Scene]]]] = {
    "docs/how-to/canary.md": served,
    "docs/how-to/choose-a-failure-policy.md": emergency,
    "docs/how-to/create-and-rotate-tokens.md": tokens,
    "docs/how-to/debug-a-pod.md": one_pod,
    "docs/how-to/install-the-command.md": protected_pod,
    "docs/how-to/managed-clusters.md": released,
    "docs/how-to/register-by-hand.md": process_outside,
    "docs/how-to/troubleshoot.md": failed_open,
    "docs/how-to/uninstall.md": installed_each_way,
    "docs/how-to/use-cert-manager.md": cert_manager,
    "docs/how-to/when-another-tool-changes-the-secret.md": written_by_another_tool,
    "docs/reference/guard.md": audited,
}


def is_alone(kubectl: Kubectl) -> bool:
    """Whether no Pod of another test is left, which commands for all namespaces would show."""
    ending = {one["metadata"]["name"] for one in kubectl.list("namespaces") if "deletionTimestamp" in one["metadata"]}
    return not any(one["metadata"]["namespace"] in ending for one in kubectl.within("").list("pods"))


@pytest.mark.usefixtures("foreign_kinds")
@pytest.mark.parametrize("page", run_by(__file__))
def test_commands_of_the_page_print_what_it_shows(
    page: str,
    own_control_plane: ControlPlane,
    webhook: Webhook,
    register: Callable[[dict[str, Any]], None],
    report: binaries.Report,
    tmp_path: Path,
) -> None:
    helm = Helm.find(own_control_plane.folder, own_control_plane.kubeconfig, report=report)
    for name in ("charts", "deploy"):  # the reader's clone
        (tmp_path / name).symlink_to(ROOT / name)

    desk = Desk(own_control_plane, helm, tmp_path, webhook, register)
    wait_for("the namespaces of other tests deleted", functools.partial(is_alone, own_control_plane.kubectl))
    with left_clean(own_control_plane.kubectl), SCENES[page](desk) as scene:
        kubeconfig = tmp_path / "kubeconfig"
        scene.kubectl.write_kubeconfig(kubeconfig)
        with terminal(
            tmp_path,
            programs={"kubectl": scene.kubectl.binary, "helm": helm.binary},
            env={**helm.environment(), "KUBECONFIG": str(kubeconfig)},
            replace=scene.replace,
        ) as opened:
            assert follow_page(page, opened, scene.before) > 0
