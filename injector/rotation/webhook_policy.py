"""The Policy of the installed webhook: a key of a ConfigMap that its Deployment mounts.

The names are those of charts/dapr-token-injector/templates/webhook/deployment.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from injector.config.policy import parse_policy
from injector.core import names
from injector.kube.resources import CONFIGMAPS, DEPLOYMENTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from injector.core.model import Policy
    from injector.kube.client import Api

_WEBHOOK: Final = f"{names.APP_NAME_LABEL} in ({','.join(names.GROUPS)})"
_VOLUME: Final = "policy"
_KEY: Final = "policy.yaml"


async def read_policy(api: Api) -> Policy:
    """Return the Policy of the installed webhook.

    Raises:
        LookupError: No ConfigMap, or more than one, is mounted as the Policy.
        ConfigError: It is not a valid Policy.
        KubeError: It does not exist or cannot be read.
    """
    namespace, name = config_map_of(await api.list(DEPLOYMENTS, label_selector=_WEBHOOK))
    found = await api.get(CONFIGMAPS, name, namespace)
    return parse_policy(str((found.get("data") or {}).get(_KEY) or ""), found["metadata"]["name"])


def config_map_of(deployments: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    """Return namespace and name of the ConfigMap with the Policy, given the Deployments of the webhook.

    Raises:
        LookupError: There is none, or more than one.
    """
    mounted = {ref for one in deployments for ref in _mounted(one)}
    if len(mounted) != 1:
        raise LookupError(f"{len(mounted)} ConfigMaps are volumes {_VOLUME} of Deployments with {_WEBHOOK}")
    return mounted.pop()


def _mounted(deployment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for volume in deployment["spec"]["template"]["spec"].get("volumes") or ():
        name = (volume.get("configMap") or {}).get("name")
        if volume.get("name") == _VOLUME and name:
            yield deployment["metadata"]["namespace"], name
