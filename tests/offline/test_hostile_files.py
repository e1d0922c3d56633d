"""Files that are nested, aliased or numbered without an end are a clear error or a right answer, never a fault."""

from __future__ import annotations

import contextlib
import io
import json
from typing import TYPE_CHECKING, Final

import pytest

from injector.cli.main import Exit, main

if TYPE_CHECKING:
    from pathlib import Path

_COMMANDS: Final = {"lint": ("lint",), **{name: (name, "-f") for name in ("explain", "inject", "uninject")}}
_YAML: Final = """\
apiVersion: v1
kind: Pod
metadata:
  name: p
  annotations: {dapr.io/enabled: "true", dapr.io/api-token-secret: s, dapr-token-injector/app-containers: ""}
  x: VALUE
spec:
  containers:
    - name: daprd
"""
_POD: Final = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p",
        "annotations": {
            "dapr.io/enabled": "true",
            "dapr.io/api-token-secret": "s",
            "dapr-token-injector/app-containers": "",
        },
        "x": "VALUE",
    },
    "spec": {"containers": [{"name": "daprd"}]},
}


def _json(value: str) -> str:
    return json.dumps(_POD).replace('"VALUE"', value)


def _yaml(value: str, before: str = "") -> str:
    return before + _YAML.replace("VALUE", value)


def _lists(levels: int, inside: str = "") -> str:
    return "[" * levels + inside + "]" * levels


def _mappings(levels: int, separator: str = ":") -> str:
    return f'{{"a"{separator}' * levels + "1" + "}" * levels


def _aliased(count: int) -> str:
    """Anchors of 200 levels each, one inside the other."""
    lines = [f"x0: &a0 {_lists(200)}\n"]
    lines += [f"x{i}: &a{i} {_lists(200, f'*a{i - 1}')}\n" for i in range(1, count)]
    return "".join(lines)


def _laughing(rounds: int) -> str:
    """Ten times as much with each round."""
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, rounds)]
    return "".join(lines)


_DEEP: Final = "nested more than 256 levels deep"
_LARGE: Final = "too large once its aliases are written out: allowed are 16 times its own size and 512 KiB"
REFUSED: Final = {
    **{
        f"{name}-{levels}": (text, _DEEP)
        for levels in (1_000, 100_000)
        for name, text in (
            ("json-lists", _json(_lists(levels))),
            ("json-objects", _json(_mappings(levels))),
            ("yaml-lists", _yaml(_lists(levels))),
            ("yaml-mappings", _yaml(_mappings(levels, ": "))),
            ("yaml-dashes", "- " * levels),
            ("yaml-keys", "? " * levels),
        )
    },
    "json-without-an-end": ('{"a":' * 100_000, _DEEP),
    "aliases-of-depth": (_yaml("*a59", _aliased(60)), f"{_DEEP} once its aliases are written out"),
    "billion-laughs": (_yaml("*a8", _laughing(9)), _LARGE),
    "long-value-again-and-again": (
        f"a: &a {'x' * 100_000}\n" + _yaml(f"[{','.join(['*a'] * 20_000)}]"),
        _LARGE,
    ),
    "long-key-again-and-again": (
        f"a: &a {'x' * 100_000}\n" + _yaml(f"[{','.join(['{*a : 1}'] * 20_000)}]"),
        _LARGE,
    ),
    "json-number-that-is-too-large": (_json("1" * 5000), "a number that is too large"),
    "json-fraction-that-is-too-large": (_json("1e999"), "a number that is too large"),
}
ANSWERED: Final = {
    "json-255-levels": _json(_lists(250)),
    "yaml-255-levels": _yaml(_lists(250)),
    "yaml-number-without-an-end": _yaml("1" * 5000),
    "yaml-hexadecimal-without-an-end": _yaml("0x" + "f" * 100_000),
    "json-number-of-a-hundred-digits": _json("1" * 100),
    "few-laughs": _yaml("*a3", _laughing(4)),
    "merges-in-a-row": _yaml(
        "{<<: *m199}", "x0: &m0 {a: 1}\n" + "".join(f"x{i}: &m{i} {{<<: *m{i - 1}}}\n" for i in range(1, 200))
    ),
}


def _run(command: tuple[str, ...], text: str, folder: Path) -> tuple[int, str, str]:
    manifest = folder / "manifest.yaml"
    manifest.write_text(text)
    with (folder / "out").open("w") as out:
        err = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*command, str(manifest)])
    return code, (folder / "out").read_text(), err.getvalue()


@pytest.mark.parametrize("command", _COMMANDS.values(), ids=_COMMANDS)
@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_file_without_bounds_is_refused_with_its_place(
    text: str, message: str, command: tuple[str, ...], tmp_path: Path
) -> None:
    code, out, err = _run(command, text, tmp_path)

    assert code == Exit.USAGE
    assert f"manifest.yaml:{_line_of(err)}: document 1: {message}" in err
    assert out == ""


def _line_of(err: str) -> str:
    return err.partition("manifest.yaml:")[2].partition(":")[0]


@pytest.mark.parametrize("command", _COMMANDS.values(), ids=_COMMANDS)
@pytest.mark.parametrize("text", ANSWERED.values(), ids=ANSWERED)
def test_file_within_bounds_is_answered(text: str, command: tuple[str, ...], tmp_path: Path) -> None:
    code, out, _ = _run(command, text, tmp_path)

    assert code == Exit.FINE
    if command[0] == "explain":
        assert "inject" in out
    if command[0] == "inject":
        assert "DAPR_API_TOKEN" in out
