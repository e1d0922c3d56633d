"""Checks that the answer to a write is the object that was written.

A proxy's login page, a cache or another server can answer with a success status. So a write counts as done only if the
answer is that object: `docs/decisions/0023-when-a-write-counts-as-done.md` lists what is compared, and why.

No error message contains a value of the object or a part of the answer.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from injector.core.depth import decode_any_depth
from injector.kube.errors import UnconfirmedWriteError
from injector.kube.resources import SECRETS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from injector.kube.resources import Object, Resource


_DONE: Final = frozenset({HTTPStatus.OK, HTTPStatus.CREATED})
# Fields that identify the object: they are compared separately, or change with each write.
_IDENTITY: Final = frozenset({"name", "generateName", "namespace", "uid", "resourceVersion", "managedFields"})
_MOST_SHOWN: Final = 5  # fields that an error message names
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Expected:
    """The answer that confirms a write.

    `content`: the fields that the answer must have; it may have others. `is_stored`: the API server stores the object,
    so the answer has a resource version. Dry runs and reviews are not stored.
    """

    resource: Resource
    namespace: str | None
    name: str
    generate_name: str = ""
    uid: str = ""
    content: Object = field(default_factory=dict, repr=False)
    is_stored: bool = True


def of_create(resource: Resource, body: Object, namespace: str | None, *, dry_run: bool) -> Expected:
    """Return the answer to a create: for a Secret its data, type, labels and annotations; for others the identity.

    Admission may fill in and change other kinds. An object without a name is a review, such as a
    SelfSubjectAccessReview: its `spec` comes back.
    """
    meta = _mapping(body.get("metadata"))
    name, generate_name = str(meta.get("name") or ""), str(meta.get("generateName") or "")
    is_review = not name and not generate_name
    content: Object = {}
    if resource == SECRETS:
        content = {**_secret(body), "metadata": {part: _mapping(meta.get(part)) for part in _TEXTS}}
    elif is_review:
        content = {"spec": body.get("spec")}
    return Expected(
        resource,
        _where(resource, namespace),
        name,
        generate_name,
        content=content,
        is_stored=not dry_run and not is_review,
    )


def of_replace(
    resource: Resource, body: Object, namespace: str | None, *, dry_run: bool, before: Object | None
) -> Expected:
    """Return the answer to a replace: as for a create, but only labels and annotations that differ from `before`.

    The others came from the API server, and admission may change them with each write.
    """
    meta = _mapping(body.get("metadata"))
    content: Object = {}
    if resource == SECRETS:
        content = _secret(body)
        if before is not None:
            content["metadata"] = {part: _changed(meta, _mapping(before.get("metadata")), part) for part in _TEXTS}
    uid = str(meta.get("uid") or "")
    return Expected(
        resource, _where(resource, namespace), str(meta["name"]), uid=uid, content=content, is_stored=not dry_run
    )


def of_patch(resource: Resource, name: str, patch: Object, namespace: str | None, *, dry_run: bool) -> Expected:
    """Return the answer to a merge patch or an apply: every field that it sets."""
    meta = _mapping(patch.get("metadata"))
    content = {key: value for key, value in patch.items() if key not in {"apiVersion", "kind", "metadata"}}
    if resource == SECRETS:
        content = {**content, **_secret(patch)}
        content.pop("stringData", None)
    content["metadata"] = {key: value for key, value in meta.items() if key not in _IDENTITY}
    uid = str(meta.get("uid") or "")
    return Expected(resource, _where(resource, namespace), name, uid=uid, content=content, is_stored=not dry_run)


def confirmed(operation: str, expected: Expected, status: int, content: bytes) -> Object:
    """Return the decoded answer to a write.

    Args:
        operation: What is written, as in `create secrets/x in namespace y`.
        expected: The answer that confirms it.
        status: The answer's HTTP status, below 300.
        content: The answer's body.

    Raises:
        UnconfirmedWriteError: The answer is something else.
    """
    try:
        answer = _decoded(status, content)
        _check(expected, answer)
    except _DifferenceError as error:
        raise UnconfirmedWriteError(operation, why=f"not confirmed: {error}") from None
    return answer


class _DifferenceError(Exception):
    """The answer differs from the expected one; the message names the difference."""


def _decoded(status: int, content: bytes) -> Object:
    if status == HTTPStatus.ACCEPTED:
        raise _DifferenceError("status 202 says that it may be done later")
    if status not in _DONE:
        raise _DifferenceError(f"status {status} comes without the object")
    if not content.strip():
        raise _DifferenceError(f"the answer (status {status}) is empty; {_NOT_AN_API_SERVER}")
    try:
        answer = decode_any_depth(json.loads, content)
    except (ValueError, RecursionError):
        raise _DifferenceError(f"the answer (status {status}) is not JSON; {_NOT_AN_API_SERVER}") from None
    if not isinstance(answer, dict):
        raise _DifferenceError(f"the answer (status {status}) is not an object; {_NOT_AN_API_SERVER}")
    return answer


_NOT_AN_API_SERVER: Final = "a proxy or another server may have sent it"


def _check(expected: Expected, answer: Object) -> None:
    resource = expected.resource
    kind = resource.kind
    if answer.get("kind") == "Status":
        raise _DifferenceError(f"the answer is a Status, not the {kind}")
    if (answer.get("apiVersion"), answer.get("kind")) != (resource.api_version, kind):
        raise _DifferenceError(f"the answer is not a {kind} of {resource.api_version}; {_NOT_AN_API_SERVER}")
    meta = _mapping(answer.get("metadata"))
    if (meta.get("namespace") or "") != (expected.namespace or ""):
        raise _DifferenceError(f"the answer is a {kind} of another namespace")
    name = meta.get("name") or ""
    is_named = isinstance(name, str) and (
        name == expected.name if expected.name else name.startswith(expected.generate_name)
    )
    if not is_named:
        raise _DifferenceError(f"the answer is a {kind} of another name")
    if expected.uid and meta.get("uid") != expected.uid:
        raise _DifferenceError(f"the answer is a {kind} of the same name with another uid")
    if expected.is_stored and not meta.get("resourceVersion"):
        raise _DifferenceError(f"the {kind} in the answer has no resource version, so it was not stored")
    changed = list(_differences(expected.content, answer))
    if changed:
        shown = ", ".join(changed[:_MOST_SHOWN]) + (", ..." if len(changed) > _MOST_SHOWN else "")
        raise _DifferenceError(
            f"the cluster changed what was written ({shown}); look for a mutating webhook or policy that matches it"
        )


def _differences(wanted: object, found: object, path: str = "") -> Iterator[str]:
    """Yield the paths of fields that were written and are not in the answer, in time proportional to the write."""
    if isinstance(wanted, dict):
        if found is not _ABSENT and found is not None and not isinstance(found, dict):
            yield path
            return
        for key, value in wanted.items():
            yield from _differences(value, _mapping(found).get(key, _ABSENT), f"{path}.{key}" if path else key)
    elif isinstance(wanted, list):
        yield from _list_differences(wanted, found, path)
    elif isinstance(wanted, _Base64):
        is_missing = found is _ABSENT or found is None  # also how an empty value comes back
        if wanted.content != (b"" if is_missing else _bytes(found)):
            yield path
    # The API server omits null, and fields with the zero value of their type.
    elif found is _ABSENT or found is None:
        if wanted:
            yield path
    elif isinstance(wanted, bool) is not isinstance(found, bool) or wanted != found:
        yield path


def _list_differences(wanted: list[Any], found: object, path: str) -> Iterator[str]:
    """Compare lists: those of named objects by name, others by position."""
    there = found if isinstance(found, list) else []
    if wanted and all(isinstance(one, dict) and "name" in one for one in wanted):
        by_name = {str(one.get("name")): one for one in there if isinstance(one, dict)}
        for one in wanted:
            yield from _differences(one, by_name.get(str(one["name"]), _ABSENT), f"{path}[{one['name']}]")
    elif len(wanted) != len(there):
        yield path
    else:
        for position, (one, other) in enumerate(zip(wanted, there, strict=True)):
            yield from _differences(one, other, f"{path}[{position}]")


@dataclass(frozen=True, slots=True, repr=False)
class _Base64:
    """A value of a Secret: compared as bytes, never shown."""

    content: object


_TEXTS: Final = ("labels", "annotations")


def _secret(body: Mapping[str, Any]) -> Object:
    """Return the fields of a Secret that the API server stores unchanged; `stringData` comes back as `data`."""
    content = {key: body[key] for key in ("type", "immutable") if key in body}
    data: Object = {
        key: _Base64(_bytes(value)) if isinstance(value, str) else value
        for key, value in _mapping(body.get("data")).items()
    }
    for key, value in _mapping(body.get("stringData")).items():
        data[key] = _Base64(str(value).encode())
    return {**content, "data": data} if data else content


def _bytes(value: object) -> object:
    """Decode base64; return anything else unchanged."""
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else value
    except (binascii.Error, ValueError):
        return value


def _changed(after: Mapping[str, Any], before: Mapping[str, Any], part: str) -> Object:
    old = _mapping(before.get(part))
    return {key: value for key, value in _mapping(after.get(part)).items() if old.get(key) != value}


def _mapping(value: object) -> Object:
    return value if isinstance(value, dict) else {}


def _where(resource: Resource, namespace: str | None) -> str | None:
    return namespace if resource.namespaced else None
