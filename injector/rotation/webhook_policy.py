"""The Policy of the installed webhook: a key of a ConfigMap that its Deployment mounts.

The names are those of charts/dapr-token-injector/templates/webhook/deployment.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from injector.config.policy import parse_policy
from injector.core import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from injector.core.model import Policy

WEBHOOK: Final = f"app.kubernetes.io/name in ({','.join(names.GROUPS)})"
_VOLUME: Final = "policy"
_KEY: Final = "policy.yaml"


def config_map_of(deployments: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    """Return namespace and name of the ConfigMap with the Policy, given the Deployments with the label `WEBHOOK`.

    Raises:
        LookupError: There is none, or more than one.
    """
    mounted = {ref for one in deployments for ref in _mounted(one)}
    if len(mounted) != 1:
        raise LookupError(f"{len(mounted)} ConfigMaps are volumes {_VOLUME} of Deployments with {WEBHOOK}")
    return mounted.pop()


def policy_in(config_map: Mapping[str, Any]) -> Policy:
    """Return the Policy in a ConfigMap.

    Raises:
        ConfigError: It is not a valid Policy.
    """
    return parse_policy(str((config_map.get("data") or {}).get(_KEY) or ""), config_map["metadata"]["name"])


def _mounted(deployment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for volume in deployment["spec"]["template"]["spec"].get("volumes") or ():
        name = (volume.get("configMap") or {}).get("name")
        if volume.get("name") == _VOLUME and name:
            yield deployment["metadata"]["namespace"], name
