"""A command that is started anew when the file of its token holds another one.

One loop waits for signals with a deadline; between two of them it looks at the files. The command shares our process
group, so that it keeps the terminal: what the terminal sends (Ctrl-C) reaches both of us and is not passed on again,
what another process sends us is.

A file may be seen while it is being written. So a change counts only once the file has stayed the same for one look,
and a file that holds no token changes nothing but is told of, once.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from injector.cli import secretfiles
from injector.cli.run import IGNORED_BY_PYTHON, cannot_start, with_tokens
from injector.cli.token_source import token_of_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from injector.core.token import Token

_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
_PASSED_ON: Final = _ENDING | {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
_WAITED_FOR: Final = _PASSED_ON | {signal.SIGCHLD}
# Device, inode, size, and both times in nanoseconds: another of them, and the file is to be read again.
Identity = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, and the file of each variable."""

    command: tuple[str, ...]
    files: Mapping[str, Path]
    grace_seconds: float
    poll_seconds: float


def run(job: Job) -> int:
    """Run until the command ends by itself or by a signal from outside; its exit code, 128+n for a signal.

    Raises:
        click.ClickException: A file holds no token at the start, or the command cannot be started.
    """
    if not hasattr(signal, "sigtimedwait"):
        raise click.UsageError("--restart-on-change needs Linux")
    watches = [_Watch(variable, path) for variable, path in job.files.items()]
    tokens = {watch.variable: watch.first() for watch in watches}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it was ignored, children would vanish without a status
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    return _Supervisor(job, watches, tokens, {*unblocked}).run()


class _Watch:
    """One file; `look` returns a token only when there is a new one."""

    def __init__(self, variable: str, path: Path) -> None:
        self.variable = variable
        self.path = path
        self._judged: Identity | None = None
        self._last: Identity | None = None
        self._token: Token | None = None

    def first(self) -> Token:
        if str(self.path) == secretfiles.STDIN or (self.path.exists() and not self.path.is_file()):
            raise click.ClickException(f"{self.path}: --restart-on-change needs a regular file, to be read again")
        self._judged = self._last = self._identity()
        self._token = token_of_file(self.path)
        return self._token

    def look(self) -> Token | None:
        """The token, when the file has changed, has settled, and holds another one than before.

        Raises:
            click.ClickException: It has changed and settled and holds none; raised once.
        """
        now, before = self._identity(), self._last
        self._last = now
        if now == self._judged or now != before:
            return None
        self._judged = now
        token = token_of_file(self.path)
        if self._identity() != now:  # written while it was read: the next look will tell
            self._judged = None
            return None
        if token == self._token:
            return None
        self._token = token
        return token

    def _identity(self) -> Identity | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class _Supervisor:
    """The loop, and the one child."""

    def __init__(self, job: Job, watches: list[_Watch], tokens: dict[str, Token], unblocked: set[int]) -> None:
        self._job = job
        self._watches = watches
        self._tokens = tokens
        self._unblocked = unblocked
        self._pid = 0
        self._kill_at: float | None = None  # set while the command is being stopped to be started anew
        self._is_ending = False

    def run(self) -> int:
        self._start()
        next_look = time.monotonic() + self._job.poll_seconds
        while True:
            status = self._wait(next_look)
            if status is not None:
                if self._kill_at is None or self._is_ending:
                    return _exit_code(status)
                self._start()
            if time.monotonic() >= next_look:
                self._look()
                next_look = time.monotonic() + self._job.poll_seconds

    def _wait(self, until: float) -> int | None:
        """Take one signal, if there is one before `until`; the status of the command when it has ended."""
        deadline = until if self._kill_at is None else min(until, self._kill_at)
        info = signal.sigtimedwait(_WAITED_FOR, max(0.0, deadline - time.monotonic()))
        if info is None:
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                _tell(f"{self._name} did not end in {self._job.grace_seconds:g} s: killing it")
                self._send(signal.SIGKILL)
                self._kill_at = float("inf")
            return None
        if info.si_signo == signal.SIGCHLD:
            return self._reap()
        number = signal.Signals(info.si_signo)
        # Codes above zero are the kernel's: a terminal that sends to the whole group. SIGHUP it sends to one process.
        if info.si_code <= 0 or number is signal.SIGHUP:
            self._send(number)
        if number in _ENDING and (number is not signal.SIGINT or self._kill_at is not None):
            self._is_ending = True
        return None

    def _reap(self) -> int | None:
        """Collect every child that has ended; as process 1 of a container we are given others', too."""
        ended: int | None = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if not pid:
                return ended
            if pid == self._pid:
                ended = status

    def _look(self) -> None:
        if self._is_ending:
            return
        for watch in self._watches:
            try:
                token = watch.look()
            except click.ClickException as error:
                _tell(f"{error.message}; {self._name} keeps the token it has")
                continue
            if token is not None:
                self._tokens[watch.variable] = token
                _tell(f"{watch.path} holds another token: restarting {self._name}")
                self._stop()

    def _stop(self) -> None:
        if self._kill_at is None:
            self._send(signal.SIGTERM)
            self._kill_at = time.monotonic() + self._job.grace_seconds

    def _start(self) -> None:
        self._kill_at = None
        try:
            self._pid = os.posix_spawnp(
                self._job.command[0],
                self._job.command,
                with_tokens(self._tokens),
                setsigmask=self._unblocked,
                setsigdef=IGNORED_BY_PYTHON,
            )
        except (OSError, ValueError) as error:
            raise cannot_start(self._job.command[0], error) from None

    def _send(self, number: signal.Signals) -> None:
        os.kill(self._pid, number)  # until it is reaped the id is its own

    @property
    def _name(self) -> str:
        return self._job.command[0]


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _tell(line: str) -> None:
    click.echo(f"dapr-token-injector: {line}", err=True)
