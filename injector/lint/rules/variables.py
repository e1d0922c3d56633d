"""Rules about variables with tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.core import decision, names
from injector.core.env import EntryKind
from injector.core.messages import listed
from injector.core.model import SourceKind
from injector.lint.location import label
from injector.lint.model import Hit, Level, Rule
from injector.lint.rules.examples import DAPR, FOR_WEB, SECRET, WEB, pod, reference, variable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from injector.lint.template import ContainerView, TemplateOwner, TokenEntry


def _of(container: ContainerView, entry: TokenEntry) -> str:
    return f"{entry.variable} of container {label(container.name)}"


def _clear_text(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        for message in decision.clear_text_tokens(template.annotations):
            yield Hit(template.annotation(names.DAPR_ENV), message)
    for container, entry in workload.entries():
        if entry.decoded.kind is EntryKind.LITERAL and not entry.decoded.may_be_empty:
            yield Hit((*entry.path, "value"), f"{_of(container, entry)} is a value in clear text; use a Secret")
        elif entry.decoded.ref is not None and entry.decoded.ref.kind is SourceKind.CONFIG_MAP:
            yield Hit(entry.path, f"{_of(container, entry)} comes from a ConfigMap, which is clear text; use a Secret")


CLEAR_TEXT_TOKEN: Final = Rule(
    id="DTI007",
    name="clear-text-token",
    level=Level.ERROR,
    summary="A token is in a manifest in clear text.",
    why=(
        "Every user who can read the manifest, the Pod, or `dapr.io/env` on it has the token; it is in Git's history, "
        "in backups of etcd and in the output of `kubectl get pod`. It also cannot be rotated without a change of "
        "the manifest. A ConfigMap is no better: its readers are many, and it is not encrypted at rest."
    ),
    fix=(
        "Put a new token into a Secret and name it with `dapr.io/api-token-secret` (or "
        "`dapr.io/app-token-secret`). The old one was published: replace it."
    ),
    bad=pod(DAPR, containers=variable("value: not-a-secret-any-more\n")),
    good=pod(DAPR, SECRET, containers=variable(reference())),
    workload=_clear_text,
)


def _optional(workload: TemplateOwner) -> Iterator[Hit]:
    for container, entry in workload.entries():
        if entry.decoded.optional:
            source = entry.decoded.ref.kind.value if entry.decoded.ref is not None else ""
            yield Hit(
                (*entry.path, "valueFrom", source, "optional"),
                f"{_of(container, entry)} is optional: without the Secret it is silently left out",
            )


OPTIONAL_REFERENCE: Final = Rule(
    id="DTI008",
    name="optional-reference",
    level=Level.ERROR,
    summary="The reference to the token is `optional: true`.",
    why=(
        "If the Secret or its key is missing, the container starts without the variable. For `daprd` an absent "
        "token means that authentication is off: every client in the network can call it. Nothing reports this."
    ),
    fix="Remove `optional`. Without the Secret the container then waits, and starts by itself when the Secret appears.",
    bad=pod(DAPR, SECRET, containers=variable(reference(more="optional: true\n"))),
    good=pod(DAPR, SECRET, containers=variable(reference())),
    workload=_optional,
)


def _empty(workload: TemplateOwner) -> Iterator[Hit]:
    for container, entry in workload.entries():
        decoded = entry.decoded
        may_be_empty = decoded.may_be_empty and not entry.is_sealed
        if entry.is_last and (decoded.kind is EntryKind.EMPTY or may_be_empty):
            is_guard = container.is_sidecar and entry.variable == names.API_TOKEN_ENV
            what = "which turns authentication off" if is_guard else "which is not a valid token"
            how = "may expand to an empty token" if decoded.is_indirect or decoded.may_be_empty else "is empty"
            yield Hit(entry.path, f"{_of(container, entry)} {how}, {what}")


EMPTY_TOKEN: Final = Rule(
    id="DTI009",
    name="empty-token",
    level=Level.ERROR,
    summary="A token variable is empty, or may expand to an empty value.",
    why=(
        "`daprd` takes an empty token for none and serves without authentication. An app with an empty token "
        "sends none, and its calls end in 401. A value such as `$(NAME)` is empty if NAME is; if no earlier entry sets "
        "NAME, `envFrom` may. The value of an annotation or label (`fieldRef`) is empty if it does not exist, and that "
        "of a file (`fileKeyRef`) in a kubelet that does not know such sources, unless the Pod is sealed."
    ),
    fix="Remove the entry and let the webhook add the reference, or write a `secretKeyRef`.",
    bad=pod(DAPR, SECRET, containers=variable('value: ""\n')),
    good=pod(DAPR, SECRET, containers=variable(reference())),
    workload=_empty,
)


def _env_from(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        keys: dict[str, list[str]] = {}
        for ref in sorted(template.token_names, key=lambda ref: (ref.name, ref.key)):
            keys.setdefault(ref.name, []).append(ref.key)
        for container in template.containers:
            for source in container.env_from:
                found = keys.get(source.secret)
                read = tuple(key for variable in names.TOKEN_VARIABLES if (key := source.key_for(variable)) is not None)
                if found is None or container.entries or not template.token_names.isdisjoint(read):
                    continue
                given = listed([label(source.prefix + key) for key in found[:_MOST_KEYS]])
                more = f" and {len(found) - _MOST_KEYS} more" if len(found) > _MOST_KEYS else ""
                yield Hit(
                    (*source.path, "secretRef"),
                    f"envFrom gives container {label(container.name)} the token as {given}{more}, "
                    f"which neither daprd nor an SDK reads; they read {names.API_TOKEN_ENV}",
                    unless=read,
                )


_MOST_KEYS: Final = 5


TOKEN_BY_ENV_FROM: Final = Rule(
    id="DTI010",
    name="token-by-env-from",
    level=Level.WARNING,
    summary="`envFrom` takes the token's Secret, under a name that no program reads.",
    why=(
        "`envFrom` names variables after the Secret's keys, so the key `token` becomes a variable `token`. "
        "`daprd` and Dapr's SDKs read `DAPR_API_TOKEN`: the token is in the container and is not used."
    ),
    fix=(
        "Name the container in `dapr-token-injector/app-containers`, or write a variable `DAPR_API_TOKEN` with a "
        "`secretKeyRef`, and remove the `envFrom`."
    ),
    bad=pod(
        DAPR,
        SECRET,
        FOR_WEB.replace("web", '""'),
        containers=f"{WEB}  envFrom:\n    - secretRef:\n        name: dapr-api-token\n",
    ),
    good=pod(DAPR, SECRET, FOR_WEB),
    workload=_env_from,
)


def _duplicate(workload: TemplateOwner) -> Iterator[Hit]:
    for container, entry in workload.entries():
        if entry.is_last and (last := container.env.get(entry.variable)) is not None and last.copies > 1:
            yield Hit(entry.path, f"{_of(container, entry)} is there {last.copies} times; this one, the last, counts")


DUPLICATE_VARIABLE: Final = Rule(
    id="DTI011",
    name="duplicate-variable",
    level=Level.WARNING,
    summary="A token variable is set several times in one container.",
    why=(
        "Kubernetes uses the last entry of a name. Which one that is changes with every tool that merges lists, "
        "and the API server says so in a warning at most."
    ),
    fix="Keep one entry.",
    bad=pod(DAPR, SECRET, containers=variable(reference("old-token"), reference())),
    good=pod(DAPR, SECRET, containers=variable(reference())),
    workload=_duplicate,
)


def _after_use(workload: TemplateOwner) -> Iterator[Hit]:
    for container, entry in workload.entries():
        use = container.env.first_use(entry.variable)
        if entry.is_last and use is not None:
            yield Hit(
                (*container.path, "env", use),
                f"this entry of container {label(container.name)} refers to {entry.variable}, which a later entry "
                "sets: Kubernetes does not expand it",
            )


_HEADERS: Final = """\
    - name: OTEL_EXPORTER_OTLP_HEADERS
      value: dapr-api-token=$(DAPR_API_TOKEN)
"""
_LATE: Final = variable(reference())

VARIABLE_AFTER_USE: Final = Rule(
    id="DTI031",
    name="variable-after-use",
    level=Level.ERROR,
    summary="An entry refers to a token variable that a later entry sets.",
    why=(
        "Kubernetes expands `$(NAME)` only if an earlier entry of the container, or `envFrom`, sets NAME. Otherwise "
        "the process gets the text `$(NAME)` itself, and a call that sends it as the token ends in 401. The webhook "
        "and `inject` add a variable before its first use; they do not move an entry that is already in the list."
    ),
    fix="Move the entry that sets the variable up, or remove it and let the webhook add it.",
    bad=pod(DAPR, SECRET, containers=_LATE.replace("  env:\n", f"  env:\n{_HEADERS}")),
    good=pod(DAPR, SECRET, containers=_LATE + _HEADERS),
    workload=_after_use,
)

RULES: Final = (
    CLEAR_TEXT_TOKEN,
    OPTIONAL_REFERENCE,
    EMPTY_TOKEN,
    TOKEN_BY_ENV_FROM,
    DUPLICATE_VARIABLE,
    VARIABLE_AFTER_USE,
)
