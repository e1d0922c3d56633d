"""What a CronJob of a page would run: its command, as its ServiceAccount."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from tests.as_pod import Pod
from tests.controlplane.workspace import write_private
from tests.documents import documents

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.controlplane.cluster import ControlPlane

# Without a node a DaemonSet has no Pods, and no Job runs here. Rules on all are tested in test_command_rights.py.
_WITHOUT_PODS: Final = {"daemonsets", "jobs", "cronjobs"}


@dataclass(frozen=True, slots=True)
class CronJob:
    """The objects of a manifest, and the folder with the files of its ServiceAccount."""

    own: ControlPlane
    objects: tuple[dict[str, Any], ...]
    folder: Path

    @classmethod
    def of(cls, own: ControlPlane, manifest: Path) -> Self:
        """Read a manifest."""
        folder = manifest.with_suffix(".pod")
        folder.mkdir()
        return cls(own, tuple(documents(manifest)), folder)

    def object(self, *kinds: str) -> dict[str, Any]:
        """The only object of one of the kinds."""
        (found,) = (item for item in self.objects if item["kind"] in kinds)
        return found

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run the command as the Pod does; Pod Security and the mounts are the node's business."""
        template = self.object("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (container,) = template["containers"]
        account = self.object("ServiceAccount")["metadata"]
        assert template["serviceAccountName"] == account["name"]
        assert container.keys().isdisjoint({"command", "env", "volumeMounts"})
        kubectl = self.own.kubectl.within(account["namespace"])
        write_private(self.folder / "token", kubectl.token(account["name"]).encode())
        write_private(self.folder / "ca.crt", self.own.authority.pem)
        return Pod(self.folder, self.own.url).run(*container["args"])

    def lesser_roles(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The role without one verb on one kind of object, for each that it has."""
        role = self.object("Role", "ClusterRole")
        for number, rule in enumerate(role["rules"]):
            for resource in set(rule["resources"]) - _WITHOUT_PODS:
                for verb in rule["verbs"]:
                    lesser = copy.deepcopy(role)
                    others = [one for one in rule["resources"] if one != resource]
                    without = [one for one in rule["verbs"] if one != verb]
                    parts = [{**rule, "resources": others}, {**rule, "resources": [resource], "verbs": without}]
                    lesser["rules"][number : number + 1] = [p for p in parts if p["resources"] and p["verbs"]]
                    yield f"{verb} {resource}", lesser
