"""A control plane, replicas behind a Service, and a stream of creates that continues during the faults."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from tests.availability.api import ApiClient, api_of
from tests.availability.certificates import Files, SelfManaged
from tests.availability.creates import AttemptLog, pods
from tests.availability.load import Plan
from tests.availability.replicas import CALLEE, NAMESPACE, SERVICE, Fleet, Pace
from tests.cluster.conftest import wait_until_injecting
from tests.cluster.objects import ASKING, DAPR, deployment, pod
from tests.cluster.policies import DEPLOY
from tests.controlplane import registration
from tests.controlplane.cluster import (
    ControlPlane,
    Programs,
    control_plane,
    wait_for_service_account,
    write_kubeconfig,
)
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess
from tests.documents import documents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.availability.certificates import Certificates
    from tests.availability.creates import Attempt
    from tests.availability.load import Api
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

USERS: Final = "users"  # the namespace of all Pods
ASKING_SET: Final = "asking-set"  # a Deployment whose Pods request a token
OTHER_SET: Final = "other-set"
PODS: Final = f"/api/v1/namespaces/{USERS}/pods"
REQUESTED: Final = tuple(DEPLOY / f"components/requested/{name}.yaml" for name in ("policy", "binding"))


@dataclass(frozen=True, slots=True)
class Mix:
    """One kind of API server, and how the webhook runs before it."""

    name: str
    apiserver_flags: tuple[str, ...] = ()
    tls: Literal["self", "files"] = "self"
    pace: Pace = field(default_factory=Pace)
    requested: bool = False  # with the policy `requested`


# From 1.37 on an API server chooses an endpoint for each call, before that for each new connection, in every mix.
_PER_CONNECTION: Final = "--feature-gates=WebhookRoundTripLoadBalancing=false"
_CHOOSES_PER_CALL: Final = (1, 37)
MIXES: Final = {
    mix.name: mix
    for mix in (
        Mix("endpoint per call"),
        Mix("endpoint per connection", apiserver_flags=(_PER_CONNECTION,)),
        Mix("certificates from files", tls="files"),
        Mix("requested", requested=True),
    )
}


@dataclass(frozen=True, slots=True)
class Rates:
    """Creates per second; the Deployments' Pods are made by their controllers."""

    asking: float
    others: float
    asking_replicas: int = 4  # at each scaling
    other_replicas: int = 2
    scalings: float = 0.5

    @classmethod
    def bearable(cls, seconds: float) -> Rates:
        """The rates that an API server can serve, derived from its seconds per Pod."""
        asking = max(5.0, min(MOST_ASKING, SHARE / seconds))
        return cls(round(asking, 1), round(asking / 3, 1))


MOST_ASKING: Final = 20.0
# The share of the rate of a client that waits for each answer; the rest is for faults, controllers and replicas.
SHARE: Final = 0.4
_TRIES: Final = 40


@dataclass(slots=True)
class Stream:
    """The load client and what it has written."""

    process: ManagedProcess
    log: AttemptLog

    def pods(self) -> tuple[Attempt, ...]:
        """Every create of one Pod that has ended."""
        return pods(self.log.read())

    def wait_for(self, count: int) -> None:
        """Wait until so many creates have ended."""

        def probe() -> bool:
            if len(self.pods()) >= count:
                return True
            self.process.ensure_running()
            return False

        wait_for(f"{count} creates", probe, timeout_seconds=600, interval_seconds=0.2)

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more have ended."""
        self.wait_for(len(self.pods()) + count)


@dataclass(slots=True)
class Scenario:
    """Everything that a fault can change."""

    mix: Mix
    plane: ControlPlane
    kubectl: Kubectl  # in the namespace of the Pods
    api: ApiClient
    fleet: Fleet
    certificates: Certificates
    stream: Stream
    rates: Rates


@contextlib.contextmanager
def scenario(programs: Programs, mix: Mix, *, most_pods: int, most_seconds: float) -> Iterator[Scenario]:
    """Set up everything with a running stream; tear it down at the end."""
    with contextlib.ExitStack() as stack:
        chosen = mix.apiserver_flags if programs.kubernetes_version() >= _CHOOSES_PER_CALL else ()
        flags = ("--enable-aggregator-routing=true", *chosen)
        plane = stack.enter_context(control_plane(programs, apiserver_flags=flags))
        api = api_of(plane.kubeconfig, plane.folder)
        client = stack.enter_context(ApiClient(api))
        for name in (NAMESPACE, USERS):
            client.apply(f"/api/v1/namespaces/{name}", _namespace(name))
        plane.kubectl.within(NAMESPACE).create(CALLEE.service())
        users = plane.kubectl.within(USERS)
        wait_for_service_account(users)

        certificates: Certificates = SelfManaged(plane.kubeconfig) if mix.tls == "self" else Files()
        certificates.prepare(client)
        registered = registrations(certificates)
        plane.kubectl.apply(registered)
        if mix.requested:
            plane.kubectl.apply([item for file in REQUESTED for item in documents(file)])
        fleet = Fleet(plane.folder, api, certificates.flags, mix.pace)
        stack.enter_context(fleet.running(2))
        wait_until_injecting(users)

        for name, annotations in ((ASKING_SET, ASKING), (OTHER_SET, DAPR)):
            users.create(_without_replicas(deployment(annotations, name=name)))
        rates = Rates.bearable(client.seconds_per_create(PODS, pod(ASKING), tries=_TRIES))
        plan = Plan(
            api=_user(plane),
            namespace=USERS,
            asking_per_second=rates.asking,
            others_per_second=rates.others,
            deployments={ASKING_SET: rates.asking_replicas, OTHER_SET: rates.other_replicas},
            scalings_per_second=rates.scalings,
            most_pods=most_pods,
            most_replicas=int(most_seconds) * max(rates.asking_replicas, rates.other_replicas),
            most_seconds=most_seconds,
        )
        stream = _start_stream(plan, plane.folder)
        stack.callback(stream.process.kill)
        yield Scenario(mix, plane, users, client, fleet, certificates, stream, rates)


def _user(plane: ControlPlane) -> Api:
    """A client that may create Pods, and is not in `system:masters`."""
    folder = plane.folder / "user"
    folder.mkdir()
    client = plane.authority.issue_client(user="deployer", group="deployers")
    kubeconfig = write_kubeconfig(folder, "deployer", plane.url, plane.authority, client)
    plane.kubectl.within(USERS).run("create", "rolebinding", "deployer", "--clusterrole=edit", "--user=deployer")
    return api_of(kubeconfig, folder)


def registrations(certificates: Certificates) -> tuple[Json, ...]:
    """Our two webhook configurations, as they are shipped but for whom they serve."""
    callee = registration.ServiceEndpoint(NAMESPACE, SERVICE, certificates.bundle)
    return (
        registration.token_injector(callee, namespace=USERS),
        registration.workload_warnings(callee, namespace=USERS),
    )


def _start_stream(plan: Plan, folder: Path) -> Stream:
    path, log = folder / "load-plan.json", folder / "load.jsonl"
    path.write_bytes(msgspec.json.encode(plan))
    command = [sys.executable, "-m", "tests.availability.load", str(path), str(log)]
    return Stream(ManagedProcess.start("load client", command, log_path=folder / "load.log"), AttemptLog(log))


def _namespace(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _without_replicas(item: Json) -> Json:
    item["spec"]["replicas"] = 0
    return item
