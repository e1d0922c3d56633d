"""A separate network for tests: the API server reaches webhooks by Service, and no other network changes."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.objects import ASKING, pod, tokens
from tests.controlplane import registration
from tests.controlplane.cluster import Network, Programs, control_plane
from tests.controlplane.netns import (
    NODE_ADDRESS,
    SPARE_ADDRESSES,
    NetworkNamespace,
    network_namespace,
    reason_unavailable,
    swallowed,
)
from tests.controlplane.polling import wait_for
from tests.controlplane.registration import ServiceEndpoint
from tests.controlplane.requirement import require
from tests.controlplane.webhook import Webhook, WebhookSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane import binaries

ROOT = Path(__file__).parents[2]

HOLDER = """
import os, signal
from tests.controlplane.netns import network_namespace
with network_namespace() as network, network.entered():
    print(os.readlink("/proc/thread-self/ns/net"), flush=True)
    signal.pause()
"""


@pytest.fixture
def network() -> Iterator[NetworkNamespace]:
    require(reason_unavailable())
    with network_namespace() as made:
        yield made


def namespace_of_this_thread() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink())


def held_namespaces() -> set[str]:
    """Return the network namespaces that a process is in or keeps open."""
    processes = [folder for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
    links = [link for folder in processes for link in (folder / "ns/net", *_descriptors(folder))]
    return {target for link in links if (target := _target(link)).startswith("net:")}


def _descriptors(process: Path) -> list[Path]:
    try:
        return list((process / "fd").iterdir())
    except OSError:  # it ended
        return []


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def test_only_the_entering_thread_is_in_the_namespace(network: NetworkNamespace) -> None:
    outside = namespace_of_this_thread()
    seen: list[str] = []
    leave, started = threading.Event(), threading.Event()

    def stay() -> None:
        seen.append(namespace_of_this_thread())
        started.set()
        leave.wait(30)
        seen.append(namespace_of_this_thread())

    other = threading.Thread(target=stay)
    other.start()
    started.wait(30)
    with network.entered():
        inside = namespace_of_this_thread()
        child = subprocess.run(["readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True)
        leave.set()
        other.join()

    assert inside != outside
    assert child.stdout.strip() == inside
    assert seen == [outside, outside]
    assert namespace_of_this_thread() == outside


def test_namespaces_with_equal_addresses_are_isolated(network: NetworkNamespace) -> None:
    address = (NODE_ADDRESS, 4040)
    with network_namespace() as other:
        with network.entered():
            first = socket.create_server(address)
        with first, other.entered(), socket.create_server(address) as second:
            second.settimeout(0)
            with network.entered(), socket.create_connection(address, timeout=5):
                first.accept()[0].close()
            with pytest.raises(BlockingIOError):
                second.accept()


def test_swallowed_packets_get_no_answer_and_others_do(network: NetworkNamespace) -> None:
    swallowed_one, other = SPARE_ADDRESSES
    with network.entered(), contextlib.ExitStack() as stack:
        for address in SPARE_ADDRESSES:
            stack.enter_context(socket.create_server((address, 4040)))
        with swallowed([swallowed_one]):
            with pytest.raises(TimeoutError):
                socket.create_connection((swallowed_one, 4040), timeout=0.3)
            socket.create_connection((other, 4040), timeout=30).close()
        socket.create_connection((swallowed_one, 4040), timeout=30).close()


def test_namespace_has_no_route_outside(network: NetworkNamespace) -> None:
    outside = socket.create_server(("127.0.0.1", 0))
    with outside, network.entered(), pytest.raises(ConnectionRefusedError):
        socket.create_connection(outside.getsockname(), timeout=5)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
@pytest.mark.usefixtures("network")
def test_namespace_is_removed_when_its_creator_ends(end: signal.Signals) -> None:
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as holder:
        assert holder.stdout is not None
        namespace = holder.stdout.readline().strip()
        assert namespace in held_namespaces()
        holder.send_signal(end)
        holder.wait(90)

    wait_for("the namespace let go", lambda: namespace not in held_namespaces())


def test_missing_ip_program_is_reported_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert reason_unavailable() == "no `ip` on the PATH to set up a network namespace: install iproute2"


def test_webhook_service_is_called_at_endpoint_slice_addresses(
    network: NetworkNamespace, tmp_path: Path, report: binaries.Report
) -> None:
    programs = Programs.resolve(report)
    with network.entered(), control_plane(programs, network=Network(NODE_ADDRESS)) as own:
        settings = WebhookSettings(tmp_path / "webhook", host=SPARE_ADDRESSES[0], names=("webhook.default.svc",))
        webhook = Webhook.start(settings)
        with webhook.process:
            behind = ServiceEndpoint("default", "webhook", webhook.endpoint.ca_pem)
            own.kubectl.create(behind.service())
            own.kubectl.create(behind.slice_of(settings.host, port=webhook.port))
            own.kubectl.create(behind.endpoints_of(settings.host, port=webhook.port))
            own.kubectl.create(registration.token_injector(behind, namespace="default"))

            admitted = wait_for("a Pod with its variable", lambda: tokens(own.kubectl.dry_run(pod(ASKING))))

            assert admitted
            assert webhook.requests_served() >= 1
