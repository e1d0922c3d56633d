"""The words of an assessment of a Pod, and what it is made from. docs/reference/status.md explains each word."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from injector.core.model import Policy
    from injector.core.observed import ObservedPod
    from injector.core.ownership import SecretKey, SecretRef, TokenSecret
    from injector.core.token_state import PodUsage


class Severity(StrEnum):
    """How urgent a state is."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    OK = "ok"
    NONE = "-"


class Protection(StrEnum):
    """Whether the sidecars of a Pod demand a token."""

    EXEMPT = "exempt"
    OPEN = "open"
    WAITING = "waiting"
    CUSTOM = "custom"
    NOT_APPLICABLE = "not-applicable"
    NO_SIDECAR = "no-sidecar"
    UNKNOWN = "unknown"
    PROTECTED = "protected"


class ProtectionReason(StrEnum):
    """Why a Pod has its protection."""

    ANNOTATION = "annotation"
    NAMESPACE = "namespace"
    NO_VARIABLE = "no-variable"
    EMPTY_VALUE = "empty-value"
    OPTIONAL_REFERENCE = "optional-reference"
    NOT_INJECTED = "not-injected"
    MAY_EXPAND_TO_EMPTY = "may-expand-to-empty"
    NO_SECRET = "no-secret"
    NO_KEY = "no-key"
    BAD_TOKEN_VALUE = "bad-token-value"
    KUBELET_WITHOUT_ENV_FILES = "kubelet-without-env-files"
    LITERAL = "literal"
    OTHER_REFERENCE = "other-reference"
    NO_DAPR = "no-dapr"
    ENDED = "ended"
    ENDING = "ending"
    NOT_ADDED = "not-added"
    MALFORMED = "malformed"
    ENV_FROM = "env-from"
    DAPR_SHARED = "dapr-shared"
    REFERENCE = "reference"
    SEALED = "sealed"


_REASONS: Final = {
    Protection.EXEMPT: (ProtectionReason.ANNOTATION, ProtectionReason.NAMESPACE),
    Protection.OPEN: (
        ProtectionReason.NO_VARIABLE,
        ProtectionReason.EMPTY_VALUE,
        ProtectionReason.OPTIONAL_REFERENCE,
        ProtectionReason.NOT_INJECTED,
        ProtectionReason.MAY_EXPAND_TO_EMPTY,
    ),
    Protection.WAITING: (
        ProtectionReason.NO_SECRET,
        ProtectionReason.NO_KEY,
        ProtectionReason.BAD_TOKEN_VALUE,
        ProtectionReason.KUBELET_WITHOUT_ENV_FILES,
    ),
    Protection.CUSTOM: (ProtectionReason.LITERAL, ProtectionReason.OTHER_REFERENCE),
    Protection.NOT_APPLICABLE: (ProtectionReason.NO_DAPR, ProtectionReason.ENDED, ProtectionReason.ENDING),
    Protection.NO_SIDECAR: (ProtectionReason.NOT_ADDED,),
    Protection.UNKNOWN: (ProtectionReason.MALFORMED, ProtectionReason.ENV_FROM, ProtectionReason.DAPR_SHARED),
    Protection.PROTECTED: (ProtectionReason.REFERENCE, ProtectionReason.SEALED),
}
PROTECTIONS: Final = {reason: protection for protection, reasons in _REASONS.items() for reason in reasons}
SEVERITIES: Final[Mapping[Protection, Severity]] = {
    Protection.EXEMPT: Severity.NONE,
    Protection.OPEN: Severity.ERROR,
    Protection.WAITING: Severity.WARNING,
    Protection.CUSTOM: Severity.INFO,
    Protection.NOT_APPLICABLE: Severity.NONE,
    Protection.NO_SIDECAR: Severity.WARNING,
    Protection.UNKNOWN: Severity.WARNING,
    Protection.PROTECTED: Severity.OK,
}


class Currency(StrEnum):
    """Whether the containers of a Pod run the current value under a key."""

    CURRENT = "current"
    SKEWED = "skewed"
    OUTDATED = "outdated"
    UNCERTAIN = "uncertain"
    UNKNOWN = "unknown"


CURRENCY_SEVERITIES: Final[Mapping[Currency, Severity]] = {
    Currency.CURRENT: Severity.OK,
    Currency.SKEWED: Severity.ERROR,
    Currency.OUTDATED: Severity.WARNING,
    Currency.UNCERTAIN: Severity.INFO,
    Currency.UNKNOWN: Severity.NONE,
}


class PodFinding(StrEnum):
    """What else should be known of a Pod; each is a warning."""

    RENAMED_SIDECAR = "renamed-sidecar"
    EXPOSED = "exposed"
    APP_WITHOUT_TOKEN = "app-without-token"
    DAPRD_ADVISORY = "daprd-advisory"
    PARTLY_SEALED = "partly-sealed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A Pod as observed.

    `pod` is None if it is malformed. `usage`: its containers that read a token; None after it has ended. `waits_since`:
    when it was scheduled or initialized, whichever was later; None: unknown.
    """

    namespace: str
    name: str
    pod: ObservedPod | None
    usage: PodUsage | None = None
    waits_since: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known besides the Pod.

    `now` is in seconds since 1970. `secrets`: metadata, None for a Secret that does not exist; those that are not in it
    could not be read. `policy`: None if unknown. `injects_default`: the namespace requests the Policy's default Secret.
    `guard`: the namespace's guard label.
    """

    now: int
    secrets: Mapping[SecretRef, TokenSecret | None] = field(default_factory=dict)
    policy: Policy | None = None
    injects_default: bool = False
    guard: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCurrency:
    """The currency of one key, the containers that do not surely run its current value, and that of each container."""

    key: SecretKey
    currency: Currency
    containers: tuple[str, ...] = ()
    by_container: tuple[tuple[str, Currency], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFinding:
    """A finding about a container; `detail` is an id or an address, empty if there is none."""

    finding: PodFinding
    container: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerReason:
    """Why a container has its protection; `missing` is the key of a Secret that it waits for."""

    container: str
    reason: ProtectionReason
    missing: SecretKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """The assessment of one Pod.

    `container` is the one that decides its protection, if one does, and `missing` the key that it waits for.
    `containers`: the sidecars, and the containers that wait, the worst first.
    """

    namespace: str
    name: str
    protection: Protection
    reason: ProtectionReason
    severity: Severity
    container: str = ""
    missing: SecretKey | None = None
    containers: tuple[ContainerReason, ...] = ()
    currencies: tuple[KeyCurrency, ...] = ()
    findings: tuple[ContainerFinding, ...] = ()
