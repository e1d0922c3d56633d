"""A report as text, JSON, SARIF and GitHub's workflow commands. None of them shows a line of the file.

Lines come one at a time, without line ends.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from injector import __version__
from injector.lint.baseline import fingerprint
from injector.lint.catalogue import RULES
from injector.lint.model import Level
from injector.lint.pages import page
from injector.words import counted, escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from injector.lint.linter import Report
    from injector.lint.model import Finding, Rule
    from injector.manifests.errors import ManifestError


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


# --- text ---

_COLOURS: Final = {Level.ERROR: "31", Level.WARNING: "33", Level.INFO: "36"}


def text(report: Report, *, colour: bool = False) -> Iterator[str]:
    """Yield one line per finding in the format of compilers, which editors can open."""
    for finding in report.findings:
        location, level = finding.location, finding.rule.level.value
        if colour:
            level = f"\x1b[{_COLOURS[finding.rule.level]}m{level}\x1b[0m"
        where = f"{escaped(location.source)}:{location.line}:{location.column}"
        yield f"{where}: {level} {finding.rule.id} {finding.rule.name}: {finding.message} ({location.identity})"


def summary(report: Report) -> str:
    """Return the summary, for stderr."""
    by_level = {level: sum(finding.rule.level is level for finding in report.findings) for level in Level}
    counts = [counted(count, level.value) for level, count in by_level.items() if level is not Level.INFO or count]
    aside = [
        f"{count} {words}"
        for count, words in (
            (len(report.ignored), "ignored by comments"),
            (len(report.known), "known by the baseline"),
            (report.gone, "of the baseline are gone: write it again"),
        )
        if count
    ]
    unread = [f"{counted(len(report.unreadable), 'document')} could not be read"] if report.unreadable else []
    return f"{', '.join(counts)} in {counted(report.files, 'file')}" + "".join(
        f"; {each}" for each in (*aside, *unread)
    )


# --- JSON ---


def json(report: Report) -> Iterator[str]:
    """One object: `findings`, what was left out, and what could not be read."""
    yield _json(
        {
            "version": 1,
            "findings": [_finding(finding) for finding in report.findings],
            "ignored": len(report.ignored),
            "known": len(report.known),
            "gone": report.gone,
            "files": report.files,
            "errors": [
                {
                    "file": each.source,
                    "document": each.document or None,
                    "line": each.line or None,
                    "message": each.message,
                }
                for each in report.unreadable
            ],
        }
    )


def _finding(finding: Finding) -> Mapping[str, object]:
    location, rule = finding.location, finding.rule
    return {
        "rule": rule.id,
        "name": rule.name,
        "level": rule.level.value,
        "message": finding.message,
        "file": location.source,
        "line": location.line,
        "column": location.column,
        "document": location.document,
        "object": location.identity,
        "path": location.path,
        "fingerprint": fingerprint(finding),
    }


# --- SARIF ---

_SARIF_LEVELS: Final = {Level.ERROR: "error", Level.WARNING: "warning", Level.INFO: "note"}
_ROOT: Final = "%SRCROOT%"


def sarif(report: Report) -> Iterator[str]:
    """SARIF 2.1.0: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html."""
    results = [
        *(_result(finding) for finding in report.findings),
        *(_result(finding, "inSource") for finding in report.ignored),
        *(_result(finding, "external") for finding in report.known),
    ]
    notes = [_notification(each) for each in report.unreadable]
    driver = {
        "name": "dapr-token-injector",
        "semanticVersion": __version__,
        "rules": [_sarif_rule(rule) for rule in RULES],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": not report.unreadable, "toolExecutionNotifications": notes}],
        "results": results,
    }
    yield _json({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_INDEX: Final = {rule.id: index for index, rule in enumerate(RULES)}


def _sarif_rule(rule: Rule) -> Mapping[str, object]:
    help_text = f"{rule.why}\n\n{rule.fix}"
    return {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.why},
        "help": {"text": help_text, "markdown": page(rule)},
        "defaultConfiguration": {"level": _SARIF_LEVELS[rule.level]},
    }


def _result(finding: Finding, suppressed: str | None = None) -> Mapping[str, object]:
    location = finding.location
    physical = {
        "artifactLocation": _artifact(location.source),
        "region": {"startLine": location.line, "startColumn": location.column},
    }
    named = {"fullyQualifiedName": f"{location.identity} {location.path}".rstrip(), "kind": "resource"}
    result: dict[str, object] = {
        "ruleId": finding.rule.id,
        "ruleIndex": _INDEX[finding.rule.id],
        "level": _SARIF_LEVELS[finding.rule.level],
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": physical, "logicalLocations": [named]}],
        "partialFingerprints": {"ruleObjectPath/v1": fingerprint(finding)},
    }
    if suppressed is not None:
        result["suppressions"] = [{"kind": suppressed, "status": "accepted"}]
    return result


def _artifact(source: str) -> Mapping[str, object]:
    path = source.replace("\\", "/").removeprefix("./")
    if path.startswith("/"):
        return {"uri": f"file://{quote(path)}"}
    return {"uri": quote(path), "uriBaseId": _ROOT}


def _notification(each: ManifestError) -> Mapping[str, object]:
    physical: dict[str, object] = {"artifactLocation": _artifact(each.source)}
    if each.line:
        physical["region"] = {"startLine": each.line}
    return {"level": "error", "message": {"text": each.message}, "locations": [{"physicalLocation": physical}]}


# --- GitHub ---

_COMMANDS: Final = {Level.ERROR: "error", Level.WARNING: "warning", Level.INFO: "notice"}


def github(report: Report) -> Iterator[str]:
    """Yield workflow commands, which GitHub shows at the lines of a pull request."""
    for finding in report.findings:
        location, rule = finding.location, finding.rule
        title = f"{rule.id} {rule.name}"
        where = (("file", location.source), ("line", location.line), ("col", location.column), ("title", title))
        yield _command(_COMMANDS[rule.level], where, f"{finding.message} ({location.identity})")
    for each in report.unreadable:
        at = (("file", each.source), ("line", each.line or 1), ("title", "not readable"))
        yield _command("error", at, each.message)


def _command(name: str, properties: Iterable[tuple[str, str | int]], message: str) -> str:
    parameters = ",".join(f"{key}={_escaped(str(value), in_property=True)}" for key, value in properties)
    return f"::{name} {parameters}::{_escaped(message)}"


def _escaped(value: str, *, in_property: bool = False) -> str:
    """As https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts does it: no value ends a command."""
    for plain, escape in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        value = value.replace(plain, escape)
    if in_property:
        value = value.replace(":", "%3A").replace(",", "%2C")
    return value


FORMATS: Final[Mapping[str, Callable[[Report], Iterator[str]]]] = {
    "text": text,
    "json": json,
    "sarif": sarif,
    "github": github,
}


# --- the rules themselves ---


def rules_table(width: int = 80) -> Iterator[str]:
    """Yield the table of all rules, for a terminal."""
    for rule in RULES:
        head = f"{rule.id}  {rule.level.value:<8}"
        yield from textwrap.wrap(
            f"{rule.name}: {rule.summary}", width, initial_indent=head, subsequent_indent=" " * len(head)
        )
