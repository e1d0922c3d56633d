from __future__ import annotations

import json
from typing import Any

import pytest

from injector import __version__
from injector.core.model import Endpoint
from injector.telemetry.logs import LogSink
from injector.telemetry.metrics import ProcessMetrics, new_registry
from injector.webhook.app import create_app
from injector.webhook.health import Health, HealthCheck
from tests.unit.webhook.asgi import call


def app(*, docs: bool = False, **checks: bool) -> Any:  # noqa: ANN401 - an ASGI app
    def fixed(ok: bool) -> Any:  # noqa: ANN401, FBT001 - as above
        return lambda: HealthCheck(ok, {"detail": 1})

    registry = new_registry(ProcessMetrics(LogSink(2)))
    return create_app(Health({name: fixed(ok) for name, ok in checks.items()}), registry, docs=docs)


def test_liveness_has_no_dependencies() -> None:
    assert call(app(certificate=False), "/livez")[0] == 200


def test_ready_when_every_check_passes() -> None:
    status, _, body = call(app(certificate=True, other=True), "/readyz")
    assert status == 200
    assert json.loads(body) == {
        "status": "ok",
        "checks": {
            "serving": {"ok": True, "draining": False},
            "certificate": {"ok": True, "detail": 1},
            "other": {"ok": True, "detail": 1},
        },
    }


def test_not_ready_when_one_check_fails() -> None:
    status, _, body = call(app(certificate=False, other=True), "/readyz")
    assert (status, json.loads(body)["status"]) == (503, "failed")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [("", "text/plain"), ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text")],
)
def test_metrics_have_the_accepted_format(accept: str, expected: str) -> None:
    status, headers, body = call(app(), "/metrics", headers={"Accept": accept})
    assert status == 200
    assert headers["content-type"].startswith(expected)
    assert b"dapr_token_injector_build_info" in body


@pytest.mark.parametrize(("docs", "status"), [(True, 200), (False, 404)])
def test_docs_page_is_behind_a_flag(docs: bool, status: int) -> None:  # noqa: FBT001 - a case
    assert call(app(docs=docs), "/docs")[0] == status


def document() -> dict[str, Any]:
    found: dict[str, Any] = app().openapi()
    return found


def test_openapi_is_generated_once() -> None:
    made = app()
    assert made.openapi() is made.openapi()


def test_openapi_describes_admission_endpoints_and_routes() -> None:
    openapi = document()
    assert openapi["info"]["version"] == __version__
    assert {"/livez", "/readyz", "/metrics", *(endpoint.value for endpoint in Endpoint)} == set(openapi["paths"])
    for endpoint in Endpoint:
        operation = openapi["paths"][endpoint.value]["post"]
        assert set(operation["responses"]) == {"200", "400", "405", "413", "415", "500", "503"}
        assert "Retry-After" in operation["responses"]["503"]["headers"]


def test_every_reference_of_openapi_resolves() -> None:
    openapi = document()
    text = json.dumps(openapi)
    references = {part.partition('"')[0] for part in text.split('"$ref": "')[1:]}
    assert references
    for reference in references:
        here: Any = openapi
        for step in reference.removeprefix("#/").split("/"):
            here = here[step]


def test_openapi_matches_the_decoder() -> None:
    schemas = document()["components"]["schemas"]
    review = next(schema for name, schema in schemas.items() if name.startswith("AdmissionReview") and "Pod" in name)
    assert set(review["required"]) == {"apiVersion", "kind", "request"}
    assert schemas["AdmissionResponse"]["required"] == ["uid", "allowed"]
    assert "env" in schemas["Container"]["properties"]
