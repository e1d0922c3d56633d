"""A sound installation in the store of the fake API server, which tests then damage."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from injector.kube.errors import ForbiddenError, Refusal
from tests.fake_cluster.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from injector.check.model import Outcome
    from injector.kube.errors import KubeError
    from injector.kube.resources import Resource

Json = dict[str, Any]
NAME = "dapr-token-injector"
LABELS = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/instance": NAME}
REGISTRATION = ("mutatingwebhookconfigurations", "", NAME)
FAIL = "the API server rejects Pods that request a token (failurePolicy Fail)"
READY = [{"type": "Ready", "status": "True"}]


def endpoint(name: str, **more: object) -> Json:
    return {
        "addresses": [f"10.0.0.{name}"],
        "conditions": {"ready": True},
        "targetRef": {"kind": "Pod", "name": name},
        "nodeName": f"node-{name}",
        **more,
    }


def pod(name: str, *, status: Json | None = None, namespace: str = NAME, **spec: object) -> Json:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": LABELS},
        "spec": {"nodeName": f"node-{name}", "restartPolicy": "Always", "containers": [], **spec},
        "status": {"phase": "Running", "conditions": READY} if status is None else status,
    }


def deployment(name: str = NAME, *, namespace: str = NAME, status: Json | None = None, **spec: object) -> Json:
    done = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}
    return {
        "metadata": {"name": name, "namespace": namespace, "generation": 1, "labels": LABELS},
        "spec": {"replicas": 2, "template": {"metadata": {"labels": LABELS}}, **spec},
        "status": done if status is None else status,
    }


def budget(name: str = NAME, *, status: Json | None = None, **spec: object) -> Json:
    sound = {"observedGeneration": 1, "expectedPods": 2, "currentHealthy": 2, "disruptionsAllowed": 1}
    return {
        "metadata": {"name": name, "namespace": NAME},
        "spec": {"selector": {"matchLabels": LABELS}, **spec},
        "status": sound if status is None else status,
    }


def put_endpoints(
    store: Store, endpoints: Iterable[Json], name: str = NAME, *, service: str = NAME, **more: object
) -> None:
    store.put(
        "endpointslices",
        {
            "metadata": {"name": name, "namespace": NAME, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": 10250}],
            "endpoints": list(endpoints),
            **more,
        },
    )


def installed(*, policy: str = "Fail") -> Store:
    """The chart's objects, with two Pods on two nodes."""
    store = Store()
    service = {"name": NAME, "namespace": NAME, "port": 443}
    entry = {"name": "inject.dapr-token-injector.svc", "clientConfig": {"service": service}, "failurePolicy": policy}
    store.put("mutatingwebhookconfigurations", {"metadata": {"name": NAME}, "webhooks": [entry]})
    ports = [{"name": "https", "port": 443}, {"name": "ops", "port": 8080}]
    store.put("services", {"metadata": {"name": NAME, "namespace": NAME}, "spec": {"selector": LABELS, "ports": ports}})
    for name in ("1", "2"):
        store.put("pods", pod(name))
    store.put("deployments", deployment())
    store.put("poddisruptionbudgets", budget())
    put_endpoints(store, (endpoint("1"), endpoint("2")))
    return store


SECOND = f"{NAME}-2"
SECOND_LABELS = {**LABELS, "app.kubernetes.io/name": SECOND}


def with_two_groups() -> Store:
    """The chart's objects with `webhook.redundancy: 2`: a Pod of each group, each on a node."""
    store = installed(policy="Ignore")
    service = {"name": SECOND, "namespace": NAME, "port": 443}
    entry = {"name": "inject-2.dapr-token-injector.svc", "clientConfig": {"service": service}}
    configuration = {"metadata": {"name": SECOND}, "webhooks": [{**entry, "failurePolicy": "Ignore"}]}
    store.put("mutatingwebhookconfigurations", configuration)
    second = copy.deepcopy(store.objects["services", NAME, NAME])
    store.put("services", {**second, "metadata": {"name": SECOND, "namespace": NAME}})
    store.objects["services", NAME, SECOND]["spec"]["selector"] = SECOND_LABELS
    store.objects["pods", NAME, "2"]["metadata"]["labels"] = SECOND_LABELS
    one = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
    store.put("deployments", deployment(status=one, replicas=1))
    template = {"metadata": {"labels": SECOND_LABELS}}
    store.put("deployments", deployment(SECOND, status=one, replicas=1, template=template))
    names = {"key": "app.kubernetes.io/name", "operator": "In", "values": [NAME, SECOND]}
    store.put("poddisruptionbudgets", budget(selector={"matchExpressions": [names]}))
    put_endpoints(store, [endpoint("1")])
    put_endpoints(store, [endpoint("2")], SECOND, service=SECOND)
    return store


def forbidding(*plurals: str) -> Callable[[str, Resource], KubeError | None]:
    """Return a fault of `StoreApi`: the kinds may not be read."""

    def fault(verb: str, resource: Resource) -> KubeError | None:
        return ForbiddenError(f"{verb} {resource.plural}", Refusal(403)) if resource.plural in plurals else None

    return fault


def messages(found: Outcome) -> list[tuple[str, str]]:
    return [(one.result.value, one.message) for one in found.problems]


def registered(store: Store, *services: Json | None) -> None:
    """Replace the registered Services; None: an entry with a URL."""
    store.objects[REGISTRATION]["webhooks"] = [
        {"name": "x", "clientConfig": {"url": "https://x"} if one is None else {"service": one}} for one in services
    ]
