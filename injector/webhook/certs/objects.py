"""The Secret and the webhook configurations that `--tls-mode self` manages.

The calls need exactly the permissions of the installed roles: get, watch and update on the Secret; get, watch and patch
on the configurations.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from injector.kube.errors import NotFoundError
from injector.kube.resources import MUTATING_WEBHOOKS, REQUEST_TIMEOUT_SECONDS, SECRETS, VALIDATING_WEBHOOKS
from injector.kube.watch import ObjectWatch, WatchCalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from injector.kube.errors import KubeError
    from injector.kube.resources import Object, Resource

# Field manager of the caBundles, and of no other field of the configurations.
BUNDLE_MANAGER: Final = "dapr-token-injector-ca-bundle"


# Roles of the configurations, as the metrics show them.
MUTATING: Final = "mutating"
SECOND_MUTATING: Final = "second-mutating"
VALIDATING: Final = "validating"


class Calls(WatchCalls, Protocol):
    """The calls of `OwnObjects`; `client.Api` has them, which only the command line may import."""

    skew_seconds: float

    async def get(
        self, resource: Resource, name: str, namespace: str | None = None, *, timeout_seconds: float = ...
    ) -> Object:
        """Return an object."""

    async def replace(self, resource: Resource, body: Object, namespace: str | None) -> Object:
        """Replace an object if its resourceVersion is still the one in `body`."""

    async def apply(
        self, resource: Resource, name: str, body: Object, *, manager: str, timeout_seconds: float
    ) -> Object:
        """Apply `body` with server-side apply."""


class OwnObjects:
    """Copies of the objects, kept up to date by `run`, and the calls that change the objects.

    `roles` has the copies of the webhook configurations by role.
    """

    def __init__(  # noqa: PLR0913 - names of objects, and callbacks
        self,
        api: Calls,
        *,
        namespace: str,
        secret_name: str,
        configuration_name: str,
        second_configuration_name: str = "",
        changed: Callable[[], None],
        failed: Callable[[KubeError], None],
    ) -> None:
        self._api = api
        self.secret = ObjectWatch(api, SECRETS, secret_name, namespace, changed=changed, failed=failed)

        def configuration(resource: Resource, name: str) -> ObjectWatch:
            return ObjectWatch(api, resource, name, changed=changed, failed=failed)

        names = {MUTATING: configuration_name, SECOND_MUTATING: second_configuration_name}
        mutating = {role: configuration(MUTATING_WEBHOOKS, name) for role, name in names.items() if name}
        self.roles = {**mutating, VALIDATING: configuration(VALIDATING_WEBHOOKS, configuration_name)}
        self.mutating = tuple(mutating.values())
        self.configurations = tuple(self.roles.values())

    @property
    def skew_seconds(self) -> float:
        """Seconds that the API server's clock was ahead of the local clock at its last response."""
        return self._api.skew_seconds

    async def run(self) -> None:
        """Keep the copies up to date until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for watch in (self.secret, *self.configurations):
                tasks.create_task(watch.run())

    async def read(self, watch: ObjectWatch, *, timeout_seconds: float = REQUEST_TIMEOUT_SECONDS) -> Object | None:
        """Return the current state of one of the objects; None if it does not exist.

        Raises:
            KubeError: The call failed.
        """
        try:
            found = await self._api.get(watch.resource, watch.name, watch.namespace, timeout_seconds=timeout_seconds)
        except NotFoundError:
            found = None
        watch.saw(found)
        return found

    async def replace_secret(self, secret: Object) -> None:
        """Replace the Secret, if it has not changed since it was read.

        Raises:
            KubeError: The call failed; ConflictError if another client has changed the Secret.
        """
        self.secret.saw(await self._api.replace(SECRETS, secret, self.secret.namespace))

    async def apply_bundle(
        self, watch: ObjectWatch, body: Object, *, timeout_seconds: float = REQUEST_TIMEOUT_SECONDS
    ) -> None:
        """Set the caBundles in `body`, and become their field manager.

        Raises:
            KubeError: The call failed; ConflictError if the configuration changed or was deleted.
        """
        written = await self._api.apply(
            watch.resource, watch.name, body, manager=BUNDLE_MANAGER, timeout_seconds=timeout_seconds
        )
        watch.saw(written)
