"""A node for the webhook's own Pods: a fake kubelet that runs each as a `serve` process on an address of its own.

Deployments, ReplicaSets, Services and EndpointSlices are the work of the real controllers: the kubelet binds a Pod to a
node that only exists in the API, starts `serve` with the arguments of its container, reports it as ready when `/readyz`
does, and ends it with SIGTERM. The replicas have the token of the Pod's ServiceAccount, so its rights and nothing more.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from tests import forkserver
from tests.availability.api import api_of
from tests.controlplane.processes import ManagedProcess
from tests.controlplane.workspace import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from tests.controlplane.api import Json
    from tests.controlplane.cluster import ControlPlane

NODE: Final = "node"
NAME_LABEL: Final = "app.kubernetes.io/name"
ADDRESSES: Final = tuple(f"192.168.77.{number}" for number in range(1, 41))
_INTERVAL: Final = 0.2  # seconds between two looks
_OPS_PORT: Final = 8080


@dataclass(slots=True)
class _Pod:
    """A Pod that was started. Its address is free again when its process has ended."""

    namespace: str
    name: str
    address: str
    process: ManagedProcess
    is_ready: bool = False
    is_ending: bool = False


class ServingKubelet:
    """Runs the Pods of one namespace for as long as it is entered; enter it inside the network of `ADDRESSES`.

    Those whose name label is in `held` are not started before it is taken out.
    """

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.held: set[str] = set()
        self._namespace = namespace
        self._folder = plane.folder / "kubelet"
        self._folder.mkdir()
        self._url, self._authority = plane.url, json.loads(plane.kubeconfig.read_text())["clusters"][0]["cluster"]
        api = api_of(plane.kubeconfig, self._folder)
        self._client = httpx.Client(base_url=api.url, verify=api.context(), trust_env=False, timeout=60.0)
        self._probes = httpx.Client(trust_env=False, timeout=1.0)
        self._running: dict[str, _Pod] = {}  # by uid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self.problem: BaseException | None = None

    def __enter__(self) -> Self:
        forkserver.command()  # its server outlives this thread
        self._call("POST", "/api/v1/nodes", {"kind": "Node", "apiVersion": "v1", "metadata": {"name": NODE}})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for pod in self._running.values():
            pod.process.kill()
        self._client.close()
        self._probes.close()

    def check(self) -> None:
        """Raise the error of the thread."""
        if self.problem is not None:
            raise self.problem

    def is_held(self, item: Json) -> bool:
        """Whether a Pod is not to be started, or no more."""
        meta = item["metadata"]
        return meta["labels"][NAME_LABEL] in self.held or "deletionTimestamp" in meta

    def logs(self, text: str) -> set[str]:
        """The replicas that have logged a text, also those that have ended."""
        return {path.parent.name for path in self._folder.glob("*/serve.log") if text in path.read_text()}

    def _run(self) -> None:
        try:
            beat = 0
            while not self._stop.wait(_INTERVAL):
                if beat % 25 == 0:  # without it, a controller takes the node for lost
                    self._report_node()
                beat += 1
                pods = self._call("GET", f"/api/v1/namespaces/{self._namespace}/pods")["items"]
                for pod in pods:
                    with suppress(_GoneError):
                        self._look(pod)
                self._forget({pod["metadata"]["uid"] for pod in pods})
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self.problem = error

    def _report_node(self) -> None:
        ready = {"type": "Ready", "status": "True", "reason": "test", "lastHeartbeatTime": _now()}
        self._call("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": {"conditions": [ready]}})

    def _look(self, item: Json) -> None:
        meta = item["metadata"]
        pod = self._running.get(meta["uid"])
        if pod is None:
            if not self.is_held(item):
                self._running[meta["uid"]] = self._start(item)
        elif "deletionTimestamp" in meta:
            self._end(pod)
        elif not pod.is_ready:
            pod.process.ensure_running()
            with suppress(httpx.TransportError):
                if self._probes.get(f"http://{pod.address}:{_OPS_PORT}/readyz").is_success:
                    self._report(pod)
                    pod.is_ready = True

    def _start(self, item: Json) -> _Pod:
        meta, spec = item["metadata"], item["spec"]
        namespace, name = meta["namespace"], meta["name"]
        path = f"/api/v1/namespaces/{namespace}"
        (policy,) = (volume["configMap"]["name"] for volume in spec["volumes"] if volume["name"] == "policy")
        content = self._call("GET", f"{path}/configmaps/{policy}")["data"]["policy.yaml"]
        token = self._call("POST", f"{path}/serviceaccounts/{spec['serviceAccountName']}/token", {"spec": {}})
        # After the objects that may not exist yet (kustomize writes the ConfigMap after the Deployment): a Pod that is
        # bound cannot be bound again.
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        self._call("POST", f"{path}/pods/{name}/binding", {"metadata": {"name": name}, "target": target})
        folder = self._folder / name
        folder.mkdir()
        (folder / "policy.yaml").write_text(content)
        used = {pod.address for pod in self._running.values()}
        address = next(address for address in ADDRESSES if address not in used)
        arguments = [
            f"--policy-file={folder / 'policy.yaml'}" if one.startswith("--policy-file=") else one
            for one in spec["containers"][0]["args"]
        ]
        own = (
            *(f"--host={address}", f"--ops-host={address}", f"--namespace={namespace}"),
            f"--kubeconfig={self._kubeconfig(folder, token['status']['token'])}",
            *("--drain-min-seconds=1", "--drain-max-seconds=2"),
        )
        command = [*forkserver.command(), *arguments, *own]
        process = ManagedProcess.start(name, command, log_path=folder / "serve.log")
        return _Pod(namespace, name, address, process)

    def _kubeconfig(self, folder: Path, token: str) -> Path:
        content = {
            "clusters": [{"name": "test", "cluster": self._authority}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        return write_private(folder / "kubeconfig", json.dumps(content).encode())

    def _report(self, pod: _Pod) -> None:
        conditions = [
            {"type": kind, "status": "True", "lastTransitionTime": _now()} for kind in ("Ready", "ContainersReady")
        ]
        status = {"phase": "Running", "podIP": pod.address, "podIPs": [{"ip": pod.address}], "conditions": conditions}
        self._call("PATCH", f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/status", {"status": status})

    def _end(self, pod: _Pod) -> None:
        if not pod.is_ending:
            pod.is_ending = True
            pod.process.popen.terminate()
        if pod.process.popen.poll() is not None:
            now = {"gracePeriodSeconds": 0}
            self._call("DELETE", f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}", now)

    def _forget(self, uids: set[str]) -> None:
        """End what was deleted at once, without a grace period; forget those that have ended."""
        for uid in self._running.keys() - uids:
            pod = self._running[uid]
            if not pod.is_ending:
                pod.is_ending = True
                pod.process.popen.terminate()
            if pod.process.popen.poll() is not None:
                del self._running[uid]

    def _call(self, method: str, path: str, body: Json | None = None) -> Any:  # noqa: ANN401 - JSON
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        answer = self._client.request(
            method, path, content=None if body is None else json.dumps(body), headers={"Content-Type": content}
        )
        if answer.status_code in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
            raise _GoneError(answer.text)
        answer.raise_for_status()
        return answer.json()


class _GoneError(Exception):
    """An object was deleted or changed since it was read: the next look shows it."""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
