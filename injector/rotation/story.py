"""Reads all that concerns one token Secret: its metadata, the Pods that use it, and recent Events. Never its value."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.assessment import Currency
from injector.core.ownership import SecretKey, SecretRef
from injector.kube.api_messages import redact_words
from injector.kube.errors import ForbiddenError
from injector.kube.resources import EVENTS
from injector.rotation.status import StatusSelection, read_status
from injector.rotation.usage import DIRECTIONS, SecretUsage
from injector.times import unix_time

if TYPE_CHECKING:
    from collections.abc import Collection

    from injector.core.ownership import TokenSecret
    from injector.kube.client import Api
    from injector.kube.resources import Object
    from injector.rotation.status import StatusReport

_LATE: Final = frozenset({Currency.SKEWED, Currency.OUTDATED})


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretEvent:
    """An Event about the Secret, or about a Pod and the Secret. `time` is in seconds since 1970, of the last one."""

    time: int | None
    type: str
    reason: str
    object: str
    message: str


@dataclass(frozen=True, slots=True)
class SecretStory:
    """A Secret with what uses it. `secret` is None if it does not exist or cannot be read.

    `keys`: those that Pods use, and all of a Secret with our label.
    """

    ref: SecretRef
    secret: TokenSecret | None
    keys: tuple[SecretUsage, ...]
    status: StatusReport
    events: tuple[SecretEvent, ...]


async def read_story(api: Api, ref: SecretRef, now: int, *, ended: bool = False) -> SecretStory:
    """Return what is known of a Secret; `limits` of the status name each missing permission.

    Raises:
        KubeError: Pods cannot be listed, or the API server does not answer.
    """
    status = await read_status(api, ref.namespace, now, StatusSelection(secret=ref.name, ended=ended))
    secret = status.secrets.get(ref)
    events: tuple[SecretEvent, ...] = ()
    try:
        events = await _events(api, ref, {one.assessment.name for one in status.pods})
    except ForbiddenError as error:
        status = replace(status, limits=(*status.limits, f"Events are not shown: {error}"))
    used = {key for pod in status.pods for key in pod.uses if key}
    if secret is not None:
        secret = replace(secret, keys=frozenset().union(*(one.keys for one in secret.writers)) or frozenset(used))
    ours = secret.keys if secret is not None and names.TOKEN_LABEL in secret.labels else frozenset()
    keys = tuple(_usage(SecretKey.of(ref, key), status, secret) for key in sorted(used | ours))
    return SecretStory(ref, secret, keys, status, events)


def _usage(key: SecretKey, status: StatusReport, secret: TokenSecret | None) -> SecretUsage:
    users = [pod for pod in status.pods if key.key in pod.uses or "" in pod.uses]
    found = [pod.assessment for pod in users]
    directions = sorted({use.direction for pod in users if (use := pod.uses.get(key.key)) and use.direction})
    label = secret.labels.get(names.TOKEN_LABEL, "") if secret is not None else ""
    currencies = [(one.name, {each.currency for each in one.currencies if each.key == key}) for one in found]
    return SecretUsage(
        key=key,
        direction=(directions or [label or DIRECTIONS[names.API_TOKEN_ENV]])[0],
        secret=secret,
        workloads=tuple(f"{ref.kind}/{ref.name}" for ref in sorted({pod.workload for pod in users})),
        pods=len(users),
        outdated=tuple(name for name, states in currencies if states & _LATE),
        uncertain=tuple(name for name, states in currencies if Currency.UNCERTAIN in states),
        open=tuple(pod.assessment.name for pod in users if (use := pod.uses.get(key.key)) and use.is_open),
        is_readable=key.secret in status.secrets,
    )


async def _events(api: Api, ref: SecretRef, pods: Collection[str]) -> tuple[SecretEvent, ...]:
    """Return the Events about the Secret, and those of Pods that mention it; the last one first."""
    name = re.compile(rf"(?<![\w.-]){re.escape(ref.name)}(?![\w-]|\.\w)")

    def keep(event: Object) -> Object | None:
        about = event.get("involvedObject") or {}
        kind, message = about.get("kind"), str(event.get("message") or "")
        is_meant = kind == "Secret" and about.get("name") == ref.name
        is_mentioned = kind == "Pod" and about.get("name") in pods and name.search(message)
        return {"event": _event(event, f"{kind}/{about['name']}", message)} if is_meant or is_mentioned else None

    found: list[SecretEvent] = [one["event"] for one in await api.list(EVENTS, ref.namespace, keep=keep)]
    return tuple(sorted(found, key=lambda one: (-(one.time or 0), one.object, one.reason)))


def _event(event: Object, about: str, message: str) -> SecretEvent:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    known = [time for text in times if (time := unix_time(text)) is not None]
    return SecretEvent(
        time=max(known, default=None),
        type=str(event.get("type") or ""),
        reason=str(event.get("reason") or ""),
        object=about,
        message=redact_words(message),
    )
