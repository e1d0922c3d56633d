"""Pods created all the time, and how each create ended: dry runs, which are admitted alike and leave nothing."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httpx

from tests.availability.api import api_of
from tests.cluster.objects import ASKING, pod, token_variable, tokens
from tests.controlplane.cluster import write_kubeconfig
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.availability.load import Api
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl

USER: Final = "deployer"
# Of creates as an administrator: how many at once, and how long each rests before the next. Without it they take all
# of a machine, for as long as what they watch takes.
WORKERS: Final = 4
REST_SECONDS: Final = 0.1
_LOOK_BACK: Final = 1000
_TIMEOUT_SECONDS: Final = 40.0


@dataclass(frozen=True, slots=True)
class Create:
    """How one ended. Times are in seconds of the monotonic clock."""

    sent: float
    ended: float
    message: str  # of the refusal, empty for a Pod
    has_token: bool


@dataclass(frozen=True, slots=True)
class Creates:
    """All that have ended so far."""

    done: list[Create] = field(default_factory=list)

    @property
    def refused(self) -> list[Create]:
        """Those without a Pod."""
        return [one for one in self.done if one.message]

    @property
    def bare(self) -> list[Create]:
        """Those with a Pod that has no token."""
        return [one for one in self.done if not one.message and not one.has_token]

    @property
    def wrong(self) -> list[Create]:
        """Those without a Pod that has its token."""
        return [one for one in self.done if not one.has_token]

    def wait_for_more(self, count: int) -> list[Create]:
        """Wait until so many that were sent from now on have ended, and return them."""
        now = time.monotonic()

        def probe() -> list[Create]:
            found = [one for one in self.done[-_LOOK_BACK:] if one.sent >= now]
            return found if len(found) >= count else []

        return wait_for(f"{count} creates", probe)


def user(plane: ControlPlane, kubectl: Kubectl) -> Api:
    """A user who may create Pods in kubectl's namespace."""
    folder = plane.folder / USER
    folder.mkdir()
    client = plane.authority.issue_client(user=USER, group="deployers")
    kubeconfig = write_kubeconfig(folder, USER, plane.url, plane.authority, client)
    kubectl.run("create", "rolebinding", USER, "--clusterrole=edit", f"--user={USER}")
    return api_of(kubeconfig, folder)


@contextlib.contextmanager
def creating(api: Api, namespace: str, *, workers: int, rest: float) -> Iterator[Creates]:
    """Create Pods as a user during the block; each worker rests for some seconds after each."""

    def connect() -> httpx.Client:
        return httpx.Client(base_url=api.url, verify=api.context(), trust_env=False, timeout=_TIMEOUT_SECONDS)

    with _creating(connect, namespace, workers, rest) as seen:
        yield seen


@contextlib.contextmanager
def creating_by_proxy(kubectl: Kubectl, folder: Path) -> Iterator[Creates]:
    """Create Pods during the block as the user of any kubeconfig, in kubectl's namespace."""
    with _proxy(kubectl, folder) as url:

        def connect() -> httpx.Client:
            return httpx.Client(base_url=url, trust_env=False, timeout=_TIMEOUT_SECONDS)

        with _creating(connect, kubectl.namespace, WORKERS, REST_SECONDS) as seen:
            yield seen


@contextlib.contextmanager
def _creating(connect: Callable[[], httpx.Client], namespace: str, workers: int, rest: float) -> Iterator[Creates]:
    seen, item = Creates(), pod(ASKING)
    path = f"/api/v1/namespaces/{namespace}/pods"

    def create(client: httpx.Client) -> None:
        sent = time.monotonic()
        answer = client.post(path, params={"dryRun": "All"}, json=item)
        ended = time.monotonic()
        is_pod = answer.status_code == HTTPStatus.CREATED
        has_token = is_pod and tokens(answer.json()) == [token_variable()]
        seen.done.append(Create(sent, ended, "" if is_pod else _message(answer), has_token))

    with _repeating(create, connect, workers=workers, rest=rest):
        yield seen


def _message(answer: httpx.Response) -> str:
    """The API server's; or the text of a proxy that does not reach it."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(answer.json()["message"])
    return f"{answer.status_code}: {answer.text}"


@contextlib.contextmanager
def _repeating(
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
def _proxy(kubectl: Kubectl, folder: Path) -> Iterator[str]:
    """Yield a plain HTTP address of the API server: starting kubectl for each Pod is too slow."""
    command = [str(kubectl.binary), f"--kubeconfig={kubectl.kubeconfig}", "proxy", "--port=0"]
    with ManagedProcess.start("kubectl proxy", command, log_path=folder / "proxy.log") as process:

        def address() -> str | None:
            process.ensure_running()
            found = re.search(r"Starting to serve on (\S+)", process.log())
            return f"http://{found[1]}" if found else None

        yield wait_for("kubectl proxy listening", address)
