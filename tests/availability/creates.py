"""What one create came to, and the log in which the load client writes it down."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


class Kind(StrEnum):
    """What was asked of the API server."""

    ASKING = "asking"  # a Pod that requests a token, created directly
    OTHER = "other"  # a Pod that does not
    SCALE = "scale"  # a Deployment's new number of replicas


class Attempt(msgspec.Struct, frozen=True):
    """One request of the load client, sent once. Times are in seconds of the machine's monotonic clock."""

    kind: Kind
    name: str
    sent: float
    answered: float
    code: int  # HTTP status; 0 when there was no answer
    message: str = ""  # the API server's message of a rejection

    @property
    def is_success(self) -> bool:
        """Whether the API server did it."""
        return OK <= self.code < MULTIPLE_CHOICES

    @property
    def seconds(self) -> float:
        """Time until the answer."""
        return self.answered - self.sent


OK: Final = 200
MULTIPLE_CHOICES: Final = 300

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Attempt)


def encode(attempt: Attempt) -> bytes:
    """One line of the log."""
    return _ENCODER.encode(attempt) + b"\n"


@dataclass(frozen=True, slots=True)
class Window:
    """From a fault's first moment to its last, in seconds of the machine's monotonic clock."""

    begin: float
    end: float

    def meets(self, attempt: Attempt) -> bool:
        """Whether the attempt was under way at any moment of it."""
        return attempt.sent <= self.end and attempt.answered >= self.begin


class AttemptLog:
    """Reads what the load client has written so far; half a line waits for its other half."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._attempts: list[Attempt] = []

    def read(self) -> tuple[Attempt, ...]:
        """All attempts that have ended, in the order of their ends."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._position)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._position += len(whole)
            self._attempts.extend(map(_DECODER.decode, whole.splitlines()))
        return tuple(self._attempts)


def pods(attempts: Iterable[Attempt]) -> tuple[Attempt, ...]:
    """The attempts that create one Pod each."""
    return tuple(attempt for attempt in attempts if attempt.kind is not Kind.SCALE)


def most_at_once(attempts: Sequence[Attempt]) -> int:
    """The largest number of attempts under way at one moment."""
    changes = [(attempt.sent, 1) for attempt in attempts] + [(attempt.answered, -1) for attempt in attempts]
    return max(itertools.accumulate(change for _, change in sorted(changes)), default=0)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so many of all do not exceed, to a millisecond; 0 without values."""
    return round(sorted(values)[math.ceil(share * len(values)) - 1], 3) if values else 0.0
