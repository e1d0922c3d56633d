"""The reference page of the JSON output, held to what the commands print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.cli.main import main
from injector.core.rollout import SkipReason, State
from tests.fake_cluster.server import ApiServer
from tests.fake_cluster.store import Refusal
from tests.unit.cli.objects import admitted, deployment, namespace, pod, replica_set, secret
from tests.unit.cli.output_page import OutputPage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Capture = pytest.CaptureFixture[str]
PAGE: Final = OutputPage("secret-output.md")
ABSENT_WHEN_MISSING: Final = ("hasKey", "id", "issued", "expires", "changed", "owner", "immutable")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(folder=tmp_path) as running:
        running.put("namespaces", namespace("shop"))
        running.admitted = admitted
        yield running


def output(server: ApiServer, capsys: Capture, *arguments: str, code: int) -> dict[str, Any]:
    """What a command prints as JSON: one line."""
    assert main(["secret", *arguments, "-o", "json", "--kubeconfig", str(server.kubeconfig)]) == code
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    decoded: dict[str, Any] = json.loads(out)
    return decoded


def test_create_prints_what_the_page_says(server: ApiServer, capsys: Capture) -> None:
    server.put("secrets", secret("there"))
    server.put("secrets", secret("short", "short"))
    server.put("secrets", secret("hidden"))
    server.refusals = [Refusal("GET .*/secrets/hidden", 403, "no", "Forbidden")]
    found = output(server, capsys, "create", "shop/there", "shop/new", "shop/short", "shop/hidden", code=1)
    PAGE.check("secret create", found)
    outcomes = {one["outcome"] for one in found["secrets"]}
    outcomes |= {
        one["outcome"] for one in output(server, capsys, "create", "shop/x", "--dry-run", "server", code=0)["secrets"]
    }
    assert PAGE.words("secret create", "secrets[].outcome") == outcomes


@pytest.mark.parametrize("flags", [(), ("--restart", "--wait=false", "--propagation-delay", "0s")])
def test_rotate_prints_what_the_page_says(server: ApiServer, capsys: Capture, flags: tuple[str, ...]) -> None:
    server.put("secrets", secret("s"))
    for plural, item in (("pods", pod("web")), ("replicasets", replica_set("web")), ("deployments", deployment("web"))):
        server.put(plural, item)
    found = output(server, capsys, "rotate", "shop/s", *flags, code=1)
    PAGE.check("secret rotate, secret revoke", found, absent=("revoked",))
    assert found["outdated"] == ["shop/web-1-1"]
    assert found["workloads"][0]["state"] == ("started" if flags else "not-restarted")


def test_revoke_prints_what_the_page_says(server: ApiServer, capsys: Capture) -> None:
    server.put("secrets", secret("s"))
    server.put("pods", pod("web", owner=False))
    found = output(server, capsys, "revoke", "shop/s", "--propagation-delay", "0s", code=1)
    PAGE.check("secret rotate, secret revoke", found)
    assert found["revoked"] is False


def test_list_prints_what_the_page_says(server: ApiServer, capsys: Capture) -> None:
    server.put("secrets", secret("s"))
    server.put("pods", pod("web"))
    PAGE.check("secret list", output(server, capsys, "list", code=0))
    del server.objects["secrets", "shop", "s"]
    PAGE.check("secret list", output(server, capsys, "list", code=0), absent=ABSENT_WHEN_MISSING)


def test_page_lists_every_state_and_skip_reason() -> None:
    part = "secret rotate, secret revoke"
    assert sorted(row[0] for row in PAGE.table(part, "State")) == sorted(State)
    assert [row[0] for row in PAGE.table(part, "Reason of `skipped`")] == list(SkipReason)
