"""Prints the result of `probe`: a row for each port, then each finding with its meaning and remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from injector.cli.output import table
from injector.core.exposure import ADVICE, ProbeVerdict
from injector.words import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from injector.core.exposure import Exposure, PortResult, ProbeReport


def show(
    reports: Sequence[ProbeReport], accepted: Collection[Exposure], output: str, *, with_namespace: bool = False
) -> None:
    """Write the reports to stdout, as a table with advice or as JSON, and a summary to stderr."""
    if output == "json":
        documents = [_as_json(report, accepted) for report in reports]
        click.echo(msgspec.json.format(msgspec.json.encode({"targets": documents})))
        return
    for line in _table(reports, accepted, with_namespace=with_namespace):
        click.echo(line)
    counts = [
        f"{sum(report.verdict(accepted) is verdict for report in reports)} {verdict}"
        for verdict in (ProbeVerdict.CLOSED, ProbeVerdict.OPEN, ProbeVerdict.UNKNOWN)
    ]
    click.echo(f"{counted(len(reports), 'target')}: {', '.join(counts)}", err=True)


_HEAD: Final = ("TARGET", "PORT", "FOR", "NO TOKEN", "WRONG", "RIGHT", "VERDICT")


def _table(reports: Sequence[ProbeReport], accepted: Collection[Exposure], *, with_namespace: bool) -> Iterable[str]:
    rows = [("NAMESPACE", _HEAD), *((report.namespace, row) for report in reports for row in _rows(report, accepted))]
    yield from table([(namespace if row[0] else "", *row) if with_namespace else row for namespace, row in rows])
    # Pods of a workload are alike: what applies to several is printed once.
    same: dict[tuple[str, ...], list[str]] = {}
    for report in reports:
        same.setdefault(tuple(_details(report, accepted)), []).append(report.name if with_namespace else report.target)
    for lines, targets in same.items():
        if lines:
            yield ""
            yield from (f"{target}," for target in targets[:-1])
            yield f"{targets[-1]}:"
            yield from (f"  {line}" for line in lines)


def _rows(report: ProbeReport, accepted: Collection[Exposure]) -> Iterable[tuple[str, ...]]:
    verdict = report.verdict(accepted).value
    if not report.asked:
        yield report.target, "-", "-", "-", "-", "-", verdict
    for at, asked in enumerate(report.asked):
        yield (
            report.target if at == 0 else "",
            str(asked.port),
            asked.purpose.value,
            asked.without.value,
            asked.wrong.value,
            asked.right.value,
            verdict if at == 0 else "",
        )


def _details(report: ProbeReport, accepted: Collection[Exposure]) -> Iterable[str]:
    if report.failure:
        yield report.failure
    yield from _notes(report.asked)
    for found in report.found:
        advice = ADVICE[found.exposure]
        word = "accepted " if found.exposure in accepted else ""
        cause = f" ({found.cause})" if found.cause else ""
        yield f"{word}{found.exposure.value}: {found.where}{cause}: {advice.meaning}"
        if found.exposure not in accepted:
            yield f"  {advice.remedy}"


def _notes(asked: Iterable[PortResult]) -> Iterable[str]:
    """Return why calls were not made or not evaluated; once if the reason is the same for both protocols."""
    notes: dict[str, list[str]] = {}
    for one in asked:
        for words in filter(
            None, (one.failure, f"the right token was not tried: {one.skipped_reason}" if one.skipped_reason else "")
        ):
            notes.setdefault(words, []).append(str(one.port))
    return (f"port {' and '.join(ports)}: {words}" for words, ports in notes.items())


def _as_json(report: ProbeReport, accepted: Collection[Exposure]) -> dict[str, object]:
    return {
        "target": report.target,
        **({"namespace": report.namespace} if report.namespace else {}),
        "verdict": report.verdict(accepted),
        **({"failure": report.failure} if report.failure else {}),
        "ports": [
            {
                "port": asked.port,
                "purpose": asked.purpose,
                "without": asked.without,
                "wrong": asked.wrong,
                "right": asked.right,
                **({"failure": asked.failure} if asked.failure else {}),
                **({"skippedReason": asked.skipped_reason} if asked.skipped_reason else {}),
            }
            for asked in report.asked
        ],
        "findings": [
            {
                "finding": found.exposure,
                "where": found.where,
                **({"cause": found.cause} if found.cause else {}),
                "accepted": found.exposure in accepted,
                "meaning": ADVICE[found.exposure].meaning,
                "remedy": ADVICE[found.exposure].remedy,
            }
            for found in report.found
        ],
    }
