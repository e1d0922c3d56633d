"""Build the additions of a sealed Pod, or find the reason why a Pod cannot be sealed.

The shape is that of docs/decisions/0035-sealed-pods.md; `sealed` recognizes it.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal

from injector.core import names
from injector.core.env import may_read_secret, secret_entries
from injector.core.messages import redact, warning
from injector.core.model import Quantity, Quiet, SourceKind, TokenRef, Value, positions
from injector.core.sealed import SEAL_NAMES, EnvFrom, Named, SealableContainer, SealableSpec, Volume
from injector.core.sidecar import is_daprd

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from injector.core.model import ListName, Policy

    # The containers that get the file, and the indexes of their entries that will read it.
    Targets = Mapping[tuple[ListName, int], Collection[int]]
    FindTargets = Callable[[], Targets]


# --- the fields of a Pod that decide whether it can be sealed ---

NOT_SEALABLE: Final = "a field of the Pod that is to be sealed does not match its kind"


class KeyToPath(Quiet, frozen=True, gc=False):
    """One key of a Secret in a volume."""

    key: str = ""


class SecretFiles(Quiet, frozen=True, gc=False):
    """A Secret in a volume: all its keys, or the listed ones. The two names are those of the two kinds of volumes."""

    name: str | None = None
    secretName: str | None = None  # noqa: N815 - Kubernetes' own spelling
    items: list[KeyToPath] | None = None


class ProjectedSource(Quiet, frozen=True, gc=False):
    """A part of a projected volume."""

    secret: SecretFiles | None = None


class Projected(Quiet, frozen=True, gc=False):
    """A projected volume."""

    sources: list[ProjectedSource] | None = None


class SealingVolume(Volume, frozen=True, gc=False):
    """A volume, with the Secrets in it."""

    secret: SecretFiles | None = None
    projected: Projected | None = None


class Amounts(Quiet, frozen=True, gc=False, rename={"storage": "ephemeral-storage"}):
    """The resources that quotas and LimitRanges demand of every container."""

    cpu: Quantity = None
    memory: Quantity = None
    storage: Quantity = None

    @property
    def given(self) -> Mapping[str, object]:
        """Those that are set, by name."""
        amounts = (("cpu", self.cpu), ("memory", self.memory), ("ephemeral-storage", self.storage))
        return {name: amount for name, amount in amounts if amount is not None}


class Resources(Quiet, frozen=True, gc=False):
    """Limits and requests."""

    limits: Amounts | None = None
    requests: Amounts | None = None


class SealingContainer(SealableContainer, frozen=True, gc=False):
    """A container of a Pod that is to be sealed."""

    envFrom: list[EnvFrom] | None = None  # noqa: N815 - Kubernetes' own spelling
    resources: Resources | None = None


class PodSecurityContext(Quiet, frozen=True, gc=False):
    """The user of the containers that set none."""

    runAsUser: Any = None  # noqa: N815 - Kubernetes' own spelling


class SealingSpec(SealableSpec, frozen=True, gc=False):
    """A Pod that is to be sealed."""

    containers: list[SealingContainer] | None = None  # type: ignore[assignment] # nothing writes the list
    initContainers: list[SealingContainer] | None = None  # type: ignore[assignment] # noqa: N815 - as above
    volumes: list[SealingVolume] | None = None  # type: ignore[assignment] # as above
    os: Named | None = None
    nodeSelector: dict[str, Any] | None = None  # noqa: N815 - Kubernetes' own spelling
    securityContext: PodSecurityContext | None = None  # noqa: N815 - Kubernetes' own spelling
    imagePullSecrets: list[Named] | None = None  # noqa: N815 - Kubernetes' own spelling


# --- the additions ---


class SealPlan(Value, frozen=True, gc=False):
    """The additions of a sealed Pod besides its references.

    The two init containers are inserted at `index` of the Pod's own list. `pull_secrets` are those that the Pod does
    not have. The `has_` facts are whether the Pod has the list: it is absent or null otherwise.
    """

    index: int
    tokens: tuple[tuple[str, TokenRef], ...]
    image: str
    resources: Resources
    overrides_user: bool
    pull_secrets: tuple[str, ...]
    has_volumes: bool
    has_init_containers: bool
    has_pull_secrets: bool

    @property
    def volume(self) -> Mapping[str, object]:
        """The volume with the file."""
        return {"name": names.SEAL_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": names.SEAL_SIZE_LIMIT}}

    @property
    def containers(self) -> tuple[Mapping[str, object], Mapping[str, object]]:
        """The seal container, and the check container after it."""
        mount = {"name": names.SEAL_VOLUME, "mountPath": names.SEAL_DIRECTORY}
        env = [secret_entry(variable, ref) for variable, ref in self.tokens]
        checked = [file_entry(variable) for variable, _ in self.tokens]
        return (
            self._container(names.SEAL_CONTAINER, names.SEAL_COMMAND, env, {"volumeMounts": [mount]}),
            self._container(names.SEAL_CHECK_CONTAINER, names.SEAL_CHECK_COMMAND, checked, {}),
        )

    def _container(
        self, name: str, command: Sequence[str], env: Sequence[object], mounts: Mapping[str, object]
    ) -> Mapping[str, object]:
        parts = (("limits", self.resources.limits), ("requests", self.resources.requests))
        resources = {part: given for part, amounts in parts if amounts is not None and (given := amounts.given)}
        return {
            "name": name,
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": list(command),
            "args": [variable for variable, _ in self.tokens],
            "env": env,
            **mounts,
            **({"resources": resources} if resources else {}),
            "securityContext": _ROOT if self.overrides_user else _RESTRICTED,
        }


# Pod Security `restricted`: https://kubernetes.io/docs/concepts/security/pod-security-standards/
_RESTRICTED: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_ROOT: Final = {**_RESTRICTED, "runAsUser": names.SEAL_USER}


def secret_entry(variable: str, ref: TokenRef) -> Mapping[str, object]:
    """A variable with an ordinary reference."""
    return {"name": variable, "valueFrom": {ref.kind.value: {"name": ref.name, "key": ref.key}}}


def file_entry(variable: str) -> Mapping[str, object]:
    """A variable of a container of a sealed Pod."""
    source = {"volumeName": names.SEAL_VOLUME, "path": names.SEAL_FILE, "key": variable}
    return {"name": variable, "valueFrom": {"fileKeyRef": source}}


def is_usual(spec: SealingSpec) -> bool:
    """Whether a Pod has none of our names, and no other way to read a Secret: as most Pods, with few steps for each.

    Nothing in such a Pod keeps it from being sealed. A Pod that is not usual may be fine, too.
    """
    containers = [*(spec.containers or ()), *(spec.initContainers or ())]
    used: list[str] = []
    for container in containers:
        if container.envFrom:
            return False
        used.append(container.name)
        for mount in container.volumeMounts or ():
            used.append(mount.name)  # noqa: PERF401 - a comprehension costs a call for each container
    for volume in spec.volumes or ():
        if volume.secret is not None or (volume.projected is not None and _has_secret(volume.projected)):
            return False
        used.append(volume.name)
    return _OUR_NAMES.isdisjoint(used) and not may_read_secret(containers)


def _has_secret(volume: Projected) -> bool:
    return any(source.secret is not None for source in volume.sources or ())


_OUR_NAMES: Final = frozenset({*SEAL_NAMES, names.SEAL_VOLUME})


def prepare(
    spec: SealingSpec,
    wanted: tuple[tuple[str, TokenRef], ...],
    find_targets: FindTargets,
    policy: Policy,
) -> SealPlan:
    """The additions that seal a Pod, which has no problem.

    `find_targets` is called if it matters which containers get the file.
    """
    return SealPlan(
        index=_first_target(spec.initContainers, find_targets()) if spec.initContainers else 0,
        tokens=wanted,
        image=policy.seal_image or "",
        resources=_resources(spec.containers or ()),
        overrides_user=spec.securityContext is not None and spec.securityContext.runAsUser == 0,
        pull_secrets=_missing_pull_secrets(spec, policy) if policy.seal_image_pull_secrets else (),
        has_volumes=spec.volumes is not None,
        has_init_containers=spec.initContainers is not None,
        has_pull_secrets=spec.imagePullSecrets is not None,
    )


def _first_target(init: Sequence[SealingContainer], targets: Targets) -> int:
    """The index of the first init container that gets the file, before which it is written; the end, if none does."""
    return min((index for list_name, index in targets if list_name == "initContainers"), default=len(init))


def _missing_pull_secrets(spec: SealingSpec, policy: Policy) -> tuple[str, ...]:
    present = {one.name for one in spec.imagePullSecrets or ()}
    return tuple(name for name in policy.seal_image_pull_secrets if name not in present)


def refusal(problem: str) -> str:
    """The warning for a Pod that cannot be sealed."""
    return warning(f"not sealed: {problem}")


def loophole(reader: KeyReader) -> str:
    """The warning for a Pod that is sealed and has another reader of a key."""
    return warning(f"sealed, but {reader.advice}")


def policy_problem(spec: SealingSpec, wanted: Iterable[tuple[str, TokenRef]], policy: Policy) -> str | None:
    """Why no Pod with this Policy, operating system or kind of source can be sealed; None if it can."""
    if policy.seal_image is None:
        return "the policy has no sealImage; ask the owner of the cluster to set it"
    if (spec.os is not None and spec.os.name == _WINDOWS) or (spec.nodeSelector or {}).get(_OS_LABEL) == _WINDOWS:
        return f'Windows has no env files in memory; set {names.SEAL} to "false"'
    for _, ref in wanted:
        if ref.kind is not _SECRET:
            return "only keys of Secrets can be sealed"
    return None


def pod_problem(spec: SealingSpec, wanted: Iterable[tuple[str, TokenRef]], targets: Targets) -> str | None:
    """What else in the Pod uses our names or reads a wanted key; None if nothing does. A usual Pod has no such problem.

    Raises:
        MalformedObjectError: A container's `env` is not a list of variables.
    """
    taken = _taken_name(spec)
    if taken is not None:
        return taken
    reader = next(other_readers(spec, wanted, targets), None)
    return None if reader is None else reader.advice


_SECRET: Final = SourceKind.SECRET  # looking it up in its class is slow in Python 3.11
_WINDOWS: Final = "windows"
_OS_LABEL: Final = "kubernetes.io/os"


def _taken_name(spec: SealingSpec) -> str | None:
    """The problem of a Pod that uses our names for something that is not our seal."""
    for _, _, container in positions(spec.containers, spec.initContainers):
        if container.name in SEAL_NAMES:
            return f"container {container.name} is not as the webhook makes it; remove or rename it"
        if any(mount.name == names.SEAL_VOLUME for mount in container.volumeMounts or ()):
            return f"remove the mount of {names.SEAL_VOLUME} from container {container.name}"
    if any(volume.name == names.SEAL_VOLUME for volume in spec.volumes or ()):
        return f"volume {names.SEAL_VOLUME} is not as the webhook makes it; remove or rename it"
    return None


# --- other readers of the same keys ---


class ReaderKind(StrEnum):
    """How a Pod reads a key of a Secret."""

    ENTRY = "entry"
    UNLISTED = "unlisted"  # a token variable of a container that is not to get the token
    RENAMED = "renamed"  # the same of a sidecar under another name
    ENV_FROM = "envFrom"
    VOLUME = "volume"


class KeyReader(Value, frozen=True, gc=False):
    """A reader of a requested key that would keep following the Secret while the containers of the Pod do not.

    `index` is that of the container, or of the volume; `entry` that in the container's `env` or `envFrom`.
    """

    kind: ReaderKind
    name: str
    list_name: Literal["containers", "initContainers", "volumes"]
    index: int
    entry: int | None = None

    @property
    def advice(self) -> str:
        """The change to the Pod with which it can be sealed."""
        match self.kind:
            case ReaderKind.ENTRY:
                return f"another entry reads the same key; remove it from container {self.name}"
            case ReaderKind.UNLISTED:
                return f"list in {names.APP_CONTAINERS} the container that reads the key, too: {self.name}"
            case ReaderKind.RENAMED:
                return f"a container that runs {names.SIDECAR} has another name; rename it: {self.name}"
            case ReaderKind.ENV_FROM:
                return f"envFrom reads the same Secret; list single keys in container {self.name}"
            case _:
                return f"a volume has the same key; remove it from volume {redact(self.name)}"


def other_readers(spec: SealingSpec, wanted: Iterable[tuple[str, TokenRef]], targets: Targets) -> Iterator[KeyReader]:
    """Everything in a Pod that reads a requested key, except the entries of `targets` and the seal container.

    Raises:
        MalformedObjectError: A container's `env` is not a list of variables.
    """
    refs = frozenset(ref for _, ref in wanted)
    secrets = {ref.name for ref in refs}
    for list_name, index, container in positions(spec.containers, spec.initContainers):
        if container.name == names.SEAL_CONTAINER:
            continue
        own = targets.get((list_name, index))
        for entry, variable, ref in secret_entries(container):
            if ref in refs and entry not in (own or ()):
                is_unlisted = own is None and variable in names.TOKEN_VARIABLES
                kind = _unlisted(container) if is_unlisted else ReaderKind.ENTRY
                yield KeyReader(kind, container.name, list_name, index, entry)
        for entry, source in enumerate(container.envFrom or ()):
            if source.secretRef is not None and source.secretRef.name in secrets:
                yield KeyReader(ReaderKind.ENV_FROM, container.name, list_name, index, entry)
    for index, volume in enumerate(spec.volumes or ()):
        if (volume.secret is not None or volume.projected is not None) and _has_key(volume, refs):
            yield KeyReader(ReaderKind.VOLUME, volume.name, "volumes", index)


def _unlisted(container: SealingContainer) -> ReaderKind:
    is_sidecar = is_daprd(container.image or "", container.command or ())
    return ReaderKind.RENAMED if is_sidecar else ReaderKind.UNLISTED


def _has_key(volume: SealingVolume, refs: frozenset[TokenRef]) -> bool:
    if volume.secret is not None:
        return _is_file(volume.secret, volume.secret.secretName, refs)
    sources = (source.secret for source in (volume.projected or Projected()).sources or ())
    return any(_is_file(files, files.name, refs) for files in sources if files is not None)


def _is_file(files: SecretFiles, secret: str | None, refs: frozenset[TokenRef]) -> bool:
    """Whether one of the keys is among the files of the Secret: all its keys, or the listed ones."""
    keys = [item.key for item in files.items or ()]
    return any(ref.name == secret and (not keys or ref.key in keys) for ref in refs)


# --- the resources of our containers ---


def _resources(containers: Iterable[SealingContainer]) -> Resources:
    """The requests and limits of the container with the largest memory limit; of equal ones, the first.

    With those of one regular container, no QoS class, quota, LimitRange or effective request changes. A container
    without any is not considered: a quota demands them of all containers or of none.
    """
    given = [one for one in map(_resources_of, containers) if one not in _NOT_GIVEN]
    return max(given, key=_memory_size) if given else _NO_RESOURCES


_resources_of: Final = attrgetter("resources")
_NO_RESOURCES: Final = Resources()
_NO_AMOUNTS: Final = Amounts()
_NOT_GIVEN: Final = (
    None,
    *(Resources(limits, requests) for limits in (None, _NO_AMOUNTS) for requests in (None, _NO_AMOUNTS)),
)


def _memory_size(resources: Resources) -> float:
    """The memory limit in bytes; -1 without a valid one."""
    limits = resources.limits
    return _NO_LIMIT if limits is None or limits.memory is None else quantity(str(limits.memory))


@lru_cache(maxsize=1024)
def quantity(text: str) -> float:
    """The number that a quantity of Kubernetes stands for; -1 if it is none.

    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    found = _QUANTITY.fullmatch(text)
    if found is None:
        return _NO_LIMIT
    number, suffix, exponent = found.groups()
    return float(f"{number}e{exponent}") if exponent else float(number) * _SUFFIXES[suffix or ""]


_NO_LIMIT: Final = -1.0
_QUANTITY: Final = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]{1,3}))?")
_SUFFIXES: Final[Mapping[str, float]] = {
    "": 1,
    **{suffix: 10.0**power for suffix, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)},
    **{f"{suffix}i": 1024.0**power for power, suffix in enumerate("KMGTPE", 1)},
}
