"""A store that is served over HTTP on loopback, and the kubeconfig that leads to it."""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import parse_qs, urlsplit

from tests.fake_cluster.http_json import kubeconfig, read_json, send_content, send_json
from tests.fake_cluster.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fake_cluster.faults import Fault
    from tests.fake_cluster.store import Json

_NESTED: Final = re.compile(rb'"nested (\d+)"')


@dataclass(slots=True)
class ApiServer(Store):
    """Serves while it is entered. `folder` gets the kubeconfig."""

    folder: Path = field(kw_only=True)
    warnings: list[str] = field(default_factory=list)  # of admission, sent with each Pod that is created
    faults: list[Fault] = field(default_factory=list)
    ahead_seconds: float = 0.0  # of its clock
    _server: http.server.ThreadingHTTPServer | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _answer(self) -> None:
                body = read_json(self)
                if "watch=true" in self.path:
                    owner.serve_watch(self)
                    return
                status, answer = owner.answer(self.command, self.path, body, self.headers.get("Content-Type") or "")
                fault = next((one for one in owner.faults if one.applies(f"{self.command} {self.path}")), None)
                if fault is not None:
                    fault.send(self, _encoded(answer))
                    return
                is_new_pod = self.command == "POST" and answer.get("kind") == "Pod"
                retry_after = str((answer.get("details") or {}).get("retryAfterSeconds", ""))
                send_content(self, status, _encoded(answer), owner.warnings if is_new_pod else (), retry_after)

            do_GET = do_POST = do_PUT = do_PATCH = _answer  # noqa: N815 - the library's names

            def date_time_string(self, timestamp: float | None = None) -> str:
                """The `Date` header, by the clock of this server."""
                return super().date_time_string((time.time() if timestamp is None else timestamp) + owner.ahead_seconds)

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
        """The path of the kubeconfig."""
        return self.folder / "kubeconfig"

    def serve_watch(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Stream the events after the version in the query until its timeout; 410 if that version is compacted."""
        self.calls.append(f"WATCH {handler.path}")
        query = {key: values[-1] for key, values in parse_qs(urlsplit(handler.path).query).items()}
        version = int(query.get("resourceVersion") or self.version)
        if version < self.compacted:
            send_json(handler, 410, {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
            return
        ends = time.monotonic() + float(query.get("timeoutSeconds", "30"))
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        while time.monotonic() < ends:
            for event in self.changes(handler.path, version):
                handler.wfile.write(json.dumps({"type": event.type, "object": event.object}).encode() + b"\n")
                version = event.version
            handler.wfile.flush()
            time.sleep(0.01)


def nested(levels: int) -> str:
    """A text that is sent as an object with that many levels, which neither `json` nor `copy` could handle here."""
    return f"nested {levels}"


def _encoded(answer: Json) -> bytes:
    return _NESTED.sub(
        lambda found: b'{"f:a":' * int(found[1]) + b"{}" + b"}" * int(found[1]), json.dumps(answer).encode()
    )
