"""The cluster that tests run against.

By default it is a separate control plane. With `DAPR_TOKEN_INJECTOR_TEST_CLUSTER=kubeconfig` it is the
one that `KUBECONFIG` names (kind included), which must reach our webhook processes:
`DAPR_TOKEN_INJECTOR_TEST_HOST` is the IP address of this machine to listen on and to register (default
127.0.0.1, right only for an API server on this machine; for kind the gateway of its Docker network).
Tests do not change the rest of the cluster: they create and delete their namespaces and webhook
configurations. `KUBECONFIG` alone never selects a cluster, so that no test runs on production by accident.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.controlplane import binaries
from tests.controlplane.cluster import ControlPlane, Programs, control_plane
from tests.controlplane.errors import HarnessError
from tests.controlplane.kubectl import Kubectl
from tests.controlplane.workspace import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

CLUSTER_VARIABLE = "DAPR_TOKEN_INJECTOR_TEST_CLUSTER"
HOST_VARIABLE = "DAPR_TOKEN_INJECTOR_TEST_HOST"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, the address it reaches us at, and its control plane when that is ours."""

    kubectl: Kubectl
    webhook_host: str
    folder: Path
    own: ControlPlane | None


@contextlib.contextmanager
def open_cluster(report: binaries.Report = binaries.report_to_stderr) -> Iterator[Cluster]:
    """Yield the cluster that the environment selects.

    Raises:
        HarnessError: the environment contradicts itself, or the cluster could not be started.
    """
    choice = os.environ.get(CLUSTER_VARIABLE, "own")
    if choice == "own":
        with control_plane(Programs.resolve(report)) as own:
            yield Cluster(own.kubectl, webhook_host(), own.folder, own)
    elif choice == "kubeconfig":
        with temporary_folder() as folder:
            kubectl = Kubectl(_users_kubectl(report), _users_kubeconfig(), folder / "kubectl-cache")
            kubectl.run("version")
            yield Cluster(kubectl, webhook_host(), folder, None)
    else:
        raise HarnessError(f"{CLUSTER_VARIABLE} is {choice!r}; allowed are own (the default) and kubeconfig")


def webhook_host() -> str:
    """Return the IP address that webhooks listen on and are registered with."""
    return (
        os.environ.get(HOST_VARIABLE, "127.0.0.1") if os.environ.get(CLUSTER_VARIABLE) == "kubeconfig" else "127.0.0.1"
    )


def _users_kubectl(report: binaries.Report) -> Path:
    found = shutil.which("kubectl")
    return Path(found) if found else binaries.resolve(binaries.KUBECTL, report)


def _users_kubeconfig() -> Path:
    path = os.environ.get("KUBECONFIG", "")
    if not Path(path).is_file():
        raise HarnessError(f"{CLUSTER_VARIABLE}=kubeconfig needs KUBECONFIG to name one file, not {path!r}")
    return Path(path)
