"""The permissions that the check of rights names are those of the requests that all checks send."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from injector.check.catalogue import CHECKS
from injector.check.model import Category
from injector.check.reader import ClusterReader
from injector.check.rights import CHECK_CANARY, CHECK_CLUSTER, CHECK_DAPR, CHECK_NAMESPACE
from injector.check.runner import run
from injector.kube.resources import CERTIFICATES
from tests.unit.check import objects, sound_webhook
from tests.unit.check.checking import NOW
from tests.unit.check.installed import InstalledApi, add_namespace, installed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from injector.kube.resources import Object
    from injector.kube.transport import Request
    from tests.fake_cluster.store import Store

# Every caller may send them: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings
ALWAYS_ALLOWED = "selfsubjectaccessreviews"
VERBS = {"POST": "create", "GET": "get"}


class RecordingApi(InstalledApi):
    """Records the verb and the kind of each request, as RBAC names them."""

    def __init__(self, store: Store, *, replicas: Mapping[str, int] | None = None) -> None:
        super().__init__(store, replicas=replicas)
        self.requested: set[tuple[str, str]] = set()

    async def send(self, request: Request) -> Object:
        self._record(request)
        if request.path.endswith("subjectaccessreviews"):
            return {"status": {"allowed": True}}
        return await super().send(request)

    async def fetch(self, request: Request) -> bytes:
        if "/proxy/" in request.path:
            self.requested.add(("get", "services/proxy"))
        return await super().fetch(request)

    async def connect(self, request: Request, protocol: str) -> Any:  # noqa: ANN401 - stands for a websocket
        # A websocket is a GET; newer API servers require create as well.
        self.requested |= {("get", "pods/portforward"), ("create", "pods/portforward")}
        return await super().connect(request, protocol)

    def _record(self, request: Request) -> None:
        parts = request.path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        if parts[:1] == ["namespaces"] and len(parts) > 2:
            parts = parts[2:]
        if parts:  # not of discovery or /version
            is_list = request.method == "GET" and len(parts) == 1
            self.requested.add(("list" if is_list else VERBS[request.method], parts[0]))


def cluster() -> Store:
    """An installation in which no check ends before it has read all that it can read."""
    store = installed()
    for name in ("1", "2"):
        args = ["--tls-mode=self"]
        ports = [{"name": "webhook", "containerPort": 10250}]
        containers = [{"name": "webhook", "args": args, "ports": ports}]
        store.put(
            "pods",
            sound_webhook.pod(name, containers=containers, volumes=[{"name": "tls", "secret": {"secretName": "tls"}}]),
        )
    zone = [sound_webhook.endpoint(name, zone="a") for name in ("1", "2")]
    sound_webhook.put_endpoints(store, zone, name=f"{sound_webhook.NAME}-1")
    for key in [key for key in store.objects if key[0] == "endpointslices" and key[2] == sound_webhook.NAME]:
        del store.objects[key]
    add_namespace(store, "default")
    deployment = store.objects["deployments", sound_webhook.NAME, sound_webhook.NAME]
    deployment["metadata"]["labels"] = {"app.kubernetes.io/name": sound_webhook.NAME}
    container = deployment["spec"]["template"]["spec"]
    container["containers"][0]["image"] = "registry.example/webhook"  # without a version
    container["volumes"] = [{"name": "policy", "configMap": {"name": "policy"}}]
    reloader = [{"name": "reloader", "image": "ghcr.io/stakater/reloader:v1.4.0"}]
    labels = {"app": "reloader"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": reloader}}
    store.put("deployments", {"metadata": {"namespace": "tools", "name": "reloader"}, "spec": {"template": template}})
    job = {"kind": "Job", "name": "report-1", "uid": "1", "controller": True}
    store.put("pods", objects.pod(ownerReferences=[job]))
    return store


def test_permissions_for_check_are_those_that_checks_request() -> None:
    api = RecordingApi(cluster(), replicas={"1": 1, "2": 1})
    checks = [one for one in CHECKS if one.category is not Category.RIGHTS or one.name == "webhook-rights"]

    asyncio.run(run(checks, ClusterReader(api, None, NOW)))

    needs = (*CHECK_CLUSTER, *CHECK_NAMESPACE, *CHECK_DAPR, *CHECK_CANARY)
    named = {(verb, need.what) for need in needs for verb in need.verbs}
    optional = {("list", CERTIFICATES.plural), ("create", ALWAYS_ALLOWED)}
    assert api.requested - optional == named
