"""A kubelet, as far as it decides what value a variable has when a container starts.

https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/kubelet_pods.go (makeEnvironmentVariables)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.builders import Json

Data = dict[str, dict[str, str]]  # by name of the object, then by key
_PART: Final = re.compile(r"\$\$|\$\(([^)]*)\)")


class WaitError(Exception):
    """The container does not start."""


@dataclass(frozen=True, slots=True)
class Kubelet:
    """`secrets` and `config_maps` are those that exist; `annotations` are the Pod's.

    `has_env_files`: it reads variables from files. `files`: those that containers of the Pod have written, by volume
    and path.
    """

    secrets: Data = field(default_factory=dict)
    config_maps: Data = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    has_env_files: bool = False
    files: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    def environment(self, container: Json) -> dict[str, str] | None:
        """The variables of a container that starts; None if it waits."""
        try:
            return self._from_objects(container) | self._variables(container)
        except WaitError:
            return None

    def _from_objects(self, container: Json) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in container.get("envFrom") or ():
            objects, selector = (
                (self.secrets, source["secretRef"])
                if "secretRef" in source
                else (self.config_maps, source["configMapRef"])
            )
            if selector["name"] not in objects:
                if selector.get("optional"):
                    continue
                raise WaitError
            found |= {source.get("prefix", "") + key: value for key, value in objects[selector["name"]].items()}
        return found

    def _variables(self, container: Json) -> dict[str, str]:
        found: dict[str, str] = {}
        for entry in container.get("env") or ():
            value = self._value(entry, found)
            if value is not None:
                found[entry["name"]] = value
        return found

    def _value(self, entry: Json, before: Mapping[str, str]) -> str | None:
        if entry.get("value"):
            return _PART.sub(lambda part: "$" if part[0] == "$$" else before.get(part[1], part[0]), entry["value"])
        source = entry.get("valueFrom") or {}
        for kind, objects in (("secretKeyRef", self.secrets), ("configMapKeyRef", self.config_maps)):
            if kind in source:
                selector = source[kind]
                value = objects.get(selector["name"], {}).get(selector["key"])
                if value is None and not selector.get("optional"):
                    raise WaitError
                return value
        if "fieldRef" in source:
            return self.annotations.get(source["fieldRef"]["fieldPath"].split("'")[1], "")
        if "fileKeyRef" in source and self.has_env_files:
            selector = source["fileKeyRef"]
            value = self.files.get((selector["volumeName"], selector["path"]), {}).get(selector["key"])
            if value is None and not selector.get("optional"):
                raise WaitError
            return value
        return ""  # also of a file, in a kubelet that does not know env files

    def seals(self, container: Json) -> bool:
        """Run an init container, as far as it seals the Pod; whether the next one may start."""
        words = (*(container.get("command") or ()), *(container.get("args") or ()))
        if container.get("command") is None or words[:2] != ("dapr-token-injector", "seal"):
            return True
        is_check = words[2:3] == ("--check",)
        found = self.environment(container)
        values = None if found is None else {name: found.get(name, "") for name in words[2 + is_check :]}
        if values is None or not all(values.values()):
            return container.get("restartPolicy") == "Always"  # the kubelet does not wait for its end
        if not is_check:
            for mount in container.get("volumeMounts") or ():
                if mount["mountPath"] == "/dapr-token-injector/seal" and not mount.get("subPath"):
                    self.files[mount["name"], "tokens.env"] = values
        return True

    def overwrites(self, container: Json) -> None:
        """Run a container that is not ours: it may write anything into the volumes that it mounts."""
        for mount in container.get("volumeMounts") or ():
            self.files[mount["name"], "tokens.env"] = {"DAPR_API_TOKEN": "", "APP_API_TOKEN": ""}


def runs_open(pod: Json, kubelet: Kubelet) -> bool:
    """Whether a daprd of the Pod starts without a token, now or again later; it is known by its name or its image.

    Init containers that are not ours do not keep the next ones from starting: they may succeed later.
    """
    spec = pod["spec"]
    started = []
    for one in spec.get("initContainers") or ():
        if not kubelet.seals(one):
            break
        started.append(one)
        if _starts_open(one, kubelet):
            return True
        if one["name"] not in OURS:
            kubelet.overwrites(one)
    else:
        started += [*(spec.get("containers") or ()), *(spec.get("ephemeralContainers") or ())]
    if any(_starts_open(one, kubelet) for one in started):
        return True
    for one in started:
        if one["name"] not in OURS or one.get("restartPolicy") == "Always":
            kubelet.overwrites(one)
    return any(_starts_open(one, kubelet) for one in started)


OURS: Final = ("dapr-token-injector-seal", "dapr-token-injector-seal-check")


def _starts_open(container: Json, kubelet: Kubelet) -> bool:
    if container["name"] != "daprd" and "daprd" not in container.get("image", ""):
        return False
    found = kubelet.environment(container)
    return found is not None and not found.get("DAPR_API_TOKEN")
