"""What three questions to a sidecar tell, and what is open about it.

A sidecar that demands its token refuses a call without one and a call with a wrong one, and serves the call with the
right one. Whatever else is reachable without a token is named here, with what it means and what to do. Who is answered
how was read from daprd's sources and seen:
https://github.com/dapr/dapr/blob/v1.16.0/pkg/api/http/middlewares.go and pkg/api/grpc/auth.go
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection


# Why there was no answer, where that means that nothing is open either.
NOTHING_LISTENS: Final = "nothing listens there (connection refused)"


class Answer(StrEnum):
    """What became of one call."""

    REFUSED = "refused"
    SERVED = "served"
    NOT_ASKED = "-"


class Purpose(StrEnum):
    """What a port is for: the API in two protocols, and what daprd opens beside it and never asks a token for."""

    HTTP = "http"
    GRPC = "grpc"
    PUBLIC = "public"  # health and metadata
    METRICS = "metrics"
    PROFILING = "profiling"

    @property
    def is_api(self) -> bool:
        """Whether a token is demanded there."""
        return self in {Purpose.HTTP, Purpose.GRPC}


class Exposure(StrEnum):
    """One thing that is not as it should be; the words are stable, `--accept` takes them."""

    ENFORCEMENT_OFF = "enforcement-off"
    WRONG_TOKEN_SERVED = "wrong-token-served"
    RIGHT_TOKEN_REFUSED = "right-token-refused"
    LISTEN_ADDRESS = "listen-address"
    METADATA_PORT = "metadata-port"
    METRICS_PORT = "metrics-port"
    PROFILING_PORT = "profiling-port"


@dataclass(frozen=True, slots=True)
class Advice:
    """What an exposure means to its owner, and what takes it away."""

    meaning: str
    remedy: str


ADVICE: Final = {
    Exposure.ENFORCEMENT_OFF: Advice(
        "daprd asks nobody for a token: whoever reaches the port reads secrets and state, publishes, and invokes as "
        "this app.",
        "Give daprd a DAPR_API_TOKEN that is not empty, and start it anew. On Kubernetes, annotate the Pod template "
        "with dapr.io/api-token-secret.",
    ),
    Exposure.WRONG_TOKEN_SERVED: Advice(
        "a call with a random token is served: something in front of daprd adds the right one for everybody.",
        "Find the proxy that sets dapr-api-token, and let callers set it themselves.",
    ),
    Exposure.RIGHT_TOKEN_REFUSED: Advice(
        "daprd demands another token than this one, as it does when the token was changed after its start; whoever "
        "uses this one is refused.",
        "Restart the workload, so that all of its containers read the same value.",
    ),
    Exposure.LISTEN_ADDRESS: Advice(
        "the API is reachable from outside the Pod or machine: nothing but the token guards it, and the token travels "
        "in clear text.",
        "Start daprd with --dapr-listen-addresses [::1],127.0.0.1. Dapr's injector does, unless the Pod has "
        "dapr.io/sidecar-listen-addresses.",
    ),
    Exposure.METADATA_PORT: Advice(
        "this port asks for no token: it shows app id, components, subscriptions and version, and takes new metadata "
        "attributes from anyone.",
        "Let only the node reach it (the kubelet's probes use it): a NetworkPolicy, then --accept metadata-port.",
    ),
    Exposure.METRICS_PORT: Advice(
        "this port asks for no token: it shows which apps, components and operations are used, and how much.",
        "Let only the scraper reach it: a NetworkPolicy, then --accept metrics-port. Or switch it off: "
        'dapr.io/enable-metrics: "false".',
    ),
    Exposure.PROFILING_PORT: Advice(
        "this port asks for no token: it shows daprd's arguments and memory, and profiling slows it down.",
        'Switch it off: dapr.io/enable-profiling: "false", or no --enable-profiling.',
    ),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One port and its answers.

    `failure` says why they cannot be judged, `untried` why there was no right token to send.
    """

    purpose: Purpose
    port: int
    without: Answer = Answer.NOT_ASKED
    wrong: Answer = Answer.NOT_ASKED
    right: Answer = Answer.NOT_ASKED
    failure: str = ""
    untried: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """An exposure, where it is, and what is known of its cause."""

    exposure: Exposure
    where: str
    cause: str = ""


_BESIDE: Final = {
    Purpose.PUBLIC: Exposure.METADATA_PORT,
    Purpose.METRICS: Exposure.METRICS_PORT,
    Purpose.PROFILING: Exposure.PROFILING_PORT,
}


def judge(asked: Asked, cause: str = "") -> Found | None:
    """What is open about one port, if anything is; `cause` is what is known of a missing token."""
    where = f"port {asked.port}"
    if asked.without is Answer.SERVED:
        beside = _BESIDE.get(asked.purpose)
        return Found(beside, where) if beside else Found(Exposure.ENFORCEMENT_OFF, where, cause)
    if asked.wrong is Answer.SERVED:
        return Found(Exposure.WRONG_TOKEN_SERVED, where)
    if asked.right is Answer.REFUSED:
        return Found(Exposure.RIGHT_TOKEN_REFUSED, where)
    return None


class Verdict(StrEnum):
    """What is said of one target."""

    CLOSED = "closed"
    OPEN = "open"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Report:
    """All that was learnt of one target; `failure` says why nothing could be."""

    target: str
    asked: tuple[Asked, ...] = ()
    found: tuple[Found, ...] = ()
    failure: str = ""

    def verdict(self, accepted: Collection[Exposure] = ()) -> Verdict:
        """Closed means that every port of the API was asked and answered as it should."""
        if any(found.exposure not in accepted for found in self.found):
            return Verdict.OPEN
        unjudged = any(asked.failure or asked.without is Answer.NOT_ASKED for asked in self.asked)
        return Verdict.UNKNOWN if self.failure or not self.asked or unjudged else Verdict.CLOSED
