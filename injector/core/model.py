"""Types that several modules share: the decoded request, the Policy, the reasons of decisions, and the response.

The structs decode only the fields that a rule reads. All other fields of a Pod are skipped, and they are preserved
because patches name positions in the request's own JSON. Lists of variables stay raw bytes until a rule needs them.
Field names are those of Kubernetes, so that the JSON schema of these types is the wire format.

Structs that may contain users' data do not show it in their repr.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from injector.core import names
from injector.core.depth import decode_any_depth
from injector.core.errors import MalformedObjectError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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


class SealMode(StrEnum):
    """Which Pods are sealed."""

    OFF = "off"
    ON_REQUEST = "on-request"
    ALWAYS = "always"


class SourceKind(StrEnum):
    """The two sources of a variable that have the same value in every container of a Pod."""

    SECRET = "secretKeyRef"
    CONFIG_MAP = "configMapKeyRef"


class Value(Struct, frozen=True, gc=False):
    """A plain immutable value: cheap to create, compare and hash, because every review creates several."""


# A value with other fields, for modules that do not know the codec.
replace: Final = msgspec.structs.replace


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


class Policy(Value, frozen=True, gc=False, cache_hash=True):
    """The rules and defaults of the cluster owner. `config.policy.load_policy` reads them from a YAML file.

    Its hash is computed once, because caches have it in their keys and its lists may be long.
    """

    default_secret: str | None = None
    allowed_secrets: tuple[str, ...] = ()  # shell-style globs; empty allows every name
    default_api_key: str = names.DAPR_FIXED_KEY
    default_app_key: str = names.DAPR_FIXED_KEY
    default_app_containers: AppContainers = NO_APP_CONTAINERS
    infrastructure_containers: frozenset[str] = frozenset(names.INFRASTRUCTURE_CONTAINERS)
    conflict: Conflict = Conflict.KEEP
    shadow: bool = False
    seal: SealMode = SealMode.ON_REQUEST
    seal_image: str | None = None  # without it, no Pod is sealed
    seal_image_pull_secrets: tuple[str, ...] = ()
    allow_exemptions: bool = False  # the annotation exempts a Pod from `status`; admission does not read it


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
    seal: str | None = msgspec.field(default=None, name=names.SEAL)
    dapr_env: str | None = msgspec.field(default=None, name=names.DAPR_ENV)
    dapr_env_from_secret: str | None = msgspec.field(default=None, name=names.DAPR_ENV_FROM_SECRET)
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
    image: str | None = None
    command: list[str] | None = None
    restartPolicy: str | None = None  # noqa: N815 - Kubernetes' own spelling


ListName = Literal["containers", "initContainers"]
ContainerT = TypeVar("ContainerT", bound=Container)


def positions(
    containers: Iterable[ContainerT] | None, init_containers: Iterable[ContainerT] | None
) -> Iterator[tuple[ListName, int, ContainerT]]:
    """Yield both lists of a Pod: the list of each container, its index there, and the container."""
    for index, container in enumerate(containers or ()):
        yield "containers", index, container
    for index, container in enumerate(init_containers or ()):
        yield "initContainers", index, container


# An amount of a resource: text, or a number in manifests. An API server stores none that is longer.
Quantity = Annotated[str, Meta(max_length=64)] | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | float | None


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


class ReviewedWorkload(Quiet, frozen=True, gc=False):
    """An object that creates Pods: Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob, Argo's Rollout."""

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
        GroupVersionKind("argoproj.io", "v1alpha1", "Rollout"),
    }
)


class RequestFields(Quiet, frozen=True, gc=False):
    """The fields of a request besides its object."""

    uid: Annotated[str, Meta(min_length=1)]
    kind: GroupVersionKind
    operation: str
    subResource: str | None = None  # noqa: N815 - Kubernetes' own spelling
    namespace: str | None = None


class AdmissionRequest(RequestFields, Generic[ObjectT], frozen=True, gc=False):
    """A request whose `object` is a Pod or a Workload."""

    object: ObjectT | None = None


class OpaqueRequest(RequestFields, frozen=True, gc=False):
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
WorkloadReview = AdmissionReview[ReviewedWorkload]
Review = PodReview | WorkloadReview | OpaqueReview


# --- the record in the status annotation of a Pod ---


class Injected(Quiet, frozen=True, gc=False, omit_defaults=True):
    """One variable that was set in one container; `replaced` if it took the place of an existing entry.

    `sealed` if the entry is a `fileKeyRef`, with which the container reads the value that the seal container has from
    this reference.
    """

    container: str
    env: str
    name: str
    key: str
    source: SourceKind = SourceKind.SECRET
    replaced: bool = False
    sealed: bool = False


class StatusRecord(Quiet, frozen=True, gc=False, omit_defaults=True):
    """The value of the status annotation: the changes, for `uninject`. Never an input of a decision.

    `pullSecrets` are the image pull secrets that were added to the Pod for the containers that seal it.
    """

    v: Literal[1]
    injected: tuple[Injected, ...]
    pullSecrets: tuple[str, ...] = ()  # noqa: N815 - as the names of Kubernetes around it


_status = msgspec.json.Decoder(StatusRecord)
NO_RECORD: Final = StatusRecord(1, ())


def read_record(text: str | None) -> StatusRecord:
    """The record of an earlier round; an empty one if the text is absent or not a valid record."""
    if not text or len(text) > names.MAX_ANNOTATIONS:
        return NO_RECORD
    try:
        return decode_any_depth(_status.decode, text.encode(errors="replace"))
    except (msgspec.DecodeError, RecursionError):
        return NO_RECORD


def write_status(injected: tuple[Injected, ...], pull_secrets: tuple[str, ...] = ()) -> str:
    """The value of the annotation: compact JSON in a fixed order."""
    return msgspec.json.encode(StatusRecord(1, injected, pull_secrets)).decode()


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


# A JSON string in base64, encoded already: it is long, and many Pods get the same one.
EncodedPatch = Annotated[Raw, Meta(extra_json_schema={"type": "string", "contentEncoding": "base64"})]


class AdmissionResponse(Struct, frozen=True, gc=False, omit_defaults=True):
    """The response to one review."""

    uid: str
    allowed: bool
    patchType: Literal["JSONPatch"] | None = None  # noqa: N815 - Kubernetes' own spelling
    patch: EncodedPatch | None = None
    warnings: tuple[str, ...] = ()
    auditAnnotations: dict[str, str] = {}  # noqa: N815 - Kubernetes' own spelling
    status: Status | None = None


class AnsweredReview(Struct, frozen=True, gc=False):
    """The review that is sent back, with the version and kind of the request."""

    apiVersion: str  # noqa: N815 - Kubernetes' own spelling
    kind: str
    response: AdmissionResponse
