"""The match condition `not-yet-served`, and its rule in Python: the Pods that group 1 has served."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from injector.core import names
from injector.core.seal import SealingSpec
from injector.core.sealed import sealed_tokens
from tests.builders import encode
from tests.documents import document
from tests.sealing import CHECK, SEAL, file_env

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.builders import Json

CONDITION: Final = "not-yet-served"
SECOND: Final = "dapr-token-injector-2"
_SHIPPED: Final = Path(__file__).parents[1] / "deploy/components/redundant/kustomization.yaml"
_FILE: Final = {"optional": False, **file_env()["valueFrom"]["fileKeyRef"]}
_ANNOTATIONS: Final = (
    ("DAPR_API_TOKEN", names.API_TOKEN_SECRET, names.API_TOKEN_KEY),
    ("APP_API_TOKEN", names.APP_TOKEN_SECRET, names.APP_TOKEN_KEY),
)


def not_yet_served(*, default: bool = False) -> str:
    """Return the condition of the second group's entry for Pods that name a Secret, or for the default Secret."""
    patches = [
        document(one["patch"])
        for one in document(_SHIPPED)["patches"]
        if one["target"] == {"kind": "MutatingWebhookConfiguration", "name": SECOND}
    ]
    path = f"/webhooks/{int(default)}/matchConditions/-"
    (condition,) = (operation["value"] for patch in patches for operation in patch if operation["path"] == path)
    assert condition["name"] == CONDITION
    return str(condition["expression"])


def is_served(item: Json, *, default: bool = False) -> bool:
    """Return whether every sidecar and every named container has the references that the Pod requests.

    The status annotation must exist and name the reference of the sidecar. A sealed Pod must be sealed for all
    requested tokens. `default`: the namespace has the label of the default Secret.
    """
    given = ((item.get("metadata") or {}).get("annotations") or {}).items()
    annotations = {key: value.strip() for key, value in given if isinstance(value, str)}
    spec = item.get("spec") or {}
    every = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    if names.STATUS not in annotations or names.SIDECAR not in [one.get("name") for one in every]:
        return False
    wanted = {
        variable: (annotations.get(secret, ""), annotations.get(key, ""))
        for variable, secret, key in _ANNOTATIONS
        if annotations.get(secret) or (default and variable == names.API_TOKEN_ENV)
    }
    found = sealed_tokens(msgspec.json.decode(encode(spec), type=SealingSpec))
    sealed = bool(found) and set(found) == set(wanted)
    if annotations.get(names.SEAL, "").lower() in names.TRUE_WORDS and not sealed:
        return False
    listed = {word.strip() for word in annotations.get(names.APP_CONTAINERS, "").split(",")}
    return all(
        _is_right(one, variable, ref, annotations[names.STATUS], sealed=sealed)
        for one in every
        if one.get("name") in {names.SIDECAR, SEAL, CHECK, *listed}
        for variable, ref in wanted.items()
    )


def _is_right(container: Json, variable: str, wanted: tuple[str, str], record: str, *, sealed: bool) -> bool:
    source = effective(container, variable).get("valueFrom") or {}
    name = container["name"]
    file = source.get("fileKeyRef")
    if sealed and name != SEAL and file and {"optional": False, **file} == _FILE | {"key": variable}:
        return True
    ref = source.get("secretKeyRef")
    if name == CHECK or not ref or ref.get("optional"):
        return False
    found = (ref.get("name", ""), ref.get("key", ""))
    text = f'"env":"{variable}","name":"{found[0]}","key":"{found[1]}"'
    is_asked = all(one in {"", other} for one, other in zip(wanted, found, strict=True))
    return is_asked and (name != names.SIDECAR or text in record)


def effective(container: Mapping[str, Any], variable: str) -> Json:
    """Return the entry that the kubelet uses; empty if there is none."""
    return next((one for one in reversed(container.get("env") or ()) if one.get("name") == variable), {})
