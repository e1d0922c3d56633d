"""A Pod template as rules look at it: the core's own view of it next to the plain values of the file.

The core decides about each Pod once, and rules get the result. A template that Kubernetes cannot read has a `flaw` and
no Pod; only the rules about annotations check it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final

import msgspec

from injector.core import names, plan
from injector.core.env import EnvEntry, EnvList, entries_of, env_of, secret_entries
from injector.core.errors import MalformedObjectError
from injector.core.model import Annotations, AppContainers, Container, ObjectMeta, Pod, PodSpec, TokenRef, positions
from injector.core.request import InjectionRequest, RequestError, env_from_secret, parse
from injector.core.seal import SealingSpec
from injector.core.sealed import NOT_SEALED, SEAL_NAMES, Seal, file_ref, seal_of
from injector.lint.values import at, items, mapping, text
from injector.manifests.sealing import sealing_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from injector.core.model import Policy, Problem
    from injector.core.plan import Plan
    from injector.lint.location import Identity, Path
    from injector.manifests.documents import Template


@dataclass(frozen=True, slots=True, repr=False)
class TokenEntry:
    """An entry of an `env` list with a managed name."""

    path: Path
    variable: str
    decoded: EnvEntry
    is_last: bool  # the one that the kubelet uses
    is_sealed: bool  # has a value from the file of a sealed Pod


@dataclass(frozen=True, slots=True, repr=False)
class EnvFromSecret:
    """An entry of an `envFrom` list that references a Secret."""

    path: Path
    secret: str
    prefix: str

    def key_for(self, variable: str) -> TokenRef | None:
        """Return the key that would become a variable; None if the prefix differs."""
        key = variable.removeprefix(self.prefix)
        return TokenRef(self.secret, key) if key and variable == self.prefix + key else None


@dataclass(frozen=True, slots=True, repr=False)
class ContainerView:
    """One container of either list."""

    name: str
    path: Path
    is_init: bool
    env: EnvList
    entries: tuple[TokenEntry, ...]
    env_from: tuple[EnvFromSecret, ...]

    def env_from_keys(self, variable: str) -> tuple[TokenRef, ...]:
        """Return the keys of Secrets that `envFrom` would make a variable of."""
        return tuple(key for source in self.env_from if (key := source.key_for(variable)) is not None)

    @property
    def is_sidecar(self) -> bool:
        """True for the container of Dapr's sidecar."""
        return self.name == names.SIDECAR


@dataclass(frozen=True, slots=True)
class Flaw:
    """The reason why a template is malformed: its path and the expected value."""

    path: Path
    message: str


@dataclass(frozen=True, slots=True, repr=False)
class TemplateView:
    """A Pod, or a Pod template inside a workload."""

    path: Path
    raw_annotations: Mapping[str, object]
    annotations: Annotations
    labels: Mapping[str, object]
    pod: Pod | None
    flaw: Flaw | None
    containers: tuple[ContainerView, ...]
    request: InjectionRequest | None  # None if no token is requested, or the request is not valid
    from_dapr: tuple[tuple[str, TokenRef], ...]  # what dapr.io/env-from-secret sets in daprd
    problems: tuple[Problem, ...]  # why the webhook would deny the Pods; the first ones
    more_problems: int
    token_names: frozenset[TokenRef]  # every key of a Secret that is used as a token
    policy: Policy
    plan: Plan | None  # None if there is no request or no Pod
    sealing: SealingSpec | None  # None if the Pod does not request sealing and has no seal
    sealed: Mapping[str, TokenRef]  # what the Pod's seal provides; empty without one

    def annotation(self, name: str) -> Path:
        """Path of an annotation."""
        return (*self.path, "metadata", "annotations", name)

    def entries(self) -> Iterator[tuple[ContainerView, TokenEntry]]:
        """Yield the entries of all containers, each with its container."""
        return ((container, entry) for container in self.containers for entry in container.entries)

    def planned(self, app_containers: AppContainers) -> Plan | None:
        """Return the webhook's decision if `app_containers` were requested; None if there is no token."""
        requested = self.request.wanted if self.request is not None else ()
        wanted = tuple({**dict(self.from_dapr), **dict(requested)}.items()) or self._from_sidecar()
        if self.pod is None or not wanted:
            return None
        request = InjectionRequest(wanted, app_containers)
        return plan.build(self.pod, request, self.policy, lambda: self.sealing or SealingSpec())

    def _from_sidecar(self) -> tuple[tuple[str, TokenRef], ...]:
        """Return the request that matches the token of a hand-written sidecar, as if an annotation had made it."""
        for container in self.containers:
            entry = container.env.get(names.API_TOKEN_ENV)
            if container.is_sidecar and entry is not None and entry.ref is not None:
                return ((names.API_TOKEN_ENV, entry.ref),)
        return ()


@dataclass(frozen=True, slots=True, repr=False)
class Above:
    """Metadata of an object that encloses a template."""

    path: Path
    annotations: Mapping[str, object]
    labels: Mapping[str, object]


@dataclass(frozen=True, slots=True, repr=False)
class TemplateOwner:
    """An object with Pod templates. A Pod is its own template and has nothing above it."""

    identity: Identity
    above: tuple[Above, ...]
    templates: tuple[TemplateView, ...]

    def entries(self) -> Iterator[tuple[ContainerView, TokenEntry]]:
        """Yield the entries of all templates, each with its container."""
        return chain.from_iterable(view.entries() for view in self.templates)


def workload(
    identity: Identity, value: object, path: Path, templates: Sequence[Template], policy: Policy
) -> TemplateOwner:
    """Look at one object.

    Args:
        identity: What it is called.
        value: Its plain values.
        path: Where it is in its document.
        templates: Its Pod templates.
        policy: What the cluster owner allows and defaults.
    """
    return TemplateOwner(
        identity,
        above=tuple(_above(value, path, [template.path[len(path) :] for template in templates])),
        templates=tuple(_template(template.value, template.path, policy) for template in templates),
    )


def _above(value: object, path: Path, templates: Sequence[Path]) -> Iterator[Above]:
    prefixes: dict[Path, None] = {}
    for template in templates:
        # From the inside out, as far as the way is new: most templates have most of it in common.
        for length in range(len(template) - 1, -1, -1):
            if template[:length] in prefixes:
                break
            prefixes[template[:length]] = None
    for prefix in sorted(prefixes, key=len):
        annotations, labels = (mapping(at(value, (*prefix, "metadata", part))) for part in ("annotations", "labels"))
        if annotations or labels:
            yield Above((*path, *prefix, "metadata"), annotations, labels)


def _template(value: object, path: Path, policy: Policy) -> TemplateView:
    raw = mapping(at(value, ("metadata", "annotations")))
    annotations = _annotations(raw)
    request, problems = _request(annotations, policy)
    pod: Pod | None = None
    flaw: Flaw | None = None
    containers: tuple[ContainerView, ...] = ()
    sealing: SealingSpec | None = None
    seal = NOT_SEALED
    planned: Plan | None = None
    try:
        spec = PodSpec(*(_decoded(at(value, ("spec", name)), (*path, "spec", name)) for name in _LISTS))
        sealing = _sealing(value, spec, request, path)
        seal = NOT_SEALED if sealing is None else seal_of(sealing)
        containers = tuple(_containers(value, spec, path, seal))
        pod = Pod(ObjectMeta(annotations=annotations), spec)
    except _BadShapeError as error:
        flaw = Flaw(error.path, str(error))
    if pod is not None and request is not None:
        planned = plan.build(pod, request, policy, lambda: sealing or SealingSpec())
        problems = planned.problems
    from_dapr = env_from_secret(annotations)
    return TemplateView(
        path=path,
        raw_annotations=raw,
        annotations=annotations,
        labels=mapping(at(value, ("metadata", "labels"))),
        pod=pod,
        flaw=flaw,
        containers=containers,
        request=request,
        from_dapr=from_dapr,
        problems=problems,
        more_problems=planned.more_problems if planned is not None else 0,
        token_names=frozenset((*(ref for _, ref in from_dapr), *_token_names(request, containers))),
        policy=policy,
        plan=planned,
        sealing=sealing,
        sealed=seal.tokens,
    )


def _annotations(raw: Mapping[str, object]) -> Annotations:
    """Return the intended value: an unquoted `true`, which another rule reports, counts as "true"."""
    annotations = {name: _meant(raw[name]) for name in names.REQUEST_ANNOTATIONS if name in raw}
    return msgspec.convert(annotations, Annotations)


def _meant(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None


def _request(annotations: Annotations, policy: Policy) -> tuple[InjectionRequest | None, tuple[Problem, ...]]:
    try:
        return parse(annotations, policy, use_default=False), ()
    except RequestError as error:
        return None, error.problems


def _token_names(request: InjectionRequest | None, containers: Sequence[ContainerView]) -> Iterator[TokenRef]:
    if request is not None:
        yield from (ref for _, ref in request.wanted)
    for container in containers:
        for entry in container.entries:
            if entry.decoded.secret is not None:
                yield entry.decoded.secret


# --- the core's view, made from plain values ---


class _BadShapeError(Exception):
    """The template is malformed; Kubernetes cannot read it either."""

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


_encoder: Final = msgspec.json.Encoder()
_container: Final = msgspec.json.Decoder(Container)
_LISTS: Final = ("containers", "initContainers")


def _decoded(value: object, path: Path) -> list[Container] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise _BadShapeError("not a list of containers", path)
    return [_decoded_container(item, (*path, index)) for index, item in enumerate(value)]


def _decoded_container(value: object, path: Path) -> Container:
    if not isinstance(value, Mapping):
        raise _BadShapeError("not a container", path)
    # Only what the core reads: the rest of a container may be large, and is of no concern.
    read = {key: value[key] for key in ("name", "env", "restartPolicy") if key in value}
    # Templates of other kinds may have an image of another form.
    if isinstance(value.get("image"), str):
        read["image"] = value["image"]
    command = value.get("command")
    if isinstance(command, list) and all(isinstance(word, str) for word in command):
        read["command"] = command
    try:
        container = _container.decode(_encoder.encode(read))
    except msgspec.ValidationError as error:
        raise _BadShapeError("not what Kubernetes wants here", (*path, *_steps(str(error)))) from None
    except (TypeError, ValueError, RecursionError):
        raise _BadShapeError("not what Kubernetes wants here", path) from None
    try:
        env_of(container)
    except MalformedObjectError:
        raise _BadShapeError("not a list of variables", (*path, "env")) from None
    return container


# Where the codec stumbled, at the end of its message: "... - at `$.env[0].name`".
_AT: Final = re.compile(r"- at `\$(?P<path>[^`]*)`$")
_STEP: Final = re.compile(r"\.(?P<member>\w+)|\[(?P<index>\d+)\]")


def _steps(message: str) -> Iterator[str | int]:
    found = _AT.search(message)
    for step in _STEP.finditer(found["path"] if found else ""):
        yield step["member"] if step["index"] is None else int(step["index"])


def _sealing(value: object, spec: PodSpec, request: InjectionRequest | None, path: Path) -> SealingSpec | None:
    """Return the spec with the fields for sealing, if the Pod requests it or has containers of a seal."""
    has_seal = any(container.name in SEAL_NAMES for container in spec.initContainers or ())
    if not has_seal and not (request is not None and request.seal):
        return None
    try:
        sealing = sealing_spec(at(value, ("spec",)))
        for container in (*(sealing.initContainers or ()), *(sealing.containers or ())):
            secret_entries(container)
    except MalformedObjectError:
        raise _BadShapeError("not what Kubernetes wants here", (*path, "spec")) from None
    return sealing


def _containers(value: object, spec: PodSpec, path: Path, seal: Seal) -> Iterator[ContainerView]:
    for list_name, index, container in positions(spec.containers, spec.initContainers):
        here = ("spec", list_name, index)
        plain = mapping(at(value, here))
        env = env_of(container)
        is_init = list_name == "initContainers"
        is_reader = not is_init or index >= seal.first_reader or container.name == names.SEAL_CHECK_CONTAINER
        yield ContainerView(
            name=container.name,
            path=(*path, *here),
            is_init=is_init,
            env=env,
            entries=tuple(_entries(container, env, (*path, *here, "env"), seal.tokens if is_reader else ())),
            env_from=tuple(_env_from(items(plain.get("envFrom")), (*path, *here, "envFrom"))),
        )


def _entries(container: Container, env: EnvList, path: Path, sealed: Collection[str]) -> Iterator[TokenEntry]:
    """Yield every entry with a managed name; `sealed`: the variables that the container can read from a seal."""
    if env.api is None and env.app is None:
        return
    try:
        found = entries_of(container)
    except MalformedObjectError:
        raise _BadShapeError("not a variable", (*path, *_first_malformed(container))) from None
    last = {entry.name: entry.index for entry in found}
    for entry in found:
        is_sealed = entry.name in sealed and entry.file == file_ref(entry.name)
        yield TokenEntry((*path, entry.index), entry.name, entry, last[entry.name] == entry.index, is_sealed)


def _first_malformed(container: Container) -> Iterator[int]:
    """Yield the index of the first malformed entry with a managed name, if there is one."""
    for index, item in enumerate(msgspec.json.decode(container.env)):
        try:
            env_of(Container(env=msgspec.Raw(_encoder.encode([item]))))
        except MalformedObjectError:
            yield index
            return


def _env_from(env_from: Sequence[object], path: Path) -> Iterator[EnvFromSecret]:
    for index, item in enumerate(env_from):
        secret = text(mapping(mapping(item).get("secretRef")).get("name"))
        if secret:
            yield EnvFromSecret((*path, index), secret, text(mapping(item).get("prefix")))
