"""The chart's README and schema are those of its values' comments, and its policy is the webhook's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pytest

from injector.config.policy import PolicyFile
from injector.webhook.certs.metrics import RELOADS
from tests.chart.test_monitoring import API_SERVER, KUBE_STATE_METRICS, SCRAPED
from tests.contract.chart_reference import CHART, PAGES, ValuesError, read
from tests.documents import document

VALUES: Final = (CHART / "values.yaml").read_text()
ALERTS: Final = (CHART / "files/alerts.yaml").read_text()
METRICS: Final = (Path(__file__).parents[2] / "docs/reference/metrics.md").read_text()


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_those_of_the_values(name: str) -> None:
    assert (CHART / name).read_text() == PAGES[name](read(VALUES)), "run: python -m tests.contract.chart_reference"


def test_every_value_documents_its_unset_behaviour() -> None:
    silent = [value.path for value in read(VALUES) if value.default in ("", [], {}, None) and "nset" not in value.text]

    assert [path for path in silent if path[:2] != ("tls", "files") and path[-1] != "cidrs"] == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 1\n", "without a comment: a"),
        ("# Documented.\na: 1\nb:\n  c: 2\n", "without a comment: b.c"),
        ("# Documented.\na: []\n", "a: a list needs a schema"),
        ("# Documented.\na: {}\n", "a: an object needs a schema"),
    ],
)
def test_undocumented_value_is_rejected(text: str, complaint: str) -> None:
    with pytest.raises(ValuesError, match=re.escape(complaint)):
        read(text)


def test_chart_policy_has_the_keys_of_the_webhook_policy() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["policy"]["properties"]
    keys = {field.alias for field in PolicyFile.model_fields.values()}

    assert {*schema, "seal", "sealImage", "sealImagePullSecrets"} == keys  # the chart makes these of `seal`
    assert set(schema["defaultKeys"]["properties"]) == {"api", "app"}


def test_alerts_name_metrics_that_exist() -> None:
    named = set(re.findall(r"dapr_token_injector_[a-z_]+", ALERTS))
    known = set(re.findall(r"`(dapr_token_injector_[a-z_]+)`", METRICS))

    assert named
    assert {name.removesuffix("_bucket") for name in named} <= known


def test_alerts_name_labels_values_that_exist() -> None:
    values = {value for group in re.findall(r'=~?"([^"]+)"', ALERTS) for value in group.split("|")}

    known = set(re.findall(r"^\| `([a-z-]+)` \|", METRICS, re.MULTILINE))
    scraped = (*API_SERVER.values(), *KUBE_STATE_METRICS.values(), *SCRAPED.values())
    of_others = {value for series in scraped for labels in series for value in labels.values()}
    assert values <= {*known, *RELOADS, *of_others, "deny"}


def test_chart_version_equals_program_version() -> None:
    chart = document(CHART / "Chart.yaml")
    from injector import __version__  # noqa: PLC0415 - read next to its counterpart

    assert chart["appVersion"] == __version__
    assert f"## {chart['version']}" in (CHART / "CHANGELOG.md").read_text()
