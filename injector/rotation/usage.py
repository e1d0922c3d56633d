"""Lists token Secrets, and which Pods use them: what `secret list` shows."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from injector.core import names
from injector.core.durations import WEEK
from injector.core.ownership import SecretKey
from injector.core.token_state import Ref, TokenState, in_state, pod_names, revision_of
from injector.kube.resources import PODS, SECRETS
from injector.rotation import decode, fields
from injector.rotation.observe import Owners, among
from injector.times import unix_time
from injector.tokens.decode import token_secret

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from injector.core.ownership import SecretRef, TokenSecret
    from injector.core.token_state import PodUsage
    from injector.kube.client import Api

DIRECTIONS: Final[Mapping[str, str]] = {names.API_TOKEN_ENV: "api", names.APP_TOKEN_ENV: "app"}
# Seconds: a token that ends so soon is expiring.
EXPIRING_WITHIN: Final = WEEK


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretUsage:
    """One key of one Secret, and the Pods that read or request it.

    `direction`: `api` or `app`. `secret`: None if Pods use it and it does not exist, or is not `is_readable`.
    `outdated`, `uncertain`: Pods that run or may run a previous value. `open`: Pods that request this token and have
    none, or whose sidecar references it as optional.
    """

    key: SecretKey
    direction: str
    secret: TokenSecret | None
    workloads: tuple[str, ...]
    pods: int
    outdated: tuple[str, ...]
    uncertain: tuple[str, ...]
    open: tuple[str, ...]
    is_readable: bool = True

    @property
    def has_key(self) -> bool:
        """Whether the Secret exists and has the key."""
        return self.secret is not None and self.key.key in self.secret.keys

    @property
    def expires(self) -> int | None:
        """When the token expires, in seconds since 1970; None: it does not say."""
        return unix_time(self.secret.annotations.get(names.TOKEN_EXPIRES)) if self.secret is not None else None

    @property
    def is_dated(self) -> bool:
        """Whether the time of the last change is known; without it, no Pod can be outdated."""
        return self.secret is None or revision_of(self.secret, self.key.key).changed is not None


async def list_usage(api: Api, namespace: str | None) -> list[SecretUsage]:
    """Return every key of a Secret with our label, and every one that Pods read or request as a token.

    Raises:
        KubeError: The API server rejects a request or does not answer.
    """
    known: dict[bytes, dict[str, Any]] = {}
    pods = await api.read_list(PODS, namespace, lambda text: _slim_pod(text, known))
    labelled = await api.read_list(SECRETS, namespace, _secret, selectors=(("labelSelector", names.TOKEN_LABEL),))
    secrets = {secret.ref: secret for secret in labelled}
    directions = _directions(pods)
    for ref, secret in secrets.items():
        for name in secret.keys:
            directions.setdefault(SecretKey.of(ref, name), secret.labels[names.TOKEN_LABEL])
    owners = Owners(api)
    await owners.read_all(namespace)
    recorded = owners.recorded_defaults()
    users: dict[SecretKey, list[PodUsage]] = defaultdict(list)
    for pod in (await among(pods, directions.keys() | recorded, owners)).pods:
        for key in pod.keys:
            users[key].append(pod)
    for key in recorded & users.keys():
        directions.setdefault(key, DIRECTIONS[names.API_TOKEN_ENV])
    secrets |= await _read(api, {key.secret for key in directions} - secrets.keys())
    return [
        _usage(key, direction, secrets.get(key.secret), users[key]) for key, direction in sorted(directions.items())
    ]


def _usage(key: SecretKey, direction: str, secret: TokenSecret | None, pods: Sequence[PodUsage]) -> SecretUsage:
    revisions = {} if secret is None else {key: revision_of(secret, key.key)}
    return SecretUsage(
        key=key,
        direction=direction,
        secret=secret,
        workloads=tuple(f"{ref.kind}/{ref.name}" for ref in sorted({pod.workload for pod in pods})),
        pods=len(pods),
        outdated=pod_names(in_state(TokenState.OUTDATED, revisions, pods)),
        uncertain=pod_names(in_state(TokenState.UNCERTAIN, revisions, pods)),
        open=pod_names(pod for pod in pods if key in pod.open_keys),
    )


@dataclass(frozen=True, slots=True)
class KeyUse:
    """How a Pod uses a key: `direction` is `api` or `app`, empty for other uses than as a token.

    `is_open`: as in `SecretUsage`.
    """

    direction: str = ""
    is_open: bool = False


def token_uses(pod: dict[str, Any], secret: str) -> dict[str, KeyUse]:
    """Return the keys of a Secret that a Pod reads or requests; the key is empty if all keys are used.

    Nothing for a malformed Pod.
    """
    try:
        others = {one.key: KeyUse() for one in decode.references(pod) if one.secret == secret}
        tokens = {key: direction for key, direction in _directions([pod]).items() if key.name == secret}
        if not tokens:  # as most Pods of a namespace: whether one is open takes another look at all of its containers
            return others
        namespace = pod["metadata"]["namespace"]
        keys = decode.index(tokens).get(namespace, {})
        usage = decode.pod_usage(pod, keys, Ref(PODS.kind, namespace, pod["metadata"]["name"]), 0)
    except (KeyError, TypeError, AttributeError):
        return {}
    open_keys = usage.open_keys if usage is not None else ()
    return others | {key.key: KeyUse(direction, key in open_keys) for key, direction in tokens.items()}


def _directions(pods: Iterable[dict[str, Any]]) -> dict[SecretKey, str]:
    """Return the keys that Pods read or request as a token, and the direction of each."""
    found: dict[SecretKey, str] = {}
    for pod in pods:
        for variable, read in decode.token_keys(pod):
            found.setdefault(read, DIRECTIONS[variable])
        for variable, name, key in decode.missing_requests(pod):
            requested = SecretKey(pod["metadata"]["namespace"], name, key or names.DAPR_FIXED_KEY)
            found.setdefault(requested, DIRECTIONS[variable])
    return found


async def _read(api: Api, refs: Collection[SecretRef]) -> dict[SecretRef, TokenSecret]:
    """Return Secrets without our label, read by lists of one, because the caller may list Secrets anyway."""
    free = asyncio.Semaphore(_MOST_AT_ONCE)

    async def read(ref: SecretRef) -> list[TokenSecret]:
        async with free:
            selector = ("fieldSelector", f"metadata.name={ref.name}")
            return await api.read_list(SECRETS, ref.namespace, _secret, selectors=(selector,))

    lists = await asyncio.gather(*map(read, refs))
    return {secret.ref: secret for found in lists for secret in found}


_MOST_AT_ONCE: Final = 8


def _secret(text: bytes | bytearray) -> TokenSecret:
    return token_secret(fields.read_secret(text))


def _slim_pod(text: bytes | bytearray, known: dict[bytes, dict[str, Any]]) -> dict[str, Any] | None:
    pod = fields.read_pod(text)
    return None if decode.has_ended(pod) else decode.slim(pod, known)
