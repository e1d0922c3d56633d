"""The chart as a release of Helm, in a namespace that enforces Pod Security `restricted`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from tests.controlplane.helm import CHART

if TYPE_CHECKING:
    from tests.controlplane.helm import Helm
    from tests.controlplane.kubectl import Kubectl
    from tests.node.target import Target

NAME: Final = "dapr-token-injector"
NAMESPACE: Final = "dapr-token-injector"
WAIT: Final = ("--wait", "--timeout=4m")
RESTRICTED: Final = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
}


@dataclass(frozen=True, slots=True)
class Release:
    """An installed chart; `kubectl` is in its namespace."""

    helm: Helm
    kubectl: Kubectl
    values: tuple[str, ...]

    @classmethod
    def install(cls, target: Target, *values: str) -> Self:
        """Install the chart with the image under test, and return when its Pods are ready.

        Raises:
            HarnessError: Helm failed; the message has its output and the state of the Pods.
        """
        release = cls.of(target, *values)
        target.kubectl.apply(RESTRICTED)
        release.call("install", *WAIT)
        return release

    @classmethod
    def of(cls, target: Target, *values: str) -> Self:
        """Return the release with these values, as yet to be installed or upgraded."""
        repository, _, tag = target.image.rpartition(":")
        own = (f"image.repository={repository}", f"image.tag={tag}")
        return cls(target.helm, target.kubectl.within(NAMESPACE), (*own, *values))

    def call(self, command: str, *flags: str) -> str:
        """Run `helm install` or `helm upgrade` on the chart."""
        settings = [f"--set={value}" for value in self.values]
        return self.helm.run(command, NAME, str(CHART), f"--namespace={NAMESPACE}", *settings, *flags)

    def uninstall(self) -> None:
        """Remove the release and its namespace."""
        self.helm.run("uninstall", NAME, f"--namespace={NAMESPACE}", "--ignore-not-found", *WAIT)
        self.kubectl.run("delete", "namespace", NAMESPACE, "--wait", "--timeout=120s")

    def pods(self, *, ending: bool = False) -> list[str]:
        """Return the names of the webhook's Pods, with or without terminating ones."""
        found = self.kubectl.list("pods", labelSelector=f"app.kubernetes.io/name={NAME}")
        return [pod["metadata"]["name"] for pod in found if ending or "deletionTimestamp" not in pod["metadata"]]
