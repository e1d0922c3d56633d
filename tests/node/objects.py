"""Workloads that a kubelet can run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tests.cluster.objects import SECRET
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.node.target import Target

APP_LABEL: Final = "shop"
_SLEEP: Final = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit()); signal.pause()"


def app_container(target: Target) -> Json:
    """Return an idle app; the Secret is mounted for tests that need its value."""
    return {
        "name": "app",
        "image": target.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", _SLEEP],
        "volumeMounts": [{"name": "secret", "mountPath": "/secret"}],
    }


def sidecar(target: Target, **more: Any) -> Json:  # noqa: ANN401 - a part of a container
    """Return a daprd that needs no control plane, as written by a Helm chart or by hand."""
    return {
        "name": "daprd",
        "image": target.daprd_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/daprd"],
        "args": [
            "--app-id=shop",
            "--mode=standalone",
            "--dapr-http-port=3500",
            "--dapr-grpc-port=50001",
            "--dapr-public-port=3501",
        ],
        "readinessProbe": {
            "httpGet": {"path": "/v1.0/healthz", "port": 3501},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
        },
        **more,
    }


def deployment(containers: list[Json], init_containers: list[Json], annotations: dict[str, str]) -> Json:
    """Return a Deployment of one Pod with these annotations."""
    labels = {"app": APP_LABEL}
    spec = {
        "terminationGracePeriodSeconds": 5,
        "initContainers": init_containers,
        "containers": containers,
        "volumes": [{"name": "secret", "secret": {"secretName": SECRET}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": APP_LABEL},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec},
        },
    }


def roll_out(kubectl: Kubectl, deployment: Json) -> Json:
    """Apply a Deployment and return its Pod once it is ready."""
    name = deployment["metadata"]["name"]
    kubectl.apply(deployment)
    selector = f"app={APP_LABEL}"
    status = ("rollout", "status", f"deployment/{name}", "--timeout=30s")
    wait_for(
        f"the rollout of {name}",
        lambda: kubectl.try_run(*status).returncode == 0,
        timeout_seconds=240,
        describe=lambda: str([pod["status"] for pod in kubectl.list("pods", labelSelector=selector)]),
    )
    (pod,) = [pod for pod in kubectl.list("pods", labelSelector=selector) if "deletionTimestamp" not in pod["metadata"]]
    return pod
