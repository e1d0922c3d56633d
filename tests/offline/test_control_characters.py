"""No command writes a character of a manifest that a terminal would act on, whatever the output format."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING, Final

import pytest

from tests.offline.commands import run
from tests.offline.test_commands import on_terminal

if TYPE_CHECKING:
    from pathlib import Path

_EVIL: Final = "a\x1b[31m\r\n\x07\x7f\x9b2J\u202e\u2028\u200b"
_ANNOTATIONS: Final = {
    "dapr.io/enabled": "true",
    "dapr.io/api-token-secret": "s",
    "dapr-token-injector/app-containers": _EVIL,
}
_SPEC: Final = {
    "containers": [{"name": "daprd"}, {"name": _EVIL, "image": _EVIL, "env": [{"name": "A", "value": "x"}]}]
}


def _manifest(annotations: dict[str, str]) -> dict[str, object]:
    return {
        "apiVersion": "x/v1",
        "kind": f"Web{_EVIL}",
        "metadata": {"name": _EVIL, "namespace": _EVIL},
        _EVIL: {"template": {"metadata": {"annotations": annotations}, "spec": _SPEC}},
    }


_MANIFESTS: Final = (
    _manifest(_ANNOTATIONS),
    _manifest({**_ANNOTATIONS, "dapr.io/api-token-secret": _EVIL}),
    _manifest({**_ANNOTATIONS, "dapr-token-injector/status": "\x1b"}),
    _manifest(
        {
            "dapr.io/enabled": "true",
            "dapr-token-injector/status": json.dumps(
                {"v": 1, "injected": [{"container": _EVIL, "env": "DAPR_API_TOKEN", "name": _EVIL, "key": "k"}]}
            ),
        }
    ),
    {
        **_manifest(_ANNOTATIONS),
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "spec": {"template": {"spec": {"containers": [{"name": _EVIL, "env": _EVIL}]}}},
    },
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": _EVIL}, "stringData": {_EVIL: _EVIL}},
)


def _visible(text: str) -> bool:
    return all(c == "\n" or unicodedata.category(c) not in {"Cc", "Cf", "Zl", "Zp"} for c in text)


@pytest.mark.parametrize(
    "arguments",
    [
        ("inject", "-o", "json"),
        ("uninject", "-o", "json"),
        ("explain",),
        ("explain", "-o", "json"),
        *(("lint", "-o", output) for output in ("text", "json", "sarif", "github")),
    ],
    ids=" ".join,
)
def test_output_has_no_control_characters(arguments: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "\x1b[31m\n\u202e.yaml"
    file.write_text("\n".join(map(json.dumps, _MANIFESTS)) + "\n---\n[\n")
    output = run(*arguments, file)
    assert output.code in {1, 2}
    assert _visible(output.out.decode() + output.err)
    assert "\\u001b[31m" in output.err


def test_json_keeps_the_values(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(_MANIFESTS[0]))
    (explained,) = map(json.loads, run("explain", "-o", "json", file).out.splitlines())
    assert explained["object"] == f"Web{_EVIL}/{_EVIL}"
    assert explained["namespace"] == _EVIL
    (injected,) = map(json.loads, run("inject", "-o", "json", file).out.splitlines())
    assert injected[_EVIL]["template"]["spec"]["containers"][1]["image"] == _EVIL


_RAW: Final = json.dumps(_manifest(_ANNOTATIONS), ensure_ascii=False, indent=1)


@pytest.mark.parametrize("output", ["yaml", "diff"])
def test_text_is_exact_in_a_pipe_and_escaped_on_a_terminal(output: str, tmp_path: Path) -> None:
    """In a pipe it is a manifest, or a patch for `git apply`; JSON may have these characters in strings as they are."""
    (tmp_path / "a.json").write_bytes(_RAW.replace("\n ", "\r\n ").encode())
    assert "\x7f\x9b2J\u202e\u2028\u200b" in run("inject", "-o", output, "a.json", cwd=tmp_path).out.decode()
    seen = on_terminal("inject", "-o", output, "a.json", cwd=tmp_path, NO_COLOR="1")
    assert _visible(seen.replace("\r", ""))
    assert "\\u007f\\u009b2J\\u202e\\u2028\\u200b" in seen


def test_colours_are_only_ours(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(_MANIFESTS[1]))
    for command in ("explain", "lint"):
        seen = on_terminal(command, "a.json", cwd=tmp_path)
        assert "\x1b[" in seen
        assert "\x1b[31ma" not in seen
        assert "a\x1b[31m" not in seen
