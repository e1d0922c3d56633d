"""The seal of a Pod template, found in its plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from injector.core import names
from injector.core.errors import MalformedObjectError
from injector.core.seal import NOT_SEALABLE, SealingSpec
from injector.core.sealed import SEAL_NAMES, sealed_tokens

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from injector.core.model import TokenRef
    from injector.manifests.documents import Path, Template

_spec: Final = msgspec.json.Decoder(SealingSpec)


def sealing_spec(spec: object) -> SealingSpec:
    """Return a Pod's `spec` with the fields for sealing.

    Raises:
        MalformedObjectError: A field is malformed.
    """
    try:
        return _spec.decode(msgspec.json.encode(spec))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        raise MalformedObjectError(NOT_SEALABLE) from None


def tokens_of(spec: object) -> Mapping[str, TokenRef]:
    """Return the Secret and key of each variable that a `spec` seals; empty if it has no seal, or is malformed."""
    try:
        return sealed_tokens(sealing_spec(spec))
    except MalformedObjectError:
        return {}


def items_of(spec: Any, pull_secrets: Iterable[str]) -> dict[str, list[int]]:  # noqa: ANN401 - JSON
    """Return where the seal is in the lists of a sealed `spec`: by key, the indexes of its items, in order.

    `pull_secrets` are the names of the image pull secrets that were added for it.
    """
    lists = {
        "volumes": [_first(spec["volumes"], names.SEAL_VOLUME)],
        "initContainers": [_first(spec["initContainers"], name) for name in SEAL_NAMES],
    }
    added = frozenset(pull_secrets)
    found = [
        i for i, item in enumerate(spec.get("imagePullSecrets") or ()) if item.keys() == _NAME and item["name"] in added
    ]
    return {**lists, "imagePullSecrets": found} if found else lists


_NAME: Final = {"name"}


def _first(items: Sequence[dict[str, Any]], name: str) -> int:
    return next(i for i, item in enumerate(items) if item.get("name") == name)


def reader_of(template: Template, leaving: Container[tuple[Path, int]]) -> str:
    """Return the first container that reads from the seal by an entry that is not `leaving`; "" if there is none."""
    for path, container in template.containers():
        name, env = container.get("name"), container.get("env")
        for index, entry in enumerate(env if isinstance(env, list) else ()):
            if (path, index) not in leaving and name not in SEAL_NAMES and _is_from_seal(entry):
                return str(name)
    return ""


def _is_from_seal(entry: Any) -> bool:  # noqa: ANN401 - JSON
    source = entry.get("valueFrom") if isinstance(entry, dict) else None
    file = source.get("fileKeyRef") if isinstance(source, dict) else None
    return isinstance(file, dict) and file.get("volumeName") == names.SEAL_VOLUME
