"""Objects in memory, and the rules of the Kubernetes API for reading and writing them."""

from __future__ import annotations

import copy
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from injector.kube import resources

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]
Key = tuple[str, str, str]  # plural, namespace, name

_PATH: Final = re.compile(
    r"^/(?:api/v1|apis/[^/]+/v1(?:alpha1)?)/(?:namespaces/(?P<namespace>[^/]+)/)?(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?$"
)
_REVIEWS: Final = {
    kind.lower() + "s": resources.Resource("authorization.k8s.io", "v1", kind.lower() + "s", kind, namespaced=False)
    for kind in ("SelfSubjectAccessReview", "SubjectAccessReview")
}
RESOURCES: Final = _REVIEWS | {
    one.plural: one for one in vars(resources).values() if isinstance(one, resources.Resource)
}
_APPLY: Final = "application/apply-patch+yaml"


@dataclass(slots=True)
class Refusal:
    """An unsuccessful answer to requests whose method and path match the pattern."""

    pattern: str  # as in `POST .*/secrets`
    status: int
    message: str = ""
    reason: str = ""
    times: int = 1 << 30
    retry_after: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One change, as a watch sends it."""

    version: int
    type: str
    key: Key
    object: Json


@dataclass(slots=True)
class Store:
    """All objects by plural, namespace and name. With hooks a test acts as admission, as controllers, or as a fault."""

    objects: dict[Key, Json] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    compacted: int = 0  # a watch from an older version is answered with 410
    refusals: list[Refusal] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    called: Callable[[str], None] = lambda _: None  # before a call is answered: what controllers did in the meantime
    patched: Callable[[Json], None] = lambda _: None
    admitted: Callable[[Json], Json] = lambda pod: pod  # admission of a Pod that is created
    expires: int = 0  # the number of continued lists that are answered with 410
    is_endless: bool = False  # each page of a list names another one
    version: int = 1

    # --- what tests do ---

    def put(self, plural: str, item: Json) -> Json:
        """Store an object under a new version, without any check."""
        meta = item["metadata"]
        self.version += 1
        meta |= {"resourceVersion": str(self.version), "uid": meta.get("uid") or f"{plural}-{meta['name']}"}
        key = (plural, meta.get("namespace", ""), meta["name"])
        kind = "MODIFIED" if key in self.objects else "ADDED"
        self.objects[key] = item
        self.events.append(Event(self.version, kind, key, copy.deepcopy(item)))
        return item

    def remove(self, plural: str, namespace: str, name: str) -> Json:
        """Delete an object, without any check."""
        removed = self.objects.pop((plural, namespace, name))
        self.version += 1
        self.events.append(Event(self.version, "DELETED", (plural, namespace, name), removed))
        return removed

    def counted(self) -> Counter[str]:
        """The number of calls by method and plural; `GET` of a list counts as `LIST`."""
        counts: Counter[str] = Counter()
        for call in self.calls:
            method, _, path = call.partition(" ")
            found = _PATH.match(urlsplit(path).path)
            assert found is not None
            counts[f"{method if found['name'] or method != 'GET' else 'LIST'} {found['plural']}"] += 1
        return counts

    # --- what clients do ---

    def answer(self, method: str, path: str, body: Json | None, content_type: str = "") -> tuple[int, Json]:
        """Status code and object; a watch is served by `changes`."""
        self.calls.append(f"{method} {path}")
        self.called(f"{method} {path}")
        for refusal in self.refusals:
            if refusal.times and re.match(refusal.pattern, f"{method} {path}"):
                refusal.times -= 1
                code, answer = _status(refusal.status, refusal.reason, refusal.message)
                return code, answer | (
                    {"details": {"retryAfterSeconds": refusal.retry_after}} if refusal.retry_after else {}
                )
        address = urlsplit(path)
        query = {key: values[-1] for key, values in parse_qs(address.query).items()}
        found = _PATH.match(address.path)
        if found is None:
            return _status(404, "NotFound", "no such path")
        key = (found["plural"], found["namespace"] or "", found["name"] or "")
        if method == "GET":
            return self._read(key, query)
        if method == "POST":
            return self._create(key, body or {}, dry_run="dryRun" in query)
        return self._change(method, key, body or {}, content_type, dry_run="dryRun" in query)

    def changes(self, path: str, after: int) -> list[Event]:
        """The events after a version of the objects that the path of a watch selects."""
        address = urlsplit(path)
        query = {key: values[-1] for key, values in parse_qs(address.query).items()}
        found = _PATH.match(address.path)
        assert found is not None
        return [
            event
            for event in self.events
            if event.version > after
            and _is_selected(event.object, event.key, found["plural"], found["namespace"], query)
        ]

    def _read(self, key: Key, query: dict[str, str]) -> tuple[int, Json]:
        plural, namespace, name = key
        if not name:
            return self._list(plural, namespace, query)
        known = self.objects.get(key)
        return _not_found(key) if known is None else (200, known)

    def _list(self, plural: str, namespace: str, query: dict[str, str]) -> tuple[int, Json]:
        start = int(query.get("continue", "0"))
        if start and self.expires:
            self.expires -= 1
            return _status(410, "Expired", "The provided continue parameter is too old")
        items = [
            item
            for key, item in sorted(self.objects.items())
            if _is_selected(item, key, plural, namespace or None, query)
        ]
        end = start + int(query.get("limit", "0") or len(items))
        has_more = end < len(items) or self.is_endless
        metadata = {"resourceVersion": str(self.version)} | ({"continue": str(max(end, start + 1))} if has_more else {})
        return 200, {"items": items[start:end], "metadata": metadata}

    def _create(self, key: Key, body: Json, *, dry_run: bool) -> tuple[int, Json]:
        plural, namespace, _ = key
        if plural in _REVIEWS:  # everything is allowed, and nothing is stored
            return 201, {**body, "status": {"allowed": True}}
        if namespace and ("namespaces", "", namespace) not in self.objects:
            return _status(404, "NotFound", f'namespaces "{namespace}" not found')
        meta = body["metadata"]
        name = meta.get("name") or f"{meta['generateName']}{self.version:05d}"
        if (plural, namespace, name) in self.objects:
            return _status(409, "AlreadyExists", "already exists")
        created = _typed(plural, {**body, "metadata": {**meta, "name": name, "namespace": namespace}})
        if plural == "pods":
            created = self.admitted(created)
        return 201, created if dry_run else self.put(plural, _with_data_writer(created))

    def _change(self, method: str, key: Key, body: Json, content_type: str, *, dry_run: bool) -> tuple[int, Json]:
        known = self.objects.get(key)
        wanted = body.get("metadata") or {}
        if known is None:
            # As the API server: with a uid there is another object to compare with, an empty one.
            return _status(409, "Conflict", "Precondition failed: UID") if wanted.get("uid") else _not_found(key)
        if conflict := _conflict(key, known, wanted):
            return conflict
        if method == "PUT":
            changed = _with_data_writer(body)
        else:
            changed = _applied(known, body) if content_type == _APPLY else _merged(known, body)
        changed = _typed(key[0], changed)
        if dry_run or changed == known:
            return 200, changed
        stored = self.put(key[0], changed)
        if method == "PATCH":
            self.patched(stored)
        return 200, stored


def _is_selected(item: Json, key: Key, plural: str, namespace: str | None, query: dict[str, str]) -> bool:
    name = query.get("fieldSelector", "").partition("=")[2]
    labels = item["metadata"].get("labels") or {}
    has_labels = all(_has_label(labels, one) for one in _REQUIREMENTS.findall(query.get("labelSelector", "")))
    return key[0] == plural and namespace in {None, key[1]} and name in {"", key[2]} and has_labels


_REQUIREMENTS: Final = re.compile(r"[^,(]+(?:\([^)]*\))?")


def _has_label(labels: Json, requirement: str) -> bool:
    """Whether an object has a label: `LABEL`, `LABEL=VALUE`, or `LABEL in (VALUE,VALUE)`."""
    label, _, values = requirement.partition(" in ")
    if values:
        return labels.get(label) in values.strip("()").split(",")
    label, _, value = requirement.partition("=")
    return labels.get(label) == value if value else label in labels


def _conflict(key: Key, known: Json, wanted: Json) -> tuple[int, Json] | None:
    """The answer if a uid or resource version is given and is not that of the object."""
    for field_name in ("uid", "resourceVersion"):
        if wanted.get(field_name) and wanted[field_name] != known["metadata"][field_name]:
            return _status(409, "Conflict", f'the object "{key[2]}" has been modified ({field_name})')
    return None


def _typed(plural: str, item: Json) -> Json:
    """With its kind, which the API server always fills in."""
    return {"apiVersion": RESOURCES[plural].api_version, "kind": RESOURCES[plural].kind, **item}


def _with_data_writer(body: Json) -> Json:
    """With the manager and time of the last change of its data, as the API server records them."""
    if "data" not in body:
        return body
    annotations: Json = {f"f:{key}": {} for key in body["metadata"].get("annotations") or {}}
    fields: Json = {
        "f:data": {f"f:{key}": {} for key in body.get("data") or {}},
        "f:metadata": {"f:annotations": annotations},
    }
    entry = {"manager": "dapr-token-injector", "time": "2020-01-01T00:00:00Z", "fieldsV1": fields}
    return {**body, "metadata": {**body["metadata"], "managedFields": [entry]}}


def _merged(old: Any, new: Any) -> Any:  # noqa: ANN401 - JSON
    """A JSON merge patch: https://www.rfc-editor.org/rfc/rfc7396."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    kept = {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
    return {key: value for key, value in kept.items() if value is not None or key not in new}


def _applied(old: Any, new: Any) -> Any:  # noqa: ANN401 - JSON
    """A server-side apply, as far as our code uses it: lists of objects are merged by name."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: _applied(old.get(key), value) for key, value in new.items()}}
    if _is_named(old) and _is_named(new):
        changes = {one["name"]: one for one in new}
        merged = [_applied(one, changes.pop(one["name"], {})) for one in old]
        return [*merged, *changes.values()]
    return new


def _is_named(value: Any) -> bool:  # noqa: ANN401 - JSON
    return isinstance(value, list) and all(isinstance(one, dict) and "name" in one for one in value)


def _not_found(key: Key) -> tuple[int, Json]:
    return _status(404, "NotFound", f'{key[0]} "{key[2]}" not found')


def _status(code: int, reason: str, message: str) -> tuple[int, Json]:
    return code, {"kind": "Status", "code": code, "reason": reason, "message": message}
