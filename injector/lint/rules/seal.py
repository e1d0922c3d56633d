"""Rules about sealed Pods: docs/decisions/0035-sealed-pods.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from injector.core import names, seal
from injector.core.placeholders import has_placeholder
from injector.core.request import unsealed_requests
from injector.core.sealed import SEAL_NAMES, file_ref
from injector.lint.location import label
from injector.lint.model import Hit, Level, Rule
from injector.lint.rules.examples import DAPR, FOR_WEB, SECRET, pod, reference, variable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from injector.core.model import ListName
    from injector.lint.location import Path
    from injector.lint.template import TemplateOwner, TemplateView, TokenEntry


def _readers(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        request, spec = template.request, template.sealing
        if request is None or spec is None or not (request.seal or template.sealed):
            continue
        state = "the Pod is sealed, but" if template.sealed else "the Pod will not be sealed:"
        for reader in seal.other_readers(spec, request.wanted, _targets(template)):
            shown = replace(reader, name=label(reader.name))
            yield Hit((*template.path, "spec", *_place(reader)), f"{state} {shown.advice}")


def _place(reader: seal.KeyReader) -> Path:
    inside: Path = () if reader.entry is None else (reader.kind.value, reader.entry)
    return (reader.list_name, reader.index, *inside)


def _targets(template: TemplateView) -> Mapping[tuple[ListName, int], frozenset[int]]:
    """The containers that get a token, and the indexes of their entries that do not make another reader."""
    plan = template.plan
    if plan is None:
        return {}
    named = {entry.container for entry in plan.unchanged}
    places = {(change.place.list_name, change.place.index) for change in plan.changes}
    places.update((kept.place.list_name, kept.place.index) for kept in plan.kept)
    found: dict[tuple[ListName, int], frozenset[int]] = {}
    for container in template.containers:
        place: tuple[ListName, int] = ("initContainers" if container.is_init else "containers", int(container.path[-1]))
        if place in places or container.name in named:
            found[place] = frozenset(entry.decoded.index for entry in container.entries)
    return found


_ON: Final = 'dapr-token-injector/seal: "true"'
_OTHER_VARIABLE: Final = variable(reference(), container="web", image="example/orders").replace(
    "DAPR_API_TOKEN", "ORDERS_TOKEN"
)

OTHER_READER: Final = Rule(
    id="DTI035",
    name="other-reader-of-sealed-key",
    level=Level.WARNING,
    summary="A Pod that requests sealing reads the token in another way, too.",
    why=(
        "The containers of a sealed Pod keep the token with which the Pod started. Another variable, an `envFrom`, a "
        "volume, or the same variable in a container that gets no token from the webhook follows the Secret instead: "
        "after the token changed, the two differ and calls end in 401. The webhook therefore does not seal such a Pod "
        "and only warns."
    ),
    fix=(
        "Remove the other reader: list its container in `dapr-token-injector/app-containers`, or the keys that it "
        "needs in place of the whole Secret."
    ),
    bad=pod(DAPR, SECRET, FOR_WEB, _ON, containers=_OTHER_VARIABLE),
    good=pod(DAPR, SECRET, FOR_WEB, _ON),
    workload=_readers,
)


def _not_sealed(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        if not has_placeholder(template.annotations.seal or ""):
            for message in unsealed_requests(template.annotations, template.policy):
                yield Hit(template.annotation(names.SEAL), message)


SEAL_WITHOUT_EFFECT: Final = Rule(
    id="DTI036",
    name="seal-without-effect",
    level=Level.WARNING,
    summary="The annotation dapr-token-injector/seal is neither true nor false, or the policy does not allow it.",
    why=(
        "The Pod gets ordinary references: a container that restarts after the token changed has another token than "
        "its neighbors. True is `y yes true t on 1` and false is `n no false f off 0`, in any case. A policy with "
        "`seal: off` seals no Pod; it is known only with `--policy-file`."
    ),
    fix='Write `"true"` or `"false"`, with the quotes, or remove the annotation.',
    bad=pod(DAPR, SECRET, FOR_WEB, "dapr-token-injector/seal: always"),
    good=pod(DAPR, SECRET, FOR_WEB, _ON),
    workload=_not_sealed,
)


def _broken(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        if template.sealed:
            yield from _unsealed_readers(template)
            continue
        first = next(_parts(template), None)
        if first is not None:
            yield Hit(
                first,
                "the containers and the volume of the seal are not as the webhook makes them, so that a token may be "
                "empty; remove them and let the webhook or inject add them",
            )


def _parts(template: TemplateView) -> Iterator[Path]:
    """Yield what has a name of the seal, and what reads from its file."""
    yield from (container.path for container in template.containers if container.name in SEAL_NAMES)
    for index, volume in enumerate((template.sealing and template.sealing.volumes) or ()):
        if volume.name == names.SEAL_VOLUME:
            yield (*template.path, "spec", "volumes", index)
    yield from (entry.path for _, entry in template.entries() if _is_from_seal(entry))


def _is_from_seal(entry: TokenEntry) -> bool:
    return entry.decoded.file is not None and entry.decoded.file.is_from_seal


def _unsealed_readers(template: TemplateView) -> Iterator[Hit]:
    for container, entry in template.entries():
        if entry.is_last and not entry.is_sealed and _is_from_seal(entry):
            where = f"{entry.variable} of container {label(container.name)}"
            what = "is not in the file of the seal"
            if entry.decoded.file == file_ref(entry.variable) and entry.variable in template.sealed:
                what = f"is read before {names.SEAL_CHECK_CONTAINER} has checked it; move the container"
            yield Hit(entry.path, f"{where} {what}")


_FILE: Final = """\
valueFrom:
  fileKeyRef:
    volumeName: dapr-token-injector-seal
    path: tokens.env
    key: DAPR_API_TOKEN
"""
_SEAL: Final = variable(reference(), container=names.SEAL_CONTAINER, image="example/dapr-token-injector")
_CHECK: Final = variable(_FILE, container=names.SEAL_CHECK_CONTAINER, image="example/dapr-token-injector")
_SEAL_CONTAINERS: Final = f"""\
{_SEAL}\
  command: [dapr-token-injector, seal]
  args: [DAPR_API_TOKEN]
  volumeMounts:
    - name: dapr-token-injector-seal
      mountPath: /dapr-token-injector/seal
{_CHECK}\
  command: [dapr-token-injector, seal, --check]
  args: [DAPR_API_TOKEN]
"""
_VOLUME: Final = """\
  volumes:
    - name: dapr-token-injector-seal
      emptyDir:
        medium: Memory
        sizeLimit: 256Ki
"""
_READERS: Final = variable(_FILE, container="web", image="example/orders") + variable(_FILE)
_SEALED: Final = pod(DAPR, SECRET, FOR_WEB, _ON, init_containers=_SEAL_CONTAINERS, containers=_READERS) + _VOLUME

BROKEN_SEAL: Final = Rule(
    id="DTI037",
    name="broken-seal",
    level=Level.ERROR,
    summary="Parts of a seal are there, but do not make a sealed Pod.",
    why=(
        "In a sealed Pod an init container writes the tokens into a file in memory, and a second one fails if a "
        "variable from it is empty. If one of the two is missing, comes too late, or was changed, or if the volume is "
        "not in memory or mounted elsewhere, `daprd` may start with an empty token, which turns authentication off. "
        "The guard denies such a Pod, and the webhook does not seal it. The image and other variables of the "
        "two containers may be changed."
    ),
    fix=(
        "Remove `dapr-token-injector-seal`, `dapr-token-injector-seal-check`, the volume and the `fileKeyRef` entries, "
        "and let the webhook add them, or `inject` with a policy that has `sealImage`."
    ),
    bad=_SEALED.replace("        medium: Memory\n", ""),
    good=_SEALED,
    workload=_broken,
)

RULES: Final = (OTHER_READER, SEAL_WITHOUT_EFFECT, BROKEN_SEAL)
