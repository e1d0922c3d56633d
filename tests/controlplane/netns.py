"""A separate network namespace: addresses other than loopback, and its own routes and ports.

    with network_namespace() as network, network.entered(), control_plane(...) as own:
        ...

Inside `entered()` the calling thread is in the namespace, and so are the sockets, programs and threads that
it starts. Other threads are not. Only an open file of this process keeps the namespace: it has no name and
no mount, and the kernel removes it, with its devices, when its last process and that file are gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.controlplane.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NODE_ADDRESS: Final = "192.168.77.1"
SPARE_ADDRESSES: Final = ("192.168.77.2", "192.168.77.3")
_PREFIX_LENGTH: Final = 24
_DEVICE, _PEER = "node0", "node0-peer"
_NO_NEIGHBOUR: Final = "02:00:00:00:00:01"
_CLONE_NEWNET: Final = 0x40000000
_ADVICE: Final = "run as root, or below `unshare --user --map-root-user`, where the system allows that"


@dataclass(frozen=True, slots=True)
class NetworkNamespace:
    """A namespace with `lo` and one device that has `addresses` (IPv4, all in one /24) and the default route."""

    descriptor: int
    addresses: tuple[str, ...]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Keep the calling thread inside for the length of the block."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(self.descriptor)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)


@contextlib.contextmanager
def network_namespace(addresses: Sequence[str] = (NODE_ADDRESS, *SPARE_ADDRESSES)) -> Iterator[NetworkNamespace]:
    """Create a namespace with its own network only, and release it when the block ends.

    Raises:
        HarnessError: this user cannot create one, or the `ip` program is missing.
    """
    if shutil.which("ip") is None:
        raise HarnessError("no `ip` on the PATH to set up a network namespace: install iproute2")
    descriptor = _create()
    try:
        network = NetworkNamespace(descriptor, tuple(addresses))
        with network.entered():
            _configure(network.addresses)
        yield network
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def swallowed(addresses: Sequence[str]) -> Iterator[None]:
    """Drop every packet to these addresses without an answer, for the length of the block; call it inside.

    They are no longer addresses of the device, but of a neighbour that does not exist. The first address of the device
    cannot be one of them: without it, the kernel removes all others.
    """
    for address in addresses:
        _ip("neighbour", "replace", address, "lladdr", _NO_NEIGHBOUR, "dev", _DEVICE, "nud", "permanent")
        _ip("address", "delete", f"{address}/{_PREFIX_LENGTH}", "dev", _DEVICE)
    try:
        yield
    finally:
        for address in addresses:
            _ip("address", "add", f"{address}/{_PREFIX_LENGTH}", "dev", _DEVICE)
            _ip("neighbour", "delete", address, "dev", _DEVICE)


def reason_unavailable() -> str | None:
    """Return why there can be no namespace here, None when there can."""
    try:
        with network_namespace():
            return None
    except HarnessError as error:
        return str(error)


def _create() -> int:
    """Return an open file of a new namespace; the calling thread is back where it was."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", _CLONE_NEWNET)
        try:
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            _enter(before)
    finally:
        os.close(before)


def _enter(descriptor: int) -> None:
    _call("setns", descriptor, _CLONE_NEWNET)


def _call(function: str, *arguments: int) -> None:
    """Call the C library; Python has these two from 3.12 on.

    Raises:
        HarnessError: the kernel returned an error.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, function)(*arguments) != 0:
        problem = os.strerror(ctypes.get_errno())
        raise HarnessError(f"no network namespace ({function}: {problem}): {_ADVICE}")


def _configure(addresses: tuple[str, ...]) -> None:
    """Give the current namespace its devices; both ends of the pair stay inside, so nothing gets out."""
    _ip("link", "set", "lo", "up")
    _ip("link", "add", _DEVICE, "type", "veth", "peer", "name", _PEER)
    for address in addresses:
        _ip("address", "add", f"{address}/{_PREFIX_LENGTH}", "dev", _DEVICE)
    for device in (_PEER, _DEVICE):
        _ip("link", "set", device, "up")
    _ip("route", "add", "default", "dev", _DEVICE)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HarnessError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
