"""What can go wrong while a control plane is built, started or used."""

from __future__ import annotations


class HarnessError(Exception):
    """An error of this package; the message has the cause and what to do."""


class BuildError(HarnessError):
    """A program could not be built or found."""


class DeadlineError(HarnessError):
    """Something did not happen in time."""


class ProcessDiedError(HarnessError):
    """A program ended that should be running; the message carries the end of its log."""

    def __init__(self, name: str, returncode: int, log_tail: str) -> None:
        super().__init__(f"{name} ended with status {returncode}; the end of its log:\n{log_tail}")
        self.name = name
        self.returncode = returncode
        self.log_tail = log_tail

    @property
    def is_port_taken(self) -> bool:
        """Whether another process took the port between our choosing and its listening."""
        return "address already in use" in self.log_tail


class KubectlError(HarnessError):
    """kubectl ended with an error; `stderr` is its error output."""

    def __init__(self, arguments: tuple[str, ...], returncode: int, stderr: str) -> None:
        super().__init__(f"kubectl {' '.join(arguments)} ended with status {returncode}: {stderr.strip()}")
        self.returncode = returncode
        self.stderr = stderr

    @property
    def is_not_found(self) -> bool:
        """Whether there is no such object."""
        return self.stderr.startswith("Error from server (NotFound)")
