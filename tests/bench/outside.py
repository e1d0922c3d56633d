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
_CONNECTIONS: Final = 16
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
    tell: Callable[[str], None]


def look(servers: Sequence[Peer], site: Site, *, rounds: int) -> dict[str, Row]:
    """Creates per second and the API server's own measure of each webhook, by webhook.

    Raises:
        BenchError: The control plane could not be had, or a Pod came out without its variable.
    """
    compared = [server for server in servers if server.name in _COMPARED]
    try:
        with control_plane(Programs.resolve(site.tell)) as plane, ExitStack() as stack:
            for server in compared:
                _register(plane, server, site, stack)
            return _measure(plane, [NONE, *(server.name for server in compared)], site, rounds)
    except HarnessError as error:
        raise BenchError(f"no view from outside: {error}") from error


def durations(metrics: str, entry: str) -> Row:
    """Mean, and an upper bound of the 99th percentile, of one webhook entry, in ms, from the API server's metrics."""
    buckets: dict[float, float] = {}
    total = count = 0.0
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name.startswith(METRIC) and sample.labels.get("name") == entry:
                if sample.name.endswith("_bucket"):
                    bound = float(sample.labels["le"])
                    buckets[bound] = buckets.get(bound, 0.0) + sample.value
                elif sample.name.endswith("_sum"):
                    total += sample.value
                elif sample.name.endswith("_count"):
                    count += sample.value
    if not count:
        raise BenchError(f"the API server never called {entry}")
    bound = min((bound for bound, below in buckets.items() if below >= 0.99 * count), default=math.inf)
    return {"webhook_mean_ms": total / count * 1e3, "webhook_p99_ms": bound * 1e3, "webhook_calls": count}


def pod(namespace: str) -> bodies.Json:
    """A Pod as somebody creates it: no owner, which the garbage collector would miss, and no managedFields."""
    made = bodies.pod(_STEPS)
    metadata = made["metadata"]
    kept = {name: metadata[name] for name in ("generateName", "labels", "annotations")}
    return {**made, "metadata": {**kept, "namespace": namespace}}


def _namespace(name: str) -> str:
    return f"bench-{name}"


def _entry(name: str) -> str:
    return f"{name}.bench.invalid"


def _register(plane: ControlPlane, server: Peer, site: Site, stack: ExitStack) -> None:
    folder = site.folder / f"outside-{server.name}"
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
    endpoint = Endpoint(f"https://127.0.0.1:{port}", site.pair.certificate.read_bytes())
    configuration = token_injector(endpoint, namespace=_namespace(server.name))
    # The first entry is `/mutate`; names of its own tell it apart, in the cluster and in the API server's metrics.
    entry = {**configuration["webhooks"][0], "name": _entry(server.name)}
    plane.kubectl.create({**configuration, "metadata": {"name": f"bench-{server.name}"}, "webhooks": [entry]})


def _measure(plane: ControlPlane, names: list[str], site: Site, rounds: int) -> dict[str, Row]:
    for name in names:
        plane.kubectl.run("create", "namespace", _namespace(name))
        wait_for_service_account(plane.kubectl.within(_namespace(name)))
    headers = _credentials(plane.kubectl, site.folder)
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        site.tell(f"creating Pods, round {turn} of {rounds}" if turn else "creating Pods, to warm up")
        for name in names:
            run = _create(plane, _namespace(name), site, headers)
            if turn:
                runs[name].append(run)
    for name in names:
        _check(plane.kubectl.within(_namespace(name)), name)
    metrics = plane.kubectl.run("get", "--raw", "/metrics").stdout
    return {name: _row(runs[name]) | ({} if name == NONE else durations(metrics, _entry(name))) for name in names}


def _create(plane: ControlPlane, namespace: str, site: Site, headers: Path) -> Run:
    body = site.folder / f"{namespace}.json"
    body.write_bytes(bodies.encode(pod(namespace)))
    server: str = json.loads(plane.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    url = f"{server}/api/v1/namespaces/{namespace}/pods"
    return site.wrk.run(url, body, connections=_CONNECTIONS, seconds=_SECONDS, headers=headers)


def _credentials(kubectl: Kubectl, folder: Path) -> Path:
    """A header with a token of a ServiceAccount that may create Pods: wrk knows no client certificates."""
    user = f"{kubectl.namespace}:default"
    kubectl.run("create", "clusterrolebinding", "bench", "--clusterrole=cluster-admin", f"--serviceaccount={user}")
    token = kubectl.run("create", "token", "default").stdout.strip()
    target = folder / "headers"
    target.touch(mode=0o600)
    target.write_text(f"Authorization: Bearer {token}\n")
    return target


def _check(kubectl: Kubectl, name: str) -> None:
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
