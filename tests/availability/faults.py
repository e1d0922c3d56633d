"""What happens to the webhook while Pods are created. Each fault returns when over, with a remark on what it saw."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from tests.availability.certificates import bundles, write_bundle
from tests.availability.flood import Flooded, FloodPlan
from tests.availability.replicas import HOST, PORT
from tests.availability.scenario import registrations
from tests.controlplane.errors import HarnessError
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess
from tests.controlplane.registration import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.availability.replicas import Replica
    from tests.availability.scenario import Mix, Scenario

# Creates between two steps of a change: far more than the API server needs to notice it, which takes it 20 ms.
STEP: Final = 20


class Seen(NamedTuple):
    """What a fault saw besides the creates."""

    remark: str = ""
    repaired: float | None = None  # seconds from the wiped bundle to the whole one


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; it counts only when it met so many creates at least."""

    name: str
    inflict: Callable[[Scenario], Seen]
    meets_at_least: int
    # Messages of failures that cannot be avoided; docs/explanation/availability.md explains them.
    loses: tuple[str, ...] = ()


def restart_in_turn(scenario: Scenario) -> Seen:
    """A Deployment's rolling update with one Pod more than usual: a new one is ready before an old one gets SIGTERM."""
    old = scenario.fleet.ready()
    for replica in old:
        scenario.fleet.wait_until_ready(scenario.fleet.start())
        scenario.fleet.terminate(replica)
    for replica in old:
        wait_for(f"{replica.name} ended", lambda r=replica: r.process.popen.poll() is not None, timeout_seconds=120)  # type: ignore[misc]
        if replica.process.popen.returncode:
            raise HarnessError(f"{replica.name} ended with status {replica.process.popen.returncode}")
    last = ", ".join(f"{_last_review(replica):+.2f} s" for replica in old)
    return Seen(f"last review {last} after leaving")


def kill_one(scenario: Scenario) -> Seen:
    """SIGKILL for a replica's only process; the kubelet notices and restarts it."""
    victim = scenario.fleet.ready()[0]
    killed = time.monotonic()
    victim.process.kill()
    left = scenario.fleet.wait_until_left(victim)
    scenario.fleet.restart(victim)
    scenario.fleet.wait_until_ready(victim)
    return Seen(f"out of the EndpointSlice {left - killed:.2f} s after its death")


def renew_leaf(scenario: Scenario) -> Seen:
    """Every replica's serving certificate is renewed by the same authority."""
    scenario.certificates.renew(scenario.fleet.ready(), lambda: scenario.stream.wait_for_more(STEP))
    return Seen()


def rotate_authority(scenario: Scenario) -> Seen:
    """The next CA is published next to the previous one, used, and then the only one."""
    scenario.certificates.rotate(scenario.api, scenario.fleet.ready(), lambda: scenario.stream.wait_for_more(STEP))
    return Seen()


def blank_bundle(scenario: Scenario) -> Seen:
    """Another client writes an empty caBundle into our entries."""
    return _until_repaired(scenario, lambda: write_bundle(scenario.api, b""))


def apply_again(scenario: Scenario) -> Seen:
    """GitOps: the manifests, without caBundle, are applied repeatedly, both ways. The bundle stays."""
    before = bundles(scenario.api)
    for _ in range(3):
        for flags in ((), ("--server-side", "--force-conflicts", "--field-manager=gitops")):
            scenario.kubectl.apply(registrations(scenario.certificates), *flags)
        scenario.stream.wait_for_more(STEP)
        if bundles(scenario.api) != before:
            raise HarnessError("applying the shipped configuration changed its bundle")
    return Seen("bundle kept")


def replace(scenario: Scenario) -> Seen:
    """`kubectl replace` of the manifests: the only write that removes the bundle."""
    item = registrations(scenario.certificates)[0]
    return _until_repaired(scenario, lambda: scenario.kubectl.run("replace", "-f", "-", stdin=item))


def _until_repaired(scenario: Scenario, wipe: Callable[[], object]) -> Seen:
    """Remove the bundle; wait until every entry has it again."""
    began = time.monotonic()
    wipe()
    wiped = time.monotonic()
    wait_for(
        "the bundle repaired",
        lambda: all(bundles(scenario.api)),
        timeout_seconds=REPAIRED_WITHIN,
        interval_seconds=0.02,
    )
    repaired = time.monotonic()
    scenario.stream.wait_for_more(STEP)
    remark = f"healed {repaired - wiped:.2f} s after it was written, {repaired - began:.2f} s after that began"
    return Seen(remark, repaired - wiped)


# Seconds until the wait fails; the report has the promised limit.
REPAIRED_WITHIN: Final = 90.0


def overload(scenario: Scenario) -> Seen:
    """Expensive reviews are posted directly to both replicas, at least three times as many as they serve."""
    ready = scenario.fleet.ready()
    before = [replica.metric("admission_shed_total") for replica in ready]
    with _flooding(scenario) as flood:
        wait_for("overload", lambda: _lines(flood), timeout_seconds=FLOOD_SECONDS, describe=flood.log)
        scenario.stream.wait_for_more(OVERLOADED)
    shed = sum(replica.metric("admission_shed_total") for replica in ready) - sum(before)
    seen = msgspec.json.decode(_lines(flood)[-1], type=Flooded)
    if seen.asked < OVERLOAD * seen.served:
        raise HarnessError(f"no overload: {seen.asked} reviews asked, {seen.served} served; {OVERLOAD} times needed")
    return Seen(f"{seen.asked / max(seen.served, 1):.1f} times what was served; {shed:.0f} shed in all")


# Reviews sent per served one.
OVERLOAD: Final = 3
OVERLOADED: Final = 150  # creates that an overload lasts
FLOOD_SECONDS: Final = 120.0  # at most
# A review of so many takes twenty milliseconds: the replicas have to be the ones who cannot follow, not who asks.
FLOOD_CONTAINERS: Final = 2000


@contextlib.contextmanager
def _flooding(scenario: Scenario) -> Iterator[ManagedProcess]:
    folder = scenario.plane.folder
    bundle = folder / "flood-ca.crt"
    bundle.write_bytes(b"".join(bundles(scenario.api)))
    plan = FloodPlan(
        urls=tuple(f"https://{replica.address}:{PORT}" for replica in scenario.fleet.ready()),
        host=HOST,
        bundle=str(bundle),
        containers=FLOOD_CONTAINERS,
        timeout=5,
        ratio=OVERLOAD,
        most_seconds=FLOOD_SECONDS,
    )
    path = folder / "flood-plan.json"
    path.write_bytes(msgspec.json.encode(plan))
    command = [sys.executable, "-m", "tests.availability.flood", str(path)]
    process = ManagedProcess.start("flood", command, log_path=folder / "flood.log")
    try:
        yield process
        process.ensure_running()
        process.stop(timeout_seconds=60)
    finally:
        process.kill()


def _lines(process: ManagedProcess) -> list[str]:
    return process.log().splitlines()


def pause_each(scenario: Scenario) -> Seen:
    """Each replica in turn is stopped for a while, like one with a CPU limit that is far too small."""
    ready = scenario.fleet.ready()
    before = [replica.metric("admission_shed_total") for replica in ready]
    longest = 0.0
    for replica in ready * STANDSTILLS:
        longest = max(longest, _stop_for(replica, STANDSTILL))
        scenario.stream.wait_for_more(STEP)
    shed = sum(replica.metric("admission_shed_total") for replica in ready) - sum(before)
    return Seen(f"stood still {len(ready) * STANDSTILLS} times, for {longest:.1f} s at most; {shed:.0f} shed")


def _stop_for(replica: Replica, seconds: float) -> float:
    """Stop a process for a while; return the real seconds."""
    began = time.monotonic()
    replica.process.popen.send_signal(signal.SIGSTOP)
    try:
        wait_for("the time", lambda: time.monotonic() - began >= seconds)
    finally:
        replica.process.popen.send_signal(signal.SIGCONT)
    return time.monotonic() - began


STANDSTILLS: Final = 2
# Seconds: longer than the allowed lag of the event loop (--max-lag); a timeout of 5 s leaves room for a retry after it.
STANDSTILL: Final = 2.0


def kill_all(scenario: Scenario) -> Seen:
    """SIGKILL for every replica; the kubelet restarts them after a while."""
    victims = scenario.fleet.ready()
    for victim in victims:
        victim.process.kill()
    for victim in victims:
        scenario.fleet.wait_until_left(victim)
    scenario.stream.wait_for_more(STEP)
    for victim in victims:
        scenario.fleet.restart(victim)
        scenario.fleet.wait_until_ready(victim)
    return Seen(f"{len(victims)} replicas")


def delete_configuration(scenario: Scenario) -> Seen:
    """Another client deletes our registration; after a while it is applied again."""
    scenario.kubectl.delete("mutatingwebhookconfiguration", NAME)
    scenario.stream.wait_for_more(2 * STEP)
    return _until_repaired(scenario, lambda: scenario.kubectl.apply(registrations(scenario.certificates)))


def _last_review(replica: Replica) -> float:
    """Seconds from the EndpointSlice without the replica to the last review that it answered."""
    offset = time.time() - time.monotonic()
    assert replica.left is not None
    return max(replica.answers(), default=0.0) - (replica.left + offset)


# A dead process: its address is dialled until it has left the EndpointSlice, and its running requests are lost.
_DEAD: Final = ("connect: connection refused", "EOF", "connection reset by peer", "broken pipe")
# No bundle: the API server trusts only the system's CAs.
_UNTRUSTED: Final = ("x509: certificate signed by unknown authority",)

ALL: Final = (
    Fault("rolling restart", restart_in_turn, 100),
    Fault("SIGKILL of one of two", kill_one, 10, loses=_DEAD),
    Fault("leaf renewed", renew_leaf, 50),
    Fault("CA rotated", rotate_authority, 100),
    Fault("caBundle blanked", blank_bundle, STEP, loses=_UNTRUSTED),
    Fault("applied again", apply_again, 3 * STEP),
    Fault("replaced", replace, STEP, loses=_UNTRUSTED),
    Fault("overload", overload, OVERLOADED),
    Fault("standstill", pause_each, 4 * STEP),
)
# With the policy `requested`: what no webhook can answer is denied, and nothing passes without its variable.
_UNANSWERED: Final = ("ValidatingAdmissionPolicy 'dapr-token-injector-requested'",)
REQUESTED: Final = (
    Fault("SIGKILL of one of two", kill_one, 10, loses=_DEAD),
    Fault("SIGKILL of both", kill_all, STEP, loses=(*_DEAD, "no endpoints available for service")),
    Fault("configuration deleted", delete_configuration, 2 * STEP, loses=(*_UNANSWERED, *_UNTRUSTED)),
)
# Certificates from files are managed by their owner only.
SELF_ONLY: Final = frozenset({"caBundle blanked", "applied again", "replaced"})


def of(mix: Mix) -> tuple[Fault, ...]:
    """The faults that apply to a mix."""
    if mix.requested:
        return REQUESTED
    return tuple(fault for fault in ALL if mix.tls == "self" or fault.name not in SELF_ONLY)
