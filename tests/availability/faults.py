"""What happens to the webhook while Pods are created. Each fault returns when over, with a remark on what it saw."""

from __future__ import annotations

import contextlib
import copy
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from tests.availability.certificates import bundles, write_bundle
from tests.availability.flood import Flooded, FloodPlan, Target
from tests.availability.replicas import PORT
from tests.availability.scenario import MUTATING
from tests.cluster.annotator import annotator
from tests.cluster.objects import ASKING, pod
from tests.controlplane.errors import HarnessError, KubectlError
from tests.controlplane.netns import swallowed
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.availability.replicas import Replica
    from tests.availability.scenario import Scenario

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
    opens: bool = False  # Pods without their variable are expected, as in shadow mode
    later_webhook: bool = False


def restart_in_turn(scenario: Scenario) -> Seen:
    """A Deployment's rolling update with one Pod more than usual: a new one is ready before an old one gets SIGTERM."""
    old = scenario.fleet.ready()
    for replica in old:
        scenario.fleet.wait_until_ready(scenario.fleet.start(replica.group))
        scenario.fleet.terminate(replica)
    for replica in old:
        wait_for(f"{replica.name} ended", lambda r=replica: r.process.popen.poll() is not None, timeout_seconds=120)  # type: ignore[misc]
        if replica.process.popen.returncode:
            raise HarnessError(f"{replica.name} ended with status {replica.process.popen.returncode}")
    last = ", ".join(map(_last_review, old))
    return Seen(f"last review {last} after leaving")


def chosen(scenario: Scenario, which: Sequence[int]) -> tuple[Replica, ...]:
    """The ready replicas of the groups with these numbers, of all groups without a number."""
    return scenario.fleet.ready(*(scenario.fleet.groups[number] for number in which))


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


def blank_bundle(scenario: Scenario, which: Sequence[int] = ()) -> Seen:
    """Another client writes an empty caBundle into our entries, or into those of some groups."""
    return _until_repaired(scenario, lambda: write_bundle(scenario.api, b"", *_names(scenario, which)))


def _names(scenario: Scenario, which: Sequence[int]) -> Sequence[str]:
    """The mutating configurations of the groups with these numbers, of all groups without a number."""
    return [scenario.names[number] for number in which] or scenario.names


def apply_again(scenario: Scenario) -> Seen:
    """GitOps: the manifests, without caBundle, are applied repeatedly, both ways. The bundle stays."""
    before = bundles(scenario.api, *scenario.names)
    for _ in range(3):
        for flags in ((), ("--server-side", "--force-conflicts", "--field-manager=gitops")):
            scenario.kubectl.apply(scenario.registered, *flags)
        scenario.stream.wait_for_more(STEP)
        if bundles(scenario.api, *scenario.names) != before:
            raise HarnessError("applying the shipped configuration changed its bundle")
    return Seen("bundle kept")


def replace(scenario: Scenario) -> Seen:
    """`kubectl replace` of the manifests: the only write that removes the bundle."""
    items = [item for item in scenario.registered if item["metadata"]["name"] in scenario.names]
    return _until_repaired(scenario, lambda: scenario.kubectl.run("replace", "-f", "-", stdin=items))


def _until_repaired(scenario: Scenario, wipe: Callable[[], object]) -> Seen:
    """Remove the bundle; wait until every entry has it again."""
    began = time.monotonic()
    wipe()
    wiped = time.monotonic()
    wait_for(
        "the bundle repaired",
        lambda: all(bundles(scenario.api, *scenario.names)),
        timeout_seconds=REPAIRED_WITHIN,
        interval_seconds=0.02,
    )
    repaired = time.monotonic()
    scenario.stream.wait_for_more(STEP)
    remark = f"healed {repaired - wiped:.2f} s after it was written, {repaired - began:.2f} s after that began"
    return Seen(remark, repaired - wiped)


# Seconds until the wait fails; the report has the promised limit.
REPAIRED_WITHIN: Final = 90.0


def overload(scenario: Scenario, which: Sequence[int] = ()) -> Seen:
    """Expensive reviews are posted directly to the replicas, at least three times as many as they serve."""
    ready = chosen(scenario, which)
    before = [replica.metric("admission_shed_total") for replica in ready]
    with _flooding(scenario, ready) as flood:
        wait_for("overload", lambda: _flooded(flood), timeout_seconds=FLOOD_SECONDS, describe=flood.log)
        scenario.stream.wait_for_more(scenario.size.overloaded)
        wait_for("more overload", lambda: _is_overload(flood), timeout_seconds=FLOOD_SECONDS, describe=flood.log)
        seen = _flooded(flood)[-1]
    shed = sum(replica.metric("admission_shed_total") for replica in ready) - sum(before)
    return Seen(f"{seen.asked / max(seen.served, 1):.1f} times what was served; {shed:.0f} shed in all")


# Reviews sent per served one.
OVERLOAD: Final = 3
FLOOD_SECONDS: Final = 120.0  # at most
# A review of so many takes twenty milliseconds: the replicas have to be the ones who cannot follow, not who asks.
FLOOD_CONTAINERS: Final = 2000


@contextlib.contextmanager
def _flooding(scenario: Scenario, replicas: Sequence[Replica]) -> Iterator[ManagedProcess]:
    folder = scenario.folder
    bundle = folder / "flood-ca.crt"
    bundle.write_bytes(b"".join(bundles(scenario.api, *scenario.names)))
    plan = FloodPlan(
        targets=tuple(Target(f"https://{replica.address}:{PORT}", replica.group.host) for replica in replicas),
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


def _flooded(flood: ManagedProcess) -> list[Flooded]:
    """What it has counted since the first overload, second by second."""
    lines = flood.log().splitlines(keepends=True)
    return [msgspec.json.decode(line, type=Flooded) for line in lines if line.endswith("\n")]


def _is_overload(flood: ManagedProcess) -> bool:
    """Whether so many more reviews were sent than served, on the whole."""
    seen = _flooded(flood)[-1]
    return seen.asked >= OVERLOAD * seen.served


def pause_each(scenario: Scenario) -> Seen:
    """Each replica in turn is stopped for a while, like one with a CPU limit that is far too small."""
    ready = scenario.fleet.ready()
    before = [replica.metric("admission_shed_total") for replica in ready]
    longest = 0.0
    for replica in ready * STANDSTILLS:
        longest = max(longest, _stop_for(STANDSTILL, replica))
        scenario.stream.wait_for_more(STEP)
    shed = sum(replica.metric("admission_shed_total") for replica in ready) - sum(before)
    return Seen(f"stood still {len(ready) * STANDSTILLS} times, for {longest:.1f} s at most; {shed:.0f} shed")


def _stop_for(seconds: float, *replicas: Replica) -> float:
    """Stop processes for a while; return the real seconds."""
    began = time.monotonic()
    for replica in replicas:
        replica.process.popen.send_signal(signal.SIGSTOP)
    try:
        wait_for("the time", lambda: time.monotonic() - began >= seconds)
    finally:
        for replica in replicas:
            replica.process.popen.send_signal(signal.SIGCONT)
    return time.monotonic() - began


STANDSTILLS: Final = 2
# Seconds: longer than the allowed lag of the event loop (--max-lag); a timeout of 5 s leaves room for a retry after it.
STANDSTILL: Final = 2.0


def silence(scenario: Scenario, seconds: float, which: Sequence[int] = ()) -> Seen:
    """The groups' replicas are stopped, as on a node that hangs: connections stay open, and nothing is answered."""
    return Seen(f"silent for {_stop_for(seconds, *chosen(scenario, which)):.1f} s")


def swallow(scenario: Scenario, which: Sequence[int] = ()) -> Seen:
    """No packet to the groups' replicas arrives, as behind a network policy or after the loss of a node."""
    addresses = [replica.address for replica in chosen(scenario, which)]
    began = time.monotonic()
    with swallowed(addresses):
        wait_for("the time", lambda: time.monotonic() - began >= SILENT)
    return Seen(f"packets lost for {time.monotonic() - began:.1f} s")


# Seconds: several times the timeout of the first entry, and longer than the second one with it. Then the same for two
# rounds, because a later webhook's patch makes the API server call both entries again.
SILENT: Final = 4.0
BOTH_SILENT: Final = 8.0
BOTH_SILENT_TWICE: Final = 14.0


@contextlib.contextmanager
def later_webhook(scenario: Scenario) -> Iterator[None]:
    """A webhook of another project, which is called after ours and patches every Pod."""

    def is_called() -> bool:
        with contextlib.suppress(KubectlError):  # a timeout, on a busy machine
            return "late" in scenario.kubectl.dry_run(pod(ASKING))["metadata"]["annotations"]
        return False

    with annotator("late-mutator", "late", "true", namespace=scenario.kubectl.namespace) as configuration:
        configuration["webhooks"][0]["failurePolicy"] = "Ignore"  # no create that is under way at its end fails
        try:
            scenario.kubectl.create(configuration)
            wait_for("the later webhook called", is_called)
            yield
        finally:
            scenario.kubectl.delete(configuration["kind"], configuration["metadata"]["name"])


def kill(scenario: Scenario, which: Sequence[int] = ()) -> Seen:
    """SIGKILL for every replica of the groups; the kubelet restarts them after a while."""
    victims = chosen(scenario, which)
    for victim in victims:
        victim.process.kill()
    for victim in victims:
        scenario.fleet.wait_until_left(victim)
    scenario.stream.wait_for_more(STEP)
    for victim in victims:
        scenario.fleet.restart(victim)
        scenario.fleet.wait_until_ready(victim)
    return Seen(f"{len(victims)} replicas")


def delete_configuration(scenario: Scenario, which: Sequence[int] = ()) -> Seen:
    """Another client deletes our registration, or that of some groups; after a while it is applied again."""
    for name in _names(scenario, which):
        scenario.kubectl.delete(MUTATING, name)
    scenario.stream.wait_for_more(2 * STEP)
    return _until_repaired(scenario, lambda: scenario.kubectl.apply(scenario.registered))


def end_shadow_mode(scenario: Scenario) -> Seen:
    """The upgrade that ends shadow mode: the policy `requested` as `Audit`, and other replicas, one by one."""
    audit = copy.deepcopy(scenario.policies)
    audit[-1]["spec"]["validationActions"] = ["Audit"]
    scenario.kubectl.apply(audit)
    scenario.fleet.policy_file = None
    return restart_in_turn(scenario)


def deny(scenario: Scenario) -> Seen:
    """The same upgrade again, after the rollout: the policy with `Deny`."""
    scenario.kubectl.apply(scenario.policies)
    scenario.stream.wait_for_more(2 * STEP)
    return Seen()


def _last_review(replica: Replica) -> str:
    """Seconds from the EndpointSlice without the replica to the last review that it answered."""
    offset = time.time() - time.monotonic()
    assert replica.left is not None
    answers = replica.answers()  # none from a second group whose first one always answers
    return f"{max(answers) - (replica.left + offset):+.2f} s" if answers else "none"
