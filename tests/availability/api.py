"""The API server as the harness itself talks to it: few calls, each of which must succeed."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any, Final, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.availability.load import Api
from tests.controlplane.polling import wait_for
from tests.controlplane.workspace import write_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.controlplane.api import Json

MANAGER: Final = "availability-harness"
_PAGE: Final = 500
PATIENCE: Final = 120.0  # seconds; on a machine that is busy with others an answer takes long


def api_of(kubeconfig: Path, folder: Path) -> Api:
    """The server and client certificate of an embedded kubeconfig; its three PEMs are written to `folder`."""
    content = json.loads(kubeconfig.read_text())
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]

    def put(name: str, encoded: str) -> str:
        return str(write_private(folder / name, base64.b64decode(encoded)))

    return Api(
        cluster["server"],
        put("load-ca.crt", cluster["certificate-authority-data"]),
        put("load.crt", user["client-certificate-data"]),
        put("load.key", user["client-key-data"]),
    )


class ApiClient:
    """API calls of the harness; an unsuccessful answer raises `httpx.HTTPStatusError`."""

    def __init__(self, api: Api) -> None:
        self._client = httpx.Client(base_url=api.url, verify=api.context(), trust_env=False, timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def apply(self, path: str, item: Json, *, status: bool = False) -> Json:
        """Server-side apply."""
        answer = self._client.patch(
            path + ("/status" if status else ""),
            params={"fieldManager": MANAGER, "force": "true"},
            content=json.dumps(item),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        return _json(answer)

    def get(self, path: str) -> Json:
        """One object."""
        return _json(self._client.get(path))

    def json_patch(self, path: str, operations: list[dict[str, Any]]) -> Json:
        """RFC 6902."""
        headers = {"Content-Type": "application/json-patch+json"}
        return _json(self._client.patch(path, content=json.dumps(operations), headers=headers))

    def seconds_per_create(self, path: str, item: Json, *, tries: int) -> float:
        """How long one takes, on average; as dry runs, which leave nothing."""
        began = time.monotonic()
        for _ in range(tries):
            _json(self._client.post(path, params={"dryRun": "All"}, json=item))
        return (time.monotonic() - began) / tries

    def every(self, path: str) -> Iterator[Json]:
        """All objects of a list, page by page."""
        more = ""
        while True:
            page = _json(self._client.get(path, params={"limit": _PAGE, "continue": more}))
            yield from page["items"]
            more = page["metadata"].get("continue", "")
            if not more:
                return

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples; a label's value can be a prefix."""
        text = wait_for("all metrics", self._metrics)
        wanted = "\n".join(line for line in text.splitlines() if name.removesuffix("_total") in line)
        samples = (sample for family in text_string_to_metric_families(wanted + "\n") for sample in family.samples)
        return sum(
            sample.value
            for sample in samples
            if sample.name == name and all(sample.labels.get(k, "").startswith(v) for k, v in labels.items())
        )

    def _metrics(self) -> str | None:
        """Return the text; None if the API server, on a busy machine, ends it after a minute in its midst."""
        with contextlib.suppress(httpx.TransportError):
            return self._client.get("/metrics").raise_for_status().text
        return None


def _json(answer: httpx.Response) -> Json:
    if answer.is_error:
        raise httpx.HTTPStatusError(f"{answer.status_code}: {answer.text}", request=answer.request, response=answer)
    decoded: Json = answer.json()
    return decoded
