"""Restarts a command when its token file holds a new token.

One loop waits for signals with a deadline and polls the files in between. The command shares the process group of the
supervisor, so that it keeps the terminal: signals from the terminal (Ctrl-C) reach both and are not forwarded, signals
from other processes are.

A poll can see a file that is being written. So a change counts only when the file is the same at the next poll, and a
file without a valid token changes nothing and is reported once.

The supervisor ends only after the command. If the supervisor is killed, Linux sends SIGTERM to the command.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import stat
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from injector.cli.input import STDIN
from injector.cli.run.launch import cannot_start, env_with_tokens
from injector.cli.token.source import read_token_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from injector.core.token import Token

_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
_PASSED_ON: Final = _ENDING | {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH}
_WAITED_FOR: Final = _PASSED_ON | {signal.SIGCHLD}
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
# Mode, device, inode, size, and both times in nanoseconds; if one differs, the file is read again.
FileIdentity = tuple[int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Job:
    """The command to run, and the token file of each variable."""

    command: tuple[str, ...]
    files: Mapping[str, Path]
    grace_seconds: float
    poll_seconds: float


def run(job: Job) -> int:
    """Run until the command ends; return its exit code, or end by the same signal.

    Raises:
        click.ClickException: A file holds no token at the start, or the command cannot be started.
    """
    if not hasattr(signal, "sigtimedwait"):
        raise click.UsageError("--restart-on-change requires Linux")
    files = [_TokenFile(variable, path) for variable, path in job.files.items()]
    tokens = {file.variable: file.first() for file in files}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if SIGCHLD is ignored, children leave no exit status
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    return _Supervisor(job, files, tokens, {*unblocked}).run()


class _TokenFile:
    """A token file; `poll` returns a token only if it is new."""

    def __init__(self, variable: str, path: Path) -> None:
        self.variable = variable
        self.path = path
        self._evaluated: FileIdentity | None = None
        self._last: FileIdentity | None = None
        self._token: Token | None = None

    def first(self) -> Token:
        self._evaluated = self._last = self._identity()
        if str(self.path) == STDIN or not _is_regular(self._evaluated):
            raise click.ClickException(f"{self.path}: not a regular file, which --restart-on-change requires")
        self._token = read_token_file(self.path)
        return self._token

    def poll(self) -> Token | None:
        """Return the token if the file has changed, is stable, and holds a new token.

        Raises:
            click.ClickException: It has changed, is stable, and holds no token; raised once.
        """
        now, before = self._identity(), self._last
        self._last = now
        if now == self._evaluated or now != before:
            return None
        self._evaluated = now
        if not _is_regular(now):  # reading a pipe would block
            raise click.ClickException(f"{self.path}: no longer a regular file")
        token = read_token_file(self.path)
        if self._identity() != now:  # written while it was read; read it again at the next poll
            self._evaluated = None
            return None
        if token == self._token:
            return None
        self._token = token
        return token

    def _identity(self) -> FileIdentity | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return (found.st_mode, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _is_regular(identity: FileIdentity | None) -> bool:
    """Whether it can be read without blocking; if it does not exist, reading reports that."""
    return identity is None or stat.S_ISREG(identity[0])


class _Supervisor:
    """Runs the loop and the child process."""

    def __init__(self, job: Job, files: list[_TokenFile], tokens: dict[str, Token], unblocked: set[int]) -> None:
        self._job = job
        self._files = files
        self._tokens = tokens
        self._unblocked = unblocked
        self._child: subprocess.Popen[bytes] | None = None
        self._libc = ctypes.CDLL(None)
        self._kill_at: float | None = None  # set while the command is being stopped for a restart
        self._is_ending = False

    def run(self) -> int:
        self._start()
        next_poll = time.monotonic() + self._job.poll_seconds
        while True:
            status = self._wait(next_poll)
            if status is not None:
                if self._kill_at is None or self._is_ending:
                    return _exit_like(status)
                self._start()
            if time.monotonic() >= next_poll:
                self._poll()
                next_poll = time.monotonic() + self._job.poll_seconds

    def _wait(self, until: float) -> int | None:
        """Handle one signal before `until`; return the status of the command if it has ended."""
        deadline = until if self._kill_at is None else min(until, self._kill_at)
        info = signal.sigtimedwait(_WAITED_FOR, max(0.0, deadline - time.monotonic()))
        if info is None:
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                _log(f"{self._name} did not end within {self._job.grace_seconds:g} s: sending SIGKILL")
                self._send(signal.SIGKILL)
                self._kill_at = float("inf")
            return None
        if info.si_signo == signal.SIGCHLD:
            return self._reap()
        number = signal.Signals(info.si_signo)
        # Codes above zero are from the kernel: a terminal signals the whole group, but SIGHUP only one process.
        if info.si_code <= 0 or number is signal.SIGHUP:
            self._send(number)
        if number in _ENDING and (number is not signal.SIGINT or self._kill_at is not None):
            self._is_ending = True
        return None

    def _reap(self) -> int | None:
        """Reap every ended child; process 1 of a container also gets orphans.

        Returns:
            Exit code of the command, or its signal as a negative number; None if it has not ended.
        """
        ended: int | None = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if not pid:
                return ended
            if self._child is not None and pid == self._child.pid:
                self._child.returncode = os.waitstatus_to_exitcode(status)
                ended = self._child.returncode

    def _poll(self) -> None:
        if self._is_ending:
            return
        for file in self._files:
            try:
                token = file.poll()
            except click.ClickException as error:
                _log(f"{error.message}; {self._name} keeps its token")
                continue
            if token is not None:
                self._tokens[file.variable] = token
                _log(f"{file.path}: new token; restarting {self._name}")
                self._stop()

    def _stop(self) -> None:
        if self._kill_at is None:
            self._send(signal.SIGTERM)
            self._kill_at = time.monotonic() + self._job.grace_seconds

    def _start(self) -> None:
        self._kill_at = None
        parent = os.getpid()

        def prepare() -> None:
            """Run in the child before exec."""
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)  # the parent ended before prctl
            signal.pthread_sigmask(signal.SIG_SETMASK, self._unblocked)

        try:
            self._child = subprocess.Popen(  # noqa: S603 - running the given command is the purpose
                self._job.command,
                env=env_with_tokens(self._tokens),
                close_fds=False,  # inherited descriptors are for the command
                preexec_fn=prepare,  # noqa: PLW1509 - there are no threads
            )
        except (OSError, ValueError) as error:
            raise cannot_start(self._job.command[0], error) from None

    def _send(self, number: signal.Signals) -> None:
        if self._child is None:
            return
        try:
            os.kill(self._child.pid, number)  # the id is not reused before the child is reaped
        except PermissionError:  # it runs as another user, such as sudo
            _log(f"{self._name}: no permission to send {number.name}")

    @property
    def _name(self) -> str:
        return self._job.command[0]


def _exit_like(code: int) -> int:
    """End by the same signal as the command: shells abort a script on Ctrl-C only if the command died of SIGINT."""
    if code >= 0:
        return code
    number = -code
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command has dumped core already
    with suppress(OSError, ValueError):  # signals that cannot be handled
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 128 + number  # process 1 of a container ignores its own signal


def _log(line: str) -> None:
    with suppress(OSError):  # the reader may be gone; the command keeps running
        click.echo(f"dapr-token-injector: {line}", err=True)
