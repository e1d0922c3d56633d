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
    """`secrets` and `config_maps` are those that exist; `annotations` are the Pod's."""

    secrets: Data = field(default_factory=dict)
    config_maps: Data = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

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
        return ""  # also of a file, in a kubelet that does not know env files


def runs_open(pod: Json, kubelet: Kubelet) -> bool:
    """Whether a daprd of the Pod starts without a token; it is known by its name or its image."""
    spec = pod["spec"]
    every = (one for part in ("initContainers", "containers", "ephemeralContainers") for one in spec.get(part) or ())
    sidecars = (one for one in every if one["name"] == "daprd" or "daprd" in one.get("image", ""))
    environments = (kubelet.environment(one) for one in sidecars)
    return any(found is not None and not found.get("DAPR_API_TOKEN") for found in environments)
