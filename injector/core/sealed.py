"""Recognize a sealed Pod: its containers read their tokens from a file that an init container wrote once.

The rules are those of docs/decisions/0035-sealed-pods.md, and the same as in the guard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.env import FileRef, env_of
from injector.core.errors import MalformedObjectError
from injector.core.model import Container, PodSpec, Quiet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from injector.core.env import EnvEntry
    from injector.core.model import TokenRef

# The init containers of a sealed Pod, in the order in which they run.
SEAL_NAMES: Final = (names.SEAL_CONTAINER, names.SEAL_CHECK_CONTAINER)
# How they end if they find something wrong, and not because they cannot run.
FOUND_EXIT_CODE: Final = 1


class EmptyDir(Quiet, frozen=True, gc=False):
    """A volume that begins empty with each Pod."""

    medium: str | None = None


class Named(Quiet, frozen=True, gc=False):
    """Anything with a name."""

    name: str = ""


class Volume(Named, frozen=True, gc=False):
    """A volume of a Pod."""

    emptyDir: EmptyDir | None = None  # noqa: N815 - Kubernetes' own spelling


class VolumeMount(Named, frozen=True, gc=False):
    """A volume in a container."""

    mountPath: str = ""  # noqa: N815 - Kubernetes' own spelling
    subPath: str | None = None  # noqa: N815 - Kubernetes' own spelling
    subPathExpr: str | None = None  # noqa: N815 - Kubernetes' own spelling


class EnvFrom(Quiet, frozen=True, gc=False):
    """All keys of an object as variables, each after the prefix."""

    prefix: str | None = None
    secretRef: Named | None = None  # noqa: N815 - Kubernetes' own spelling


class SealableContainer(Container, frozen=True, gc=False):
    """The fields of a container that decide whether a Pod is sealed."""

    args: list[str] | None = None
    volumeMounts: list[VolumeMount] | None = None  # noqa: N815 - Kubernetes' own spelling


class SealableSpec(PodSpec, frozen=True, gc=False):
    """The fields of a Pod that decide whether it is sealed."""

    containers: list[SealableContainer] | None = None  # type: ignore[assignment] # nothing writes the list
    initContainers: list[SealableContainer] | None = None  # type: ignore[assignment] # noqa: N815 - as above
    ephemeralContainers: list[SealableContainer] | None = None  # noqa: N815 - Kubernetes' own spelling
    volumes: list[Volume] | None = None


def file_ref(variable: str) -> FileRef:
    """Return where the containers of a sealed Pod find a variable."""
    return FileRef(names.SEAL_VOLUME, names.SEAL_FILE, variable)


def sealed_tokens(spec: SealableSpec) -> Mapping[str, TokenRef]:
    """Return the Secret and key of each variable that the Pod's seal containers provide; empty if they are not ours.

    Containers before the check container cannot use them: `first_reader` has its end.

    Raises:
        MalformedObjectError: The `env` of a seal container is not a list of variables.
    """
    if not _has_own_volume(spec):
        return {}
    seal, check = _only(spec, names.SEAL_CONTAINER), _only(spec, names.SEAL_CHECK_CONTAINER)
    if seal is None or check is None or seal[0] > check[0]:
        return {}
    tokens = _provided(seal[1])
    return tokens if _checks(check[1], tokens) else {}


@dataclass(frozen=True, slots=True)
class Seal:
    """What containers of a Pod get from its file: `tokens` by key, from the init container at `first_reader` on."""

    tokens: Mapping[str, TokenRef]
    first_reader: int = 0

    def ref(self, file: FileRef | None, init_index: int | None) -> TokenRef | None:
        """Return the Secret and key of a value from a file; None if it may be empty.

        `init_index` is the index of the container that reads it, if it is an init container.
        """
        if file is None or file != file_ref(file.key) or (init_index is not None and init_index < self.first_reader):
            return None
        return self.tokens.get(file.key)


NOT_SEALED: Final = Seal({})


def seal_of(spec: SealableSpec) -> Seal:
    """Return what containers of a Pod get from its file; nothing if an `env` of a seal container is malformed."""
    try:
        return Seal(sealed_tokens(spec), first_reader(spec))
    except MalformedObjectError:
        return NOT_SEALED


def first_reader(spec: SealableSpec) -> int:
    """Return the index of the first init container that runs after the check container; of all, if there is none."""
    check = _only(spec, names.SEAL_CHECK_CONTAINER)
    return 0 if check is None else check[0] + 1


def _every(spec: SealableSpec) -> tuple[SealableContainer, ...]:
    """The containers of all lists, init containers first."""
    return (*(spec.initContainers or ()), *(spec.containers or ()), *(spec.ephemeralContainers or ()))


def _only(spec: SealableSpec, name: str) -> tuple[int, SealableContainer] | None:
    """The init container of a name with its index, if no other container has the name."""
    found = [(index, one) for index, one in enumerate(_every(spec)) if one.name == name]
    return found[0] if len(found) == 1 and found[0][0] < len(spec.initContainers or ()) else None


def _has_own_volume(spec: SealableSpec) -> bool:
    """Whether the volume is in memory, and nothing but the seal container mounts it."""
    volumes = [one for one in spec.volumes or () if one.name == names.SEAL_VOLUME]
    if len(volumes) != 1 or volumes[0].emptyDir is None or volumes[0].emptyDir.medium != _MEMORY:
        return False
    users = [
        (one.name, mount) for one in _every(spec) for mount in one.volumeMounts or () if mount.name == names.SEAL_VOLUME
    ]
    return users == [(names.SEAL_CONTAINER, VolumeMount(names.SEAL_VOLUME, names.SEAL_DIRECTORY))]


_MEMORY: Final = "Memory"


def _provided(seal: SealableContainer) -> Mapping[str, TokenRef]:
    """The tokens that the seal container writes; empty unless it is as we make it."""
    entries = env_of(seal).entries
    tokens = {
        entry.name: entry.secret
        for entry in entries
        if entry.secret is not None and not (entry.optional or entry.is_indirect)
    }
    is_ours = len(tokens) == len(entries) and _runs(seal, names.SEAL_COMMAND, tokens)
    return tokens if is_ours else {}


def _checks(check: SealableContainer, tokens: Mapping[str, TokenRef]) -> bool:
    """Whether the check container fails if one of the variables is empty."""
    env = env_of(check)
    return _runs(check, names.SEAL_CHECK_COMMAND, tokens) and all(_reads(env.get(variable)) for variable in tokens)


def _runs(container: SealableContainer, command: Sequence[str], arguments: Iterable[str]) -> bool:
    """Whether an init container runs exactly this, and ends before the next one starts."""
    is_exact = tuple(container.command or ()) == command and tuple(container.args or ()) == tuple(arguments)
    return is_exact and container.restartPolicy is None


def _reads(entry: EnvEntry | None) -> bool:
    return entry is not None and entry.file == file_ref(entry.name) and not (entry.optional or entry.is_indirect)
