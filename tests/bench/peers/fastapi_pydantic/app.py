# ruff: noqa: N815 - fields have Kubernetes' own spelling
"""The same webhook as FastAPI's tutorial would write it: pydantic models in, pydantic models out, one async route."""

import base64
import json
import re
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

SIDECAR = "daprd"
TOKEN_ENV = "DAPR_API_TOKEN"
TRUE_WORDS = {"y", "yes", "true", "t", "on", "1"}
SECRET_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class Model(BaseModel):
    """Fields that a Pod has and that we do not name are kept."""

    model_config = ConfigDict(extra="allow")


class SecretKeySelector(Model):
    name: str = ""
    key: str = ""


class EnvVarSource(Model):
    secretKeyRef: SecretKeySelector | None = None


class EnvVar(Model):
    name: str
    value: str | None = None
    valueFrom: EnvVarSource | None = None


class Container(Model):
    name: str
    env: list[EnvVar] | None = None


class PodSpec(Model):
    containers: list[Container] = Field(default_factory=list)
    initContainers: list[Container] = Field(default_factory=list)


class ObjectMeta(Model):
    annotations: dict[str, str] = Field(default_factory=dict)


class Pod(Model):
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: PodSpec = Field(default_factory=PodSpec)


class Kind(BaseModel):
    group: str
    version: str
    kind: str


class AdmissionRequest(BaseModel):
    uid: str
    kind: Kind
    operation: str
    object: Pod


class AdmissionReview(BaseModel):
    apiVersion: str
    kind: str
    request: AdmissionRequest


class Status(BaseModel):
    message: str
    code: int


class AdmissionResponse(BaseModel):
    uid: str
    allowed: bool
    patchType: str | None = None
    patch: str | None = None
    status: Status | None = None


class AnsweredReview(BaseModel):
    apiVersion: str
    kind: str
    response: AdmissionResponse


app = FastAPI()


@app.post("/mutate", response_model_exclude_none=True)
async def mutate(review: AdmissionReview) -> AnsweredReview:
    return AnsweredReview(apiVersion=review.apiVersion, kind=review.kind, response=admit(review.request))


def admit(request: AdmissionRequest) -> AdmissionResponse:
    """Answer one request by the rules of the golden cases."""
    annotations = request.object.metadata.annotations
    name = annotations.get("dapr.io/api-token-secret", "").strip()
    enabled = annotations.get("dapr.io/enabled", "").strip().lower() in TRUE_WORDS
    is_new_pod = request.operation == "CREATE" and request.kind.group == "" and request.kind.kind == "Pod"
    if not is_new_pod or not enabled or not name:
        return AdmissionResponse(uid=request.uid, allowed=True)
    if len(name) > 253 or not SECRET_NAME.fullmatch(name):
        status = Status(message="annotation dapr.io/api-token-secret is not a Secret name", code=400)
        return AdmissionResponse(uid=request.uid, allowed=False, status=status)
    key = annotations.get("dapr-token-injector/api-token-key", "").strip() or "token"
    spec = request.object.spec
    ops = patch("containers", spec.containers, name, key) + patch("initContainers", spec.initContainers, name, key)
    if not ops:
        return AdmissionResponse(uid=request.uid, allowed=True)
    encoded = base64.b64encode(json.dumps(ops).encode()).decode()
    return AdmissionResponse(uid=request.uid, allowed=True, patchType="JSONPatch", patch=encoded)


def patch(where: str, containers: list[Container], name: str, key: str) -> list[dict[str, Any]]:
    variable = {"name": TOKEN_ENV, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}
    ops: list[dict[str, Any]] = []
    for index, container in enumerate(containers):
        if container.name != SIDECAR or any(entry.name == TOKEN_ENV for entry in container.env or ()):
            continue
        path = f"/spec/{where}/{index}/env"
        if container.env is None:
            ops.append({"op": "add", "path": path, "value": [variable]})
        else:
            ops.append({"op": "add", "path": f"{path}/-", "value": variable})
    return ops
