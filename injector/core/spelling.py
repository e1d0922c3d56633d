"""Annotations that exist, and the one that a misspelt key probably means.

Kubernetes accepts any key, and Dapr and this webhook ignore the keys that they do not know, so a misspelling does
nothing and reports nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.messages import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# All annotations of a Pod that Dapr 1.18 reads:
# https://github.com/dapr/dapr/blob/v1.18.3/pkg/injector/annotations/annotations.go
_DAPR: Final = """
    actors-disseminate-timeout api-token-secret app-binding-options-timeout app-channel-address
    app-health-check-path app-health-probe-interval app-health-probe-timeout app-health-threshold app-id
    app-max-concurrency app-port app-protocol app-ssl app-token-secret block-shutdown-duration
    component-container config debug-port disable-builtin-k8s-secret-store disable-init-endpoints
    enable-api-logging enable-app-health-check enable-debug enable-metrics enable-native-sidecar
    enable-profiling enabled env env-from-secret graceful-shutdown-seconds grpc-port http-max-request-size
    http-read-buffer-size inject-pluggable-components internal-grpc-port log-as-json log-level max-body-size
    metrics-port placement-host-address pluggable-components pluggable-components-sockets-folder
    read-buffer-size scheduler-host-address sentry-request-jwt-audiences sidecar-cpu-limit sidecar-cpu-request
    sidecar-image sidecar-listen-addresses sidecar-liveness-probe-delay-seconds
    sidecar-liveness-probe-period-seconds sidecar-liveness-probe-threshold
    sidecar-liveness-probe-timeout-seconds sidecar-memory-limit sidecar-memory-request
    sidecar-readiness-probe-delay-seconds sidecar-readiness-probe-period-seconds
    sidecar-readiness-probe-threshold sidecar-readiness-probe-timeout-seconds sidecar-seccomp-profile-type
    sidecar-svc-annotations unix-domain-socket-path volume-mounts volume-mounts-rw
"""

PREFIXES: Final = ("dapr.io/", "dapr-token-injector/")
# The annotations that a person writes.
WRITTEN: Final = tuple(dict.fromkeys((*(f"dapr.io/{name}" for name in _DAPR.split()), *names.REQUEST_ANNOTATIONS)))
_KNOWN: Final = frozenset({*WRITTEN, names.STATUS})
# Longer keys are unknown, but resemble no annotation: the longest one has 47 characters.
_LONGEST: Final = 64
# The part of two names that has to be equal: "cpu-limit" and "sidecar-cpu-limit" have 0.7 in common.
_ALIKE: Final = 0.69
# Of a name that has not the prefix of the key, more has to be equal.
_OTHER_PREFIX: Final = 0.2


def unknown(keys: Iterable[str]) -> Iterator[str]:
    """Yield the keys that only look like annotations of Dapr or of this webhook, in their order.

    With the right prefix, every name that is not known; with a misspelt prefix, only a known name.
    """
    for key in keys:
        prefix, slash, _ = key.partition("/")
        if prefix + slash in PREFIXES:
            if key not in _KNOWN:
                yield key
        elif len(key) <= _LONGEST and prefix.lower() in _misspelt_prefixes() and _plain(key) in _by_plain_name():
            yield key


def message(key: str) -> str:
    """Return the warning about an unknown key, short enough for the API server."""
    meant = likely(key)
    hint = f"; did you mean {meant}?" if meant else ""
    # A key that differs in case and separators only is not a token, whatever its capitals look like.
    shown = f'"{key}"' if key.isascii() and _plain(key) in _by_plain_name() else redact(key)
    text = f"unknown annotation: {shown}{hint}"
    return text if len(text) <= names.MAX_WARNING else f"unknown annotation{hint}"


def likely(key: str) -> str | None:
    """Return the annotation that an unknown key probably means; None if none is similar."""
    return _likely(key) if len(key) <= _LONGEST else None


@lru_cache(maxsize=1024)
def _likely(key: str) -> str | None:
    name = _plain(key)
    positions: dict[str, int] = {}
    for index, char in enumerate(name):
        positions[char] = positions.get(char, 0) | 1 << index
    found, best = None, _ALIKE
    for plain, annotation in _by_plain_name().items():
        if 2 * min(len(name), len(plain)) < _ALIKE * (len(name) + len(plain)):
            continue
        rank = _similarity(positions, len(name), plain)
        if annotation.partition("/")[0] != key.partition("/")[0]:
            rank -= _OTHER_PREFIX
        if rank > best:
            found, best = annotation, rank
    return found


def _similarity(positions: dict[str, int], length: int, other: str) -> float:
    """Return twice the longest common subsequence of two names, divided by the sum of their lengths.

    One step for each character of `other`, on the bits of an integer: H. Hyyro, "Bit-Parallel LCS-length Computation
    Revisited", 2004.
    """
    row = everything = (1 << length) - 1
    for char in other:
        both = row & positions.get(char, 0)
        row = (row + both | row - both) & everything
    return 2 * (length - row.bit_count()) / (length + len(other))


def _plain(key: str) -> str:
    """Return the name without its prefix, case and separators, which are mistaken most often."""
    return key.rpartition("/")[2].lower().replace("-", "").replace("_", "").replace(".", "")


@lru_cache(maxsize=1)
def _by_plain_name() -> dict[str, str]:
    return {_plain(annotation): annotation for annotation in WRITTEN}


@lru_cache(maxsize=1)
def _misspelt_prefixes() -> frozenset[str]:
    """Return the prefixes in lower case with one character missing, wrong, added or exchanged, and without the dot."""
    found = {"dapr"}
    for prefix in PREFIXES:
        right = prefix[:-1]
        for i in range(len(right) + 1):
            head, tail = right[:i], right[i:]
            found |= {head + tail[1:], head + tail[1:2] + tail[:1] + tail[2:]}
            found |= {head + char + rest for char in _CHARACTERS for rest in (tail, tail[1:])}
    return frozenset(found)


_CHARACTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789-._"
