"""The smallest valid objects of Kubernetes, as plain JSON; keyword arguments add or override members."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import jsonpatch

from injector.core import admit as admit_module
from injector.core import decision, names, plan
from injector.core.admit import Admission, admit
from injector.core.model import Endpoint, Policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = dict[str, Any]

# One review's uid, as an API server makes them.
UID = "705ab4f5-6393-11e8-b7cc-42010a800002"


def secret_env(name: str = "s", key: str = "token", variable: str = names.API_TOKEN_ENV, **more: object) -> Json:
    """A variable that takes its value from a Secret; further members go into the reference."""
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key, **more}}}


def literal_env(value: str, variable: str = names.API_TOKEN_ENV) -> Json:
    """A variable with its value in clear text."""
    return {"name": variable, "value": value}


def container(name: str = "web", **members: object) -> Json:
    """A container without variables."""
    return {"name": name, "image": f"{name}:1", **members}


def sidecar(*env: Json, **members: object) -> Json:
    """A sidecar with these variables."""
    return container(names.SIDECAR, env=list(env), **members)


def asking(secret: str | None = "s", **more: str) -> dict[str, str]:
    """Annotations of a Pod that uses Dapr and requests a token; `more` is given as `app_containers="web"`."""
    annotations = {names.ENABLED: "true"}
    if secret is not None:
        annotations[names.API_TOKEN_SECRET] = secret
    return annotations | {getattr(names, name.upper()): value for name, value in more.items()}


def pod(
    annotations: Mapping[str, object] | None = None,
    containers: Sequence[Json] | None = None,
    init_containers: Sequence[Json] | None = None,
) -> Json:
    """A Pod that requests the token `s`; by default with an app container and a sidecar."""
    spec: Json = {"containers": [container(), sidecar()] if containers is None else list(containers)}
    if init_containers is not None:
        spec["initContainers"] = list(init_containers)
    metadata = {"name": "web", "annotations": asking() if annotations is None else dict(annotations)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def workload(template: Json, kind: str = "Deployment", **metadata: object) -> Json:
    """An object that makes Pods of `template`, which is a Pod."""
    spec: Json = {"template": {"metadata": template.get("metadata"), "spec": template.get("spec")}}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": spec}}
    group = "batch" if kind in {"Job", "CronJob"} else "apps"
    return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": "web", **metadata}, "spec": spec}


def review(found: Json | None, *, version: str = "v1", **request: object) -> Json:
    """An AdmissionReview of `found` at its creation; keyword arguments override members of the request."""
    group, _, api_version = (found or {}).get("apiVersion", "v1").rpartition("/")
    kind = {"group": group, "version": api_version, "kind": (found or {}).get("kind", "Pod")}
    question = {"uid": UID, "kind": kind, "operation": "CREATE", "namespace": "shop", "object": found}
    return {
        "apiVersion": f"admission.k8s.io/{version}",
        "kind": "AdmissionReview",
        "request": {**question, **request},
    }


def encode(value: object) -> bytes:
    """JSON as an API server writes it: compact UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


DEFAULT_POLICY = Policy()


def ask(
    question: Json | bytes | bytearray, policy: Policy = DEFAULT_POLICY, endpoint: Endpoint = Endpoint.MUTATE
) -> Admission:
    """The answer of the core."""
    body = encode(question) if isinstance(question, dict) else question
    return admit(body, endpoint=endpoint, policy=policy)


def forget() -> None:
    """Clear the caches of the core, so that no test depends on another."""
    plan._resolve_all.cache_clear()
    decision._remembered.cache_clear()
    admit_module._memo.clear()


def response_of(admission: Admission) -> Json:
    """The response inside an answer."""
    answer: Json = json.loads(admission.body)["response"]
    return answer


def operations_of(admission: Admission) -> list[Json]:
    """The RFC 6902 operations of an answer; none when it has no patch."""
    response = response_of(admission)
    if "patch" not in response:
        assert "patchType" not in response
        return []
    assert response["patchType"] == "JSONPatch"
    found: list[Json] = json.loads(base64.b64decode(response["patch"], validate=True))
    return found


def patched(found: Json, admission: Admission) -> Json:
    """`found` after the answer's patch; `found` itself is not modified."""
    result: Json = jsonpatch.apply_patch(found, operations_of(admission))
    return result
