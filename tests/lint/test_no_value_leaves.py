"""A marker stands everywhere in the files where a token could, and must not come out anywhere."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from injector.core.model import Policy
from injector.lint import baseline, report
from injector.lint.linter import Linter
from injector.lint.model import Hit
from injector.lint.rules.annotation import BAD_SECRET_NAME
from injector.manifests.documents import read
from injector.manifests.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from injector.lint.template import TemplateOwner

ROOT = Path(__file__).parents[2]
# Long runs of letters and digits, as tokens have them.
MARKER = "Zq7MarkerZq7Token00XyZ"
ENCODED = base64.b64encode(MARKER.encode()).decode()

FILES = {
    "pods.yaml": f"""\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: orders
  annotations:
    dapr.io/api-token-secret: {MARKER}
    dapr.io/env: DAPR_API_TOKEN={MARKER}
spec:
  template:
    metadata:
      annotations:
        dapr.io/enabled: {MARKER}
        dapr.io/api-token-secret: "{MARKER}"
        dapr.io/app-token-secret: eyJ{MARKER}
        dapr-token-injector/api-token-key: "{MARKER}/"
        dapr-token-injector/app-containers: "{MARKER}"
        dapr.io/env: "DAPR_API_TOKEN={MARKER},APP_API_TOKEN={MARKER}"
    spec:
      containers:
        - name: web
          command: [--token, {MARKER}]
          env:
            - name: DAPR_API_TOKEN
              value: {MARKER}
            - name: DAPR_API_TOKEN
              value: "{MARKER}"   # dapr-token-injector: ignore DTI007
            - name: OTHER
              value: {MARKER}     # dapr-token-injector: ignore {MARKER} -- {MARKER}
            - name: APP_API_TOKEN
              valueFrom: {{secretKeyRef: {{name: {MARKER}, key: "{MARKER} "}}}}
          envFrom:
            - secretRef: {{name: {MARKER}}}
        - name: {MARKER}
          env: {{token: {MARKER}}}
---
apiVersion: v1
kind: Pod
metadata:
  name: asks
  annotations:
    dapr.io/enabled: "true"
    dapr.io/api-token-secret: tokens
    dapr-token-injector/app-containers: {MARKER}
spec:
  containers: [{{name: web}}]
---
apiVersion: v1
kind: Pod
metadata:
  name: {MARKER}
  annotations: {{dapr.io/enabled: "true"}}
spec:
  containers: {MARKER}
""",
    "secrets.yaml": f"""\
apiVersion: v1
kind: Secret
metadata: {{name: tokens, annotations: {{kubectl.kubernetes.io/last-applied-configuration: "{MARKER}"}}}}
data: {{token: {ENCODED}, plain: {MARKER}, "{MARKER}": ""}}
stringData:
  other: {MARKER}
---
apiVersion: v1
kind: Secret
metadata: {{name: tokens, namespace: other}}
stringData:
  token: |
    {MARKER}
""",
    "not-yaml.yaml": f'token: "{MARKER}\nmore: {MARKER}: {MARKER}\n',
    "template.yaml": f"token: {{{{ .Values.token | default {MARKER} }}}}\n",
    "twice.yaml": f"{MARKER}: 1\n{MARKER}: 2\n",
    "binary.yaml": f"token: {MARKER}\0",
    "broken.json": f'{{"token": "{MARKER}", "{MARKER}": {MARKER}',
}


def linter() -> Linter:
    """Everything read, in one process."""
    made = Linter(Policy())
    for name, text in FILES.items():
        made.read(name, text)
    return made


def outputs(made: Linter) -> Iterator[str]:
    """Everything that can leave the process."""
    found = made.report()
    for view in (found, found.compared_with(baseline.read(baseline.write(found.findings)))):
        for form in report.FORMATS.values():
            yield from form(view)
        yield report.summary(view)
        yield repr(view)
    yield baseline.write(found.findings).decode()
    yield repr(vars(made))


def leaks(texts: Iterable[str]) -> bool:
    return any(word in text for text in texts for word in (MARKER, ENCODED, MARKER[:12], ENCODED[:12]))


def test_no_form_of_a_report_shows_a_value() -> None:
    found = linter().report()
    assert {"DTI002", "DTI004", "DTI005", "DTI007", "DTI016", "DTI028", "DTI091"} <= {
        finding.rule.id for finding in found.findings
    }
    assert len(found.unreadable) >= 4
    assert not leaks(outputs(linter()))


@pytest.mark.parametrize(
    "argv",
    [*([".", "-o", output] for output in report.FORMATS), ["--write-baseline", "known.json", "pods.yaml"]],
    ids=" ".join,
)
def test_command_shows_no_value(argv: list[str], tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "injector", "lint", *argv]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if "known.json" in argv else 2)
    assert done.stderr
    assert not leaks([done.stdout, done.stderr])
    if "known.json" in argv:
        known = (tmp_path / "known.json").read_text()
        assert json.loads(known)["findings"]
        assert not leaks([known])


@pytest.mark.parametrize("name", ["not-yaml.yaml", "twice.yaml", "binary.yaml", "broken.json"])
def test_no_exception_of_the_reader_shows_a_value(name: str) -> None:
    with pytest.raises(ManifestError) as caught:
        list(read(FILES[name], name))
    assert not leaks([str(caught.value), repr(caught.value)])
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("careless", ["message", "name"])
def test_deliberate_leak_is_detected(careless: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scan can fail: with a rule that shows what it looks at, or a label that hides nothing, it does."""
    if careless == "name":
        monkeypatch.setattr("injector.lint.linter.label", lambda text: text)
    else:
        leaking = replace(BAD_SECRET_NAME, workload=_leaking)
        monkeypatch.setattr("injector.lint.catalogue.RULES", (leaking,))
    assert leaks(outputs(linter()))


def _leaking(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        yield Hit(template.path, f"{template.annotations.api_token_secret} is not a Secret name")


def test_fingerprint_contains_names_only() -> None:
    """A reader of a baseline or a SARIF log can try values against it: none may matter."""
    other = "Yp8AnotherYp8Token11AbC"
    first, second = Linter(Policy()), Linter(Policy())
    text = FILES["secrets.yaml"] + "---\n" + FILES["pods.yaml"].split("---\n")[1]
    first.read("a.yaml", text)
    second.read(
        "a.yaml", text.replace(MARKER, other[: len(MARKER)]).replace(ENCODED, base64.b64encode(other.encode()).decode())
    )
    prints = [[baseline.fingerprint(finding) for finding in made.report().findings] for made in (first, second)]
    assert prints[0] == prints[1] != []
