"""Chromium without a window, driven by the DevTools protocol over a pipe: no port, and no library but Python's.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_PATIENCE: Final = 240.0  # seconds; the machine may be busy
Json = dict[str, Any]


def find() -> str | None:
    """The path of the browser, None without one."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Page:
    """A tab. `events` are those of the page since it was opened: its requests, console messages and errors."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.events: list[Json] = []

    def call(self, method: str, **parameters: Any) -> Json:  # noqa: ANN401 - any JSON
        """Call a method of the protocol, and return its result."""
        return self._browser.call(method, parameters, self._session)

    def open(self, file: Path) -> None:
        """Load a file, and wait until it is loaded."""
        self.call("Page.navigate", url=file.as_uri())
        self._browser.read_until(lambda: any(one["method"] == "Page.loadEventFired" for one in self.events))

    def run(self, script: str) -> Any:  # noqa: ANN401 - any JSON
        """Run a script in the page, and return its value."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self) -> bytes:
        """A PNG of what the window shows."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def pdf(self) -> bytes:
        """The page as it is printed, on the paper that its style demands."""
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True)["data"])


class Browser:
    """A running browser."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests = requests
        self._answers = answers
        self._buffer = b""
        self._last = 0
        self._results: dict[int, Json] = {}
        self._pages: dict[str, Page] = {}

    def page(self, width: int = 1280, height: int = 900) -> Page:
        """Open an empty tab."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        return page

    def call(self, method: str, parameters: Json, session: str | None = None) -> Json:
        """Call a method, and return its result."""
        self._last += 1
        number = self._last
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        self.read_until(lambda: number in self._results)
        answer = self._results.pop(number)
        assert "error" not in answer, (method, answer)
        result: Json = answer["result"]
        return result

    def read_until(self, done: Callable[[], bool]) -> None:
        """Read messages until something is true."""
        deadline = time.monotonic() + _PATIENCE
        while not done():
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            read = os.read(self._answers, 1 << 20)
            assert read, "the browser has ended"
            *messages, self._buffer = (self._buffer + read).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._results[message["id"]] = message
                elif message.get("sessionId") in self._pages:
                    self._pages[message["sessionId"]].events.append(message)


@contextlib.contextmanager
def running(program: str, folder: Path) -> Iterator[Browser]:
    """Start the browser with a profile of its own."""
    with contextlib.ExitStack() as opened:

        def pipe() -> tuple[int, int]:
            """The ends of a pipe, beyond the numbers 3 and 4 that the browser reads and writes."""
            ends = os.pipe()
            high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
            for end in ends:
                os.close(end)
            return high[0], high[1]

        theirs_in, requests = pipe()
        answers, theirs_out = pipe()
        for end in (requests, answers):
            opened.callback(os.close, end)
        process = subprocess.Popen(
            [
                *("sh", "-c", f'exec "$@" 3</dev/fd/{theirs_in} 4>/dev/fd/{theirs_out}', "sh"),
                *(program, "--headless", "--remote-debugging-pipe", f"--user-data-dir={folder}"),
                *("--no-first-run", "--disable-gpu", "--disable-dev-shm-usage"),
                # Its sandbox needs namespaces that root in a container does not have; it opens our own files only.
                "--no-sandbox",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs_in, theirs_out),
        )
        for end in (theirs_in, theirs_out):
            os.close(end)
        try:
            browser = Browser(requests, answers)
            yield browser
            browser.call("Browser.close", {})
            process.wait(_PATIENCE)
        finally:
            process.kill()
            process.wait()
