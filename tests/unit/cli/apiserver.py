"""An API server on loopback that keeps objects in memory: enough of one for what our commands read and write.

Rules that the real one has (admission, rights, controllers) are not here: tests that need them have `tests/cluster`.
"""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from injector.kube import resources
from tests.controlplane.standin import kubeconfig, read_json, send_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Json = dict[str, Any]

_ITEM = re.compile(
    r"^/(?:api/v1|apis/[^/]+/v1)/(?:namespaces/(?P<namespace>[^/]+)/)?(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?$"
)
_RESOURCES = {one.plural: one for one in vars(resources).values() if isinstance(one, resources.Resource)}


@dataclass(slots=True)
class Refusal:
    """An error response for requests whose method and path match."""

    pattern: str  # as in `POST .*/secrets`
    status: int
    message: str = ""
    reason: str = ""


@dataclass(slots=True)
class ApiServer:
    """Serves for as long as it is entered."""

    folder: Path
    objects: dict[tuple[str, str, str], Json] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    called: Callable[[str], None] = lambda _: None  # called before each response; simulates controllers
    patched: Callable[[Json], None] = lambda _: None
    admitted: Callable[[Json], Json] = lambda pod: pod  # what admission makes of a Pod that is created
    warnings: list[str] = field(default_factory=list)  # of admission, sent with each Pod that is created
    expires: int = 0  # how many continued lists are answered with 410
    _server: http.server.ThreadingHTTPServer | None = None
    _thread: threading.Thread | None = None
    _version: int = 1

    def __enter__(self) -> Self:
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _answer(self) -> None:
                status, answer = owner.answer(self.command, self.path, read_json(self))
                is_new_pod = self.command == "POST" and answer.get("kind") == "Pod"
                send_json(self, status, answer, owner.warnings if is_new_pod else ())

            do_GET = do_POST = do_PUT = do_PATCH = _answer  # noqa: N815 - the library's names

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.kubeconfig.write_text(json.dumps(kubeconfig(f"http://127.0.0.1:{self._server.server_port}")))
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def kubeconfig(self) -> Path:
        """The file that leads here."""
        return self.folder / "kubeconfig"

    def counted(self) -> Counter[str]:
        """Calls by method and kind; the `get` of one object and a `list` are distinguished."""
        output: Counter[str] = Counter()
        for call in self.calls:
            method, _, path = call.partition(" ")
            found = _ITEM.match(urlsplit(path).path)
            assert found is not None
            output[f"{method if found['name'] or method != 'GET' else 'LIST'} {found['plural']}"] += 1
        return output

    def put(self, plural: str, item: Json) -> Json:
        """Keep an object, as if it had been created."""
        meta = item["metadata"]
        self._version += 1
        meta |= {"resourceVersion": str(self._version), "uid": meta.get("uid") or f"{plural}-{meta['name']}"}
        self.objects[plural, meta.get("namespace", ""), meta["name"]] = item
        return item

    def answer(self, method: str, path: str, body: Json | None) -> tuple[int, Json]:
        """Status and object."""
        self.calls.append(f"{method} {path}")
        self.called(f"{method} {path}")
        for refusal in self.refusals:
            if re.match(refusal.pattern, f"{method} {path}"):
                return _status(refusal.status, refusal.reason, refusal.message)
        address = urlsplit(path)
        query = {key: values[-1] for key, values in parse_qs(address.query).items()}
        found = _ITEM.match(address.path)
        if found is None:
            return _status(404, "NotFound", "no such path")
        namespace, plural, name = found["namespace"] or "", found["plural"], found["name"]
        if method == "GET" and name is None:
            return self._list(plural, namespace, query)
        if method == "POST":
            return self._create(plural, namespace, body or {}, dry_run="dryRun" in query)
        known = self.objects.get((plural, namespace, name))
        if known is None:
            return _status(404, "NotFound", f'{plural} "{name}" not found')
        if method == "GET":
            return 200, known
        return 200, self._change(method, plural, known, body or {}, dry_run="dryRun" in query)

    def _list(self, plural: str, namespace: str, query: dict[str, str]) -> tuple[int, Json]:
        at = int(query.get("continue", "0"))
        if at and self.expires:
            self.expires -= 1
            return _status(410, "Expired", "The provided continue parameter is too old")
        label, _, value = query.get("labelSelector", "").partition("=")
        only = query.get("fieldSelector", "").partition("=")[2]
        items = [
            item
            for (kind, where, name), item in sorted(self.objects.items())
            if kind == plural
            and namespace in {"", where}
            and only in {"", name}
            and (
                not label or (item["metadata"].get("labels") or {}).get(label) in ({value} if value else {"api", "app"})
            )
        ]
        end = at + int(query.get("limit", "0") or len(items))
        metadata = {"resourceVersion": str(self._version)} | ({"continue": str(end)} if end < len(items) else {})
        return 200, {"items": items[at:end], "metadata": metadata}

    def _create(self, plural: str, namespace: str, body: Json, *, dry_run: bool) -> tuple[int, Json]:
        if ("namespaces", "", namespace) not in self.objects:
            return _status(404, "NotFound", f'namespaces "{namespace}" not found')
        meta = body["metadata"]
        name = meta.get("name") or f"{meta['generateName']}{self._version:05d}"
        if (plural, namespace, name) in self.objects:
            return _status(409, "AlreadyExists", "already exists")
        made = _typed(plural, {**body, "metadata": {**meta, "name": name, "namespace": namespace}})
        if plural == "pods":
            made = self.admitted(made)
        return 201, made if dry_run else self.put(plural, _written(made))

    def _change(self, method: str, plural: str, known: Json, body: Json, *, dry_run: bool) -> Json:
        changed = _typed(plural, _written(body) if method == "PUT" else _merged(known, body))
        if dry_run:
            return changed
        self.put(plural, changed)
        if method == "PATCH":
            self.patched(changed)
        return changed


def _typed(plural: str, item: Json) -> Json:
    """With its kind, which the API server always fills in."""
    return {"apiVersion": _RESOURCES[plural].api_version, "kind": _RESOURCES[plural].kind, **item}


def _written(body: Json) -> Json:
    """A Secret of ours with its data's last change noted, as the API server does."""
    fields: Json = {"f:data": {f"f:{key}": {} for key in body.get("data") or {}}}
    entry = {"manager": "dapr-token-injector", "time": "2020-01-01T00:00:00Z", "fieldsV1": fields}
    return {**body, "metadata": {**body["metadata"], "managedFields": [entry]}}


def _merged(old: Any, new: Any) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}


def _status(code: int, reason: str, message: str) -> tuple[int, Json]:
    return code, {"kind": "Status", "code": code, "reason": reason, "message": message}
