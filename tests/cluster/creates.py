"""Pods created continuously, and the result of each."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from tests.cluster.objects import ASKING, pod, token_variable, tokens
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.controlplane.kubectl import Kubectl

WORKERS = 4
# Between two creates of a worker. Without it they take all of a machine, for as long as what they watch takes.
PACE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Creates:
    """The result of each create."""

    right: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@contextlib.contextmanager
def creating_pods(url: str, namespace: str) -> Iterator[Creates]:
    """Create Pods continuously while the block runs."""
    seen, numbers = Creates(), itertools.count()
    annotations = pod(ASKING)["metadata"]["annotations"]

    def create(client: httpx.Client) -> None:
        # Without a name, as Deployments' Pods. API servers before 1.31 reject a generated name that exists
        # (409): among thousands it happens, so all prefixes differ.
        item = pod(ASKING)
        item["metadata"] = {"generateName": f"shop-{next(numbers)}-", "annotations": annotations}
        answer = client.post(f"/api/v1/namespaces/{namespace}/pods", json=item)
        is_right = answer.is_success and tokens(answer.json()) == [token_variable()]
        (seen.right if is_right else seen.wrong).append(answer.text)

    def connect() -> httpx.Client:
        return httpx.Client(base_url=url, trust_env=False, timeout=30.0)

    with repeating(create, connect, workers=WORKERS, rest=PACE_SECONDS):
        yield seen


@contextlib.contextmanager
def repeating(
    work: Callable[[httpx.Client], None], connect: Callable[[], httpx.Client], *, workers: int, rest: float
) -> Iterator[None]:
    """Do the work all the time while the block runs: each worker has a client, and rests for some seconds each time.

    What a worker raises is raised at the end of the block.
    """
    stop = threading.Event()

    def run() -> None:
        with connect() as client:
            while not stop.wait(rest):
                work(client)

    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(run) for _ in range(workers)]
        try:
            yield
        finally:
            stop.set()
    for one in running:
        one.result()


@contextlib.contextmanager
def proxy(kubectl: Kubectl, folder: Path) -> Iterator[str]:
    """Yield a plain HTTP address of the API server: starting kubectl for each Pod is too slow."""
    command = [str(kubectl.binary), f"--kubeconfig={kubectl.kubeconfig}", "proxy", "--port=0"]
    with ManagedProcess.start("kubectl proxy", command, log_path=folder / "proxy.log") as process:

        def address() -> str | None:
            process.ensure_running()
            found = re.search(r"Starting to serve on (\S+)", process.log())
            return f"http://{found[1]}" if found else None

        yield wait_for("kubectl proxy listening", address)
