"""The pre-commit hook and the workflows of `docs/how-to/lint-in-ci.md`, run as they are on the page."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from injector.lint.catalogue import RULES
from tests.lint.sarif import SCHEMA
from tests.unit.lint.builders import ids, lint

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
HOW_TO = (ROOT / "docs/how-to/lint-in-ci.md").read_text()
BLOCKS = dict(enumerate(re.findall(r"```(\w+)\n(.*?)```", HOW_TO, flags=re.DOTALL)))
YAML = [yaml.safe_load(text) for kind, text in BLOCKS.values() if kind == "yaml"]
INSTALL = "install git+https://github.com/OWNER/dapr-token-injector@COMMIT"
WORKFLOWS = [block for block in YAML if "jobs" in block]

ORDERS = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: orders
  namespace: shop
  labels:
    app: orders
  annotations:
    dapr.io/api-token-secret: dapr-api-token
spec:
  template:
    metadata:
      annotations: {dapr.io/enabled: "true"}
    spec:
      containers: [{name: web}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout with one manifest, and the programs that a runner has."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program(programs / "dapr-token-injector", f'exec {shlex.quote(sys.executable)} -m injector "$@"')
    # Nothing is installed: that the workflow requests it is enough.
    program(programs / "pipx", f'echo "$@" >> {shlex.quote(str(tmp_path / "installed"))}')
    checkout = tmp_path / "checkout"
    (checkout / "deploy").mkdir(parents=True)
    (checkout / "deploy/orders.yaml").write_text(ORDERS)
    return checkout


def program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line as GitHub does: `bash -e`, with the checkout as the current folder."""
    env = {**os.environ, "PATH": f"{folder.parent / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-e", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def steps(workflow: dict[str, Any]) -> list[str]:
    """What the one job of a workflow runs."""
    (job,) = workflow["jobs"].values()
    return [step["run"] for step in job["steps"] if "run" in step]


def test_hook_starts_the_injector() -> None:
    (hook,) = HOOKS
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert hook["entry"].split()[0] in scripts
    assert hook["language"] == "python"
    assert {"id", "name", "entry", "language", "args", "types_or"} <= hook.keys()
    # A Secret is looked up among the files given: the hook reads them all, whatever the commit holds.
    assert hook["pass_filenames"] is False


def test_hook_reports_findings(folder: Path) -> None:
    (hook,) = HOOKS
    line = shlex.join([*shlex.split(hook["entry"]), *hook["args"]])
    assert shell(line, folder).returncode == 1
    (folder / "deploy/orders.yaml").write_text(ORDERS.replace("dapr.io/api-token-secret", "example.com/other"))
    assert shell(line, folder).returncode == 0


def test_how_to_configures_existing_hook(folder: Path) -> None:
    (config,) = (block for block in YAML if "repos" in block)
    (repo,) = config["repos"]
    (used,) = repo["hooks"]
    (hook,) = HOOKS
    assert used["id"] == hook["id"]
    assert repo["rev"] == "COMMIT"  # no version is published
    assert shell(shlex.join([*shlex.split(hook["entry"]), *used["args"]]), folder).returncode == 1


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=["annotations", "sarif"])
def test_workflow_has_only_required_permissions(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {}
    (job,) = workflow["jobs"].values()
    assert job["permissions"].pop("contents") == "read"
    assert job["permissions"] in ({}, {"security-events": "write"})
    assert job["timeout-minutes"] > 0
    assert steps(workflow)[0] == f"pipx {INSTALL}"


def test_first_workflow_annotates_and_fails(folder: Path) -> None:
    install, run = steps(WORKFLOWS[0])
    assert shell(install, folder).returncode == 0
    assert (folder.parent / "installed").read_text() == f"{INSTALL}\n"
    done = shell(run, folder)
    assert done.returncode == 1
    assert done.stdout.startswith("::error file=deploy/orders.yaml,line=9,col=5,title=DTI001 ")


def test_second_workflow_writes_sarif_and_fails_only_for_bad_input(folder: Path) -> None:
    _, run = steps(WORKFLOWS[1])
    assert shell(run, folder).returncode == 0
    log = json.loads((folder / "lint.sarif").read_text())
    jsonschema.Draft4Validator(SCHEMA).validate(log)
    assert log["runs"][0]["results"]
    (upload,) = (
        step for step in WORKFLOWS[1]["jobs"]["lint"]["steps"] if "with" in step and "sarif_file" in step["with"]
    )
    assert upload["with"]["sarif_file"] == "lint.sarif"
    (folder / "deploy/broken.yaml").write_text("a: b: c\n")
    assert shell(run, folder).returncode == 1


def test_ignore_comment_of_how_to_is_followed() -> None:
    (block,) = (text for kind, text in BLOCKS.values() if kind == "yaml" and "ignore" in text)
    report = lint(f"apiVersion: v1\nkind: Pod\n{block}spec:\n  containers: [{{name: web}}]\n")
    assert "DTI002" not in ids(report)
    assert [finding.rule.id for finding in report.ignored] == ["DTI002"]


def test_links_of_how_to_exist() -> None:
    links = re.findall(r"\]\((\.\./[^)]+)\)", HOW_TO)
    assert len(links) >= 3
    assert all((ROOT / "docs/how-to" / link).is_file() for link in links)
    assert set(re.findall(r"DTI\d+", HOW_TO)) <= {rule.id for rule in RULES}
