"""A cluster whose node runs the webhook's own Pods, and a user who creates Pods all the time."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import shlex
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.availability.api import ApiClient, api_of
from tests.cluster.conftest import wait_until_injecting
from tests.cluster.creates import creating, user
from tests.cluster.objects import ASKING, pod
from tests.cluster.policies import DEPLOY, refusal
from tests.cluster.serving import ADDRESSES, ServingKubelet
from tests.controlplane.api import Api as Resources
from tests.controlplane.cluster import Programs, control_plane, create_namespace, own_namespace
from tests.controlplane.helm import CHART, Helm
from tests.controlplane.netns import network_namespace
from tests.controlplane.polling import wait_for
from tests.documents import documents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from injector.kube.resources import Resource
    from tests.availability.load import Api
    from tests.cluster.creates import Creates
    from tests.controlplane import binaries
    from tests.controlplane.api import Json
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl

NAME: Final = "dapr-token-injector"
NAMESPACE: Final = NAME
MUTATING: Final = "mutatingwebhookconfiguration"
VALIDATING: Final = "validatingwebhookconfiguration"
POLICY: Final = "validatingadmissionpolicy"
BINDING: Final = "validatingadmissionpolicybinding"
OURS: Final = f"app.kubernetes.io/name in ({NAME},{NAME}-2)"
CLUSTER_WIDE: Final = f"{MUTATING},{VALIDATING},{POLICY},{BINDING},clusterrole,clusterrolebinding"
NAMESPACED: Final = "deployment,service,configmap,secret,serviceaccount,role,rolebinding,poddisruptionbudget"


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster whose node runs the webhook's Pods, and a user who creates Pods."""

    plane: ControlPlane
    kubelet: ServingKubelet
    users: Kubectl  # in the namespace of the user's Pods
    api: Api  # the user's
    helm: Helm
    kubectl: Kubectl  # in the namespace of the installation
    audited: Kubectl  # the same, with its requests in the audit log, as Helm's
    admin: ApiClient
    resources: Resources

    def creating(self, *, workers: int = 4, rest: float = 0.02) -> AbstractContextManager[Creates]:
        """Create Pods that request a token during the block."""
        return creating(self.api, self.users.namespace, workers=workers, rest=rest)

    def install(self, *values: str) -> None:
        """Install the chart, and wait for the replicas."""
        self.upgrade(*values)
        self.wait_until_served()

    def upgrade(self, *values: str) -> None:
        """Run `helm upgrade --install`."""
        flags = ("--install", "--namespace", NAMESPACE, "--create-namespace")
        self.helm.run("upgrade", NAME, str(CHART), *flags, *values)

    def apply(self, *values: str) -> None:
        """Create the same objects without a release, and wait for the replicas."""
        if self.kubectl.find("namespace", NAMESPACE) is None:
            create_namespace(self.kubectl, NAMESPACE)
        for item in rendered(self.helm, *values):
            self.admin.apply(self.path(item), item)
        self.wait_until_served()

    def _resource(self, item: Json) -> Resource:
        group = item["apiVersion"].rpartition("/")[0]
        return self.resources.resource(f"{item['kind']}.{group}" if group else item["kind"])

    def path(self, item: Json) -> str:
        """The path of an object."""
        return self._resource(item).path(item["metadata"].get("namespace", ""), item["metadata"]["name"])

    def key(self, item: Json) -> str:
        """The resource and name of an object."""
        return f"{self._resource(item).plural}/{item['metadata']['name']}"

    def put(self, key: str, item: Json | None) -> None:
        """Write an object, or delete it."""
        if item is None:
            self.kubectl.delete(*key.split("/"))
        else:
            self.admin.apply(self.path(item), item)

    def writes(self) -> list[str]:
        """The resources and names of the objects that the tools have written or deleted, in this order."""
        events = (event for event in self.plane.audited_requests() if event["verb"] not in {"get", "list", "watch"})
        return [f"{event['objectRef']['resource']}/{event['objectRef'].get('name', '')}" for event in events]

    def wait_until_started(self) -> None:
        """Wait until the controllers have followed the last change, and the Pods that are not held have started."""

        def probe() -> bool:
            self.kubelet.check()
            names = {one["metadata"]["name"] for one in self.pods() if not self.kubelet.is_held(one)}
            return names <= self.kubelet.logs('"listening"') and all(
                one["status"].get("observedGeneration") == one["metadata"]["generation"]
                and one["status"].get("updatedReplicas")
                for one in self.kubectl.list("deployments")
            )

        wait_for("all Pods started", probe, interval_seconds=0.2)

    def wait_until_served(self) -> None:
        """Wait until each Deployment is complete and Pods get their token."""
        wait_for("all replicas ready", self.is_complete, interval_seconds=0.2, describe=self.describe)
        wait_until_injecting(self.users)

    def pods(self) -> list[Json]:
        """The Pods that do not end."""
        return [one for one in self.kubectl.list("pods") if "deletionTimestamp" not in one["metadata"]]

    def clean(self) -> None:
        """Delete whatever there may be, but not the namespace. If that is being deleted, wait for it."""
        for kinds, selector in ((f"{CLUSTER_WIDE},{NAMESPACED}", OURS), ("secret", "owner=helm")):
            for kind in kinds.split(","):
                for one in self.kubectl.list(kind, labelSelector=selector):
                    self.kubectl.delete(kind, one["metadata"]["name"])
        wait_for("all replicas ended", self.is_clean, interval_seconds=0.2)

    def is_clean(self) -> bool:
        """Whether a new installation finds nothing."""
        namespace = self.kubectl.find("namespace", NAMESPACE) or {"metadata": {}}
        return not self.pods() and "deletionTimestamp" not in namespace["metadata"]

    def is_complete(self) -> bool:
        """Whether each Deployment has its replicas, all of the newest kind and ready."""
        self.kubelet.check()
        return all(
            one["status"].get("observedGeneration") == one["metadata"]["generation"]
            and one["spec"]["replicas"]
            == one["status"].get("replicas")
            == one["status"].get("updatedReplicas")
            == one["status"].get("readyReplicas")
            for one in self.kubectl.list("deployments")
        )

    def describe(self) -> str:
        """The state of the Deployments and Pods, for the message of a wait that ended without."""
        deployments = {one["metadata"]["name"]: one["status"] for one in self.kubectl.list("deployments")}
        pods = {one["metadata"]["name"]: one["status"] for one in self.kubectl.list("pods")}
        return json.dumps({"deployments": deployments, "pods": pods})

    def uninstall(self) -> None:
        """Run `helm uninstall`."""
        self.helm.run("uninstall", NAME, "--namespace", NAMESPACE)

    def run(self, command: str) -> None:
        """Run a command of kubectl as it is printed."""
        program, *arguments = shlex.split(command)
        assert program == "kubectl"
        self.kubectl.run(*arguments)

    def refusal(self) -> str:
        """What a user hears who creates a Pod with a request; nothing if it is created."""
        return refusal(self.users, pod(ASKING))

    def names(self) -> set[str]:
        """What exists outside of namespaces."""
        return {
            f"{kind}/{one['metadata']['name']}"
            for kind in CLUSTER_WIDE.split(",")
            for one in self.kubectl.list(kind, labelSelector=OURS)
        }

    @contextlib.contextmanager
    def held(self, resource: str) -> Iterator[socket.socket]:
        """Hold every deletion of a kind in the installation's namespace for some seconds."""
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": [resource]}
        with socket.create_server(("127.0.0.1", 0)) as silent:
            entry = {
                "name": "hold.example.com",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": f"https://127.0.0.1:{silent.getsockname()[1]}"},
                "rules": [rule],
                "failurePolicy": "Ignore",
                "sideEffects": "None",
                "timeoutSeconds": 30,
            }
            made = {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": "hold"},
                "webhooks": [entry],
            }
            self.kubectl.create(made)
            try:
                silent.settimeout(30)
                yield silent
            finally:
                self.kubectl.delete(VALIDATING, "hold")


@contextlib.contextmanager
def opened(report: binaries.Report) -> Iterator[Site]:
    """A control plane in a network of its own."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(network_namespace(ADDRESSES))
        stack.enter_context(network.entered())
        flags = ("--enable-aggregator-routing=true",)
        plane = stack.enter_context(control_plane(Programs.resolve(report), apiserver_flags=flags))
        users = stack.enter_context(own_namespace(plane.kubectl))
        audited = plane.audited_kubeconfig()
        kubectl = plane.kubectl.within(NAMESPACE)
        yield Site(
            plane=plane,
            kubelet=stack.enter_context(ServingKubelet(plane, NAMESPACE)),
            users=users,
            api=user(plane, users),
            helm=Helm.find(plane.folder, audited, report=report),
            kubectl=kubectl,
            audited=dataclasses.replace(kubectl, kubeconfig=audited),
            admin=stack.enter_context(ApiClient(api_of(plane.kubeconfig, plane.folder))),
            resources=Resources(plane.kubeconfig),
        )


@functools.cache
def rendered(helm: Helm, *values: str) -> list[Json]:
    """The objects of the chart, in the order of their documents."""
    text = helm.run("template", NAME, str(CHART), "--namespace", NAMESPACE, "--no-hooks", *values)
    return [item for found in documents(text) for item in found.get("items", [found])]


def kustomization(folder: Path, *components: str) -> str:
    """Write an overlay of ours with some components; kustomize takes no absolute paths."""
    folder.mkdir(exist_ok=True)
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(DEPLOY / "base", folder)],
        "components": [os.path.relpath(DEPLOY / f"components/{name}", folder) for name in components],
        "sortOptions": {"order": "fifo"},
    }
    (folder / "kustomization.yaml").write_text(json.dumps(content))
    return str(folder)
