"""Pods that a user, no administrator, creates all the time: dry runs, which are admitted alike and leave nothing."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httpx

from tests.availability.api import api_of
from tests.cluster.creates import repeating
from tests.cluster.objects import ASKING, pod, token_variable, tokens
from tests.controlplane.cluster import write_kubeconfig
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.availability.load import Api
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl

USER: Final = "deployer"


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

    def wait_for_more(self, count: int) -> list[Create]:
        """Wait until so many that were sent from now on have ended, and return them."""
        now = time.monotonic()

        def probe() -> list[Create]:
            found = [one for one in self.done[-_LOOK_BACK:] if one.sent >= now]
            return found if len(found) >= count else []

        return wait_for(f"{count} creates", probe)


_LOOK_BACK: Final = 1000


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
    """Create Pods during the block; each worker rests for some seconds after each."""
    seen, item = Creates(), pod(ASKING)
    path = f"/api/v1/namespaces/{namespace}/pods"

    def create(client: httpx.Client) -> None:
        sent = time.monotonic()
        answer = client.post(path, params={"dryRun": "All"}, json=item)
        made, ended = answer.json(), time.monotonic()
        is_pod = answer.status_code == HTTPStatus.CREATED
        has_token = is_pod and tokens(made) == [token_variable()]
        seen.done.append(Create(sent, ended, "" if is_pod else made["message"], has_token))

    def connect() -> httpx.Client:
        return httpx.Client(base_url=api.url, verify=api.context(), trust_env=False, timeout=40.0)

    with repeating(create, connect, workers=workers, rest=rest):
        yield seen
