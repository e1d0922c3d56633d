"""R4: the serving certificate is replaced and its authority rotated while Pods are created at full speed."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from tests.cluster.conftest import StartWebhook, wait_until_injecting
from tests.cluster.objects import ASKING, pod, token_variable, tokens
from tests.controlplane.pki import Authority
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess
from tests.controlplane.registration import NAME, token_injector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.controlplane.kubectl import Json, Kubectl

WORKERS = 4
# Creates after which the API server has long taken notice of a changed configuration, which it does within 20 ms.
ENOUGH = 100


@dataclass(frozen=True, slots=True)
class Creates:
    """What became of every Pod that was asked for."""

    right: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@contextlib.contextmanager
def creating(url: str, namespace: str) -> Iterator[Creates]:
    """Create Pods without a pause for as long as the block lasts."""
    seen, stop = Creates(), threading.Event()
    item = pod(ASKING)
    item["metadata"] = {"generateName": "shop-", "annotations": item["metadata"]["annotations"]}

    def work() -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=30.0) as client:
            while not stop.is_set():
                answer = client.post(f"/api/v1/namespaces/{namespace}/pods", json=item)
                is_right = answer.is_success and tokens(answer.json()) == [token_variable()]
                (seen.right if is_right else seen.wrong).append(answer.text)

    with ThreadPoolExecutor(WORKERS) as pool:
        workers = [pool.submit(work) for _ in range(WORKERS)]
        try:
            yield seen
        finally:
            stop.set()
    for worker in workers:
        worker.result()


@contextlib.contextmanager
def proxy(kubectl: Kubectl, folder: Path) -> Iterator[str]:
    """Yield a plain HTTP address of the API server: kubectl itself is too slow to be started for each Pod."""
    command = [str(kubectl.binary), f"--kubeconfig={kubectl.kubeconfig}", "proxy", "--port=0"]
    with ManagedProcess.start("kubectl proxy", command, log_path=folder / "proxy.log") as process:

        def address() -> str | None:
            process.ensure_running()
            found = re.search(r"Starting to serve on (\S+)", process.log())
            return f"http://{found[1]}" if found else None

        yield wait_for("kubectl proxy listening", address)


def trust(kubectl: Kubectl, *authorities: Authority) -> None:
    """Set the bundle. A remark makes it differ each time: the API server then connects anew, not only when it must."""
    remark = f"# {secrets.token_hex(4)}\n".encode()
    bundle = base64.b64encode(remark + b"".join(authority.pem for authority in authorities)).decode()
    entries = range(2)
    patch = [{"op": "replace", "path": f"/webhooks/{i}/clientConfig/caBundle", "value": bundle} for i in entries]
    kubectl.run("patch", "mutatingwebhookconfiguration", NAME, "--type=json", f"--patch={json.dumps(patch)}")


def test_no_create_fails(
    kubectl: Kubectl, start_webhook: StartWebhook, register: Callable[[Json], None], tmp_path: Path
) -> None:
    webhook = start_webhook(None, "--tls-reload-interval=0.1")
    register(token_injector(webhook.endpoint, namespace=kubectl.namespace))
    wait_until_injecting(kubectl)
    old, new = webhook.settings.authority, Authority.create("next-webhook-ca")

    with proxy(kubectl, tmp_path) as url, creating(url, kubectl.namespace) as seen:

        def more_creates() -> None:
            goal = len(seen.right) + ENOUGH
            wait_for("more creates", lambda: len(seen.right) >= goal or seen.wrong, timeout_seconds=60)

        for serving, trusted in (
            (old, (old,)),  # a renewed certificate
            (old, (old, new)),  # the next authority is published ...
            (new, (old, new)),  # ... used ...
            (new, (new,)),  # ... and the old one pruned
        ):
            webhook.replace_certificate(serving)
            trust(kubectl, *trusted)
            more_creates()

    assert seen.wrong == []
    assert len(seen.right) >= 4 * ENOUGH
