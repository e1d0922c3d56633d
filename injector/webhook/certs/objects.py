"""The three objects that a webhook with certificates of its own lives from: a Secret and two webhook configurations.

What is asked of the API is exactly what the shipped roles grant: get, watch and update of the one Secret, get, watch
and patch of the two configurations.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from injector.kube.errors import NotFoundError
from injector.kube.resources import MUTATING_WEBHOOKS, REQUEST_TIMEOUT_SECONDS, SECRETS, VALIDATING_WEBHOOKS
from injector.kube.watch import ObjectWatch, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from injector.kube.errors import KubeError
    from injector.kube.resources import Resource

Object: TypeAlias = dict[str, Any]

# Owns the bundles, and nothing else of the configurations.
BUNDLE_MANAGER: Final = "dapr-token-injector-ca-bundle"


class Calls(Source, Protocol):
    """What is asked of the API; `client.Api` has it."""

    skew_seconds: float

    async def get(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Object:
        """One object."""
        ...

    async def replace(self, resource: Resource, body: Object, namespace: str | None = None) -> Object:
        """Replace an object as a whole, if it is still of the version that it carries."""
        ...

    async def apply(
        self,
        resource: Resource,
        name: str,
        body: Object,
        namespace: str | None = None,
        *,
        manager: str = "",
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Object:
        """Server-side apply."""
        ...


class OwnObjects:
    """Copies of the three, kept while `run` runs; and the calls that change them."""

    def __init__(
        self,
        api: Calls,
        *,
        namespace: str,
        secret_name: str,
        configuration_name: str,
        changed: Callable[[], None],
        failed: Callable[[KubeError], None],
    ) -> None:
        self._api = api
        self.secret = ObjectWatch(api, SECRETS, secret_name, namespace, changed=changed, failed=failed)
        self.configurations = tuple(
            ObjectWatch(api, resource, configuration_name, changed=changed, failed=failed)
            for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)
        )

    @property
    def skew_seconds(self) -> float:
        """How far the API server's clock was ahead of ours at its last answer."""
        return self._api.skew_seconds

    async def run(self) -> None:
        """Keep the copies until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for reflector in (self.secret, *self.configurations):
                tasks.create_task(reflector.run())

    async def read(self, reflector: ObjectWatch, *, timeout_seconds: float = REQUEST_TIMEOUT_SECONDS) -> Object | None:
        """One of the three as it is now; None when it does not exist.

        Raises:
            KubeError: As the API server answered.
        """
        try:
            found = await self._api.get(
                reflector.resource, reflector.name, reflector.namespace, timeout_seconds=timeout_seconds
            )
        except NotFoundError:
            found = None
        reflector.saw(found)
        return found

    async def replace_secret(self, secret: Object) -> None:
        """Write the Secret, if nobody did since it was read.

        Raises:
            KubeError: As the API server answered; ConflictError when somebody was faster.
        """
        self.secret.saw(await self._api.replace(SECRETS, secret, self.secret.namespace))

    async def apply_bundle(
        self, reflector: ObjectWatch, body: Object, *, timeout_seconds: float = REQUEST_TIMEOUT_SECONDS
    ) -> None:
        """Own the bundles in `body`.

        Raises:
            KubeError: As the API server answered; ConflictError when the configuration changed or was deleted.
        """
        written = await self._api.apply(
            reflector.resource, reflector.name, body, manager=BUNDLE_MANAGER, timeout_seconds=timeout_seconds
        )
        reflector.saw(written)
