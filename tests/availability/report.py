"""What became of all creates, fault by fault."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from tests.availability import creates
from tests.availability.creates import Attempt, Kind, Window
from tests.availability.scenario import pods_of
from tests.cluster.objects import token_variable, tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.availability.api import ApiClient
    from tests.availability.faults import Fault, Seen
    from tests.availability.scenario import Scenario
    from tests.controlplane.api import Json

CONTROLLER: Final = "system:serviceaccount:kube-system:replicaset-controller"


class Row(msgspec.Struct, frozen=True):
    """One fault. Counted apart: what the client did itself, and what the ReplicaSets' controller did."""

    fault: str
    seconds: float
    met: int  # creates of the client that were under way at some moment of it
    failed: int  # of those that request a token
    refused_to_controllers: int  # the same, asked by the controller, which asks again
    retried: int  # calls of the webhook that the API server made again
    without_variable: int  # admitted though they asked and did not get it
    others_hurt: int  # other Pods and scalings that failed, and other Pods that were changed
    messages: dict[str, int]  # the API server's messages of failures
    remark: str
    repaired: float | None = None  # seconds until a wiped bundle was whole
    waiting: int = 0  # most creates under way at one moment
    p50: float = 0.0  # seconds until the answer, of creates that request a token and were met
    p99: float = 0.0
    others: int = 0  # creates that request none and were met
    others_p99: float = 0.0


# Seconds in which a wiped bundle is whole again.
REPAIRED_WITHIN: Final = 5.0


@dataclass(frozen=True, slots=True)
class Segment:
    """The time from the start of a fault to the start of the next one."""

    name: str
    fault: Window
    end: float
    retried: int
    seen: Seen

    def holds(self, moment: float, accuracy: float = 0.0) -> bool:
        """Whether something sent at this moment, or so much later, is counted here."""
        return self.fault.begin - accuracy <= moment < self.end


@dataclass(frozen=True, slots=True)
class Admitted:
    """A Pod that was there at the end. It was created in the second after `created`, of the monotonic clock."""

    name: str
    created: float
    asked: bool
    has_variable: bool

    @property
    def is_right(self) -> bool:
        """Whether the Pod has the variable exactly if it requested it."""
        return self.asked == self.has_variable


def admitted(api: ApiClient, namespace: str) -> dict[str, Admitted]:
    """Check every existing Pod."""
    found = {}
    for item in api.every(pods_of(namespace)):
        meta, entries = item["metadata"], tokens(item)
        asked = "dapr.io/api-token-secret" in meta["annotations"]
        has_variable = entries == [token_variable()] if asked else bool(entries)
        created = _monotonic(meta["creationTimestamp"])
        found[meta["name"]] = Admitted(meta["name"], created, asked, has_variable)
    return found


def _monotonic(timestamp: str) -> float:
    return dt.datetime.fromisoformat(timestamp).timestamp() - (time.time() - time.monotonic())


def rows(segments: Sequence[Segment], scenario: Scenario) -> list[Row]:
    """One row per segment, after all creates have ended."""
    last = dataclasses.replace(segments[-1], end=float("inf"))
    pods = admitted(scenario.api, scenario.kubectl.namespace)
    evidence = _Evidence(scenario.stream.log.read(), pods, tuple(_refusals_to_controllers(scenario)))
    return [_row(segment, evidence) for segment in (*segments[:-1], last)]


@dataclass(frozen=True, slots=True)
class _Evidence:
    attempts: Sequence[Attempt]
    pods: Mapping[str, Admitted]
    refused_to_controllers: Sequence[float]

    def is_done(self, attempt: Attempt) -> bool:
        """Whether the API server reported success and the Pod exists."""
        return attempt.is_success and (attempt.kind is Kind.SCALE or attempt.name in self.pods)


def _row(segment: Segment, evidence: _Evidence) -> Row:
    mine = [attempt for attempt in evidence.attempts if segment.holds(attempt.sent)]
    failed = [attempt for attempt in mine if not evidence.is_done(attempt)]
    sent = {attempt.name: attempt.sent for attempt in evidence.attempts}
    met = [attempt for attempt in creates.pods(evidence.attempts) if segment.fault.meets(attempt)]
    asking = [attempt.seconds for attempt in met if attempt.kind is Kind.ASKING]
    others = [attempt.seconds for attempt in met if attempt.kind is Kind.OTHER]
    wrong = [
        pod
        for pod in evidence.pods.values()
        if not pod.is_right
        and (segment.holds(sent[pod.name]) if pod.name in sent else segment.holds(pod.created, accuracy=1.0))
    ]
    return Row(
        fault=segment.name,
        seconds=round(segment.fault.end - segment.fault.begin, 1),
        met=len(met),
        failed=sum(attempt.kind is Kind.ASKING for attempt in failed),
        refused_to_controllers=sum(map(segment.holds, evidence.refused_to_controllers)),
        retried=segment.retried,
        without_variable=sum(pod.asked for pod in wrong),
        others_hurt=sum(attempt.kind is not Kind.ASKING for attempt in failed) + sum(not pod.asked for pod in wrong),
        messages=dict(Counter(_generic(attempt.message) for attempt in failed)),
        remark=segment.seen.remark,
        repaired=segment.seen.repaired,
        waiting=creates.most_at_once(met),
        p50=creates.quantile(asking, 0.5),
        p99=creates.quantile(asking, 0.99),
        others=len(others),
        others_p99=creates.quantile(others, 0.99),
    )


def _generic(sentence: str) -> str:
    """A sentence without what differs from one create to the next."""
    for pattern, word in _DIFFERENT:
        sentence = re.sub(pattern, word, sentence)
    return sentence


_DIFFERENT: Final = (
    (r"\d+(\.\d+){3}:\d+", "ADDRESS"),
    (r"timeout=\ds", "timeout"),
    (r"[-\d]+T[:\d]+Z", "TIME"),
    (rf'"({"|".join(Kind)})-\d+"', "NAME"),
)


def _refusals_to_controllers(scenario: Scenario) -> Iterable[float]:
    """When creates of the ReplicaSets' controller failed, from the audit log."""
    for event in _audited(scenario):
        if event["responseStatus"]["code"] >= creates.MULTIPLE_CHOICES:
            yield _monotonic(event["requestReceivedTimestamp"])


def _audited(scenario: Scenario) -> Iterable[Json]:
    namespace = scenario.kubectl.namespace
    with scenario.plane.audit_log.open(encoding="utf-8") as lines:
        for line in lines:
            if CONTROLLER in line and namespace in line:
                event = json.loads(line)
                if event["user"]["username"] == CONTROLLER and event["objectRef"].get("namespace") == namespace:
                    yield event


def retries(scenario: Scenario) -> int:
    """How often the API server called the webhook again, since its start."""
    counts = (scenario.api.metric("rest_client_request_retries_total", host=g.host) for g in scenario.fleet.groups)
    return int(sum(counts))


def problems(rows: Sequence[Row], faults: Sequence[Fault]) -> list[str]:
    """The broken guarantees, as messages; empty when there is none."""
    known = {fault.name: fault for fault in faults}
    return [f"{row.fault}: {problem}" for row in rows for problem in _problems(row, known.get(row.fault))]


def _problems(row: Row, fault: Fault | None) -> Iterable[str]:
    if fault is not None and row.met < fault.meets_at_least:
        yield f"met {row.met} creates only, {fault.meets_at_least} are needed to count"
    excused = () if fault is None else fault.loses
    for sentence, count in row.messages.items():
        if not any(part in sentence for part in excused):
            yield f"{count} failed: {sentence}"
    if row.refused_to_controllers and not excused:
        yield f"{row.refused_to_controllers} creates of the controller failed"
    if row.without_variable and not (fault is not None and fault.opens):
        yield f"{row.without_variable} Pods were admitted without their variable"
    if row.others_hurt:
        yield f"{row.others_hurt} others were hurt"
    if row.repaired is not None and row.repaired > REPAIRED_WITHIN:
        yield f"healed after {row.repaired:.2f} s only, {REPAIRED_WITHIN:g} s are promised"
