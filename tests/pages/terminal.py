"""A reader's terminal: one shell that keeps its variables and folder from command to command."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests import forkserver
from tests.controlplane.errors import DeadlineError
from tests.controlplane.polling import wait_for
from tests.pages.blocks import FILE, ROOT, SHELL, blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.pages.blocks import Block, Command

_ELLIPSIS: Final = re.compile(r"\s*(?:…|\.\.\.)\s*")
# A Pod, its log or a count appears a moment after the command that causes it: these are repeated.
_LOOKS: Final = re.compile(r"(kubectl( -n \S+)? (get|logs|describe)|curl|dapr-token-injector (secret list|status)) ")


@dataclass(frozen=True, slots=True)
class Printed:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str

    def fits(self, documented: str) -> bool:
        """Whether the page shows this output: stdout, stderr or both; without any output, whether it ended with 0."""
        if not documented.strip():
            return self.code == 0
        texts = (self.out, self.err, self.out + self.err, self.err + self.out)
        return any(matches(documented, text) for text in texts)


def matches(documented: str, text: str) -> bool:
    """Whether a text is as documented: `…` and `...` match anything, white space is one blank."""
    text = " ".join(text.split())
    first, *others = (" ".join(part.split()) for part in _ELLIPSIS.split(documented))
    if not others:
        return text == first
    if not text.startswith(first):
        return False
    # The first occurrence of each part leaves most for the next ones; a regular expression would try all.
    at = len(first)
    for part in others[:-1]:
        at = text.find(part, at) + len(part)
        if at < len(part):
            return False
    return text.endswith(others[-1]) and len(text) - len(others[-1]) >= at


@dataclass(frozen=True, slots=True)
class Terminal:
    """A shell in a folder of its own; `replace` maps texts of a page to those that the test uses."""

    shell: subprocess.Popen[str]
    scratch: Path
    replace: Mapping[str, str]

    def type(self, text: str) -> Printed:
        """Run a command in the shell."""
        assert self.shell.stdin
        assert self.shell.stdout
        (self.scratch / "command").write_text(self._replaced(text))
        here = shlex.quote(str(self.scratch))
        self.shell.stdin.write(f". {here}/command >{here}/out 2>{here}/err </dev/null; echo $?\n")
        self.shell.stdin.flush()
        code = self.shell.stdout.readline()
        assert code, f"the shell ended at {text}"
        return Printed(int(code), (self.scratch / "out").read_text(), (self.scratch / "err").read_text())

    def follow(self, command: Command) -> None:
        """Run a command of a page, and compare what it prints with the page."""
        printed, wanted = self.type(command.text), self._replaced(command.output)
        if _LOOKS.match(command.text) and not printed.fits(wanted):

            def fits() -> bool:
                nonlocal printed
                printed = self.type(command.text)
                return printed.fits(wanted)

            with contextlib.suppress(DeadlineError):
                wait_for(command.text, fits)
        assert printed.fits(wanted), f"{command}\n{printed}"

    def save(self, name: str, text: str) -> None:
        """Save a block as a file of the folder."""
        (self.scratch.parent / name).write_text(self._replaced(text))

    def _replaced(self, text: str) -> str:
        for written, used in self.replace.items():
            text = text.replace(written, used)
        return text


def follow_page(page: str, terminal: Terminal, before: Callable[[Block], object] = lambda _: None) -> int:
    """Run every block of a page that is not marked, in the page's order; return how many commands there were.

    `before` is called with each block first.
    """
    count = 0
    for block in blocks(page):
        if block.mark == FILE:
            terminal.save(block.about, block.text)
        elif block.language in SHELL and not block.mark:
            before(block)
            for command in block.commands():
                terminal.follow(command)
                count += 1
    return count


def write_programs(folder: Path) -> None:
    """Write the programs of the wheel, as an installer writes them, for this tree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, target in project["scripts"].items():
        module, _, function = target.partition(":")
        path = folder / name
        path.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            f"from {module} import {function}\nsys.exit({function}())\n"
        )
        path.chmod(0o700)


@contextlib.contextmanager
def terminal(
    folder: Path, *, programs: Mapping[str, Path] | None = None, env: Mapping[str, str] | None = None,
    replace: Mapping[str, str] | None = None,
) -> Iterator[Terminal]:  # fmt: skip
    """A terminal in `folder` with our programs, and with other programs by the names that a reader types."""
    scratch = folder / ".terminal"
    path = scratch / "bin"
    path.mkdir(parents=True)
    write_programs(path)
    ours = path / "dapr-token-injector"
    ours.write_text(f'#!/bin/sh\nexec {shlex.join(forkserver.command())} "$@"\n')
    for name, program in (programs or {}).items():
        (path / name).symlink_to(program)
    with subprocess.Popen(
        ["/bin/bash", "--noprofile", "--norc"],
        cwd=folder,
        env={**os.environ, **(env or {}), "PATH": f"{path}:{os.environ['PATH']}", "COLUMNS": "200", "KUBERC": "off"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            yield Terminal(shell, scratch, replace or {})
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # also what a page leaves in the background
