"""A fake kubelet for clusters without a node: it reports Pods as running and ready, and ends them.

Nothing else is faked: the controllers and the API server are real, and they follow the Pod status, as on a node.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from injector.kube.client import Api
from injector.kube.errors import KubeError
from injector.kube.resources import PODS
from injector.kube.transport import Request
from injector.times import unix_time
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

_INTERVAL_SECONDS = 0.1


def wait_until_starts_are_past(kubectl: Kubectl) -> None:
    """Wait for the second after the last start of a container.

    The API has whole seconds: a Secret that changes within that second leaves those that read it uncertain.
    """
    statuses = [one for pod in kubectl.list("pods") for one in pod["status"].get("containerStatuses") or ()]
    starts = [unix_time(one["state"]["running"]["startedAt"]) or 0 for one in statuses if "running" in one["state"]]
    after = max(starts, default=0) + 1
    wait_for("the second after the last start", lambda: time.time() >= after)


def running(kubectl: Kubectl, count: int) -> list[Json]:
    """All Pods, once there are so many and all run."""

    def probe() -> list[Json] | None:
        found = [one for one in kubectl.list("pods") if "deletionTimestamp" not in one["metadata"]]
        is_up = all(one["status"].get("containerStatuses") for one in found)
        return found if len(found) == count and is_up else None

    found = wait_for(f"{count} running Pods", probe)
    wait_until_starts_are_past(kubectl)
    return found


class Kubelet:
    """Runs the Pods of one namespace for as long as it is entered; those with the label `never_ready` stay unready."""

    def __init__(self, kubectl: Kubectl, *, never_ready: str = "") -> None:
        self.never_ready = never_ready
        self._kubectl = kubectl
        self._stop = threading.Event()
        self._round = threading.Lock()  # locked during one round over all Pods
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Start no Pod during the block: what waits for a new Pod keeps its old one."""
        with self._round:
            yield

    async def _run(self) -> None:
        async with await Api.from_kubeconfig(str(self._kubectl.kubeconfig)) as api:
            while not self._stop.is_set():
                with self._round:  # this thread has nothing else to do
                    for pod in await api.list(PODS, self._kubectl.namespace):
                        if "status" not in pod or not pod["status"].get("containerStatuses"):
                            # The Pod may be deleted, or changed by a controller: the next round retries.
                            with contextlib.suppress(KubeError):
                                await self._start(api, pod)
                await asyncio.sleep(_INTERVAL_SECONDS)

    async def _start(self, api: Api, pod: Json) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        is_ready = self.never_ready not in (pod["metadata"].get("labels") or {}) if self.never_ready else True
        running = {"running": {"startedAt": now}}
        ended = {"terminated": {"exitCode": 0, "startedAt": now, "finishedAt": now}}
        init, statuses = (
            [
                {
                    "name": one["name"],
                    "image": one["image"],
                    "imageID": "",
                    "ready": is_ready,
                    "restartCount": 0,
                    "state": running if part == "containers" or one.get("restartPolicy") == "Always" else ended,
                }
                for one in pod["spec"].get(part) or ()
            ]
            for part in ("initContainers", "containers")
        )
        word = "True" if is_ready else "False"
        conditions = [
            {"type": kind, "status": word, "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")
        ]
        parts = {"containerStatuses": statuses, "initContainerStatuses": init}
        status = {"phase": "Running", "startTime": now, "conditions": conditions, **parts}
        meta = pod["metadata"]
        path = PODS.path(meta["namespace"], meta["name"], "status")
        operation = f"patch the status of pods/{meta['name']}"
        await api.send(Request("PATCH", path, operation, (), {"status": status}, "application/merge-patch+json"))
