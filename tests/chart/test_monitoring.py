"""Alerts, as Prometheus itself reads them, against the metrics that the process itself shows."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.controlplane import binaries
from tests.controlplane.helm import CHART
from tests.controlplane.scrape import get
from tests.controlplane.webhook import Webhook, WebhookSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.chart.conftest import Render
    from tests.controlplane.api import Json

ROOT: Final = Path(__file__).parents[2]
MONITORED: Final = ("--values", str(CHART / "ci/monitoring-values.yaml"))
REDUNDANT: Final = ("--values", str(CHART / "ci/redundant-cert-manager-values.yaml"))
OURS: Final = re.compile(r"(dapr_token_injector_[a-z_]*[a-z])(?:\{([^}]*)\})?(?![a-z_*])")

Samples = dict[str, list["Mapping[str, str]"]]  # the labels of each sample of a metric
# Series of the API server that alerts query; tests/cluster/test_pages.py compares them with its own /metrics.
API_SERVER: Final[Samples] = {
    "apiserver_admission_webhook_fail_open_count": [
        {"name": f"{entry}.dapr-token-injector.svc", "type": "admit"}
        for entry in ("inject", "default", "inject-2", "default-2")
    ],
    "apiserver_validating_admission_policy_check_total": [
        {
            "policy": "dapr-token-injector-guard",
            "policy_binding": f"dapr-token-injector-guard{suffix}",
            "enforcement_action": action,
            "error_type": "invalid_error",
        }
        for action, suffix in {"audit": "", "warn": "-warn", "deny": "-deny"}.items()
    ],
}

# Series of kube-state-metrics for the canary's CronJob:
# https://github.com/kubernetes/kube-state-metrics/blob/main/docs/metrics/workload/cronjob-metrics.md
KUBE_STATE_METRICS: Final[Samples] = {
    name: [{"namespace": "dapr-token-injector", "cronjob": "dapr-token-injector-canary"}]
    for name in ("kube_cronjob_created", "kube_cronjob_status_last_successful_time")
}


# A label that Prometheus adds because of the ServiceMonitor.
SCRAPED: Final[Samples] = {
    "dapr_token_injector_build_info": [{"service": name} for name in ("dapr-token-injector", "dapr-token-injector-2")]
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """The output of `/metrics` right after the start: all series exist from the start."""
    webhook = Webhook.start(WebhookSettings(tmp_path_factory.mktemp("webhook")))
    with webhook.process:
        text = get(f"{webhook.ops_url}/metrics").raise_for_status().text
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample.labels)
    for name, added in SCRAPED.items():
        samples[name] += added
    return samples


@pytest.fixture(scope="session", autouse=True)
def parser(report: binaries.Report) -> None:
    """Build Prometheus' parser before the first test, outside its time limit."""
    binaries.resolve(binaries.PROMRULES, report)


def read(rules: Json) -> subprocess.CompletedProcess[str]:
    """Give groups of rules to Prometheus' own parser."""
    program = binaries.resolve(binaries.PROMRULES)
    return subprocess.run([str(program)], input=json.dumps(rules), capture_output=True, text=True, check=False)


def one(objects: list[Json], kind: str) -> Json:
    (found,) = (item for item in objects if item["kind"] == kind)
    return found


@pytest.mark.parametrize("values", [MONITORED, REDUNDANT], ids=["one group", "two groups"])
def test_alerts_are_valid_and_query_existing_series(render: Render, shown: Samples, values: tuple[str, ...]) -> None:
    rules = one(render(*values), "PrometheusRule")["spec"]

    done = read(rules)

    assert (done.returncode, done.stderr) == (0, "")
    selectors = json.loads(done.stdout)
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert {selector["rule"] for selector in selectors} == alerts
    assert [
        problem for selector in selectors for problem in problems(selector, shown | API_SERVER | KUBE_STATE_METRICS)
    ] == []


def problems(selector: Mapping[str, Any], shown: Samples) -> Iterator[str]:
    """The problems of a selector: each alternative of each matcher must match a series."""
    name, series = selector["metric"], shown.get(selector["metric"], [])
    if not series:
        yield f"{selector['rule']}: there is no {name}"
    for matcher in selector["matchers"]:
        for wanted in matcher["value"].split("|"):
            if all(labels.get(matcher["label"]) != wanted for labels in series):
                yield f"{selector['rule']}: no {name} has {matcher['label']}={wanted!r}"
    yield from (
        f"{selector['rule']}: no {name} has a label {label}"
        for label in selector["grouping"]
        if all(label not in labels for labels in series)
    )


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("dapr_token_injector_admission_shed > 0", "there is no dapr_token_injector_admission_shed"),
        (
            'rate(dapr_token_injector_kube_errors_total{reason=~"forbidden|gone away"}[5m]) > 0',
            "has reason='gone away'",
        ),
        ("sum by (verb) (dapr_token_injector_kube_errors_total) > 0", "has a label verb"),
    ],
)
def test_alert_on_a_missing_series_is_found(shown: Samples, expression: str, complaint: str) -> None:
    done = read({"groups": [{"name": "wrong", "rules": [{"alert": "Wrong", "expr": expression}]}]})

    (problem,) = (found for selector in json.loads(done.stdout) for found in problems(selector, shown))

    assert complaint in problem


def test_invalid_rule_is_found() -> None:
    done = read({"groups": [{"name": "wrong", "rules": [{"alert": "Wrong", "expr": "rate(up)"}]}]})

    assert done.returncode == 1
    assert "expected type range vector" in done.stderr


@pytest.mark.parametrize("folder", ["docs", "charts", "deploy", "README.md"])
def test_documented_metrics_are_exported(shown: Samples, folder: str) -> None:
    families = shown.keys() | {name.removesuffix("_bucket") for name in shown}
    files = [ROOT / folder] if (ROOT / folder).is_file() else [f for f in (ROOT / folder).rglob("*") if f.is_file()]
    named = [
        (file.name, match[1], match[2] or "")
        for file in files
        if file.suffix in {".md", ".yaml", ".txt", ".tpl"}
        for match in OURS.finditer(file.read_text("utf-8"))
    ]

    assert [use for use in named if use[1] not in families] == []
    for _, name, braces in named:
        for label, value in re.findall(r'(\w+)="([^"]*)"', braces):
            assert any(labels.get(label) == value for labels in shown[name]), (name, braces)


def test_fail_over_raises_no_alert_for_a_missing_token(render: Render) -> None:
    def alerts(*values: str) -> set[str]:
        rules = one(render(*values), "PrometheusRule")["spec"]["groups"][0]["rules"]
        return {rule["alert"] for rule in rules}

    # A call that a group does not answer counts as admitted, although the other group serves the Pod.
    assert alerts(*MONITORED) - alerts(*REDUNDANT) == {"DaprTokenInjectorFailedOpen"}
    assert alerts(*REDUNDANT) - alerts(*MONITORED) == {"DaprTokenInjectorFailsOver", "DaprTokenInjectorGroupDown"}


def test_service_monitor_selects_the_metrics_port(render: Render) -> None:
    objects = render(*MONITORED)
    monitor, service = one(objects, "ServiceMonitor")["spec"], one(objects, "Service")
    (endpoint,) = monitor["endpoints"]

    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert "namespaceSelector" not in monitor  # so that of the monitor itself
    assert endpoint["path"] == "/metrics"
    (port,) = (port for port in service["spec"]["ports"] if port["name"] == endpoint["port"])
    (container,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    (target,) = (each for each in container["ports"] if each["name"] == "ops")
    assert port["targetPort"] in {target["name"], target["containerPort"]}
