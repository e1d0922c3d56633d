"""Determine where a daprd listens from its command and arguments.

Names and defaults: https://github.com/dapr/dapr/blob/v1.16.0/cmd/daprd/options/options.go and pkg/metrics/options.go.
A value follows its flag or an equals sign, a switch takes a value only after an equals sign, and the last of two
counts. A list of addresses is split at commas, and empty parts are kept (pkg/runtime/config.go): a trailing comma adds
all addresses.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.images import repository_and_tag

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})  # Go's strconv.ParseBool
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_MOST: Final = 65535
_PORTS: Final = {
    "dapr-http-port": 3500,
    "dapr-grpc-port": 50001,
    "dapr-public-port": 0,
    "metrics-port": 9090,
    "profile-port": 7777,
}
_BESIDE: Final = ("dapr-public-listen-address", "metrics-listen-address")
_ADDRESSES: Final = frozenset({"dapr-listen-addresses", *_BESIDE, "unix-domain-socket"})
_SWITCHES: Final = frozenset({"enable-metrics", "enable-profiling"})


_IN_A_LINE: Final = re.compile(rf"\s--?({'|'.join(sorted(_SWITCHES | _ADDRESSES | _PORTS.keys()))})\b")


@dataclass(frozen=True, slots=True)
class Listening:
    """Ports by purpose. An optional port is None if it is closed or open on loopback only.

    `addresses` are those of the API and of profiling; an empty one means all. `socket` is a folder for Unix sockets,
    used instead of ports. `is_certain` is false if flags are part of a shell command line, which only a shell parses.
    """

    http: int
    grpc: int
    public: int | None
    metrics: int | None
    profiling: int | None
    addresses: tuple[str, ...] = ("",)
    public_address: str = ""
    metrics_address: str = ""
    socket: str = ""
    is_certain: bool = True

    @property
    def is_local(self) -> bool:
        """Whether the API listens on loopback only."""
        return all(map(_is_local, self.addresses))


def is_daprd(image: str, words: Sequence[str]) -> bool:
    """Whether a container runs daprd: by its image, of any registry, tag or digest, or by its first word.

    `words`: command and arguments. The image `daprio/dapr` has all of Dapr's programs; the first word selects one.
    """
    program = words[0] if words and not words[0].startswith("-") else ""
    if program and program.rpartition("/")[2] == names.SIDECAR:
        return True
    if "dapr" not in image:
        return False
    path, _ = repository_and_tag(image)
    return path.rpartition("/")[2] == names.SIDECAR or (not program and f"/{path}".endswith("/daprio/dapr"))


def is_dapr_shared(*, is_requested: bool, key: str) -> bool:
    """Whether a container daprd is Dapr Shared: one daprd for callers in other Pods, installed by a chart of its own.

    `is_requested`: its Pod requests a sidecar of Dapr's injector, which the chart's Pods do not. `key`: that of the
    Secret with its API token, empty without one.
    """
    return not is_requested and key == names.DAPR_SHARED_KEY


def listening(words: Sequence[str]) -> Listening:
    """The ports of a daprd that is started with these words (command and arguments).

    Raises:
        ValueError: A port is not a number, or a switch is neither true nor false, for example `$(VARIABLE)`. The
            message contains only the name of the flag.
    """
    given = dict(_flags(words))
    ports = {name: _port(name, given.get(name, "") or str(default)) for name, default in _PORTS.items()}
    addresses = tuple(part.strip() for part in given.get("dapr-listen-addresses", "").split(","))
    public_address, metrics_address = (given.get(name, "") for name in _BESIDE)
    measures = _is_on("enable-metrics", given.get("enable-metrics", "true")) and not _is_local(metrics_address)
    profiles = _is_on("enable-profiling", given.get("enable-profiling", "false")) and not all(map(_is_local, addresses))
    tells = not _is_local(public_address)
    return Listening(
        http=ports["dapr-http-port"],
        grpc=ports["dapr-grpc-port"],
        public=(ports["dapr-public-port"] or None) if tells else None,
        metrics=ports["metrics-port"] if measures else None,
        profiling=ports["profile-port"] if profiles else None,
        addresses=addresses,
        public_address=public_address,
        metrics_address=metrics_address,
        socket=given.get("unix-domain-socket", ""),
        is_certain=not any(map(_IN_A_LINE.search, words)),
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


def _is_on(name: str, value: str) -> bool:
    if value not in _TRUE | _FALSE:
        raise ValueError(f"its --{name} is neither true nor false")
    return value in _TRUE


def is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether only this machine or Pod reaches an address, also for IPv4 addresses mapped to IPv6."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in an argument of daprd; None for a name or an empty text."""
    try:
        return ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _is_local(address: str) -> bool:
    """Whether the address is certainly loopback; a name other than localhost may be any address."""
    parsed = _parsed(address)
    return address.lower() == "localhost" if parsed is None else is_loopback(parsed)


def meets_loopback(address: str) -> bool:
    """Whether a listener on the address is also reachable by loopback, where port-forwarding ends."""
    parsed = _parsed(address)
    return not address or _is_local(address) or (parsed is not None and parsed.is_unspecified)
