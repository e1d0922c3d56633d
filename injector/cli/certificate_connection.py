"""Connects self-managed certificates to the API server."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from injector.config.settings import flag
from injector.core.errors import ConfigError, ConfigProblem
from injector.kube.client import Api
from injector.webhook.certs.objects import OwnObjects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from injector.config.settings import Settings
    from injector.kube.errors import KubeError
    from injector.webhook.certs.self_managed import Connect


def connect(settings: Settings) -> Connect:
    """Return a function that connects to the objects of self-managed certificates.

    Raises:
        ConfigError: The process does not run in a Pod and no kubeconfig is set, or the kubeconfig does not exist.
    """
    kubeconfig = settings.kubeconfig
    if kubeconfig is not None and not kubeconfig.is_file():
        raise ConfigError([ConfigProblem(flag("kubeconfig"), f"{kubeconfig} is not a file")])
    if kubeconfig is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise ConfigError([ConfigProblem(flag("kubeconfig"), "is required with --tls-mode self outside of a cluster")])

    @contextlib.asynccontextmanager
    async def connected(changed: Callable[[], None], failed: Callable[[KubeError], None]) -> AsyncIterator[OwnObjects]:
        api = await (Api.in_cluster() if kubeconfig is None else Api.from_kubeconfig(str(kubeconfig)))
        async with api:
            yield OwnObjects(
                api,
                namespace=settings.namespace,
                secret_name=settings.ca_secret_name,
                configuration_name=settings.webhook_configuration_name,
                second_configuration_name=settings.second_webhook_configuration_name,
                changed=changed,
                failed=failed,
            )

    return connected
