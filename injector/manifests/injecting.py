"""Evaluates a document's Pod templates with the core, and writes the patch into the document's text.

Each template is evaluated as the review of a new Pod, as the API server would send it; decision and patch are those of
the webhook. jsonpatch applies the patch to the template's value. The edited text is read again and compared with that
value; a difference is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

import msgspec
from jsonpatch import JsonPatch

from injector.core import admit, decision, names, patch, review, spelling
from injector.core.decision import DENIED_WARNING, Deny, Inject
from injector.core.errors import MalformedObjectError, ReviewError
from injector.core.messages import WarningList, redact
from injector.core.model import WORKLOADS, Endpoint, GroupVersionKind, Pod, Reason, Verdict
from injector.manifests.documents import annotations_of, fault_at, value_at
from injector.manifests.edit import Editor
from injector.manifests.errors import ManifestError, TextError
from injector.manifests.layout import reread
from injector.manifests.nodes import copied

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from injector.core.decision import Decision
    from injector.core.model import PatchOp, Policy
    from injector.core.plan import ReadSpec
    from injector.core.seal import SealingSpec
    from injector.manifests.documents import Document, Object, Path, Template
    from injector.manifests.layout import Splice
    from injector.manifests.nodes import Json


@dataclass(frozen=True, slots=True)
class TemplateDecision:
    """The core's decision about one Pod template. `line` is that of the template, from 1."""

    source: str
    document: int
    line: int
    object: str  # "Deployment/web"
    path: Path
    verdict: Verdict
    reason: Reason
    message: str  # of a denial
    warnings: tuple[str, ...]
    operations: tuple[PatchOp, ...]
    has_sidecar: bool


@dataclass(frozen=True, slots=True)
class InjectOptions:
    """How templates are evaluated: the Policy, and the endpoint that their Pods would reach."""

    policy: Policy
    endpoint: Endpoint = Endpoint.MUTATE


def evaluate(document: Document, question: InjectOptions) -> list[TemplateDecision]:
    """The core's decision about each Pod template of a document; empty for a document that has none.

    Raises:
        ManifestError: A template is not shaped as a Pod is.
        PolicyGapError: The endpoint needs a default Secret and the Policy has none.
    """
    findings: list[TemplateDecision] = []
    for each in document.objects():
        advice = ObjectWarnings(each, question)
        for template in each.templates():
            _, decided, _ = decide(document, each, template, question)
            findings.append(found(document, each, template, decided, advice))
    return findings


def decide(
    document: Document, each: Object, template: Template, question: InjectOptions
) -> tuple[Pod, Decision, ReadSpec]:
    """The Pod that a template would make, as the webhook sees it, and the webhook's decision about it.

    The function decodes the Pod's spec with the fields for sealing, as `plan.build` takes it.

    Raises:
        ManifestError: The template is not shaped as a Pod is.
        PolicyGapError: The endpoint needs a default Secret and the Policy has none.
    """
    body = _review({"group": "", "version": "v1", "kind": "Pod"}, template.value, each.namespace)

    def read_spec() -> SealingSpec:
        try:
            return review.sealing_spec(body, question.endpoint)
        except MalformedObjectError as error:
            raise document.error((*template.path, "spec"), str(error)) from None

    try:
        asked = review.decode(body, question.endpoint)
        decided = decision.decide(asked, question.endpoint, question.policy, read_spec)
        decided = admit.fit_annotation_limit(decided, body)
    except ReviewError as error:
        path, message = misshapen(template) or (template.path, str(error))
        raise document.error(path, message) from None
    if not isinstance(asked.request.object, Pod):
        raise TypeError("a review of a Pod holds one")
    return asked.request.object, decided, read_spec


class ObjectWarnings:
    """The webhook's warnings for the author of an object; computed once, however many templates the object has."""

    def __init__(self, each: Object, question: InjectOptions) -> None:
        self._each = each
        self._question = question

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """The warnings; none for kinds that the webhook is not asked about."""
        return _advice(self._each, self._question)

    @cached_property
    def unquoted(self) -> tuple[str, ...]:
        """Warnings about annotations of Dapr that the API server refuses, because they are not text."""
        found = WarningList()
        for path, name, value in _unquoted(self._each):
            if name.startswith(spelling.PREFIXES):
                where = self._each.kind if path == self._each.path else "Pod template"
                found.add(f"{redact(name)} of the {where} is a {_type_name(value)}; put it into quotes")
        return found.result()


def _unquoted(each: Object) -> Iterator[tuple[Path, str, Json]]:
    """The annotations of an object and of its templates that are not text."""
    for path in dict.fromkeys((each.path, *(template.path for template in each.templates()))):
        for name, value in annotations_of(value_at(each.value, path[len(each.path) :])).items():
            if value is not None and not isinstance(value, str):
                yield path, name, value


def _advice(each: Object, question: InjectOptions) -> tuple[str, ...]:
    group, _, version = each.api_version.rpartition("/")
    if GroupVersionKind(group, version, each.kind) not in WORKLOADS:
        return ()
    # The API server refuses an annotation that is not text; the advice is that for the text that was meant.
    value = each.value
    for path, name, meant in list(_unquoted(each)):
        value = copied(value) if value is each.value else value
        annotations_of(value_at(value, path[len(each.path) :]))[name] = msgspec.json.encode(meant).decode()
    body = _review({"group": group, "version": version, "kind": each.kind}, value, each.namespace)
    read_spec = partial(review.sealing_spec, body, Endpoint.WARN)
    try:
        return decision.decide(review.decode(body, Endpoint.WARN), Endpoint.WARN, question.policy, read_spec).warnings
    except ReviewError:
        return ()  # the template's own review has the error


def inject(read: Sequence[Document], findings: Sequence[Sequence[TemplateDecision]]) -> list[Splice]:
    """Return the splices that put the operations of `findings` into the text of a chunk's documents.

    Raises:
        ManifestError: An entry cannot be put where it belongs without changing something else.
    """
    splices = [splice for document, found in zip(read, findings, strict=True) for splice in _splices(document, found)]
    wanted = (patched(document, found) for document, found in zip(read, findings, strict=True))
    if splices and reread(read, splices) != list(wanted):
        first = read[0]
        raise ManifestError(
            first.source,
            first.index,
            first.line,
            "its layout leaves no place for an entry; write the env in block style",
        )
    return splices


def patched(document: Document, findings: Sequence[TemplateDecision]) -> Json:
    """The value of a document with each template's patch applied, as an API server applies the webhook's."""
    if not any(found.operations for found in findings):
        return document.value
    copy: Json = copied(document.value)
    for found in findings:
        JsonPatch(copied(found.operations)).apply(value_at(copy, found.path), in_place=True)
    return copy


def misshapen(template: Template) -> tuple[Path, str] | None:
    """The first place at which a template is not shaped as a Pod is, and what is wrong there; None when it is sound."""
    for name, value in template.annotations.items():
        if name in _READ and value is not None and not isinstance(value, str):
            what = f"the annotation {name} is a {_type_name(value)}; put it into quotes"
            return (*template.path, "metadata", "annotations", name), what
    for path, container in template.containers():
        env = container.get("env")
        if env is not None and not isinstance(env, list):
            return (*path, "env"), "the env of a container is not a list of variables"
    return None


def _type_name(value: Json) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "collection"


_READ: Final = frozenset({*names.REQUEST_ANNOTATIONS, names.STATUS})
# The core wants an identity and never looks at it.
_UID: Final = "offline"


def _review(kind: dict[str, str], value: Json, namespace: str) -> bytes:
    return msgspec.json.encode(
        {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {"uid": _UID, "kind": kind, "operation": "CREATE", "namespace": namespace, "object": value},
        }
    )


def found(
    document: Document, each: Object, template: Template, decided: Decision, advice: ObjectWarnings
) -> TemplateDecision:
    """A decision with everything that is reported about it."""
    own = advice.warnings if template.path != each.path else ()
    warnings = (*advice.unquoted, *own, *decided.warnings)
    hidden = (DENIED_WARNING,) if isinstance(decided, Deny) else ()  # the denial itself is reported
    return TemplateDecision(
        source=document.source,
        document=document.index,
        line=document.position(template.path).line,
        object=str(each),
        path=template.path,
        verdict=admit.VERDICTS[type(decided)],
        reason=decided.reason,
        message=decided.message if isinstance(decided, Deny) else "",
        warnings=tuple(dict.fromkeys(one for one in warnings if not one.startswith(hidden))),
        operations=patch.build(decided.plan) if isinstance(decided, Inject) else (),
        has_sidecar=any(container.get("name") == names.SIDECAR for _, container in template.containers()),
    )


def _steps(operation: PatchOp) -> Path:
    steps = (step.replace("~1", "/").replace("~0", "~") for step in operation.path.split("/")[1:])
    return tuple(int(step) if step.isdecimal() else step for step in steps)


def _splices(document: Document, findings: Sequence[TemplateDecision]) -> list[Splice]:
    editor = Editor(document)
    try:
        for found in findings:
            _edit(editor, found.path, found.operations)
    except TextError as error:
        raise fault_at(document.chunk, document.source, document.index, error) from None
    return editor.splices


def _edit(editor: Editor, template: Path, operations: Sequence[PatchOp]) -> None:
    """One template's operations; what goes to one place of a list, or to new lists of one mapping, goes there together.

    Splices at one place are done in the order of the calls: those in a container before those after it.
    """
    added: dict[Path, dict[tuple[str, int | None], list[Json]]] = {}
    for operation in operations:
        value = copied(operation.value)
        *above, last = _steps(operation)
        if above[0] == "metadata":
            editor.annotate(template, str(last), value)
            continue
        *to_holder, key = (*above, last) if isinstance(last, str) and last != "-" else above
        holder = (*template, *to_holder)
        lists = added.setdefault(holder, {})
        if not isinstance(last, int):
            lists.setdefault((str(key), None), []).extend(value if last == key else [value])
        elif operation.op == "replace":
            editor.replace(holder, _in_text(lists, str(key), last), value)
        else:
            lists.setdefault((str(key), _in_text(lists, str(key), last)), []).append(value)
    for holder, lists in added.items():
        for (key, at), items in lists.items():
            if at is not None:
                editor.insert(holder, key, at, items)
        editor.append(holder, {key: items for (key, at), items in lists.items() if at is None})


def _in_text(lists: Mapping[tuple[str, int | None], Sequence[Json]], key: str, position: int) -> int:
    """Where a position of a list is in the text, which does not have the insertions of earlier operations yet."""
    for (other, at), items in lists.items():
        if other == key and at is not None and at < position:
            position -= len(items)
    return position
