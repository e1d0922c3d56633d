"""Which containers of a Pod the plan is about: its sidecars, and the app containers that get the tokens, too."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.env import EnvList, env_of
from injector.core.messages import WarningList, redact
from injector.core.model import Value, positions
from injector.core.sidecar import is_daprd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from injector.core.model import Container, ListName, PodSpec, Policy
    from injector.core.request import InjectionRequest


class Target(StrEnum):
    """The role of a container."""

    SIDECAR = "sidecar"
    APP = "app"


class Place(Value, frozen=True, gc=False):
    """A container's position in the Pod, and its managed variables."""

    target: Target
    list_name: ListName
    index: int
    container: str
    env: EnvList


# Looking up an enum member in its class is slow in Python 3.11.
_SIDECAR: Final = Target.SIDECAR
_APP: Final = Target.APP


def renamed_sidecars(spec: PodSpec) -> list[Place]:
    """The containers that run daprd under another name than Dapr's. They are neither sidecars nor apps to any rule."""
    return [
        Place(_SIDECAR, list_name, i, container.name, env_of(container))
        for list_name, i, container in positions(spec.containers, spec.initContainers)
        if container.name != names.SIDECAR and _runs_daprd(container)
    ]


def _runs_daprd(container: Container) -> bool:
    return is_daprd(container.image or "", container.command or ())


def places_of(spec: PodSpec, request: InjectionRequest, policy: Policy, renamed: list[Place]) -> list[Place]:
    """The sidecars, then the selected app containers, in one pass: a Pod may have thousands of containers.

    The containers that run daprd under another name are added to `renamed`.
    """
    named = frozenset(request.app_containers.names)
    every = request.app_containers.every
    sidecars: list[Place] = []
    apps: list[Place] = []
    sidecar_serves = False  # while the init containers that follow run
    for list_name, i, container in positions(spec.containers, spec.initContainers):
        name = container.name
        if name == names.SIDECAR:
            sidecars.append(Place(_SIDECAR, list_name, i, name, env_of(container)))
            # A native one: https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
            if list_name == "initContainers" and container.restartPolicy == "Always":
                sidecar_serves = True
        elif _runs_daprd(container):
            renamed.append(Place(_SIDECAR, list_name, i, name, env_of(container)))
        elif name in named or (every and _is_selected(container, list_name, policy, sidecar_serves)):
            apps.append(Place(_APP, list_name, i, name, env_of(container)))
    return sidecars + apps


RENAMED_WITHOUT_TOKEN: Final = f" runs {names.SIDECAR} and has no token; name it {names.SIDECAR}"


def notes_of(spec: PodSpec, request: InjectionRequest, renamed: Sequence[Place]) -> WarningList | None:
    """Warnings about containers of this Pod; None if there are none."""
    warnings = WarningList()
    if request.app_containers.from_pod:
        _add_unknown_containers(spec, request, warnings)
    for place in renamed:
        if place.env.api is None:
            warnings.add("container ", place.container, RENAMED_WITHOUT_TOKEN)
    return warnings if warnings.lines else None


def _add_unknown_containers(spec: PodSpec, request: InjectionRequest, warnings: WarningList) -> None:
    """Add warnings for names in the Pod's annotation that match no container."""
    unknown, present = unknown_containers(spec, request)
    if not unknown:
        return
    # A warning shows only the beginning of this list; each name adds at least a comma and a space.
    there = ", ".join(sorted(present - {names.SIDECAR})[: names.MAX_WARNING // 2])[: names.MAX_WARNING]
    for name in unknown[: names.MAX_WARNINGS]:
        warnings.add(unknown_container(name, there))
    warnings.more = len(unknown) - len(warnings.lines)


def unknown_containers(spec: PodSpec, request: InjectionRequest) -> tuple[list[str], set[str]]:
    """The names in the request that match no container, and the names of all containers."""
    present = {container.name for _, _, container in positions(spec.containers, spec.initContainers)}
    unknown = [name for name in request.app_containers.names if name not in present and name != names.SIDECAR]
    return unknown, present


def unknown_container(name: str, present: str) -> str:
    """The message about a name that matches no container; `present` lists the names that the Pod has."""
    return f"no container is named {redact(name)}; the Pod has: {present}"


def _is_selected(container: Container, list_name: ListName, policy: Policy, sidecar_serves: bool) -> bool:  # noqa: FBT001 - positional for speed: called for each container
    """Whether `*` selects the container: daprd serves while it runs, and the Policy does not exclude it."""
    if container.name in policy.infrastructure_containers:
        return False
    # An init container that precedes a native daprd, or runs in a Pod without one, ends before daprd serves.
    return list_name == "containers" or container.restartPolicy == "Always" or sidecar_serves
