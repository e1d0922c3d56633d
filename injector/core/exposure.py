"""Evaluate the answers of a sidecar to calls without a token, with a wrong one, and with the right one.

A sidecar that enforces its token rejects the first two and serves the third. Every other port that is reachable without
a token is reported with its meaning and a remedy. The behaviour was read from daprd's source and confirmed on daprd:
https://github.com/dapr/dapr/blob/v1.16.0/pkg/api/http/middlewares.go and pkg/api/grpc/auth.go
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection


# The failure that proves that a port is not open.
NOTHING_LISTENS: Final = "nothing listens there (connection refused)"


class CallResult(StrEnum):
    """The result of one call."""

    REFUSED = "refused"
    SERVED = "served"
    NOT_ASKED = "-"


class Purpose(StrEnum):
    """The purpose of a port: the API in two protocols, and the other ports of daprd, which never demand a token."""

    HTTP = "http"
    GRPC = "grpc"
    PUBLIC = "public"  # health and metadata
    METRICS = "metrics"
    PROFILING = "profiling"

    @property
    def is_api(self) -> bool:
        """Whether daprd demands a token on the port."""
        return self in {Purpose.HTTP, Purpose.GRPC}


class Exposure(StrEnum):
    """One exposure of a sidecar. The words are stable; `--accept` takes them."""

    ENFORCEMENT_OFF = "enforcement-off"
    WRONG_TOKEN_SERVED = "wrong-token-served"
    RIGHT_TOKEN_REFUSED = "right-token-refused"
    LISTEN_ADDRESS = "listen-address"
    DAPR_SHARED = "dapr-shared"  # in place of the one above
    METADATA_PORT = "metadata-port"
    METRICS_PORT = "metrics-port"
    PROFILING_PORT = "profiling-port"


@dataclass(frozen=True, slots=True)
class Advice:
    """The meaning of an exposure, and its remedy."""

    meaning: str
    remedy: str


ADVICE: Final = {
    Exposure.ENFORCEMENT_OFF: Advice(
        "daprd demands no token: any client that reaches the port can read secrets and state, publish messages, and "
        "invoke services as this app.",
        "Give daprd a DAPR_API_TOKEN that is not empty, and restart it. On Kubernetes, annotate the Pod template with "
        "dapr.io/api-token-secret.",
    ),
    Exposure.WRONG_TOKEN_SERVED: Advice(
        "a call with a random token is served: a proxy in front of daprd adds the right token to every call.",
        "Find the proxy that sets dapr-api-token, and let callers set it themselves.",
    ),
    Exposure.RIGHT_TOKEN_REFUSED: Advice(
        "daprd demands a different token, for example because the Secret changed after daprd started; calls with this "
        "token are rejected.",
        "Restart the workload, so that all of its containers read the same value.",
    ),
    Exposure.LISTEN_ADDRESS: Advice(
        "the API is reachable from outside the Pod or machine: only the token protects it, and the token is sent in "
        "clear text.",
        "Start daprd with --dapr-listen-addresses [::1],127.0.0.1. Dapr's injector does so unless the Pod has "
        "dapr.io/sidecar-listen-addresses.",
    ),
    Exposure.DAPR_SHARED: Advice(
        "this is Dapr Shared, one daprd for callers in other Pods: its API is reachable from outside the Pod, and only "
        "the token protects it, which is sent in clear text.",
        "Set shared.daprd.token of the chart dapr-shared, which is empty by default, and give its callers the same "
        "token. Allow only these callers to reach it with a NetworkPolicy, then use --accept dapr-shared.",
    ),
    Exposure.METADATA_PORT: Advice(
        "this port demands no token: it shows app id, components, subscriptions and version, and any client can add "
        "metadata attributes.",
        "Allow only the node to reach it with a NetworkPolicy (the kubelet's probes use it), then use --accept "
        "metadata-port.",
    ),
    Exposure.METRICS_PORT: Advice(
        "this port demands no token: it shows which apps, components and operations are used, and how often.",
        "Allow only the scraper to reach it with a NetworkPolicy, then use --accept metrics-port. Or disable it: "
        'dapr.io/enable-metrics: "false".',
    ),
    Exposure.PROFILING_PORT: Advice(
        "this port demands no token: it shows daprd's arguments and memory, and profiling slows daprd down.",
        'Disable it: dapr.io/enable-profiling: "false", or start daprd without --enable-profiling.',
    ),
}


@dataclass(frozen=True, slots=True)
class PortResult:
    """One port and its answers.

    `failure` is the reason why they cannot be evaluated, `skipped_reason` why the right token was not sent.
    """

    purpose: Purpose
    port: int
    without: CallResult = CallResult.NOT_ASKED
    wrong: CallResult = CallResult.NOT_ASKED
    right: CallResult = CallResult.NOT_ASKED
    failure: str = ""
    skipped_reason: str = ""


@dataclass(frozen=True, slots=True)
class ExposureFinding:
    """An exposure, its location, and its cause if known."""

    exposure: Exposure
    where: str
    cause: str = ""


_WITHOUT_TOKEN: Final = {
    Purpose.PUBLIC: Exposure.METADATA_PORT,
    Purpose.METRICS: Exposure.METRICS_PORT,
    Purpose.PROFILING: Exposure.PROFILING_PORT,
}


def evaluate(asked: PortResult, cause: str = "") -> ExposureFinding | None:
    """The exposure of one port, if any; `cause` is the known reason for a missing token."""
    where = f"port {asked.port}"
    if asked.without is CallResult.SERVED:
        exposure = _WITHOUT_TOKEN.get(asked.purpose)
        return ExposureFinding(exposure, where) if exposure else ExposureFinding(Exposure.ENFORCEMENT_OFF, where, cause)
    if asked.wrong is CallResult.SERVED:
        return ExposureFinding(Exposure.WRONG_TOKEN_SERVED, where)
    if asked.right is CallResult.REFUSED:
        return ExposureFinding(Exposure.RIGHT_TOKEN_REFUSED, where)
    return None


class ProbeVerdict(StrEnum):
    """The verdict about one target."""

    CLOSED = "closed"
    OPEN = "open"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """The results for one target; `failure` is the reason if there are none. `namespace` is empty for an address."""

    target: str
    asked: tuple[PortResult, ...] = ()
    found: tuple[ExposureFinding, ...] = ()
    failure: str = ""
    namespace: str = ""

    @property
    def name(self) -> str:
        """The target as for another run: with its namespace, if it has one."""
        return f"{self.target} -n {self.namespace}" if self.namespace else self.target

    def verdict(self, accepted: Collection[Exposure] = ()) -> ProbeVerdict:
        """Closed means that every API port was called and enforced the token."""
        if any(found.exposure not in accepted for found in self.found):
            return ProbeVerdict.OPEN
        unjudged = any(asked.failure or asked.without is CallResult.NOT_ASKED for asked in self.asked)
        return ProbeVerdict.UNKNOWN if self.failure or not self.asked or unjudged else ProbeVerdict.CLOSED
