"""What `status` shows: all Pods of a namespace or cluster, one workload, or one Secret."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from injector.cli.status import report, secret, workload
from injector.core.messages import redact
from injector.core.ownership import SecretRef
from injector.core.secret_names import is_secret_name
from injector.core.token_state import Ref
from injector.kube import workload_target
from injector.kube.errors import ForbiddenError, NotFoundError
from injector.rotation.status import StatusReport, StatusSelection, read_status
from injector.rotation.story import read_story

if TYPE_CHECKING:
    from collections.abc import Callable

    from injector.kube.client import Api
    from injector.kube.resources import Resource

_SECRET_KINDS: Final = frozenset({"secret", "secrets"})


@dataclass(frozen=True, slots=True)
class StatusTarget:
    """An argument: a Secret, or a workload with its kind, which is None for one of another API group."""

    label: str
    kind: str
    name: str
    resource: Resource | None = None


def parse(text: str) -> StatusTarget:
    """Return the object in an argument.

    Raises:
        click.UsageError: It is malformed, or of another kind.
    """
    kind, _, name = text.partition("/")
    found = workload_target.parse(text)
    is_foreign = all(kind.partition("."))  # such as statefulset.apps.kruise.io
    if not is_secret_name(name) or (found is None and not is_foreign and kind.lower() not in _SECRET_KINDS):
        expected = f"{workload_target.EXPECTED}, KIND.GROUP/NAME of another controller, or secret/NAME"
        raise click.UsageError(f"invalid target {redact(text)}: expected {expected}")
    if found is None:
        return StatusTarget(text, kind, name)
    return StatusTarget(text, found.resource.kind, name, found.resource)


@dataclass(frozen=True, slots=True)
class Answer:
    """The state of what was requested. `show` writes it in a format; `is_unknown`: nothing could be determined."""

    status: StatusReport
    show: Callable[[str], None]
    is_unknown: bool = False


def nothing(why: str) -> Answer:
    """Return the state without any Pod."""
    status = StatusReport((), (why,))
    return Answer(status, partial(report.show, status, with_namespace=False))


@dataclass(frozen=True, slots=True)
class View:
    """What to show: a namespace (None: all), or one object of it. `ended`: also Pods that have ended or are ending."""

    namespace: str | None
    target: StatusTarget | None = None
    ended: bool = False

    async def read(self, api: Api) -> Answer:
        """Return the state as it is now.

        Raises:
            KubeError: The object does not exist, Pods cannot be listed, or the API server does not answer.
        """
        now = int(time.time())
        if self.target is None or self.namespace is None:
            status = await read_status(api, self.namespace, now, StatusSelection(ended=self.ended))
            return Answer(status, partial(report.show, status, with_namespace=self.namespace is None))
        if self.target.kind.lower() in _SECRET_KINDS:
            return await self._secret(api, SecretRef(self.namespace, self.target.name), now)
        return await self._workload(api, self.target, self.namespace, now)

    async def _secret(self, api: Api, ref: SecretRef, now: int) -> Answer:
        story = await read_story(api, ref, now, ended=self.ended)
        is_readable = ref in story.status.secrets
        if is_readable and story.secret is None and not story.keys:
            raise NotFoundError(f"get secrets/{ref.name} in namespace {ref.namespace}")
        is_unknown = not is_readable and not story.keys
        return Answer(story.status, partial(secret.show, story, now=now), is_unknown=is_unknown)

    async def _workload(self, api: Api, target: StatusTarget, namespace: str, now: int) -> Answer:
        selected = StatusSelection(workload=Ref(target.kind, namespace, target.name), ended=self.ended)
        status = await read_status(api, namespace, now, selected)
        is_unknown = False
        if not status.pods and target.resource is not None:
            is_unknown = bool(status.limits)  # without its ReplicaSets, the Pods of a Deployment are not known
            try:
                await api.get(target.resource, target.name, namespace)
            except ForbiddenError as error:
                status = replace(status, limits=(*status.limits, f"whether it exists is not known: {error}"))
                is_unknown = True
        return Answer(status, partial(workload.show, target.label, status), is_unknown=is_unknown)
