"""Writes a status as one HTML file for people who audit. It needs no network, and no script to be read.

`report.html` has everything that does not come from a cluster: layout, style and script. The policy in its head allows
that style and that script only, so that markup in a name could do nothing even if it were not escaped.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Final, TypeVar

import click

from injector import __version__
from injector.cli.status.advice import REMEDIES
from injector.cli.status.meanings import (
    CURRENCY_MEANINGS,
    FINDING_MEANINGS,
    PROTECTION_MEANINGS,
    REASON_MEANINGS,
)
from injector.cli.status.report import HEAD, URGENCY, rows_of, summary, worst_currency
from injector.core.assessment import CURRENCY_SEVERITIES, SEVERITIES, Severity
from injector.times import rfc3339
from injector.words import counted, escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from enum import StrEnum

    from injector.cli.status.report import WorkloadRow
    from injector.core.assessment import Assessment, Currency, PodFinding, ProtectionReason
    from injector.rotation.status import StatusReport

_WordT = TypeVar("_WordT", bound="StrEnum")

# All findings have the same one: docs/reference/status.md.
_FINDING_SEVERITY: Final = Severity.WARNING
# What no permission changes.
_ALWAYS: Final = (
    (
        "No value of a Secret is read: a sidecar with an empty token counts as protected. "
        "Only dapr-token-injector probe calls the sidecars."
    ),
    "Pods that do not use Dapr are not listed.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What was read: a namespace or (None) all of them, or one object `of` it. `at` is in seconds since 1970."""

    context: str
    namespace: str | None
    at: int
    of: str = ""


def show_html(status: StatusReport, scope: Scope) -> None:
    """Write the report to stdout."""
    for piece in _pieces(status, scope):
        click.echo(piece)


def _pieces(status: StatusReport, scope: Scope) -> Iterator[str]:
    """Yield the report: what is above the workloads, each of them, and the rest."""
    template = resources.files(__package__).joinpath("report.html").read_text("ascii")
    above, _, below = template.partition("<!-- workloads -->\n")
    pods = [one.assessment for one in status.pods]
    yield Template(above).substitute(
        style_hash=_hash(template, "style"),
        script_hash=_hash(template, "script"),
        context=_text(scope.context),
        created=_text(rfc3339(scope.at)),
        namespaces=_text(", ".join(filter(None, (scope.namespace or "all", scope.of)))),
        version=_text(f"dapr-token-injector {__version__}"),
        summary=_text(summary(status.pods, scope.of)),
        limits=Markup("\n".join(_element("li", limit) for limit in (*status.limits, *_ALWAYS))),
        counts=Markup("\n".join(_counts(pods))),
        if_any="" if pods else " hidden",
        head=_element("tr", *(_element("th", word.capitalize(), scope="col") for word in ("SEVERITY", *HEAD))),
    )
    for row in sorted(rows_of(status), key=_rank):
        yield _workload(row)
    yield below


def _hash(template: str, name: str) -> str:
    """Return the hash of the text of an element, as a Content-Security-Policy has it."""
    (text,) = re.findall(f"<{name}>(.*?)</{name}>", template, re.DOTALL)
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


# --- HTML ---


class Markup(str):
    """HTML. Any other text is escaped before it becomes a part of the report."""

    __slots__ = ()


def _text(content: str) -> Markup:
    """Return a text as HTML: in ASCII, without characters that a browser or an editor would act on."""
    if isinstance(content, Markup):
        return content
    return Markup(html.escape(escaped(content)).encode("ascii", "xmlcharrefreplace").decode())


def _element(name: str, *content: str, **attributes: str) -> Markup:
    """Return an element; `class_="x"` is the attribute `class`, `data_x="y"` is `data-x`."""
    pairs = "".join(f' {key.strip("_").replace("_", "-")}="{_text(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{pairs}>{''.join(map(_text, content))}</{name}>")


def _mark(severity: Severity, *, occurs: bool = True) -> Markup:
    """Return the word of a severity, in its colour if it occurs."""
    return _element("span", severity.value, class_=f"mark {(severity if occurs else Severity.NONE).name.lower()}")


# --- numbers ---


def _counts(pods: Sequence[Assessment]) -> Iterator[Markup]:
    """Yield a table of the numbers of Pods for each kind of word."""
    protections = Counter(one.protection for one in pods)
    currencies = Counter(worst_currency(one) for one in pods if one.currencies)
    findings = Counter(word for one in pods for word in {found.finding for found in one.findings})
    severities = dict.fromkeys(FINDING_MEANINGS, _FINDING_SEVERITY)
    yield _count_table("Protection", protections, SEVERITIES, PROTECTION_MEANINGS)
    yield _count_table("Currency", currencies, CURRENCY_SEVERITIES, CURRENCY_MEANINGS)
    if findings:
        yield _count_table("Finding", findings, severities, FINDING_MEANINGS)


def _count_table(
    title: str, numbers: Mapping[_WordT, int], severities: Mapping[_WordT, Severity], meanings: Mapping[_WordT, str]
) -> Markup:
    """Return a table of the words that occur, and of all errors: that there are none is a result, too."""
    words = [word for word in meanings if numbers.get(word) or severities[word] is Severity.ERROR]
    rows = [
        _element(
            "tr",
            _element("td", _mark(severities[word], occurs=bool(numbers.get(word)))),
            _element("th", word.value, scope="row"),
            _element("td", f"{numbers.get(word, 0):,}"),
            _element("td", meanings[word]),
        )
        for word in sorted(words, key=lambda word: URGENCY.index(severities[word]))
    ]
    head = _element("tr", *(_element("th", one, scope="col") for one in ("Severity", title, "Pods", "Meaning")))
    return _table(head, rows)


def _table(head: Markup, rows: Iterable[Markup]) -> Markup:
    return _element("table", _element("thead", head), _element("tbody", *rows))


# --- workloads ---


@dataclass(frozen=True, slots=True)
class _Fact:
    """One thing that is known of a Pod. `containers` are those that it is about."""

    severity: Severity
    state: str
    containers: str
    meaning: str
    remedy: str


def _facts(pod: Assessment) -> Iterator[_Fact]:
    meaning = f"{PROTECTION_MEANINGS[pod.protection]}: {REASON_MEANINGS[pod.reason]}"
    yield _Fact(pod.severity, f"{pod.protection}: {pod.reason}", pod.container, meaning, _remedy(pod.reason))
    for key in pod.currencies:
        word = key.currency
        state = f"{word}: Secret {key.key.name}, key {key.key.key}"
        containers = ", ".join(key.containers)
        yield _Fact(CURRENCY_SEVERITIES[word], state, containers, CURRENCY_MEANINGS[word], _remedy(word))
    for one in pod.findings:
        state = f"{one.finding}: {one.detail}" if one.detail else one.finding.value
        meaning = FINDING_MEANINGS[one.finding]
        yield _Fact(_FINDING_SEVERITY, state, one.container, meaning, _remedy(one.finding))


def _remedy(word: ProtectionReason | Currency | PodFinding) -> str:
    return REMEDIES[word][0] if word in REMEDIES else ""


def _rank(row: WorkloadRow) -> int:
    """Return the place of the severity of the worst fact; 0 is the most urgent."""
    return min(URGENCY.index(fact.severity) for one in row.pods for fact in _facts(one.assessment))


def _workload(row: WorkloadRow) -> Markup:
    """Return the row of a workload, and a row that opens to what is known of its Pods."""
    names: dict[_Fact, list[str]] = defaultdict(list)
    for one in row.pods:
        for fact in _facts(one.assessment):
            names[fact].append(one.assessment.name)
    facts = sorted(names, key=lambda fact: URGENCY.index(fact.severity))
    severity = facts[0].severity
    namespace, workload, *others = row.cells
    line = _element(
        "tr",
        _element("td", _mark(severity), data_order=str(URGENCY.index(severity))),
        _element("td", namespace),
        _element("th", workload, scope="row"),
        *(_element("td", cell) for cell in others),
    )
    advice = f": {facts[0].remedy}" if facts[0].remedy else ""
    head = _element("tr", *(_element("th", word, scope="col") for word in _FACT_HEAD))
    table = _table(head, (_fact_row(fact, names[fact]) for fact in facts))
    details = _element("details", _element("summary", counted(len(row.pods), "Pod") + advice), table)
    detail = _element("tr", _element("td", details, colspan=str(len(HEAD) + 1)))
    return _element("tbody", line, detail, data_severity=severity.name.lower())


_FACT_HEAD: Final = ("Severity", "State", "Container", "Meaning", "What to do", "Pods")


def _fact_row(fact: _Fact, names: Sequence[str]) -> Markup:
    # The meaning of what is fine is above all workloads: here it would be most of the file.
    meaning = "" if fact.severity is Severity.OK else fact.meaning
    return _element(
        "tr",
        _element("td", _mark(fact.severity)),
        _element("th", fact.state, scope="row"),
        *(_element("td", cell or "-") for cell in (fact.containers, meaning, fact.remedy)),
        _element("td", ", ".join(names)),
    )
