"""The cluster whose Pods really run.

By default it is one separate node in its own network namespace (`controlplane.node`). With
`DAPR_TOKEN_INJECTOR_TEST_CLUSTER=kubeconfig` it is the one that `KUBECONFIG` names, kind included; its nodes
must be able to get two images: ours, by `DAPR_TOKEN_INJECTOR_TEST_IMAGE` (say, after `kind load`), and daprd's, by
`DAPR_TOKEN_INJECTOR_TEST_DAPRD_IMAGE` (default `daprio/daprd:1.16.0`). With `DAPR_TOKEN_INJECTOR_TEST_HOST`, an address
of this machine that the cluster's API server reaches, Dapr's own injector is tested, too. Afterwards the cluster
has its previous state.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.controlplane import binaries, images, netns, node
from tests.controlplane.errors import HarnessError
from tests.controlplane.helm import Helm
from tests.controlplane.requirement import require
from tests.controlplane.target import CLUSTER_VARIABLE, HOST_VARIABLE, open_cluster
from tests.controlplane.workspace import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.netns import NetworkNamespace
    from tests.controlplane.node import NodeCluster

IMAGE_VARIABLE: Final = "DAPR_TOKEN_INJECTOR_TEST_IMAGE"
DAPRD_IMAGE_VARIABLE: Final = "DAPR_TOKEN_INJECTOR_TEST_DAPRD_IMAGE"


@dataclass(frozen=True, slots=True)
class Target:
    """A cluster with nodes, and the images that they can get; `own` and `network` when it is ours.

    `webhook_host`: where its API server reaches a webhook that a test runs, None when it reaches none.
    """

    kubectl: Kubectl
    helm: Helm
    folder: Path
    image: str
    daprd_image: str
    webhook_host: str | None
    own: NodeCluster | None = None
    network: NetworkNamespace | None = None

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """Where the cluster is reached from."""
        return self.network.entered() if self.network else contextlib.nullcontext()


@contextlib.contextmanager
def open_target(report: binaries.Report) -> Iterator[Target]:
    """Yield the cluster that the environment selects; skip or fail if it is not available."""
    if os.environ.get(CLUSTER_VARIABLE, "own") == "own":
        require(reason_unavailable())
        with own_node(report) as target:
            yield target
    else:
        with open_cluster(report) as cluster:
            helm = Helm.find(cluster.folder, cluster.kubectl.kubeconfig, report=report)
            daprd = os.environ.get(DAPRD_IMAGE_VARIABLE, f"daprio/daprd:{binaries.DAPRD.version}")
            yield Target(
                cluster.kubectl, helm, cluster.folder, _users_image(), daprd, os.environ.get(HOST_VARIABLE) or None
            )


def reason_unavailable() -> str | None:
    """Return why no separate node can run here, None if it can."""
    return netns.reason_unavailable() or node.reason_unavailable() or images.reason_unavailable()


@contextlib.contextmanager
def own_node(report: binaries.Report) -> Iterator[Target]:
    """Yield a cluster of one node; it is reachable within `Target.entered`, and removed when the block ends.

    Raises:
        HarnessError: the cluster could not be started.
    """
    # All that fetches what it is made of comes first: nothing leads out of the namespace.
    programs = node.NodePrograms.resolve(report)
    daprd, _ = binaries.resolve(binaries.DAPRD, report), binaries.resolve(binaries.DAPR_INJECTOR, report)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        built = images.build_images(daprd, folder, report)
        network = stack.enter_context(netns.network_namespace())
        with network.entered():
            own = stack.enter_context(node.one_node_cluster(programs, built.archive))
        built.archive.unlink()
        kubectl = own.control_plane.kubectl
        yield Target(
            kubectl,
            Helm.find(folder, kubectl.kubeconfig, report=report),
            folder,
            built.injector,
            images.DAPRD,
            netns.NODE_ADDRESS,
            own,
            network,
        )


def _users_image() -> str:
    image = os.environ.get(IMAGE_VARIABLE, "")
    if not image:
        raise HarnessError(f"{CLUSTER_VARIABLE}=kubeconfig needs {IMAGE_VARIABLE}, an image that its nodes can get")
    return image
