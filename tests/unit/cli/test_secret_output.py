"""The reference page of the JSON output, held to what the commands print."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.cli.main import main
from injector.core.rollout import Hold
from injector.tokens.rolling import State
from tests.unit.cli.apiserver import ApiServer
from tests.unit.cli.objects import deployment, namespace, pod, replica_set, secret

if TYPE_CHECKING:
    from collections.abc import Iterator

Capture = pytest.CaptureFixture[str]
PAGE: Final = (Path(__file__).parents[3] / "docs/reference/secret-output.md").read_text()
TYPES: Final = {
    "string": lambda value: isinstance(value, str),
    "string?": lambda value: value is None or isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "number": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "list of string": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
}
ABSENT_WHEN_MISSING: Final = ("hasKey", "id", "issued", "expires", "changed", "owner", "immutable")


def table(part: str, head: str) -> list[list[str]]:
    """Cells of the table with this first heading, below the page's heading."""
    below = PAGE.partition(f"\n## {part}\n")[2].partition("\n## ")[0].splitlines()
    start = next(at for at, line in enumerate(below) if line.startswith(f"| {head} |"))
    rows = []
    for line in below[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" |")])
    return rows


def fields(part: str) -> dict[str, str]:
    """Type by path."""
    return {row[0].strip("`"): row[1] for row in table(part, "Field")}


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - JSON
    """Every path of a document with its value; `[]` stands for any entry of a list of objects."""
    if isinstance(value, dict):
        for name, one in value.items():
            below = f"{path}.{name}" if path else name
            yield below, one
            yield from flat(one, below)
    elif isinstance(value, list):
        for one in value:
            yield from flat(one, f"{path}[]")


def check(part: str, told: dict[str, Any], *, absent: tuple[str, ...] = ()) -> None:
    """The document has the page's fields and no other, each of its type."""
    wanted = fields(part)
    found = list(flat(told))
    assert {path for path, _ in found} == {path for path in wanted if path.rpartition(".")[2] not in absent}
    for path, value in found:
        assert TYPES[wanted[path]](value), (path, value)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as running:
        running.put("namespaces", namespace("shop"))
        yield running


def told(server: ApiServer, capsys: Capture, *arguments: str, code: int) -> dict[str, Any]:
    """What a command prints as JSON: one line."""
    assert main(["secret", *arguments, "-o", "json", "--kubeconfig", str(server.kubeconfig)]) == code
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    decoded: dict[str, Any] = json.loads(out)
    return decoded


def test_create_prints_what_the_page_says(server: ApiServer, capsys: Capture) -> None:
    server.put("secrets", secret("there"))
    found = told(server, capsys, "create", "shop/there", "shop/new", code=1)
    check("secret create", found)
    outcomes = {one["outcome"] for one in found["secrets"]}
    outcomes |= {
        one["outcome"] for one in told(server, capsys, "create", "shop/x", "--dry-run", "server", code=0)["secrets"]
    }
    (row,) = (row for row in table("secret create", "Field") if row[0] == "`secrets[].outcome`")
    assert set(re.findall(r"`([a-z][a-z-]+)`", row[2])) == outcomes


@pytest.mark.parametrize("flags", [(), ("--restart", "--wait=false", "--settle", "0s")])
def test_rotate_prints_what_the_page_says(server: ApiServer, capsys: Capture, flags: tuple[str, ...]) -> None:
    server.put("secrets", secret("s"))
    for plural, item in (("pods", pod("web")), ("replicasets", replica_set("web")), ("deployments", deployment("web"))):
        server.put(plural, item)
    found = told(server, capsys, "rotate", "shop/s", *flags, code=1)
    check("secret rotate, secret revoke", found, absent=("revoked",))
    assert found["holders"] == ["shop/web-1-1"]
    assert found["workloads"][0]["state"] == ("started" if flags else "left")


def test_revoke_prints_what_the_page_says(server: ApiServer, capsys: Capture) -> None:
    server.put("secrets", secret("s"))
    server.put("pods", pod("web", owner=False))
    found = told(server, capsys, "revoke", "shop/s", "--settle", "0s", code=1)
    check("secret rotate, secret revoke", found)
    assert found["revoked"] is False


def test_list_prints_what_the_page_says(server: ApiServer, capsys: Capture) -> None:
    server.put("secrets", secret("s"))
    server.put("pods", pod("web"))
    check("secret list", told(server, capsys, "list", code=0))
    del server.objects["secrets", "shop", "s"]
    check("secret list", told(server, capsys, "list", code=0), absent=ABSENT_WHEN_MISSING)


def test_every_state_and_every_reason_is_on_the_page_and_no_other() -> None:
    part = "secret rotate, secret revoke"
    assert [row[0].strip("`") for row in table(part, "State")] == list(State)
    assert [row[0].strip("`") for row in table(part, "Reason of `held`")] == list(Hold)
