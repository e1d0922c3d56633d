"""`status -o html` in a real browser: sorted, filtered, printed, without a script, and with hostile names."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from injector.cli.status.html import _pieces
from injector.core.assessment import ProtectionReason
from injector.rotation.status import StatusReport
from tests.browser import chromium
from tests.controlplane.requirement import require
from tests.unit.cli.status_reports import LIMIT, SCOPE, cluster, pod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TypeAlias

    from tests.browser.chromium import Browser, Page

    Open: TypeAlias = Callable[[StatusReport], Page]

pytestmark = pytest.mark.browser

# The workloads that are shown, in their order.
SHOWN: Final = """
Array.from(document.querySelectorAll("#workloads > tbody:not([hidden])")).map((one) => one.rows[0].cells[2].textContent)
"""
HOSTILE: Final = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">'\"&\x1b[31m\u202e"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = chromium.find()
    require(None if program else "there is no Chromium: requirements/packages.sh --browser installs it")
    assert program
    with chromium.running(program, tmp_path_factory.mktemp("profile")) as running:
        yield running


def write(folder: Path, status: StatusReport) -> Path:
    """Write the report of a status to a file."""
    file = folder / "report.html"
    file.write_text("".join(f"{piece}\n" for piece in _pieces(status, SCOPE)), "ascii")
    return file


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens a report in a tab; afterwards it has made no request and reported no error."""
    pages = []

    def open_report(status: StatusReport) -> Page:
        page = browser.page()
        page.open(write(tmp_path, status))
        pages.append(page)
        return page

    yield open_report
    for page in pages:
        methods = [one["method"] for one in page.events]
        requested = [
            one["params"]["request"]["url"] for one in page.events if one["method"] == "Network.requestWillBeSent"
        ]
        assert [url.rpartition("/")[2] for url in requested] == ["report.html"]
        assert not {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"} & set(methods), page.events


def three() -> StatusReport:
    """Three workloads: open, protected, and protected with two Pods."""
    return StatusReport(
        (
            pod("b", "web-10", reason=ProtectionReason.NOT_INJECTED),
            pod("a", "web-9"),
            pod("c", "web-100", 1),
            pod("c", "web-100", 2),
        ),
        (LIMIT,),
    )


def click(page: Page, name: str) -> None:
    """Click the button of a column."""
    page.run(f"Array.from(document.querySelectorAll('th button')).find((one) => one.textContent === '{name}').click()")


def test_click_sorts_by_number_and_text(opened: Open) -> None:
    page = opened(three())
    first = ["deployment/web-10", "deployment/web-9", "deployment/web-100"]
    assert page.run(SHOWN) == first

    click(page, "Workload")
    assert page.run(SHOWN) == ["deployment/web-9", "deployment/web-10", "deployment/web-100"]
    assert page.run("document.querySelector('[aria-sort]').textContent") == "Workload"

    click(page, "Workload")
    assert page.run(SHOWN) == ["deployment/web-100", "deployment/web-10", "deployment/web-9"]
    assert page.run("document.querySelector('[aria-sort]').ariaSort") == "descending"

    click(page, "Severity")
    assert page.run(SHOWN) == ["deployment/web-10", "deployment/web-100", "deployment/web-9"]


def type_text(page: Page, text: str) -> None:
    page.run(f"text.value = {text!r}; text.dispatchEvent(new Event('input'))")


def test_filters_hide_workloads_and_count_the_rest(opened: Open) -> None:
    page = opened(three())
    assert page.run("shown.textContent") == "3 of 3 workloads"

    type_text(page, "C  00002")
    assert page.run(SHOWN) == ["deployment/web-100"]
    assert page.run("shown.textContent") == "1 of 3 workloads with c 00002"

    type_text(page, "")
    page.run("document.querySelector('input[value=ok]').click()")
    assert page.run(SHOWN) == ["deployment/web-10"]
    type_text(page, "no such name")
    assert page.run("shown.textContent") == "0 of 3 workloads with no such name"


def test_row_opens_to_its_pods(opened: Open) -> None:
    page = opened(three())
    visible = "document.querySelector('details table').checkVisibility()"
    assert page.run(visible) is False

    page.run("document.querySelector('summary').click()")
    assert page.run(visible) is True
    page.run("document.getElementById('open').click()")
    assert page.run("document.querySelectorAll('details[open]').length") == 3


def test_printed_report_has_every_pod_and_repeats_its_head(opened: Open, tmp_path: Path) -> None:
    status = cluster(workloads=30)
    page = opened(status)

    (tmp_path / "report.pdf").write_bytes(page.pdf())

    pages = texts(tmp_path / "report.pdf")
    assert len(pages) > 3
    assert all("SeverityNamespaceWorkload" in text for text in pages if "deployment/" in text)
    assert [one.assessment.name for one in status.pods if one.assessment.name not in "".join(pages)] == []
    assert page.run("document.querySelectorAll('details[open]').length") == 0


def texts(file: Path) -> list[str]:
    """The text of each page of a PDF, without white space: names are wrapped."""
    done = subprocess.run(["pdftotext", "-raw", file, "-"], capture_output=True, text=True, check=True)
    return ["".join(page.split()) for page in done.stdout.split("\f")[:-1]]


def test_report_without_script_is_complete(browser: Browser, tmp_path: Path) -> None:
    file = write(tmp_path, three())
    page = browser.page()
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.open(file)

    (tmp_path / "report.pdf").write_bytes(page.pdf())

    (text,) = texts(tmp_path / "report.pdf")
    assert all(one.assessment.name in text for one in three().pods)
    assert "ofworkloads" not in text  # nothing that only a script could do is shown


def test_narrow_window_needs_no_sideways_scrolling(opened: Open) -> None:
    page = opened(cluster(workloads=30))
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=True)

    page.run("document.getElementById('open').click()")

    assert page.run("document.documentElement.scrollWidth") == 360
    heights = "Array.from(document.querySelectorAll('#workloads th')).map((cell) => cell.offsetHeight)"
    assert max(page.run(heights)) < 120  # a few lines, and not a letter on each


def test_hostile_names_do_nothing(opened: Open) -> None:
    status = StatusReport((pod(HOSTILE, HOSTILE),), (HOSTILE,))

    page = opened(status)

    assert page.run("document.title").startswith("Dapr API tokens")
    assert page.run("document.querySelectorAll('img').length + document.scripts.length") == 1
    assert "\\u202e" in page.run(SHOWN)[0]
