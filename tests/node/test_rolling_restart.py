"""R5 on a node: no create fails during restart and upgrade of the webhook."""

from __future__ import annotations

import contextlib
import functools
import re
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from tests.cluster.objects import ASKING, pod, token_variable, tokens
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess
from tests.node.release import NAME, WAIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.node.release import Release
    from tests.node.target import Target

LEAST_CREATES_PER_RESTART = 50
PACE_SECONDS = 0.05
CREATORS = 2


@dataclass(slots=True)
class Creates:
    """Pods that some threads create continuously and without a retry, with the result of each."""

    url: str
    admitted: list[Json] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def count(self) -> int:
        return len(self.admitted) + len(self.failures)

    def run(self, prefix: str) -> None:
        """Create until `over`; these Pods are never scheduled, so none is started."""
        with httpx.Client(trust_env=False, timeout=60.0) as client:
            number = 0
            while not self.over.wait(PACE_SECONDS):
                number += 1
                item = pod(ASKING)
                item["metadata"]["name"] = f"{prefix}-{number}"
                item["spec"]["schedulerName"] = "absent"
                answer = client.post(self.url, json=item)
                if answer.status_code == httpx.codes.CREATED:
                    self.admitted.append(answer.json())
                else:
                    self.failures.append(answer.text)


@contextlib.contextmanager
def creating_pods(kubectl: Kubectl, target: Target) -> Iterator[Creates]:
    """Create Pods for the length of the block, through `kubectl proxy`, which knows how to reach any cluster."""
    log_path = target.folder / f"proxy-{kubectl.namespace}.log"
    with ManagedProcess.start("kubectl proxy", [*kubectl.command(), "proxy", "--port=0"], log_path=log_path) as proxy:
        port = wait_for("kubectl proxy serving", lambda: re.search(r"127\.0\.0\.1:(\d+)", proxy.log()))[1]
        creates = Creates(f"http://127.0.0.1:{port}/api/v1/namespaces/{kubectl.namespace}/pods")
        threads = [threading.Thread(target=creates.run, args=(f"shop-{number}",)) for number in range(CREATORS)]
        for thread in threads:
            thread.start()
        try:
            yield creates
        finally:
            creates.over.set()
            for thread in threads:
                thread.join()


def restart(release: Release) -> None:
    """Replace every Pod of the webhook as people do who change nothing."""
    release.kubectl.run("rollout", "restart", f"deployment/{NAME}")
    command = ("rollout", "status", f"deployment/{NAME}", "--timeout=30s")
    wait_for("the rollout done", lambda: release.kubectl.try_run(*command).returncode == 0, timeout_seconds=240)


def upgrade(release: Release) -> None:
    """Replace every Pod of the webhook by other values of its chart, other ones each time."""
    values = ("--set=log.level=debug", f"--set-string=podAnnotations.upgraded={secrets.token_hex(4)}")
    release.call("upgrade", *values, *WAIT)


def test_webhook_restart_and_upgrade_lose_no_create_and_no_token(
    kubectl: Kubectl, target: Target, release: Release
) -> None:
    with creating_pods(kubectl, target) as creates:
        wait_for("creates before the first change", lambda: creates.count >= LEAST_CREATES_PER_RESTART)
        for change in (restart, upgrade):
            before = creates.count
            while creates.count - before < LEAST_CREATES_PER_RESTART:  # on a busy machine few fall into one change
                old = set(release.pods(ending=True))
                change(release)
                wait_for("the old Pods ended", functools.partial(all_ended, release, old), timeout_seconds=120)
    assert "debug" in release.kubectl.run("get", "pods", "--output=yaml").stdout
    release.call("upgrade")  # restore the state that other tests expect; this loses no create, as just tested

    assert creates.failures == []
    assert [item["metadata"]["name"] for item in creates.admitted if tokens(item) != [token_variable()]] == []


def all_ended(release: Release, old: set[str]) -> bool:
    return not old & set(release.pods(ending=True))
