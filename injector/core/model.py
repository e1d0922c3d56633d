"""Types that several modules share: the decoded request, the Policy, the reasons of decisions, and the response.

The structs decode only the fields that a rule reads. All other fields of a Pod are skipped, and they are preserved
because patches name positions in the request's own JSON. Lists of variables stay raw bytes until a rule needs them.
Field names are those of Kubernetes, so that the JSON schema of these types is the wire format.

A literal value of a variable is never stored, only whether there is one. Structs that may contain users' data do not
show it in their repr.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

from injector.core import names
from injector.core.depth import decode_any_depth
from injector.core.errors import MalformedObjectError


class Reason(StrEnum):
    """The reason of a decision: stable words, the same in logs, metrics, responses, audit annotations and docs."""

    # Inject
    INJECTED = "injected"
    # Skip, because the object is not a Pod that requests a token
    NOT_A_POD = "not-a-pod"
    NOT_A_WORKLOAD = "not-a-workload"
    NOT_A_CREATE = "not-a-create"
    DAPR_NOT_ENABLED = "dapr-not-enabled"
    NO_TOKEN_REQUESTED = "no-token-requested"
    # Skip, because there is nothing to change
    NO_SIDECAR = "no-sidecar"
    UP_TO_DATE = "up-to-date"
    KEPT = "kept"
    # Skip, because a workload only gets warnings
    REVIEWED = "reviewed"
    # Skip in shadow mode
    WOULD_INJECT = "would-inject"
    WOULD_DENY = "would-deny"
    # Deny
    INVALID_SECRET_NAME = "invalid-secret-name"
    INVALID_SECRET_KEY = "invalid-secret-key"
    SECRET_NOT_ALLOWED = "secret-not-allowed"
    TOO_MANY_CONTAINERS = "too-many-containers"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of an annotation or field: `message` has the problem and what is allowed; `brief` fits a warning."""

    annotation: str
    reason: Reason
    message: str
    brief: str


class Verdict(StrEnum):
    """The names of the three decisions in logs and metrics."""

    INJECT = "inject"
    SKIP = "skip"
    DENY = "deny"


class Endpoint(StrEnum):
    """The path of a review; each path is a separate entry in the webhook configurations."""

    MUTATE = names.MUTATE_PATH
    MUTATE_DEFAULT = names.MUTATE_DEFAULT_PATH
    WARN = names.WARN_PATH


class Conflict(StrEnum):
    """The treatment of an existing variable with the same name."""

    KEEP = "keep"
    REPLACE = "replace"


class SourceKind(StrEnum):
    """The two sources of a variable that have the same value in every container of a Pod."""

    SECRET = "secretKeyRef"
    CONFIG_MAP = "configMapKeyRef"


class Value(Struct, frozen=True, gc=False):
    """A plain immutable value: cheap to create, compare and hash, because every review creates several."""


class TokenRef(Value, frozen=True, gc=False):
    """The location of a token: name of an object in the Pod's namespace, and key. Never the value of a token."""

    name: str
    key: str
    kind: SourceKind = SourceKind.SECRET


class AppContainers(Value, frozen=True, gc=False):
    """The app containers that get the tokens: the named ones, and all but infrastructure containers with `every`."""

    names: tuple[str, ...] = ()
    every: bool = False
    # Names from a Pod's annotation are checked against its containers; a default of the Policy applies to many Pods.
    from_pod: bool = True


NO_APP_CONTAINERS: Final = AppContainers(from_pod=False)


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules and defaults of the cluster owner. `config.policy.load_policy` reads them from a YAML file."""

    default_secret: str | None = None
    allowed_secrets: tuple[str, ...] = ()  # shell-style globs; empty allows every name
    default_api_key: str = names.DAPR_FIXED_KEY
    default_app_key: str = names.DAPR_FIXED_KEY
    default_app_containers: AppContainers = NO_APP_CONTAINERS
    infrastructure_containers: frozenset[str] = frozenset(names.INFRASTRUCTURE_CONTAINERS)
    conflict: Conflict = Conflict.KEEP
    shadow: bool = False


# --- request ---


class Quiet(Struct, frozen=True, gc=False):
    """A decoded object whose repr shows no data of the request."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class GroupVersionKind(Quiet, frozen=True, gc=False):
    """Kind of the object under review."""

    group: str = ""
    version: str = ""
    kind: str = ""


class OwnerReference(Quiet, frozen=True, gc=False):
    """The owner of the object."""

    kind: str = ""
    name: str = ""
    controller: bool | None = None


class Annotations(Quiet, frozen=True, gc=False):
    """The annotations that a rule reads; all others are skipped while decoding. Null and absent are equal."""

    enabled: str | None = msgspec.field(default=None, name=names.ENABLED)
    api_token_secret: str | None = msgspec.field(default=None, name=names.API_TOKEN_SECRET)
    app_token_secret: str | None = msgspec.field(default=None, name=names.APP_TOKEN_SECRET)
    api_token_key: str | None = msgspec.field(default=None, name=names.API_TOKEN_KEY)
    app_token_key: str | None = msgspec.field(default=None, name=names.APP_TOKEN_KEY)
    app_containers: str | None = msgspec.field(default=None, name=names.APP_CONTAINERS)
    dapr_env: str | None = msgspec.field(default=None, name=names.DAPR_ENV)
    status: str | None = msgspec.field(default=None, name=names.STATUS)


class NamedMeta(Quiet, frozen=True, gc=False):
    """Names of an object under review and of its owners."""

    name: str | None = None
    generateName: str | None = None  # noqa: N815 - Kubernetes' own spelling
    ownerReferences: list[OwnerReference] | None = None  # noqa: N815 - Kubernetes' own spelling


class ObjectMeta(NamedMeta, frozen=True, gc=False):
    """Metadata of a Pod."""

    annotations: Annotations | None = None


class WorkloadMeta(NamedMeta, frozen=True, gc=False):
    """Metadata of a workload or its template, with all annotations: an unknown one gets a warning."""

    annotations: dict[str, Any] | None = None

    @property
    def read(self) -> Annotations:
        """The annotations that a rule reads.

        Raises:
            MalformedObjectError: One of them is not text.
        """
        try:
            return msgspec.convert(self.annotations or {}, Annotations)
        except msgspec.ValidationError:
            raise MalformedObjectError("an annotation is not text") from None


class Container(Quiet, frozen=True, gc=False):
    """A container of either list."""

    name: str = ""
    # Empty if absent. A factory, because the JSON schema of /openapi.json cannot contain a Raw as a default value.
    env: Raw = msgspec.field(default_factory=Raw)
    restartPolicy: str | None = None  # noqa: N815 - Kubernetes' own spelling


class PodSpec(Quiet, frozen=True, gc=False):
    """The two lists that can contain a sidecar."""

    containers: list[Container] | None = None
    initContainers: list[Container] | None = None  # noqa: N815 - Kubernetes' own spelling


class Pod(Quiet, frozen=True, gc=False):
    """A Pod."""

    metadata: ObjectMeta | None = None
    spec: PodSpec | None = None


class PodTemplate(Quiet, frozen=True, gc=False):
    """A Pod template of a workload."""

    metadata: WorkloadMeta | None = None
    spec: PodSpec | None = None

    @property
    def pod(self) -> Pod:
        """A Pod made from it."""
        return Pod(ObjectMeta(annotations=self.metadata.read) if self.metadata else None, self.spec)


class JobTemplate(Quiet, frozen=True, gc=False):
    """The middle layer of a CronJob."""

    spec: WorkloadSpec | None = None


class WorkloadSpec(Quiet, frozen=True, gc=False):
    """The part of a workload that contains its Pod template."""

    template: PodTemplate | None = None
    jobTemplate: JobTemplate | None = None  # noqa: N815 - Kubernetes' own spelling


class Workload(Quiet, frozen=True, gc=False):
    """An object that creates Pods: Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob."""

    metadata: WorkloadMeta | None = None
    spec: WorkloadSpec | None = None

    @property
    def template(self) -> PodTemplate | None:
        """The Pod template; its position depends on the kind."""
        spec = self.spec
        if spec is not None and spec.jobTemplate is not None:
            spec = spec.jobTemplate.spec
        return None if spec is None else spec.template


ObjectT = TypeVar("ObjectT")


POD: Final = GroupVersionKind("", "v1", "Pod")
WORKLOADS: Final = frozenset(
    {
        *(GroupVersionKind("apps", "v1", kind) for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")),
        *(GroupVersionKind("batch", "v1", kind) for kind in ("Job", "CronJob")),
    }
)


class Question(Quiet, frozen=True, gc=False):
    """The fields of a request besides its object."""

    uid: Annotated[str, Meta(min_length=1)]
    kind: GroupVersionKind
    operation: str
    subResource: str | None = None  # noqa: N815 - Kubernetes' own spelling
    namespace: str | None = None


class AdmissionRequest(Question, Generic[ObjectT], frozen=True, gc=False):
    """A request whose `object` is a Pod or a Workload."""

    object: ObjectT | None = None


class OpaqueRequest(Question, frozen=True, gc=False):
    """A request whose object is not decoded."""

    @property
    def object(self) -> None:
        """Always None."""


class AdmissionReview(Quiet, Generic[ObjectT], frozen=True, gc=False):
    """An `admission.k8s.io` review as the API server sends it."""

    apiVersion: Literal["admission.k8s.io/v1", "admission.k8s.io/v1beta1"]  # noqa: N815 - Kubernetes' own spelling
    kind: Literal["AdmissionReview"]
    request: AdmissionRequest[ObjectT]


class OpaqueReview(Quiet, frozen=True, gc=False):
    """A review of an object of another kind."""

    apiVersion: Literal["admission.k8s.io/v1", "admission.k8s.io/v1beta1"]  # noqa: N815 - Kubernetes' own spelling
    kind: Literal["AdmissionReview"]
    request: OpaqueRequest


PodReview = AdmissionReview[Pod]
WorkloadReview = AdmissionReview[Workload]
Review = PodReview | WorkloadReview | OpaqueReview


# --- variables of one container, decoded when a rule needs them ---


class EntryKind(StrEnum):
    """The content of an entry of an `env` list."""

    EMPTY = "empty"  # neither value nor source: daprd then disables authentication
    LITERAL = "literal"
    REFERENCE = "reference"


class EnvEntry(Value, frozen=True, gc=False):
    """The last entry of a name in an `env` list, which is the one that the kubelet uses.

    `ref` is None for a literal and for sources that cannot be repeated in another container; `copies` is the number of
    entries with the name.
    """

    index: int
    name: str
    kind: EntryKind
    ref: TokenRef | None = None
    optional: bool = False
    copies: int = 1


class EnvList(Value, frozen=True, gc=False):
    """The entries of one container with our names; `exists` is false for an absent or null list."""

    exists: bool
    api: EnvEntry | None = None
    app: EnvEntry | None = None

    def get(self, variable: str) -> EnvEntry | None:
        """The effective entry of a variable, if it exists."""
        return self.api if variable == names.API_TOKEN_ENV else self.app


class _EnvName(Struct, frozen=True, gc=False):
    name: str = ""


class _EnvVar(Quiet, frozen=True, gc=False):
    value: Raw = Raw()
    valueFrom: dict[str, Raw] | None = None  # noqa: N815 - Kubernetes' own spelling


class _Selector(Quiet, frozen=True, gc=False):
    name: str = ""
    key: str = ""
    optional: bool | None = None


class _AnySource(Quiet, frozen=True, gc=False):
    optional: bool | None = None


_REPEATABLE: Final[Mapping[str, SourceKind]] = {kind.value: kind for kind in SourceKind}
# A managed name contains these bytes literally, or has letters written as \\u escapes: a list with neither has no such
# name.
_MANAGED_END: Final = b"_API_TOKEN"
_ESCAPE: Final = b"\\"
_UNICODE_ESCAPE: Final = b"\\u"
_NOT_A_LIST: Final = "the env of a container is not a list of variables"
_NULL: Final = (b"", b"null")
_EMPTY_STRING: Final = (*_NULL, b'""')

_env_names = msgspec.json.Decoder(list[_EnvName])
_env_vars = msgspec.json.Decoder(list[Raw])
_env_var = msgspec.json.Decoder(_EnvVar)
_selector = msgspec.json.Decoder(_Selector)
_any_source = msgspec.json.Decoder(_AnySource)


def env_of(container: Container) -> EnvList:
    """The managed variables of `container`.

    Raises:
        MalformedObjectError: `env` is not a list of variables.
    """
    raw = bytes(container.env)
    if raw in _NULL:
        return _NO_LIST
    if not raw.startswith(b"["):
        raise MalformedObjectError(_NOT_A_LIST)
    # Searching from the right, and for a single byte, is several times faster than searching a word from the left.
    if raw.rfind(_MANAGED_END) < 0 and (_ESCAPE not in raw or _UNICODE_ESCAPE not in raw):
        return _NO_ENTRY
    try:
        return decode_any_depth(_managed, raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The codec's own message may contain parts of a value.
        raise MalformedObjectError(_NOT_A_LIST) from None


def _managed(raw: bytes | bytearray) -> EnvList:
    found = [entry.name for entry in _env_names.decode(raw)]
    entries = _env_vars.decode(raw)
    return EnvList(True, _last(names.API_TOKEN_ENV, found, entries), _last(names.APP_TOKEN_ENV, found, entries))


def _last(name: str, found: Sequence[str], entries: Sequence[Raw]) -> EnvEntry | None:
    copies = found.count(name)
    if not copies:
        return None
    index = len(found) - 1 - found[::-1].index(name)
    variable = _env_var.decode(entries[index])
    sources = {kind: raw for kind, raw in (variable.valueFrom or {}).items() if bytes(raw) not in _NULL}
    if sources:
        return _reference(index, name, copies, sources)
    kind = EntryKind.EMPTY if bytes(variable.value) in _EMPTY_STRING else EntryKind.LITERAL
    return EnvEntry(index, name, kind, copies=copies)


def _reference(index: int, name: str, copies: int, sources: dict[str, Raw]) -> EnvEntry:
    ref: TokenRef | None = None
    optional = False
    for kind, raw in sources.items():
        if kind in _REPEATABLE:
            selector = _selector.decode(raw)
            optional = optional or bool(selector.optional)
            # Kubernetes rejects two sources; the result must not depend on their order.
            ref = TokenRef(selector.name, selector.key, _REPEATABLE[kind]) if len(sources) == 1 else None
        else:
            optional = optional or _fails_open(raw)
    return EnvEntry(index, name, EntryKind.REFERENCE, ref, optional, copies)


def _fails_open(source: Raw) -> bool:
    """Whether a source of another kind is optional; kinds of future releases may have any shape."""
    try:
        return bool(_any_source.decode(source).optional)
    except msgspec.ValidationError:
        return False


_NO_LIST: Final = EnvList(exists=False)
_NO_ENTRY: Final = EnvList(exists=True)


# --- the record in the status annotation of a Pod ---


class Injected(Quiet, frozen=True, gc=False, omit_defaults=True):
    """One variable that was set in one container; `replaced` if it took the place of an existing entry."""

    container: str
    env: str
    name: str
    key: str
    source: SourceKind = SourceKind.SECRET
    replaced: bool = False


class StatusRecord(Quiet, frozen=True, gc=False):
    """The value of the status annotation: the changes, for `uninject`. Never an input of a decision."""

    v: Literal[1]
    injected: tuple[Injected, ...]


_status = msgspec.json.Decoder(StatusRecord)


def read_status(text: str | None) -> tuple[Injected, ...]:
    """The record of an earlier round; empty if the text is absent or not a valid record."""
    if not text or len(text) > names.MAX_ANNOTATIONS:
        return ()
    try:
        return decode_any_depth(_status.decode, text.encode(errors="replace")).injected
    except (msgspec.DecodeError, RecursionError):
        return ()


def write_status(injected: tuple[Injected, ...]) -> str:
    """The value of the annotation: compact JSON in a fixed order."""
    return msgspec.json.encode(StatusRecord(1, injected)).decode()


# --- response ---


class PatchOp(Struct, frozen=True, gc=False):
    """One RFC 6902 operation: https://www.rfc-editor.org/rfc/rfc6902."""

    op: Literal["add", "replace"]
    path: str
    value: object


class Status(Struct, frozen=True, gc=False):
    """The fields of `metav1.Status` that a denial needs."""

    message: str
    reason: str
    code: int


class AdmissionResponse(Struct, frozen=True, gc=False, omit_defaults=True):
    """The response; `patch` is base64 on the wire."""

    uid: str
    allowed: bool
    patchType: Literal["JSONPatch"] | None = None  # noqa: N815 - Kubernetes' own spelling
    patch: bytes | None = None
    warnings: tuple[str, ...] = ()
    auditAnnotations: dict[str, str] = {}  # noqa: N815 - Kubernetes' own spelling
    status: Status | None = None


class AnsweredReview(Struct, frozen=True, gc=False):
    """The review that is sent back, with the version and kind of the request."""

    apiVersion: str  # noqa: N815 - Kubernetes' own spelling
    kind: str
    response: AdmissionResponse
