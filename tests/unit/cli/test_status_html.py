"""`status -o html`: what it contains, that nothing from a cluster becomes markup, and what it costs."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final

import pytest

from injector.cli.main import main
from injector.cli.status.advice import REMEDIES
from injector.cli.status.html import Scope, show_html
from injector.core.assessment import (
    PROTECTIONS,
    SEVERITIES,
    ContainerFinding,
    Currency,
    KeyCurrency,
    PodFinding,
    ProtectionReason,
    Severity,
)
from injector.core.ownership import SecretKey
from injector.core.token_state import Ref
from injector.rotation.status import AssessedPod, StatusReport
from tests.fake_cluster.server import ApiServer
from tests.property.work import TIMES, is_in_proportion, measured
from tests.unit.cli.objects import namespace, pod
from tests.unit.cli.status_reports import LIMIT, SCOPE, cluster
from tests.unit.cli.status_reports import pod as assessed

if TYPE_CHECKING:
    from pathlib import Path

Capture = pytest.CaptureFixture[str]
VOID: Final = {"meta", "input"}


class Document(HTMLParser):
    """The elements and texts of a report; it must be well-formed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def report(capsys: Capture, status: StatusReport, scope: Scope = SCOPE) -> str:
    show_html(status, scope)
    return capsys.readouterr().out


def test_report_has_scope_summary_limits_and_every_pod(capsys: Capture) -> None:
    status = StatusReport(cluster(workloads=20, namespaces=4).pods, (LIMIT,))

    found = Document(report(capsys, status))

    texts = " ".join(found.texts)
    for text in (SCOPE.context, "2027-01-15T08:00:00Z", "60 Dapr Pods in 4 namespaces: ", LIMIT):
        assert text in texts
    assert all(one.assessment.name in texts for one in status.pods)
    assert found.tags.count("details") == 20


@pytest.mark.parametrize("reason", ProtectionReason)
def test_reason_has_container_meaning_and_remedy(reason: ProtectionReason, capsys: Capture) -> None:
    found = Document(report(capsys, StatusReport((assessed("shop", "web", reason=reason),), ())))

    row = found.texts[found.texts.index(f"{PROTECTIONS[reason]}: {reason}") :]
    assert row[1] == "daprd"
    assert row[3] == (REMEDIES[reason][0] if reason in REMEDIES else "-")
    if SEVERITIES[PROTECTIONS[reason]] in {Severity.ERROR, Severity.WARNING}:
        assert row[3] != "-"


@pytest.mark.parametrize("currency", Currency)
def test_currency_has_secret_and_key(currency: Currency, capsys: Capture) -> None:
    found = Document(report(capsys, StatusReport((assessed("shop", "web", currency=currency),), ())))

    row = found.texts[found.texts.index(f"{currency}: Secret dapr-api-token, key token") :]
    assert (row[1] == "-") == (currency is Currency.CURRENT)
    assert row[3] == (REMEDIES[currency][0] if currency in REMEDIES else "-")


@pytest.mark.parametrize("finding", PodFinding)
def test_finding_makes_a_workload_a_warning(finding: PodFinding, capsys: Capture) -> None:
    findings = (ContainerFinding(finding=finding, container="web", detail="GO-1"),)

    found = Document(
        report(capsys, StatusReport((assessed("shop", "web", findings=findings), assessed("shop", "sound")), ()))
    )

    row = found.texts[found.texts.index(f"{finding}: GO-1") :]
    assert row[1] == "web"
    assert ("data-severity", "warning") in found.attributes
    assert found.texts.index("deployment/web") < found.texts.index("deployment/sound")


def test_errors_that_do_not_occur_are_counted(capsys: Capture) -> None:
    found = Document(report(capsys, cluster(workloads=2, sound=True)))

    assert found.texts[found.texts.index("open") :][1] == "0"
    assert found.texts[found.texts.index("skewed") :][1] == "0"


def test_cluster_without_dapr_has_no_table(capsys: Capture) -> None:
    found = report(capsys, StatusReport((), ()))

    assert "No Pod uses Dapr." in found
    assert found.count("<section hidden>") == 2


HOSTILE: Final = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</td></tr></table><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x=\'',
    "' onmouseover='alert(1)'",
    "<!--",
    "]]>",
    "&lt;script&gt;",
    "$context ${style_hash} $",
    "<!-- workloads -->",
    "\x00\x1b[31m\r\n\t\x7f\x85",
    "\u202eevil\u2066\u200b\ufeff",
    "\ud800",
    "\U0001f600 é",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_a_cluster_never_becomes_markup(text: str, capsys: Capture) -> None:
    plain = Document(report(capsys, hostile_status("x"), Scope(context="x", namespace="x", at=0)))

    shown = report(capsys, hostile_status(text), Scope(context=text, namespace=text, at=0))

    found = Document(shown)
    assert found.tags == plain.tags
    assert [name for name, _ in found.attributes] == [name for name, _ in plain.attributes]
    assert re.fullmatch(r"[\n -~]*", shown)


def hostile_status(text: str) -> StatusReport:
    """Return a status in which every field that comes from a cluster is this text."""
    base = assessed("shop", "web").assessment
    found = dataclasses.replace(
        base,
        namespace=text,
        name=text,
        container=text,
        currencies=(KeyCurrency(key=SecretKey(text, text, text), currency=Currency.OUTDATED, containers=(text, text)),),
        findings=(ContainerFinding(finding=PodFinding.EXPOSED, container=text, detail=text),),
    )
    return StatusReport((AssessedPod(Ref(text, text, text), found),), (text,))


def test_policy_of_the_document_allows_its_own_script_only(capsys: Capture) -> None:
    shown = report(capsys, cluster(workloads=1))

    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', shown)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for name, rule in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(f"<{name}>(.*?)</{name}>", shown, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\b(src|href|on[a-z]+|style)=", shown)


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_is_readable_in_each_scheme_and_on_paper(capsys: Capture) -> None:
    schemes = re.findall(r":root \{(.*?)\}", report(capsys, StatusReport((), ())), re.DOTALL)

    assert len(schemes) == 3  # light, dark, paper
    pairs = [("text", "page"), ("muted", "page"), ("text", "raised"), ("muted", "raised")]
    pairs += [(severity.name.lower(), f"{severity.name.lower()}-page") for severity in Severity]
    for scheme in schemes:
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", scheme))
        for text, page in pairs:
            dark, light = sorted(luminance(colours[name]) for name in (text, page))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, page)


@pytest.mark.slow
def test_cost_is_in_proportion_to_the_pods(capsys: Capture) -> None:
    def cost(workloads: int) -> tuple[int, int]:
        status = cluster(workloads=workloads, namespaces=40, replicas=5)
        return measured(lambda: len(report(capsys, status)))

    small, small_size = cost(100)
    large, large_size = cost(100 * TIMES)

    assert is_in_proportion(small, large)
    assert large_size < TIMES * small_size
    assert large_size / (500 * TIMES) < 500  # bytes for each Pod


def test_command_writes_the_report_of_its_scope(tmp_path: Path, capsys: Capture) -> None:
    with ApiServer(folder=tmp_path) as server:
        server.put("namespaces", namespace())
        server.put("pods", pod("web", owner=False))

        code = main(["status", "-A", "-o", "html", "--kubeconfig", str(server.kubeconfig)])

    output = capsys.readouterr()
    found = Document(output.out)
    assert (code, output.err) == (0, "")
    assert found.texts[found.texts.index("Context") :][1] == "c"
    assert found.texts[found.texts.index("Namespaces") :][1] == "all"
    assert "pod/web-1-1" in found.texts
