"""A rotation under load on a kubelet: real daprd, clients that use their own Pod's sidecar.

Each Pod's app calls its sidecar over HTTP and gRPC, 20 times a second each, with the token of its own environment. It
records every failed call, and stops calling on SIGTERM, as a correct app does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.objects import ASKING, SECRET
from tests.controlplane.polling import wait_for
from tests.node.objects import APP_LABEL, app_container, deployment, sidecar

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.node.target import Target

REPLICAS = 3
LEAST_CALLS = 100  # of each kind, before the rotation and after it; no pace is asked of a slow machine
TIMEOUT_SECONDS = 480

# Prints a line of JSON: how many calls in how many seconds, and what came of those not served. Never the token.
CLIENT = r"""
import http.client, json, os, signal, sys, threading, time
import grpc
token = os.environ["DAPR_API_TOKEN"]
over = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: over.set())
calls, failures = {"http": 0, "grpc": 0}, {}
channel = grpc.insecure_channel("127.0.0.1:50001")
metadata = channel.unary_unary("/dapr.proto.runtime.v1.Dapr/GetMetadata")
connection = http.client.HTTPConnection("127.0.0.1", 3500, timeout=30)

def by_http():
    try:
        connection.request("GET", "/v1.0/metadata", headers={"dapr-api-token": token})
        answer = connection.getresponse()
        answer.read()
        return None if answer.status == 200 else str(answer.status)
    except Exception as error:
        connection.close()
        return type(error).__name__

def by_grpc():
    try:
        metadata(b"", timeout=30, metadata=(("dapr-api-token", token),))
        return None
    except grpc.RpcError as error:
        return error.code().name

def run(kind, call):
    due = time.monotonic()
    while not over.is_set():
        failed = call()
        calls[kind] += 1
        if failed:
            failures[failed] = failures.get(failed, 0) + 1
        due = max(due + 0.05, time.monotonic() - 1)
        over.wait(max(0.0, due - time.monotonic()))

def tell(**more):
    seconds = time.monotonic() - began
    print(json.dumps({"calls": dict(calls), "seconds": seconds, "failures": dict(failures), **more}), flush=True)

began = time.monotonic()
threads = [threading.Thread(target=run, args=one) for one in (("http", by_http), ("grpc", by_grpc))]
for thread in threads:
    thread.start()
while not over.wait(1):
    tell()
for thread in threads:
    thread.join()
tell(ended=True)
"""


@dataclass(slots=True)
class Clients:
    """Follows the log of every client, including ones that end; keeps the last line of each."""

    kubectl: Kubectl
    last: dict[str, Json] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)
    _followers: dict[str, threading.Thread] = field(default_factory=dict)

    def watch(self) -> None:
        """Follow each Pod that comes up, until `over`."""
        while not self.over.wait(0.5):
            for pod in self.kubectl.list("pods", labelSelector=f"app={APP_LABEL}"):
                name = pod["metadata"]["name"]
                statuses = pod["status"].get("containerStatuses") or ()
                if name not in self._followers and any(
                    one["name"] == "app" and "running" in one["state"] for one in statuses
                ):
                    self._followers[name] = threading.Thread(target=self._follow, args=(name,))
                    self._followers[name].start()
        for thread in self._followers.values():
            thread.join()

    def _follow(self, name: str) -> None:
        command = [*self.kubectl.command(), "logs", "--follow", name, "--container=app"]
        returncode = 0
        # A connection to a busy kubelet can break: read from the start again, until the Pod is deleted.
        while returncode == 0 and not self.last.get(name, {}).get("ended") and not self.over.is_set():
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    self.last[name] = json.loads(line)
            returncode = process.returncode

    def are_busy(self, *, but: frozenset[str] = frozenset()) -> bool:
        """Whether as many clients as there are replicas have made their calls, leaving some out."""
        counts = [report["calls"] for name, report in list(self.last.items()) if name not in but]
        return len([one for one in counts if min(one.values()) >= LEAST_CALLS]) >= REPLICAS


def regular(target: Target) -> Json:
    """The sidecar in the containers of the app."""
    return deployment([client(target), local_sidecar(target)], [], FOR_APP)


def native(target: Target) -> Json:
    """The sidecar as an init container that stays: it starts before the app and ends after it."""
    probe = {"startupProbe": {**sidecar(target)["readinessProbe"], "failureThreshold": 120}}
    return deployment([client(target)], [{**local_sidecar(target), "restartPolicy": "Always", **probe}], FOR_APP)


def local_sidecar(target: Target) -> Json:
    """A daprd whose API is local to its Pod, as Dapr's injector starts it."""
    made = sidecar(target)
    return {**made, "args": [*made["args"], "--dapr-listen-addresses=127.0.0.1"]}


FOR_APP = {**ASKING, "dapr-token-injector/app-containers": "app"}


def client(target: Target) -> Json:
    return {**app_container(target), "command": ["python", "-c", CLIENT]}


def run(kubectl: Kubectl, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of our commands."""
    return subprocess.run(
        [sys.executable, "-m", "injector", *arguments],
        env={**os.environ, "KUBECONFIG": str(kubectl.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def assert_closed(kubectl: Kubectl) -> None:
    """Every sidecar rejects calls without the token or with a wrong one; health and metrics are open."""
    accepted = ("--accept", "metadata-port", "--accept", "metrics-port")
    probed = run(kubectl, "probe", "-n", kubectl.namespace, f"deployment/{APP_LABEL}", "--timeout", "60", *accepted)
    assert probed.returncode == 0, probed.stdout


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation under load came to."""

    clients: dict[str, Json]
    result: dict[str, Any]

    @property
    def failures(self) -> dict[str, int]:
        """How often calls were not served, by what came instead."""
        return dict(sum((Counter(report["failures"]) for report in self.clients.values()), Counter()))

    def record_calls(self, record: Callable[[str, object], None]) -> None:
        """Record the figures of the documentation in the test report."""
        record("calls", sum(sum(report["calls"].values()) for report in self.clients.values()))
        paces = [calls / report["seconds"] for report in self.clients.values() for calls in report["calls"].values()]
        record("calls a second of each client and kind", sorted(round(pace, 1) for pace in paces))
        record("not served", self.failures)


def rotated(kubectl: Kubectl, target: Target, make: Callable[[Target], Json]) -> Rotated:
    """Create, annotate, probe, rotate under load; every client's account of it."""
    secret = f"{kubectl.namespace}/{SECRET}"
    created = run(kubectl, "secret", "create", secret)
    assert created.returncode == 0, created
    made = make(target)
    made["spec"]["replicas"] = REPLICAS
    made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 30
    kubectl.apply(made)
    clients = Clients(kubectl)
    watcher = threading.Thread(target=target_entered, args=(target, clients.watch))
    watcher.start()
    try:
        wait_for("calls before the rotation", clients.are_busy, timeout_seconds=240, describe=lambda: str(clients.last))
        assert_closed(kubectl)
        before = frozenset(clients.last)
        done = run(kubectl, "secret", "rotate", secret, "--restart", "-o", "json", "--timeout", "5m")
        assert done.returncode == 0, done
        wait_for("calls after it", lambda: clients.are_busy(but=before), timeout_seconds=120)
        assert_closed(kubectl)
        kubectl.run("delete", "deployment", APP_LABEL, "--wait=false")
        ended = 2 * REPLICAS
        wait_for(
            "the last words of every client",
            lambda: sum(report.get("ended", False) for report in list(clients.last.values())) >= ended,
            timeout_seconds=120,
            describe=lambda: str(clients.last),
        )
    finally:
        kubectl.delete("deployment", APP_LABEL)
        clients.over.set()
        watcher.join()
    return Rotated(clients.last, json.loads(done.stdout))


def target_entered(target: Target, work: Callable[[], None]) -> None:
    """Do the work where the cluster is reached from: a network namespace is a thread's own."""
    with target.entered():
        work()


@pytest.mark.usefixtures("release")
def test_rotate_under_load_fails_no_call_with_native_sidecars(
    kubectl: Kubectl, target: Target, record_property: Callable[[str, object], None]
) -> None:
    done = rotated(kubectl, target, native)
    done.record_calls(record_property)

    assert [one["state"] for one in done.result["workloads"]] == ["ready"]
    assert done.failures == {}


@pytest.mark.usefixtures("release")
def test_rotate_with_regular_sidecar_fails_calls_at_pod_end_only(
    kubectl: Kubectl, target: Target, record_property: Callable[[str, object], None]
) -> None:
    done = rotated(kubectl, target, regular)
    done.record_calls(record_property)

    # It starts and ends together with the app: calls before daprd listens or after it has closed fail.
    assert set(done.failures) <= NOBODY_THERE


NOBODY_THERE = {
    "ConnectionRefusedError",
    "ConnectionResetError",
    "RemoteDisconnected",
    "BrokenPipeError",
    "UNAVAILABLE",
}
