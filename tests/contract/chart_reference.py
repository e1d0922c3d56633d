"""The chart's README and closed schema, made from its values: `python -m tests.contract.chart_reference`.

A key with a comment is documented by it; a key without one is a group, and every key in it must have one. The comment's
last line may be `schema: {...}`, in YAML: it narrows or widens what the default's own type allows. `## TITLE` starts a
section of the README.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.documents import document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHART: Final = Path(__file__).parents[2] / "charts/dapr-token-injector"
_COMMAND: Final = "`python -m tests.contract.chart_reference`"
_KEY: Final = re.compile(r"( *)([A-Za-z][A-Za-z0-9]*):(?: |$)")
_TYPES: Final = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}


_INTRODUCTION: Final = """\
This page lists every value of the chart and its alerts. The chart installs the admission webhook that
gives every Dapr sidecar its API token. It needs Kubernetes 1.30 or newer and does not need
cert-manager. [Install](../../docs/how-to/install.md) describes the installation and the values for
different clusters.

No image is published yet: build it, push it, and set `image.repository`, as that page shows.

<!-- run in: docs/how-to/install.md -->
```console
$ helm install dapr-token-injector charts/dapr-token-injector -n dapr-token-injector --create-namespace \\
    --set image.repository=registry.example/dapr-token-injector
```

Names are fixed: a cluster has one installation, and documentation, alerts and the permissions on two
named webhook configurations depend on the names. The chart rejects contradicting and unknown values
with a message."""
_PROFILES: Final = """\
## Profiles

`profiles/safe.yaml` changes nothing: shadow mode, `failurePolicy: Ignore`, and a guard that only writes
to the audit log. `profiles/strict.yaml` denies every sidecar without a token. Use one with `--values`."""


@dataclass(frozen=True, slots=True)
class Value:
    """One documented key: its position, description and allowed values."""

    section: str
    path: tuple[str, ...]
    text: str
    default: object
    schema: dict[str, Any]


class ValuesError(Exception):
    """The values file does not say what it must."""


def read(text: str) -> tuple[Value, ...]:
    """Every documented value.

    Raises:
        ValuesError: A key has neither a comment nor documented keys in it, or a comment belongs to no key.
    """
    defaults = document(text)
    values = tuple(_documented(text.splitlines(), defaults))
    missing = sorted(set(_leaves(defaults, {value.path for value in values})) - {value.path for value in values})
    if missing:
        raise ValuesError(f"without a comment: {', '.join('.'.join(path) for path in missing)}")
    return values


def _documented(lines: list[str], defaults: object) -> Iterator[Value]:
    section, comment, parents = "", list[str](), list[tuple[int, str]]()
    inside: int | None = None  # the indentation of the current documented key
    for number, line in enumerate(lines, 1):
        if line.startswith("## "):
            section, comment = line.removeprefix("## "), []
            continue
        if not line.strip():
            comment = []  # the file's header
            continue
        indent = len(line) - len(line.lstrip())
        if inside is not None and (indent > inside or line.lstrip().startswith("- ")):
            continue
        inside = None
        if line.lstrip().startswith("#"):
            comment.append(line.strip().removeprefix("#").strip())
            continue
        match = _KEY.match(line)
        if match is None:
            raise ValuesError(f"line {number} is neither a comment nor a key: {line}")
        parents = [parent for parent in parents if parent[0] < indent]
        path = (*(name for _, name in parents), match[2])
        if comment:
            yield _value(section, path, comment, _at(defaults, path))
            inside, comment = indent, []
        else:
            parents.append((indent, match[2]))


def _value(section: str, path: tuple[str, ...], comment: list[str], default: object) -> Value:
    description, declared = comment, dict[str, Any]()
    if comment[-1].startswith("schema: "):
        description, declared = comment[:-1], document(comment[-1])["schema"]
    own = {} if default is None else {"type": _TYPES[type(default)]}
    schema = {**own, **declared}
    if schema.get("type") == "object" and "additionalProperties" not in schema:
        raise ValuesError(f"{'.'.join(path)}: an object needs a schema that says what may be in it")
    if schema.get("type") == "array" and "items" not in schema:
        raise ValuesError(f"{'.'.join(path)}: a list needs a schema that says what its items are")
    return Value(section, path, " ".join(description), default, schema)


def _at(tree: object, path: tuple[str, ...]) -> object:
    for name in path:
        tree = tree[name] if isinstance(tree, dict) else None
    return tree


def _leaves(tree: object, documented: set[tuple[str, ...]], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(tree, dict) and path not in documented:
        for name, child in tree.items():
            yield from _leaves(child, documented, (*path, name))
    else:
        yield path


def schema(values: tuple[Value, ...]) -> str:
    """The JSON schema of the values: closed, so that a misspelt key is rejected."""
    root: dict[str, Any] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": f"Made by {_COMMAND} from values.yaml; do not edit.",
        **_group(),
    }
    # Helm hands it to every chart that is another one's dependency.
    root["properties"]["global"] = {"type": "object"}
    for value in values:
        at = root
        for name in value.path[:-1]:
            _require(at, name)
            at = at["properties"].setdefault(name, _group())
        if _is_needed(value):
            _require(at, value.path[-1])
        at["properties"][value.path[-1]] = {"description": value.text, **value.schema}
    return json.dumps(root, indent=2) + "\n"


def _is_needed(value: Value) -> bool:
    """Whether the chart cannot do without: `null` takes a default away, and templates would render a hole."""
    return value.default not in (None, "") and not isinstance(value.default, (list, dict)) and "Unset" not in value.text


def _require(group: dict[str, Any], name: str) -> None:
    if name not in group.setdefault("required", []):
        group["required"].append(name)


def _group() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def readme(values: tuple[Value, ...]) -> str:
    """The chart's README: what to type, every value, every alert."""
    sections = dict.fromkeys(value.section for value in values)
    parts = [
        "# Chart dapr-token-injector",
        f"<!-- Made by {_COMMAND} from values.yaml and files/alerts.yaml; do not edit. -->",
        _INTRODUCTION,
    ]
    for section in sections:
        title, _, note = section.partition(": ")
        rows = [value for value in values if value.section == section]
        parts += [f"## {title}", *([f"{note[:1].upper()}{note[1:]}."] if note else []), _table(rows)]
    parts += [
        "## Alerts of `prometheusRule`",
        "| Alert | When | Severity |\n| --- | --- | --- |\n" + "\n".join(_alerts()),
        _PROFILES,
    ]
    return "\n\n".join(parts) + "\n"


def _table(rows: list[Value]) -> str:
    lines = ["| Value | Default | Meaning |", "| --- | --- | --- |"]
    for value in rows:
        allowed = value.schema.get("enum")
        text = value.text + (f" One of {', '.join(f'`{choice}`' for choice in allowed)}." if allowed else "")
        default = "unset" if value.default in ("", None) else f"`{json.dumps(value.default)}`"
        cells = (f"`{'.'.join(value.path)}`", default, text)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def _alerts() -> Iterator[str]:
    for group in document(CHART / "files/alerts.yaml"):
        for rule in group["rules"]:
            yield f"| `{rule['alert']}` | {rule['annotations']['summary']} | {rule['labels']['severity']} |"


PAGES: Final[dict[str, Callable[[tuple[Value, ...]], str]]] = {"README.md": readme, "values.schema.json": schema}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (CHART / name).write_text(make(read((CHART / "values.yaml").read_text())))
