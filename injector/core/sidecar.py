"""Where a daprd listens, read off the words that start it.

Names and defaults: https://github.com/dapr/dapr/blob/v1.16.0/cmd/daprd/options/options.go and pkg/metrics/options.go.
A value follows its flag or an equals sign, a switch takes one by an equals sign only, and of two the last counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LOOPBACK: Final = ("127.", "localhost", "::1", "[::1]")
_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})  # Go's strconv.ParseBool
_MOST: Final = 65535
_PORTS: Final = {
    "dapr-http-port": 3500,
    "dapr-grpc-port": 50001,
    "dapr-public-port": 0,
    "metrics-port": 9090,
    "profile-port": 7777,
}
_ADDRESSES: Final = frozenset(
    {"dapr-listen-addresses", "dapr-public-listen-address", "metrics-listen-address", "unix-domain-socket"}
)
_SWITCHES: Final = frozenset({"enable-metrics", "enable-profiling"})


@dataclass(frozen=True, slots=True)
class Listening:
    """Ports by purpose. The optional ones are None where they are not opened, or for loopback only.

    `addresses` are the API's, none of them meaning all; `socket` is a folder for Unix sockets, used instead of ports.
    """

    http: int
    grpc: int
    public: int | None
    metrics: int | None
    profiling: int | None
    addresses: tuple[str, ...] = ()
    socket: str = ""

    @property
    def is_local(self) -> bool:
        """Whether the API listens on loopback only."""
        return bool(self.addresses) and all(map(_is_local, self.addresses))


def listening(words: Sequence[str]) -> Listening:
    """Where a daprd that is started with these words (command and arguments) listens.

    Raises:
        ValueError: A port is no number, but `$(VARIABLE)` for instance. The message holds the flag's name alone.
    """
    given = dict(_flags(words))
    ports = {name: _port(name, given.get(name, "") or str(default)) for name, default in _PORTS.items()}
    addresses = tuple(part.strip() for part in given.get("dapr-listen-addresses", "").split(",") if part.strip())
    is_local = bool(addresses) and all(map(_is_local, addresses))
    measures = given.get("enable-metrics", "true") in _TRUE and not _is_local(given.get("metrics-listen-address", ""))
    profiles = given.get("enable-profiling", "false") in _TRUE and not is_local
    tells = not _is_local(given.get("dapr-public-listen-address", ""))
    return Listening(
        http=ports["dapr-http-port"],
        grpc=ports["dapr-grpc-port"],
        public=(ports["dapr-public-port"] or None) if tells else None,
        metrics=ports["metrics-port"] if measures else None,
        profiling=ports["profile-port"] if profiles else None,
        addresses=addresses,
        socket=given.get("unix-domain-socket", ""),
    )


def _flags(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    rest = iter(words)
    for word in rest:
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or name not in _SWITCHES | _ADDRESSES | _PORTS.keys():
            continue
        if equals:
            yield name, value
        else:
            yield name, "true" if name in _SWITCHES else next(rest, "")


def _port(name: str, value: str) -> int:
    if not value.isascii() or not value.isdecimal() or int(value[:_DIGITS]) > _MOST or len(value) > _DIGITS:
        raise ValueError(f"its --{name} is not a port number")
    return int(value)


_DIGITS: Final = 5


def _is_local(address: str) -> bool:
    return address.startswith(_LOOPBACK)
