"""The view from outside: Pod creates through a real kube-apiserver, with us, with controller-runtime, with none.

Every webhook has a namespace of its own that its configuration is narrowed to, so that all run side by side and the
rounds can take turns. The Pods are stored for real; the cluster lives for this run only.
"""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.parser import text_string_to_metric_families

from tests.bench import bodies, golden, peers
from tests.bench.errors import BenchError
from tests.bench.process import free_port, running
from tests.controlplane.cluster import Programs, control_plane, wait_for_service_account
from tests.controlplane.errors import HarnessError
from tests.controlplane.registration import Endpoint, token_injector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from tests.bench.certs import Pair
    from tests.bench.peers import Peer
    from tests.bench.wrk import Run, Wrk
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl

NONE: Final = "none"
METRIC: Final = "apiserver_admission_webhook_admission_duration_seconds"
_COMPARED: Final = (peers.US, peers.CONTROLLER_RUNTIME)
# One create at a time shows what a webhook adds to it; many at once, what it takes from a machine that is full.
ALONE: Final = 1
BUSY: Final = 16
_SECONDS: Final = 4
# Growth steps of the Pod: 5.4 KB, about what a Deployment's Pod with a sidecar has.
_STEPS: Final = 32

Row = dict[str, float]


@dataclass(frozen=True, slots=True)
class Site:
    """What the view needs of the bench."""

    pair: Pair
    folder: Path
    wrk: Wrk
    cores: str  # of the webhooks: as many as the API server may use
    report: Callable[[str], None]


def look(servers: Sequence[Peer], site: Site, *, rounds: int) -> dict[str, Row]:
    """Creates per second and the API server's own measure of each webhook, by webhook.

    Raises:
        BenchError: The control plane could not be had, or a Pod came out without its variable.
    """
    compared = [server for server in servers if server.name in _COMPARED]
    try:
        with control_plane(Programs.resolve(site.report)) as plane, ExitStack() as stack:
            for server in compared:
                _register(plane, server, site, stack)
            return _measure(plane, [NONE, *(server.name for server in compared)], site, rounds)
    except HarnessError as error:
        raise BenchError(f"no view from outside: {error}") from error


@dataclass(frozen=True, slots=True)
class Histogram:
    """The API server's own measure of one webhook entry: calls up to each bound, in seconds, and their sum."""

    buckets: dict[float, float]
    total: float
    count: float

    @classmethod
    def of(cls, metrics: str, entry: str) -> Histogram:
        """Read it from a scrape, all of the entry's labels together."""
        buckets: dict[float, float] = {}
        sums = {"_sum": 0.0, "_count": 0.0}
        for family in text_string_to_metric_families(metrics):
            for sample in family.samples:
                if family.name != METRIC or sample.labels.get("name") != entry:
                    continue
                if sample.name.endswith("_bucket"):
                    bound = float(sample.labels["le"])
                    buckets[bound] = buckets.get(bound, 0.0) + sample.value
                else:
                    sums[sample.name.removeprefix(METRIC)] += sample.value
        return cls(buckets, sums["_sum"], sums["_count"])

    def since(self, before: Histogram) -> Histogram:
        """What came after `before`."""
        buckets = {bound: value - before.buckets.get(bound, 0.0) for bound, value in self.buckets.items()}
        return Histogram(buckets, self.total - before.total, self.count - before.count)

    @property
    def mean_ms(self) -> float:
        """Mean of one call."""
        return self.total / self.count * 1e3

    @property
    def p99_ms(self) -> float:
        """The smallest bound that at least 99 % of the calls kept."""
        return 1e3 * min(
            (bound for bound, calls in self.buckets.items() if calls >= 0.99 * self.count), default=math.inf
        )


def pod(namespace: str) -> bodies.Json:
    """A Pod as a user creates it: no owner, which the garbage collector would miss, and no managedFields."""
    made = bodies.pod(_STEPS)
    metadata = made["metadata"]
    kept = {name: metadata[name] for name in ("generateName", "labels", "annotations")}
    return {**made, "metadata": {**kept, "namespace": namespace}}


def _namespace(name: str) -> str:
    return f"bench-{name}"


def _entry(name: str) -> str:
    return f"{name}.bench.invalid"


def _register(plane: ControlPlane, server: Peer, site: Site, stack: ExitStack) -> None:
    configuration = token_injector(endpoint(server, server.name, site, stack), namespace=_namespace(server.name))
    # The first entry is `/mutate`; names of its own report it apart, in the cluster and in the API server's metrics.
    entry = {**configuration["webhooks"][0], "name": _entry(server.name)}
    plane.kubectl.create({**configuration, "metadata": {"name": f"bench-{server.name}"}, "webhooks": [entry]})


def endpoint(server: Peer, name: str, site: Site, stack: ExitStack) -> Endpoint:
    """Start a server that runs as long as the stack, with a folder of this name, and return where it listens."""
    folder = site.folder / f"outside-{name}"
    folder.mkdir()
    port = free_port()
    stack.enter_context(
        running(
            peers.command(server, port=port, pair=site.pair, folder=folder),
            env=server.env,
            cores=site.cores,
            port=port,
            certificate=site.pair.certificate,
            first=bodies.body(bodies.SIZES["4 KB"]),
        )
    )
    return Endpoint(f"https://127.0.0.1:{port}", site.pair.certificate.read_bytes())


def _measure(plane: ControlPlane, names: list[str], site: Site, rounds: int) -> dict[str, Row]:
    for name in names:
        plane.kubectl.run("create", "namespace", _namespace(name))
        wait_for_service_account(plane.kubectl.within(_namespace(name)))
    headers = credentials(plane.kubectl, site.folder)
    site.report("creating Pods, to warm up")
    for name in names:
        create(plane, _namespace(name), site, headers, connections=BUSY)
    rows: dict[str, Row] = {name: {} for name in names}
    for connections, label in ((ALONE, "alone"), (BUSY, "busy")):
        site.report(f"creating Pods over {connections} connections, {rounds} rounds")
        before = _histograms(plane.kubectl, names)
        runs: dict[str, list[Run]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                runs[name].append(create(plane, _namespace(name), site, headers, connections=connections))
        after = _histograms(plane.kubectl, names)
        for name in names:
            rows[name] |= {f"{label}_{key}": value for key, value in _row(runs[name]).items()}
            if name != NONE:
                rows[name] |= _webhook(after[name].since(before[name]), label)
    for name in names:
        check_stored(plane.kubectl.within(_namespace(name)), name)
    return rows


def _histograms(kubectl: Kubectl, names: Iterable[str]) -> dict[str, Histogram]:
    metrics = kubectl.run("get", "--raw", "/metrics").stdout
    return {name: Histogram.of(metrics, _entry(name)) for name in names}


def _webhook(calls: Histogram, label: str) -> Row:
    if not calls.count:
        raise BenchError("the API server never called a webhook that it should have called")
    return {f"{label}_webhook_mean_ms": calls.mean_ms, f"{label}_webhook_p99_ms": calls.p99_ms}


def create(plane: ControlPlane, namespace: str, site: Site, headers: Path, *, connections: int) -> Run:
    """Create Pods in a namespace for some seconds."""
    body = site.folder / f"{namespace}.json"
    body.write_bytes(bodies.encode(pod(namespace)))
    server: str = json.loads(plane.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    url = f"{server}/api/v1/namespaces/{namespace}/pods"
    return site.wrk.run(url, body, connections=connections, seconds=_SECONDS, headers=headers)


def credentials(kubectl: Kubectl, folder: Path) -> Path:
    """A header with a token of a ServiceAccount that may create Pods: wrk knows no client certificates."""
    user = f"{kubectl.namespace}:default"
    kubectl.run("create", "clusterrolebinding", "bench", "--clusterrole=cluster-admin", f"--serviceaccount={user}")
    token = kubectl.token("default")
    target = folder / "headers"
    target.touch(mode=0o600)
    target.write_text(f"Authorization: Bearer {token}\n")
    return target


def check_stored(kubectl: Kubectl, name: str) -> None:
    """The last thing that counts: what was stored."""
    listed: Any = json.loads(kubectl.run("get", "--raw", f"/api/v1/namespaces/{kubectl.namespace}/pods?limit=5").stdout)
    want = {} if name == NONE else {"containers/daprd": [golden.REFERENCE]}
    for item in listed["items"]:
        if (got := golden.tokens_of(item)) != want:
            raise BenchError(f"a Pod created with webhook {name} has the tokens {got}")


def _row(runs: Iterable[Run]) -> Row:
    measured = list(runs)
    return {
        "creates_per_second": median(run.requests_per_second for run in measured),
        "p50_ms": median(run.p50_us for run in measured) / 1e3,
        "p99_ms": median(run.p99_us for run in measured) / 1e3,
    }
