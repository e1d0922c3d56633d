"""Replicas of the webhook behind their Services, with a fake kubelet and endpoint controller.

There is no node: a replica is a `serve` process on its own address, and a thread replaces kubelet and endpoint
controller. It probes /readyz, notices dead processes at the pace of a kubelet, and writes the EndpointSlice, from which
the API server takes the address to dial (`--enable-aggregator-routing`). The faults do by hand what a Deployment's
controller does: start a new replica first, then send SIGTERM to an old one.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.availability.api import ApiClient
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess
from tests.controlplane.registration import ServiceEndpoint
from tests.controlplane.scrape import current, get

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.availability.load import Api
    from tests.controlplane.api import Json

NAMESPACE: Final = "dapr-token-injector"
SERVICE: Final = "dapr-token-injector"
PORT: Final = 10250
OPS_PORT: Final = 8080
# Of the network namespace in which all this runs; a replica takes the next one, as a new Pod does.
ADDRESSES: Final = tuple(f"192.168.77.{number}" for number in range(1, 101))

_TICK: Final = 0.1  # seconds between two looks
_ANSWERED: Final = '"message":"review answered"'


@dataclass(frozen=True, slots=True)
class Pace:
    """How slow a cluster is, in seconds. The defaults are a kubelet's, or slower than one where slower hurts more."""

    relist: float = 1.0  # the interval at which a kubelet checks for ended containers
    leave: float = 1.0  # from SIGTERM to the EndpointSlice without the replica


@dataclass(frozen=True, slots=True)
class Group:
    """The replicas behind one Service, and the flags that only they have."""

    service: str = SERVICE
    flags: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """The SNI of the API server's calls."""
        return f"{self.service}.{NAMESPACE}.svc"

    @property
    def callee(self) -> ServiceEndpoint:
        """The Service, without a bundle."""
        return ServiceEndpoint(NAMESPACE, self.service, None)


ONE_GROUP: Final = (Group(),)


class Phase(StrEnum):
    """The state of a replica in the EndpointSlice."""

    STARTING = "starting"
    READY = "ready"
    TERMINATING = "terminating"
    GONE = "gone"


@dataclass(slots=True)
class Replica:
    """One `serve` process. Times are in seconds of the monotonic clock."""

    name: str
    group: Group
    address: str
    folder: Path
    process: ManagedProcess
    seen: Phase = Phase.STARTING  # as the kubelet knows
    phase: Phase = Phase.STARTING  # as the EndpointSlice says
    asked_to_stop: float | None = None
    left: float | None = None  # when the EndpointSlice was written without it

    @property
    def ops_url(self) -> str:
        """Health and metrics."""
        return f"http://{self.address}:{OPS_PORT}"

    def answers(self) -> tuple[float, ...]:
        """When it answered reviews, from its log: seconds since the epoch."""
        lines = (line for line in self.process.log().splitlines() if _ANSWERED in line)
        return tuple(dt.datetime.fromisoformat(json.loads(line)["time"]).timestamp() for line in lines)

    def metric(self, name: str, **labels: str) -> float:
        """One of its metrics, without our prefix; the sum over all samples that have the labels."""
        text = current(lambda: get(f"{self.ops_url}/metrics").raise_for_status().text)
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        full, wanted = f"dapr_token_injector_{name}", labels.items()
        return sum(s.value for s in samples if s.name == full and wanted <= s.labels.items())


@dataclass(slots=True)
class Fleet:
    """All replicas there ever were. Start and stop them from the main thread; a second one watches."""

    folder: Path
    api: Api
    flags: Callable[[Path], Sequence[str]]  # of one replica, which can write files to its folder
    pace: Pace
    groups: tuple[Group, ...] = ONE_GROUP
    policy_file: Path | None = None  # of the replicas that are started from now on
    replicas: list[Replica] = field(default_factory=list)
    problem: BaseException | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self, count: int) -> Iterator[Fleet]:
        """Start a number of replicas, as many of each group; stop all running ones at the end."""
        watcher = threading.Thread(target=self._watch, name="kubelet", daemon=True)
        watcher.start()
        try:
            for replica in [self.start(group) for group in self.groups for _ in range(count // len(self.groups))]:
                self.wait_until_ready(replica)
            yield self
        finally:
            self._ended.set()
            watcher.join()
            for replica in self.replicas:
                replica.process.kill()

    def start(self, group: Group) -> Replica:
        """Start one more replica of a group on the next address."""
        number = len(self.replicas) + 1
        folder = self.folder / f"replica-{number}"
        folder.mkdir()
        address = ADDRESSES[number]  # the first one stays, for `swallowed`
        replica = Replica(f"replica-{number}", group, address, folder, self._serve(group, folder, address))
        self.replicas.append(replica)
        return replica

    def restart(self, replica: Replica) -> None:
        """Restart a dead replica's process, as a kubelet does with a container."""
        replica.process = self._serve(replica.group, replica.folder, replica.address)
        replica.seen = Phase.STARTING

    def wait_until_ready(self, replica: Replica) -> None:
        """Wait until the EndpointSlice has it."""

        def probe() -> bool:
            self.check()
            replica.process.ensure_running()
            return replica.phase is Phase.READY

        wait_for(f"{replica.name} ready", probe, describe=replica.process.log)

    def terminate(self, replica: Replica) -> None:
        """Send SIGTERM; the EndpointSlice follows after the time in `pace`."""
        replica.asked_to_stop = time.monotonic()
        replica.process.popen.send_signal(signal.SIGTERM)

    def wait_until_left(self, replica: Replica) -> float:
        """Wait until the EndpointSlice is without it; the moment at which that was written."""

        def probe() -> float | None:
            self.check()
            return replica.left

        return wait_for(f"{replica.name} out of the EndpointSlice", probe)

    def ready(self, *groups: Group) -> tuple[Replica, ...]:
        """The replicas in the EndpointSlices; of all groups if none is given."""
        wanted = groups or self.groups
        return tuple(replica for replica in self.replicas if replica.phase is Phase.READY and replica.group in wanted)

    def check(self) -> None:
        """Raise the error of the watching thread."""
        if self.problem is not None:
            raise self.problem

    def _serve(self, group: Group, folder: Path, host: str) -> ManagedProcess:
        command = [
            *(sys.executable, "-m", "injector", "serve", "--log-format", "json"),
            *("--host", host, "--port", str(PORT), "--ops-host", host, "--ops-port", str(OPS_PORT)),
            *self.flags(folder),
            *group.flags,
            *(() if self.policy_file is None else ("--policy-file", str(self.policy_file))),
        ]
        return ManagedProcess.start(f"serve on {host}", command, log_path=folder / "serve.log")

    def _watch(self) -> None:
        try:
            with ApiClient(self.api) as client, httpx.Client(trust_env=False, timeout=1.0) as probes:
                published: dict[str, list[Json]] = {}
                relisted = 0.0
                while not self._ended.wait(_TICK):
                    now = time.monotonic()
                    is_relist = now - relisted >= self.pace.relist
                    relisted = now if is_relist else relisted
                    for replica in self.replicas:
                        self._look(replica, probes, now, is_relist=is_relist)
                    self._publish(client, published)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self.problem = error

    def _look(self, replica: Replica, probes: httpx.Client, now: float, *, is_relist: bool) -> None:
        if replica.seen is Phase.GONE:
            return
        if is_relist and replica.process.popen.poll() is not None:
            replica.seen = Phase.GONE
        elif replica.asked_to_stop is not None:
            if now - replica.asked_to_stop >= self.pace.leave:
                replica.seen = Phase.TERMINATING
        elif replica.seen is Phase.STARTING:
            with contextlib.suppress(httpx.TransportError):
                if probes.get(f"{replica.ops_url}/readyz").status_code == httpx.codes.OK:
                    replica.seen = Phase.READY

    def _publish(self, client: ApiClient, published: dict[str, list[Json]]) -> None:
        """Write the EndpointSlices that differ; then update the phase of each replica."""
        seen = [(replica, replica.seen) for replica in self.replicas]
        for group in self.groups:
            mine = [(replica, phase) for replica, phase in seen if replica.group == group]
            endpoints = [_endpoint(replica, phase) for replica, phase in mine if phase is not Phase.GONE]
            if endpoints != published.get(group.service):
                client.apply(
                    _path_of(group, "endpointslices"), group.callee.slice_of(port=PORT) | {"endpoints": endpoints}
                )
                addresses = (replica.address for replica, phase in mine if phase is Phase.READY)
                client.apply(_path_of(group, "endpoints"), group.callee.endpoints_of(*addresses, port=PORT))
                published[group.service] = endpoints
        now = time.monotonic()
        for replica, phase in seen:
            if phase not in {Phase.TERMINATING, Phase.GONE}:
                replica.left = None
            elif replica.left is None:
                replica.left = now
            replica.phase = phase


def _path_of(group: Group, resource: str) -> str:
    version = "apis/discovery.k8s.io" if resource == "endpointslices" else "api"
    return f"/{version}/v1/namespaces/{NAMESPACE}/{resource}/{group.service}"


def _endpoint(replica: Replica, phase: Phase) -> Json:
    is_ready, is_terminating = phase is Phase.READY, phase is Phase.TERMINATING
    conditions = {"ready": is_ready, "serving": is_ready or is_terminating, "terminating": is_terminating}
    return {"addresses": [replica.address], "conditions": conditions}
