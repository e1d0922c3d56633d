"""What every peer must answer before it is timed, so that ratios compare the same work.

A case says which `DAPR_API_TOKEN` entries the Pod must have once the answer's patch was applied, container by
container; what else an answer holds (our status annotation, warnings, the fields that a typed round trip adds) is its
own affair.
"""

from __future__ import annotations

import base64
import copy
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jsonpatch

from tests.bench import bodies

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN_ENV: Final = "DAPR_API_TOKEN"
# What the bodies and the cases request.
REFERENCE: Final[bodies.Json] = {
    "name": TOKEN_ENV,
    "valueFrom": {"secretKeyRef": {"name": "dapr-api-token", "key": "token"}},
}


@dataclass(frozen=True, slots=True)
class Case:
    """One review and the outcome that all peers must agree on."""

    name: str
    body: bytes
    allowed: bool
    # Entries named DAPR_API_TOKEN by "list/container"; containers that have none are left out.
    tokens: Mapping[str, list[bodies.Json]]


def cases() -> tuple[Case, ...]:
    """Every golden case, and every timed body as a case of its own."""
    return (*RULES, *map(timed, bodies.SIZES))


def timed(size: str) -> Case:
    """The timed body of a size by its name, such as `4 KB`, as a case."""
    body = bodies.body(bodies.SIZES[size])
    return Case(f"timed body of {size}", body, allowed=True, tokens={"containers/daprd": [REFERENCE]})


def problems(case: Case, status: int, answer: bytes) -> list[str]:
    """What is wrong with a peer's answer, in words; empty when it is right."""
    if status != 200:
        return [f"HTTP {status} instead of 200: {answer[:200]!r}"]
    try:
        review = json.loads(answer)
        response = review["response"]
        found = [
            *_differs("apiVersion", review["apiVersion"], "admission.k8s.io/v1"),
            *_differs("kind", review["kind"], "AdmissionReview"),
            *_differs("uid", response["uid"], bodies.UID),
            *_differs("allowed", response["allowed"], case.allowed),
        ]
        patched = _patched(json.loads(case.body)["request"]["object"], response)
    except (ValueError, KeyError, TypeError, jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        return [f"not a usable answer: {type(error).__name__}: {error}"]
    return [*found, *_differs("tokens", tokens_of(patched), case.tokens)]


def tokens_of(pod: bodies.Json) -> dict[str, list[bodies.Json]]:
    """The entries named DAPR_API_TOKEN by "list/container"."""
    found: dict[str, list[bodies.Json]] = {}
    for where in ("containers", "initContainers"):
        for container in pod["spec"].get(where) or ():
            entries = [entry for entry in container.get("env") or () if entry["name"] == TOKEN_ENV]
            if entries:
                found[f"{where}/{container['name']}"] = entries
    return found


def _differs(what: str, got: object, want: object) -> list[str]:
    return [] if got == want else [f"{what} is {got!r} instead of {want!r}"]


def _patched(pod: bodies.Json, response: bodies.Json) -> bodies.Json:
    if not response.get("patch"):
        return pod
    if response.get("patchType") != "JSONPatch":
        raise ValueError(f"patchType is {response.get('patchType')!r}")
    operations = json.loads(base64.b64decode(response["patch"], validate=True))
    patched: bodies.Json = jsonpatch.apply_patch(pod, operations)
    return patched


def _pod(**changes: Any) -> bodies.Json:  # noqa: ANN401 - JSON of any shape
    """The smallest Pod of `bodies`, with annotations, spec or the sidecar changed; a None removes the key."""
    pod = copy.deepcopy(bodies.pod(0))
    _change(pod["metadata"]["annotations"], changes.get("annotations", {}))
    _change(pod["spec"]["containers"][-1], changes.get("sidecar", {}))
    _change(pod["spec"], changes.get("spec", {}))
    return pod


def _change(target: bodies.Json, changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = value


def _case(name: str, pod: bodies.Json, tokens: Mapping[str, list[bodies.Json]], *, allowed: bool = True) -> Case:
    return Case(name, bodies.encode(bodies.review(pod)), allowed, tokens)


_OTHER: Final[bodies.Json] = {"name": TOKEN_ENV, "valueFrom": {"secretKeyRef": {"name": "another", "key": "k"}}}
_SECOND_KEY: Final[bodies.Json] = {
    "name": TOKEN_ENV,
    "valueFrom": {"secretKeyRef": {"name": "dapr-api-token", "key": "api.key"}},
}
_DAPRD: Final = "containers/daprd"
RULES: Final[tuple[Case, ...]] = (
    _case("sidecar without a list of variables", _pod(sidecar={"env": None}), {_DAPRD: [REFERENCE]}),
    _case("sidecar with an empty list", _pod(sidecar={"env": []}), {_DAPRD: [REFERENCE]}),
    _case("sidecar with variables of its own", _pod(), {_DAPRD: [REFERENCE]}),
    _case("injected before", _pod(sidecar={"env": [REFERENCE]}), {_DAPRD: [REFERENCE]}),
    _case("another reference is kept", _pod(sidecar={"env": [_OTHER]}), {_DAPRD: [_OTHER]}),
    _case(
        "another key is requested",
        _pod(annotations={"dapr-token-injector/api-token-key": "api.key"}),
        {_DAPRD: [_SECOND_KEY]},
    ),
    _case("no annotation", _pod(annotations={"dapr.io/api-token-secret": None}), {}),
    _case("Dapr not enabled", _pod(annotations={"dapr.io/enabled": "false"}), {}),
    _case("no sidecar", _pod(sidecar={"name": "other"}), {}),
    _case(
        "native sidecar",
        _pod(
            sidecar={"name": "other"},
            spec={"initContainers": [{**bodies.sidecar(), "restartPolicy": "Always"}]},
        ),
        {"initContainers/daprd": [REFERENCE]},
    ),
    _case("bad name is denied", _pod(annotations={"dapr.io/api-token-secret": "My_Secret"}), {}, allowed=False),
    Case("not a CREATE", bodies.encode(bodies.review(_pod(), operation="UPDATE")), allowed=True, tokens={}),
)
