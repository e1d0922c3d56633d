"""Reference pages made from the code: `python -m tests.contract.reference` writes them, a test compares them."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry

from injector.check.model import Category, Result
from injector.cli.serve import metavar
from injector.cli.status.documents import status_schema
from injector.config.policy import policy_schema
from injector.config.settings import Group, Settings, default_text, flag, variable
from injector.kube.metrics import KUBE_ERRORS, KubeMetrics
from injector.telemetry.logs import LogSink
from injector.telemetry.metrics import ProcessMetrics
from injector.webhook.app import create_app
from injector.webhook.certs.metrics import BUNDLE_WRITES, CONFIGURATIONS, PHASES, RELOADS, STEPS, CertificateMetrics
from injector.webhook.health import Health
from injector.webhook.metrics import (
    BUCKETS,
    DECISIONS,
    ERRORS,
    REFUSALS,
    SHED_CAUSES,
    RequestMetrics,
    ServerMetrics,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client import Metric

FOLDER: Final = Path(__file__).parents[2] / "docs/reference"
_COMMAND: Final = "`python -m tests.contract.reference`"
_MADE: Final = f"<!-- Made by {_COMMAND} from the code; do not edit. -->"


def _folded(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(head), *(tuple(row) for row in rows)]
    lines.insert(1, ("---",) * len(lines[0]))
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def configuration() -> str:
    """Every flag of `serve`, by group."""
    parts = [
        "# Configuration of `serve`",
        _MADE,
        _folded(
            "This page lists every flag of `serve`. Every flag is also an environment variable. A flag takes "
            "precedence over its variable, and a variable over the default. An empty variable counts as absent. The "
            "process reports all errors in flags, variables, the policy file and the certificate together, and exits "
            "with 2."
        ),
        _folded(
            "For a Service named `dapr-token-injector`, the kubelet sets `DAPR_TOKEN_INJECTOR_PORT=tcp://...` in the "
            "Pods of its namespace. Values of this form are ignored."
        ),
    ]
    for group in Group:
        fields = {
            name: field
            for name, field in Settings.model_fields.items()
            if isinstance(field.json_schema_extra, dict) and field.json_schema_extra["group"] == group.value
        }
        rows = (
            (
                f"`{flag(name)}`" if field.annotation is bool else f"`{flag(name)} {metavar(name, field)}`",
                f"`{variable(name)}`",
                f"`{text}`" if (text := default_text(field.default)) else "",
                field.description or "",
            )
            for name, field in fields.items()
        )
        parts += [f"## {group.value}", _table(("Flag", "Variable", "Default", "Meaning"), rows)]
    parts += [
        "## Signals",
        _table(
            ("Signal", "Effect"),
            (
                (
                    "SIGTERM",
                    "Not ready at once; keeps serving with `Connection: close`, then stops. A second one ends it.",
                ),
                ("SIGINT", "Stops without waiting."),
                ("SIGHUP", "Checks the certificate files at once."),
            ),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _labels(family: Metric) -> str:
    found = dict.fromkeys(name for sample in family.samples for name in sample.labels if name != "le")
    return ", ".join(f"`{name}`" for name in found)


def metrics() -> str:
    """Every metric with its labels, and every value that a label can have."""
    collectors = (
        RequestMetrics(),
        ServerMetrics(int, float),
        CertificateMetrics(),
        KubeMetrics(),
        ProcessMetrics(LogSink(2)),
    )
    families = sorted((family for each in collectors for family in each.collect()), key=lambda family: family.name)
    names = [family.name + ("_total" if family.type == "counter" else "") for family in families]
    rows = ((f"`{name}`", f.type, _labels(f), f.documentation) for name, f in zip(names, families, strict=True))
    parts = [
        "# Metrics",
        _MADE,
        _folded(
            "This page lists every metric and every label value. They are served at `/metrics` of the ops port, in "
            "Prometheus' text format or OpenMetrics. Label values come from fixed sets and never from a user's object. "
            "Metrics of the process itself have the prefix `dapr_token_injector_process_`. Samples are up to one "
            "second old: each format is rendered at most once a second."
        ),
        _table(("Metric", "Type", "Labels", "Meaning"), rows),
        _folded(f"Buckets of the histogram, in seconds: {', '.join(f'{bound:g}' for bound in BUCKETS)}."),
        "## `decision` and `reason`",
        _table(("Decision", "Reason"), ((verdict.value, f"`{reason.value}`") for verdict, reason in DECISIONS)),
        *_values("`error`", ERRORS),
        *_values("`cause` of a rejection because of overload", SHED_CAUSES),
        *_values("`cause` of a refused connection", REFUSALS),
        *_values("`phase` of the CA", {phase.value: meaning for phase, meaning in PHASES.items()}),
        *_values("`step` of the CA rotation", {step.value: meaning for step, meaning in STEPS.items()}),
        *_values("`cause` of a written caBundle", BUNDLE_WRITES),
        *_values("`configuration` of a trusted webhook configuration", CONFIGURATIONS),
        *_values("`reason` of a call to the API server that failed", KUBE_ERRORS),
        "## `outcome` of a reload",
        ", ".join(f"`{outcome}`" for outcome in RELOADS) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _values(title: str, values: Mapping[str, str]) -> tuple[str, str]:
    return f"## {title}", _table(("Value", "Meaning"), ((f"`{value}`", meaning) for value, meaning in values.items()))


def openapi() -> str:
    """The paths of the HTTP interface; the whole document is served at /openapi.json."""
    document = create_app(Health({}), CollectorRegistry(), docs=False).openapi()
    rows = (
        (f"`{method.upper()} {path}`", operation["summary"], ", ".join(operation["responses"]))
        for path, item in document["paths"].items()
        for method, operation in item.items()
    )
    admission = document["paths"]["/mutate"]["post"]["responses"]
    parts = [
        "# HTTP interface",
        _MADE,
        _folded(
            "This page lists the paths and their responses. The complete OpenAPI description is served at "
            "`/openapi.json` on both ports, and with `--docs` as a page at `/docs`. The schemas of reviews are "
            "generated from the types that decode them. The admission paths are served on the admission port only, "
            "health and metrics on the ops port only."
        ),
        _table(("Request", "Purpose", "Responses"), rows),
        "## Responses of the admission paths",
        _table(("Status", "Meaning"), ((status, response["description"]) for status, response in admission.items())),
        _folded(
            'An error is JSON: `{"error": "<stable word>", "message": "<one sentence>"}`. The words are the values of '
            "the label `error` of the error metric, and `overloaded` for a 503."
        ),
        "## Errors before a request is parsed",
        _table(
            ("Status", "Error"),
            (("400", "`malformed-http`"), ("408", "`body-timeout`"), ("431", "`headers-too-large`")),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def policy() -> str:
    """The JSON schema of a Policy file."""
    return json.dumps(policy_schema(), indent=2) + "\n"


def check_output() -> str:
    """The JSON schema of the output of `check -o json`; docs/reference/check-output.md explains the fields."""
    text = {"type": "string"}
    problem = {"result": _one_of("warning", "failed", "unknown"), "message": text, "fix": {"type": ["string", "null"]}}
    check = {
        "id": {"type": "string", "pattern": "^DTC[0-9]{3}$"},
        "name": text,
        "category": _one_of(*Category),
        "result": _one_of(*Result),
        "seen": text,
        "problems": {"type": "array", "items": _object(problem)},
    }
    summary = {result.value: {"type": "integer", "minimum": 0} for result in Result}
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Output of dapr-token-injector check -o json",
        **_object({"summary": _object(summary), "checks": {"type": "array", "items": _object(check)}}),
    }
    return json.dumps(document, indent=2) + "\n"


def _one_of(*words: str) -> dict[str, object]:
    return {"enum": [str(word) for word in words]}


def _object(properties: Mapping[str, object]) -> dict[str, object]:
    """An object with these fields; a minor version may add others."""
    return {"type": "object", "required": list(properties), "properties": properties}


def status() -> str:
    """The JSON schema of `status -o json`."""
    return json.dumps(status_schema(), indent=2) + "\n"


PAGES: Final = {
    "check.schema.json": check_output,
    "configuration.md": configuration,
    "metrics.md": metrics,
    "openapi.md": openapi,
    "policy.schema.json": policy,
    "status.schema.json": status,
}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make())
