"""The pages whose commands need Pods that run, typed as they are printed, on one node."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import pytest

from tests.cluster.objects import ASKING, pod
from tests.controlplane.polling import wait_for
from tests.node.release import NAME, NAMESPACE
from tests.pages.blocks import ROOT, blocks
from tests.pages.families import run_by
from tests.pages.terminal import follow_page, terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.node.conftest import Installation
    from tests.node.target import Target
    from tests.pages.blocks import Block

IMAGE: Final = "registry.example/dapr-token-injector"
UNCERTAIN_SECONDS: Final = 10  # a reader is slower than the tolerances of clocks and caches
TUTORIAL: Final = "docs/tutorial-tokens.md"


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a reader sits."""

    target: Target
    installation: Installation
    folder: Path


Before: TypeAlias = "Callable[[Block], object]"


def nothing(_: Block) -> None:
    """Nothing changes before a block."""


@contextlib.contextmanager
def without_release(desk: Desk) -> Iterator[Before]:
    """Nothing is installed; a page that installs twice begins again before the second time."""
    desk.installation.remove()

    def uninstall() -> None:
        desk.target.helm.run("uninstall", NAME, "--namespace", NAMESPACE, "--ignore-not-found", "--wait")
        kubectl = desk.target.kubectl.within(NAMESPACE)
        kubectl.run("delete", "-k", str(ROOT / "deploy/overlays/production"), "--ignore-not-found")

    def before(block: Block) -> None:
        if "apply -k" in block.text:
            uninstall()
        elif "curl" in block.text:
            for secret in ("dapr-api-token", "My_Secret"):
                asking = pod({**ASKING, "dapr.io/api-token-secret": secret})
                for _ in range(8):  # the port-forward leads to one of two replicas
                    desk.target.kubectl.apply(asking, "--dry-run=server")

    try:
        yield before
    finally:
        uninstall()


@contextlib.contextmanager
def without_release_or_shop(desk: Desk) -> Iterator[Before]:
    """Nothing is installed, and the namespace of the page is deleted, even if the page fails half-way."""

    def before(block: Block) -> None:
        if block.text.startswith(("$ kubectl -n shop apply -f orders.yaml", "$ kubectl rollout restart")):
            certain = time.monotonic() + UNCERTAIN_SECONDS
            wait_for("a start that is certainly after the change", lambda: time.monotonic() > certain)

    with without_release(desk):
        try:
            yield before
        finally:
            desk.target.kubectl.run("delete", "namespace", "shop", "--ignore-not-found")


@contextlib.contextmanager
def with_release(desk: Desk) -> Iterator[Before]:
    """The chart is installed."""
    desk.installation.ensure()
    yield nothing


@contextlib.contextmanager
def with_fast_rotation(desk: Desk) -> Iterator[Before]:
    """The chart is installed, with seconds for the API server to read a new CA: a new one signs after five minutes."""
    settle_time = ("name=DAPR_TOKEN_INJECTOR_CA_SETTLE_TIME", "value=20s")
    desk.installation.remove()
    desk.installation.install(*(f"extraEnv[0].{part}" for part in settle_time))
    yield nothing


@contextlib.contextmanager
def with_orders(desk: Desk) -> Iterator[Before]:
    """The workload of the token tutorial, under another name and with Dapr's other ports open."""
    desk.installation.ensure()
    with applied(desk, the_manifest(), f"--from-literal=token={'t' * 32}"):
        yield nothing


def the_manifest() -> str:
    """The manifest of the token tutorial for a workload `orders` that also serves metrics."""
    (manifest,) = (block.text for block in blocks(TUTORIAL) if block.mark == "file")
    return manifest.replace("shop", "orders").replace("            - --enable-metrics=false\n", "")


@contextlib.contextmanager
def applied(desk: Desk, manifest: str, *secret: str) -> Iterator[None]:
    """The workload runs in the namespace `shop`, with the literals of a Secret if there are any."""
    (desk.folder / "orders.yaml").write_text(replaced(manifest, images(desk.target)))
    kubectl = desk.target.kubectl.within("shop")
    kubectl.run("create", "namespace", "shop")
    try:
        if secret:
            kubectl.run("create", "secret", "generic", "dapr-api-token", *secret)
        kubectl.run("apply", "-f", str(desk.folder / "orders.yaml"))
        kubectl.run("rollout", "status", "deployment/orders", "--timeout=115s")
        yield
    finally:
        kubectl.run("delete", "namespace", "shop")


@contextlib.contextmanager
def without_tokens(desk: Desk) -> Iterator[Before]:
    """The workload of the token tutorial as its owner wrote it: with Dapr, and without a word about tokens."""
    desk.installation.ensure()
    manifest = the_manifest().replace('os.environ["DAPR_API_TOKEN"]', 'os.environ.get("DAPR_API_TOKEN", "")')
    lines = [line for line in manifest.splitlines() if "api-token-secret" not in line and "app-containers" not in line]
    with applied(desk, "\n".join(lines)):
        yield nothing
    desk.installation.remove()  # it has another policy now


SCENES: Final[Mapping[str, Callable[[Desk], AbstractContextManager[Before]]]] = {
    "docs/how-to/install.md": without_release,
    "docs/how-to/prove-that-it-is-on.md": with_orders,
    "docs/how-to/roll-out-to-many-apps.md": without_tokens,
    "docs/how-to/rotate-the-ca.md": with_fast_rotation,
    "docs/how-to/shadow-mode.md": without_release,
    "docs/how-to/upgrade.md": with_release,
    "docs/tutorial-status.md": without_release_or_shop,
    TUTORIAL: with_release,
}


def images(target: Target) -> dict[str, str]:
    """The images of the pages, by those that the node has."""
    repository, _, tag = target.image.rpartition(":")
    present = "\n          imagePullPolicy: IfNotPresent"
    return {
        f"--set image.repository={IMAGE}": f"--set image.repository={repository} --set image.tag={tag}",
        f"newName: {IMAGE}": f"newName: {repository}\n    newTag: {tag}",
        "image: python:3.13-slim": f"image: {target.image}{present}",
        **{f"image: daprio/daprd:{tag}": f"image: {target.daprd_image}{present}" for tag in ("1.16.14", "1.16.0")},
    }


def replaced(text: str, words: Mapping[str, str]) -> str:
    for written, used in words.items():
        text = text.replace(written, used)
    return text


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("page", run_by(__file__))
def test_commands_of_the_page_print_what_it_shows(
    page: str, target: Target, installation: Installation, tmp_path: Path
) -> None:
    for name in ("charts", "deploy"):  # the reader's clone
        (tmp_path / name).symlink_to(ROOT / name)
    counts = {" 412.0": " …", " 2.0": " …"}

    with (
        SCENES[page](Desk(target, installation, tmp_path)) as before,
        terminal(
            tmp_path,
            programs={"kubectl": target.kubectl.binary, "helm": target.helm.binary},
            env=target.helm.environment(),
            replace=images(target) | counts,
        ) as opened,
    ):
        assert follow_page(page, opened, before) > 1
