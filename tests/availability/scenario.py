"""A control plane, replicas behind a Service, and a stream of creates that continues during the faults."""

from __future__ import annotations

import contextlib
import secrets
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from tests.availability import redundancy
from tests.availability.api import ApiClient, api_of
from tests.availability.certificates import Files, SelfManaged
from tests.availability.creates import AttemptLog, pods
from tests.availability.load import Plan
from tests.availability.replicas import NAMESPACE, ONE_GROUP, SERVICE, Fleet, Pace
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

ASKING_SET: Final = "asking-set"  # a Deployment whose Pods request a token
OTHER_SET: Final = "other-set"
REQUESTED: Final = tuple(DEPLOY / f"components/requested/{name}.yaml" for name in ("policy", "binding"))


@dataclass(frozen=True, slots=True)
class Mix:
    """One kind of API server, and how the webhook runs before it."""

    name: str
    apiserver_flags: tuple[str, ...] = ()
    tls: Literal["self", "files"] = "self"
    pace: Pace = field(default_factory=Pace)
    requested: bool = False  # with the policy `requested`
    shadow: bool = False  # begins in shadow mode, without that policy
    redundant: bool = False  # two groups of replicas, and the policy


@dataclass(frozen=True, slots=True)
class Size:
    """How much a run does. Rows differ between sizes in precision, not in what is demanded of them."""

    creates: int  # of Pods, directly and in all, at least
    lead: int = 50  # creates before the first fault and after each one: none is met by the stream's beginning or end
    most_asking: float = 20.0  # Pods that request a token, per second
    scalings: float = 0.5  # of each Deployment, per second
    overloaded: int = 150  # creates that an overload lasts


SHORT: Final = Size(creates=300, lead=10, most_asking=8.0, scalings=0.25, overloaded=50)


@dataclass(frozen=True, slots=True)
class Rates:
    """Creates per second; the Deployments' Pods are made by their controllers."""

    asking: float
    others: float
    asking_replicas: int = 4  # at each scaling
    other_replicas: int = 2

    @classmethod
    def bearable(cls, seconds: float, most_asking: float) -> Rates:
        """The rates that an API server can serve, derived from its seconds per Pod."""
        asking = max(5.0, min(most_asking, SHARE / seconds))
        return cls(round(asking, 1), round(asking / 3, 1))

    def most_seconds(self, creates: int) -> float:
        """After so many seconds a stream ends: it has made so many creates, and the faults took as long as they can."""
        return FAULTS_SECONDS + creates / (self.asking + self.others)


# The share of the rate of a client that waits for each answer; the rest is for faults, controllers and replicas.
SHARE: Final = 0.4
_TRIES: Final = 40
# All faults of a mix together end within this time, on a busy machine, too.
FAULTS_SECONDS: Final = 1800.0


@dataclass(slots=True)
class Stream:
    """The load client and what it has written."""

    process: ManagedProcess
    log: AttemptLog
    most_seconds: float  # then it ends

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

        wait_for(f"{count} creates", probe, timeout_seconds=self.most_seconds, interval_seconds=0.2)

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more have ended."""
        self.wait_for(len(self.pods()) + count)


@dataclass(slots=True)
class Scenario:
    """Everything that a fault can change."""

    mix: Mix
    size: Size
    plane: ControlPlane
    folder: Path
    kubectl: Kubectl  # in the namespace of the Pods
    api: ApiClient
    registered: tuple[Json, ...]  # our webhook configurations
    policies: tuple[Json, ...]  # `requested`
    fleet: Fleet
    certificates: Certificates
    stream: Stream
    rates: Rates

    @property
    def names(self) -> tuple[str, ...]:
        """The names of our mutating configurations."""
        return tuple(item["metadata"]["name"] for item in self.registered if item["kind"] == MUTATING)


MUTATING: Final = "MutatingWebhookConfiguration"


_CHOOSES_PER_CALL: Final = (1, 37)


@contextlib.contextmanager
def plane_for(programs: Programs, mix: Mix) -> Iterator[ControlPlane]:
    """Start the control plane of a mix; mixes with the same flags can use it one after another."""
    # Older API servers do not know the gate; they choose an endpoint for each new connection in every mix.
    chosen = mix.apiserver_flags if programs.kubernetes_version() >= _CHOOSES_PER_CALL else ()
    with control_plane(programs, apiserver_flags=("--enable-aggregator-routing=true", *chosen)) as plane:
        yield plane


@contextlib.contextmanager
def scenario(plane: ControlPlane, mix: Mix, size: Size) -> Iterator[Scenario]:
    """Set up everything with a running stream; tear down at the end what another mix must not meet."""
    namespace = f"users-{secrets.token_hex(4)}"  # of all Pods
    folder = plane.folder / namespace
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        api = api_of(plane.kubeconfig, folder)
        client = stack.enter_context(ApiClient(api))
        for name in (NAMESPACE, namespace):
            client.apply(f"/api/v1/namespaces/{name}", _namespace(name))
        groups = redundancy.groups() if mix.redundant else ONE_GROUP
        plane.kubectl.within(NAMESPACE).apply([group.callee.service() for group in groups])
        users = plane.kubectl.within(namespace)
        wait_for_service_account(users)

        certificates: Certificates = SelfManaged(plane.kubeconfig) if mix.tls == "self" else Files()
        certificates.prepare(client)
        registered = redundancy.registrations(namespace) if mix.redundant else registrations(certificates, namespace)
        policies = policies_of(mix)
        for item in (*policies, *registered):
            stack.callback(plane.kubectl.delete, item["kind"], item["metadata"]["name"])
        plane.kubectl.apply([*(() if mix.shadow else policies), *registered])
        fleet = Fleet(folder, api, certificates.flags, mix.pace, groups, _shadow_policy(folder) if mix.shadow else None)
        stack.enter_context(fleet.running(REPLICAS))
        if not mix.shadow:
            wait_until_injecting(users)

        for name, annotations in ((ASKING_SET, ASKING), (OTHER_SET, DAPR)):
            users.create(_without_replicas(deployment(annotations, name=name)))
        seconds = client.seconds_per_create(pods_of(namespace), pod(ASKING), tries=_TRIES)
        rates = Rates.bearable(seconds * (ROUNDS if mix.redundant else 1), size.most_asking)
        most_seconds = rates.most_seconds(size.creates)
        plan = Plan(
            api=_user(users, plane, folder),
            namespace=namespace,
            asking_per_second=rates.asking,
            others_per_second=rates.others,
            deployments={ASKING_SET: rates.asking_replicas, OTHER_SET: rates.other_replicas},
            scalings_per_second=size.scalings,
            most_pods=max(4 * size.creates, 100_000),
            most_replicas=int(most_seconds) * max(rates.asking_replicas, rates.other_replicas),
            most_seconds=most_seconds,
            most_on_the_way=WAITING if mix.redundant else ON_THE_WAY,
        )
        stream = _start_stream(plan, folder)
        stack.callback(stream.process.kill)
        yield Scenario(
            mix, size, plane, folder, users, client, registered, policies, fleet, certificates, stream, rates
        )


REPLICAS: Final = 2
ROUNDS: Final = 2  # of each create, where a second group or a later webhook patches it
ON_THE_WAY: Final = 64
WAITING: Final = 400  # more than wait while no webhook answers in two rounds


def policies_of(mix: Mix) -> tuple[Json, ...]:
    """The policy `requested` with its binding, as far as a mix has it."""
    if mix.redundant:
        return redundancy.policies()
    return tuple(item for file in REQUESTED for item in documents(file)) if mix.requested else ()


def _shadow_policy(folder: Path) -> Path:
    path = folder / "shadow.yaml"
    path.write_text("shadow: true\n")
    return path


def pods_of(namespace: str) -> str:
    """The path of a namespace's Pods."""
    return f"/api/v1/namespaces/{namespace}/pods"


def _user(users: Kubectl, plane: ControlPlane, folder: Path) -> Api:
    """A client that may create Pods, and is not in `system:masters`."""
    client = plane.authority.issue_client(user="deployer", group="deployers")
    own = folder / "user"
    own.mkdir()
    users.run("create", "rolebinding", "deployer", "--clusterrole=edit", "--user=deployer")
    return api_of(write_kubeconfig(own, "deployer", plane.url, plane.authority, client), own)


def registrations(certificates: Certificates, namespace: str) -> tuple[Json, ...]:
    """Our two webhook configurations, as they are shipped but for whom they serve."""
    callee = registration.ServiceEndpoint(NAMESPACE, SERVICE, certificates.bundle)
    return (
        registration.token_injector(callee, namespace=namespace),
        registration.workload_warnings(callee, namespace=namespace),
    )


def _start_stream(plan: Plan, folder: Path) -> Stream:
    path, log = folder / "load-plan.json", folder / "load.jsonl"
    path.write_bytes(msgspec.json.encode(plan))
    command = [sys.executable, "-m", "tests.availability.load", str(path), str(log)]
    return Stream(
        ManagedProcess.start("load client", command, log_path=folder / "load.log"), AttemptLog(log), plan.most_seconds
    )


def _namespace(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _without_replicas(item: Json) -> Json:
    item["spec"]["replicas"] = 0
    return item
