"""One cluster for all tests of this folder, one namespace per test, webhooks as real processes."""

from __future__ import annotations

import contextlib
import json
import secrets
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.cluster.kubelet import Kubelet
from tests.cluster.objects import ASKING, DAPR, pod, tokens
from tests.cluster.policies import GUARD_LABEL, guard_installed, refusal
from tests.cluster.tokencommands import Commands
from tests.controlplane import binaries, crds, registration
from tests.controlplane.cluster import own_namespace
from tests.controlplane.errors import KubectlError
from tests.controlplane.polling import wait_for
from tests.controlplane.target import CLUSTER_VARIABLE, Cluster, open_cluster
from tests.controlplane.webhook import DaprInjector, Webhook, WebhookSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.controlplane.api import Json
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl

HERE = "tests/cluster/"
TEST_TIMEOUT_SECONDS = 400
FIRST_WITH_ENV_FILES = (1, 35)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; the time limit excludes fixtures, which may build a cluster."""
    for item in items:
        if item.nodeid.startswith(HERE):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_SECONDS, func_only=True))


@pytest.fixture(scope="package")
def cluster(report: binaries.Report) -> Iterator[Cluster]:
    """The cluster that the environment selects; by default a separate control plane."""
    with open_cluster(report) as opened:
        yield opened


@pytest.fixture(scope="package")
def own_control_plane(cluster: Cluster) -> ControlPlane:
    """The control plane's own files and processes, which a user's cluster does not show."""
    if cluster.own is None:
        pytest.skip(
            f"reads the audit log or the processes of the control plane; not with {CLUSTER_VARIABLE}=kubeconfig"
        )
    return cluster.own


@pytest.fixture(scope="package")
def foreign_kinds(own_control_plane: ControlPlane, report: binaries.Report) -> None:
    """The kinds of other projects; they stay until the control plane ends."""
    kubectl = own_control_plane.kubectl
    kubectl.run("apply", "--server-side", "-f", str(crds.resolve(report)))
    kubectl.run("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")


@pytest.fixture(scope="package")
def has_env_files(cluster: Cluster) -> bool:
    """Older API servers drop the field `fileKeyRef` and refuse the Pod, whatever webhooks and policies do."""
    version = json.loads(cluster.kubectl.run("get", "--raw", "/version").stdout)["gitVersion"]
    return tuple(map(int, version.removeprefix("v").split(".")[:2])) >= FIRST_WITH_ENV_FILES


@pytest.fixture(scope="package")
def env_files(has_env_files: bool) -> None:  # noqa: FBT001
    """Require an API server that knows the field."""
    if not has_env_files:
        pytest.skip("this API server has no env files (1.35 has)")


@pytest.fixture
def kubectl(cluster: Cluster) -> Iterator[Kubectl]:
    """Kubectl in a namespace of the test's own."""
    with own_namespace(cluster.kubectl) as within:
        yield within


class StartWebhook(Protocol):
    """Start our webhook; it ends with the fixture that gave this."""

    def __call__(self, policy: Mapping[str, object] | None = None, *flags: str) -> Webhook: ...


@contextlib.contextmanager
def _starter(cluster: Cluster) -> Iterator[StartWebhook]:
    with contextlib.ExitStack() as stack:

        def start(policy: Mapping[str, object] | None = None, *flags: str) -> Webhook:
            folder = cluster.folder / f"webhook-{secrets.token_hex(4)}"
            started = Webhook.start(WebhookSettings(folder, host=cluster.webhook_host, policy=policy, flags=flags))
            stack.enter_context(started.process)
            return started

        yield start


@pytest.fixture
def start_webhook(cluster: Cluster) -> Iterator[StartWebhook]:
    """For tests that need a webhook of their own: another policy, or one to kill."""
    with _starter(cluster) as start:
        yield start


@pytest.fixture(scope="package")
def webhook(cluster: Cluster) -> Iterator[Webhook]:
    """Our webhook with the policy it has by default, shared by all tests of this folder."""
    with _starter(cluster) as start:
        yield start()


@pytest.fixture(scope="module")
def daprs_injector(cluster: Cluster, report: binaries.Report) -> Iterator[DaprInjector]:
    started = DaprInjector.start(cluster.folder / "daprs-injector", host=cluster.webhook_host, report=report)
    with started.process:
        yield started


@pytest.fixture
def register(cluster: Cluster) -> Iterator[Callable[[Json], None]]:
    """Create webhook configurations without replacing existing ones; delete them after the test."""
    with contextlib.ExitStack() as stack:

        def create(configuration: Json) -> None:
            kind, name = configuration["kind"], configuration["metadata"]["name"]
            cluster.kubectl.create(configuration)
            stack.callback(cluster.kubectl.delete, kind, name)

        yield create


@pytest.fixture
def injecting(kubectl: Kubectl, webhook: Webhook, register: Callable[[Json], None]) -> Webhook:
    """Our webhook, registered for the test's namespace and seen working there."""
    register(registration.token_injector(webhook.endpoint, namespace=kubectl.namespace))
    wait_until_injecting(kubectl)
    return webhook


def wait_until_injecting(kubectl: Kubectl) -> None:
    """Wait until the API server has taken notice of our registration; a dry run leaves nothing."""

    def probe() -> bool:
        try:
            return bool(tokens(kubectl.dry_run(pod(ASKING))))
        except KubectlError:
            return False

    wait_for("the webhook called for a dry run", probe)


@pytest.fixture(scope="module")
def label(cluster: Cluster) -> Iterator[str]:
    """The guard, for namespaces with a label of this run."""
    with guard_installed(cluster.kubectl) as label:
        yield label


@pytest.fixture
def kubelet(kubectl: Kubectl) -> Iterator[Kubelet]:
    """A fake kubelet for the test's namespace."""
    with Kubelet(kubectl, never_ready="broken") as running:
        yield running


@pytest.fixture
def commands(kubectl: Kubectl, kubelet: Kubelet) -> Commands:  # noqa: ARG001 - it runs during the test
    """The commands, with a token Secret in the test's namespace, whose Pods run."""
    made = Commands(kubectl, kubectl.kubeconfig)
    assert made.run("secret", "create", made.secret).code == 0
    return made


@pytest.fixture
def enforcing(kubectl: Kubectl, label: str) -> Kubectl:
    """A namespace where the guard is known to deny."""
    return _deny(kubectl, label)


@pytest.fixture(scope="module")
def denying(cluster: Cluster, label: str) -> Iterator[Kubectl]:
    """The same, shared by tests that create no object."""
    with own_namespace(cluster.kubectl) as kubectl:
        yield _deny(kubectl, label)


def _deny(kubectl: Kubectl, label: str) -> Kubectl:
    kubectl.run("label", "namespace", kubectl.namespace, f"{label}=", f"{GUARD_LABEL}=deny")
    wait_for("the guard in force", lambda: refusal(kubectl, pod(DAPR)))
    return kubectl
