"""Rules about annotations: what is written where, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.core import names, spelling
from injector.core.containers import unknown_container, unknown_containers
from injector.core.messages import listed, redact, unrendered
from injector.core.model import Reason, SourceKind
from injector.core.placeholders import has_placeholder
from injector.core.request import ENABLED_MISTAKES, Enabled, enabled, not_on_template, requests_token
from injector.core.secret_names import is_secret_key, is_secret_name
from injector.lint.location import label
from injector.lint.model import Hit, Level, Rule
from injector.lint.rules.examples import DAPR, FOR_WEB, SECRET, WEB, pod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from injector.lint.template import TemplateOwner


def _on_workload(workload: TemplateOwner) -> Iterator[Hit]:
    missing = [
        name
        for name in names.REQUEST_ANNOTATIONS
        if not all(_has(template.raw_annotations.get(name)) for template in workload.templates)
    ]
    for above in workload.above:
        for name in missing:
            if _has(above.annotations.get(name)):
                yield Hit((*above.path, "annotations", name), not_on_template(name, workload.identity.kind))


def _has(value: object) -> bool:
    """True if an annotation has a value: the core trims values and ignores empty ones."""
    return bool(value.strip()) if isinstance(value, str) else value is not None


ANNOTATION_ON_WORKLOAD: Final = Rule(
    id="DTI001",
    name="annotation-on-workload",
    level=Level.ERROR,
    summary="An annotation is on the workload and not on its Pod template.",
    why=(
        "Dapr and this webhook look at Pods. A Pod gets the annotations of the template, "
        "`spec.template.metadata`, and none of those of the Deployment itself, so the annotation does nothing: "
        "the Pod has no sidecar, or the sidecar has no token and serves every client."
    ),
    fix="Move the annotation to `metadata.annotations` of the Pod template.",
    bad="""\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: orders
  annotations:
    dapr.io/api-token-secret: dapr-api-token
spec:
  template:
    metadata:
      annotations:
        dapr.io/enabled: "true"
    spec:
      containers:
        - name: web
          image: example/orders
""",
    good="""\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: orders
spec:
  template:
    metadata:
      annotations:
        dapr.io/enabled: "true"
        dapr.io/api-token-secret: dapr-api-token
        dapr-token-injector/app-containers: web
    spec:
      containers:
        - name: web
          image: example/orders
""",
    workload=_on_workload,
)


def _not_enabled(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        if not requests_token(template.annotations) or has_placeholder(template.annotations.enabled or ""):
            continue
        name = names.API_TOKEN_SECRET if template.annotations.api_token_secret else names.APP_TOKEN_SECRET
        meaning = enabled(template.annotations)
        if meaning is Enabled.ABSENT:
            yield Hit(template.annotation(name), f"a token is requested but {ENABLED_MISTAKES[meaning]}")
        elif meaning is Enabled.UNKNOWN:
            yield Hit(template.annotation(names.ENABLED), ENABLED_MISTAKES[meaning])


NOT_ENABLED: Final = Rule(
    id="DTI002",
    name="not-enabled",
    level=Level.ERROR,
    summary="A token is requested, but the Pod does not use Dapr.",
    why=(
        "Without `dapr.io/enabled` neither Dapr nor this webhook does anything for the Pod. True is `y yes true t "
        "on 1` in any case; every other word counts as false. A plain `false` is taken for a decision and not "
        "reported."
    ),
    fix='Add `dapr.io/enabled: "true"` next to the annotation, with the quotes, or remove the secret annotation.',
    bad=pod(SECRET, FOR_WEB),
    good=pod(DAPR, SECRET, FOR_WEB),
    workload=_not_enabled,
)


def _unquoted(workload: TemplateOwner) -> Iterator[Hit]:
    metadata = [
        *((above.path, above.annotations, above.labels) for above in workload.above),
        *(((*view.path, "metadata"), view.raw_annotations, view.labels) for view in workload.templates),
    ]
    # Objects without Dapr are not this program's business.
    if not any(key.startswith(spelling.PREFIXES) for _, written, _ in metadata for key in written):
        return
    for path, written, labels in metadata:
        for part, values in (("annotations", written), ("labels", labels)):
            for name, value in values.items():
                if value is not None and not isinstance(value, str):
                    what = label(name) if part == "annotations" else f"the label {label(name)}"
                    yield Hit(
                        (*path, part, name),
                        f"{what} is {_type_name(value)} and not text: the API server refuses the object; put it in "
                        "quotes",
                    )


def _type_name(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    return "a number" if isinstance(value, int | float) else "a list or a mapping"


UNQUOTED_ANNOTATION: Final = Rule(
    id="DTI003",
    name="unquoted-annotation",
    level=Level.ERROR,
    summary="An annotation or label is an unquoted boolean or number.",
    why=(
        "Annotations and labels are text, those of Dapr such as `dapr.io/app-port` too. YAML as kubectl reads it takes "
        "`true`, `yes` and `on` for booleans and `8080` for a number unless they are quoted, and the API server "
        "refuses such an object; some tools in between write `True` or drop the annotation instead. It reads a missing "
        "value as an empty text. Checked are the Pod template and the object itself, if either has an annotation of "
        "Dapr."
    ),
    fix='Put the value in quotes: `dapr.io/enabled: "true"`.',
    bad=pod("dapr.io/enabled: yes", "dapr.io/app-port: 8080"),
    good=pod('dapr.io/enabled: "yes"', 'dapr.io/app-port: "8080"'),
    workload=_unquoted,
)


def _problems(workload: TemplateOwner, reason: Reason) -> Iterator[Hit]:
    """Yield the problems that the core would deny for `reason`, with its messages."""
    for template in workload.templates:
        for problem in template.problems:
            if problem.reason is reason:
                yield Hit(template.annotation(problem.annotation), problem.brief)


def _invalid(
    reason: Reason, field: str, is_valid: Callable[[str], bool], what: str
) -> Callable[[TemplateOwner], Iterator[Hit]]:
    """A check of one field of every reference to a Secret, in annotations and in variables."""

    def check(workload: TemplateOwner) -> Iterator[Hit]:
        yield from _problems(workload, reason)
        for _, entry in workload.entries():
            ref = entry.decoded.secret
            if ref is not None and not is_valid(value := getattr(ref, field)):
                path = (*entry.path, "valueFrom", SourceKind.SECRET.value, field)
                yield Hit(path, f"{entry.variable}: {redact(value)} is not {what}{unrendered(value)}")

    return check


BAD_SECRET_NAME: Final = Rule(
    id="DTI004",
    name="bad-secret-name",
    level=Level.ERROR,
    summary="No Secret can have this name.",
    why=(
        "A Secret's name is lower-case letters, digits, `-` and `.`, at most 253 characters, with a letter or "
        "digit first and last. The webhook denies the Pod; without the webhook the API server does, with a "
        "message that names another field. A Secret is always in the Pod's own namespace: `namespace/name` is not a "
        "name."
    ),
    fix=(
        "Write the name of a Secret in the Pod's namespace. If it is a placeholder such as `${SECRET}`, check the "
        "rendered file instead. If a token was pasted here, it was published: replace it."
    ),
    bad=pod(DAPR, "dapr.io/api-token-secret: shared/dapr-token"),
    good=pod(DAPR, SECRET, FOR_WEB),
    workload=_invalid(Reason.INVALID_SECRET_NAME, "name", is_secret_name, "a Secret name"),
)


BAD_SECRET_KEY: Final = Rule(
    id="DTI005",
    name="bad-secret-key",
    level=Level.ERROR,
    summary="No Secret can have this key.",
    why=(
        "A key is letters, digits, `-`, `_` and `.`, at most 253 characters, and neither `.` nor anything that "
        "begins with `..`. The webhook denies the Pod; without it the container never starts."
    ),
    fix=(
        "Write the key as it is under `data` or `stringData` of the Secret. If it is a placeholder such as `${KEY}`, "
        "check the rendered file instead."
    ),
    bad=pod(DAPR, SECRET, "dapr-token-injector/api-token-key: ../token"),
    good=pod(DAPR, SECRET, "dapr-token-injector/api-token-key: api.token", FOR_WEB),
    workload=_invalid(Reason.INVALID_SECRET_KEY, "key", is_secret_key, "a key of a Secret"),
)


def _not_allowed(workload: TemplateOwner) -> Iterator[Hit]:
    yield from _problems(workload, Reason.SECRET_NOT_ALLOWED)
    for template in workload.templates:
        if template.more_problems:
            yield Hit(template.path, f"{template.more_problems} more variables name Secrets that are not on the list")


_POLICY: Final = '# With a policy file that says: allowedSecrets: ["dapr-*"]\n'

SECRET_NOT_ALLOWED: Final = Rule(
    id="DTI006",
    name="secret-not-allowed",
    level=Level.ERROR,
    summary="The policy's list allowedSecrets leaves the Secret out.",
    why=(
        "The owner of the cluster may list the Secrets that Pods may use as tokens. The webhook denies a Pod that "
        "names another, also in a variable that the Pod brought along. Reported only with `--policy-file`."
    ),
    fix="Use a Secret that is on the list, or have the list extended.",
    bad=_POLICY + pod(DAPR, "dapr.io/api-token-secret: payments-database", FOR_WEB),
    good=_POLICY + pod(DAPR, SECRET, FOR_WEB),
    workload=_not_allowed,
)


def _unknown_containers(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        spec = template.pod.spec if template.pod is not None else None
        if template.request is None or spec is None or not template.request.app_containers.from_pod:
            continue
        missing, present = unknown_containers(spec, template.request)
        unknown = [name for name in missing if not has_placeholder(name)]
        known = listed(sorted(label(name) for name in present - {names.SIDECAR}) if unknown else ()) or "none"
        place = template.annotation(names.APP_CONTAINERS)
        for name in unknown[: names.MAX_WARNINGS]:
            yield Hit(place, unknown_container(name, known))
        more = len(unknown) - names.MAX_WARNINGS
        if more > 0:
            yield Hit(place, f"{more} more names that no container has")


UNKNOWN_APP_CONTAINER: Final = Rule(
    id="DTI014",
    name="unknown-app-container",
    level=Level.WARNING,
    summary="dapr-token-injector/app-containers names a container that does not exist.",
    why=(
        "The name is probably misspelt, and the container that was meant gets no token: its calls to Dapr end in "
        "401. If another webhook adds the container, ignore the line with a reason."
    ),
    fix='Write the names as they are under `containers`, separated by commas, or `"*"` for all of them.',
    bad=pod(DAPR, SECRET, "dapr-token-injector/app-containers: wbe"),
    good=pod(DAPR, SECRET, FOR_WEB),
    workload=_unknown_containers,
)


def _malformed(workload: TemplateOwner) -> Iterator[Hit]:
    for template in workload.templates:
        # Custom resources may have templates of another form: only those with annotations of Dapr are checked.
        if template.flaw is not None and any(name in template.raw_annotations for name in names.REQUEST_ANNOTATIONS):
            yield Hit(template.flaw.path, template.flaw.message)


MALFORMED_TEMPLATE: Final = Rule(
    id="DTI016",
    name="malformed-template",
    level=Level.ERROR,
    summary="The Pod template is malformed.",
    why=(
        "`containers` is a list of containers, `env` a list of variables with a `name` that is text. The API "
        "server refuses anything else, and no other rule about containers can be checked."
    ),
    fix="Write the field as Kubernetes' reference has it; quote a name that looks like a number or a boolean.",
    bad=pod(DAPR, containers=f"{WEB}  env:\n    LOG_LEVEL: info\n"),
    good=pod(DAPR, containers=f"{WEB}  env:\n    - name: LOG_LEVEL\n      value: info\n"),
    workload=_malformed,
)

RULES: Final = (
    ANNOTATION_ON_WORKLOAD,
    NOT_ENABLED,
    UNQUOTED_ANNOTATION,
    BAD_SECRET_NAME,
    BAD_SECRET_KEY,
    SECRET_NOT_ALLOWED,
    UNKNOWN_APP_CONTAINER,
    MALFORMED_TEMPLATE,
)
