"""What the words of an assessment mean. docs/reference/status.md has the same texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.core.assessment import Currency, PodFinding, Protection, ProtectionReason

if TYPE_CHECKING:
    from collections.abc import Mapping

PROTECTION_MEANINGS: Final[Mapping[Protection, str]] = {
    Protection.NOT_APPLICABLE: "The Pod has no sidecar and requests none, or it has ended or is ending",
    Protection.EXEMPT: "The Pod or its namespace is exempt",
    Protection.OPEN: "A sidecar can serve callers without a token",
    Protection.WAITING: "A container waits for its token or for the seal of its Pod, so it serves no caller",
    Protection.UNKNOWN: "The Pod does not show whether its sidecar demands a token",
    Protection.CUSTOM: "The token is a literal, or not the one that the annotations request; the webhook kept it",
    Protection.NO_SIDECAR: "dapr.io/enabled is true and there is no sidecar: Dapr did not add it",
    Protection.PROTECTED: "Every sidecar gets its token from a Secret that must exist",
}
REASON_MEANINGS: Final[Mapping[ProtectionReason, str]] = {
    ProtectionReason.NO_DAPR: "no sidecar, and dapr.io/enabled is not true",
    ProtectionReason.ENDED: "the Pod used Dapr, and its phase is Succeeded or Failed",
    ProtectionReason.ENDING: "the Pod uses Dapr and is being deleted. Its sidecar serves until it ends",
    ProtectionReason.ANNOTATION: (
        "the annotation dapr-token-injector/exempt has a text, and the Policy has allowExemptions: true. The webhook "
        "and the guard do not read it"
    ),
    ProtectionReason.NAMESPACE: "the namespace's label dapr-token-injector/guard is off",
    ProtectionReason.NOT_INJECTED: (
        "the Pod or its namespace requests a token, and the sidecar has no variable: admission was bypassed"
    ),
    ProtectionReason.NO_VARIABLE: "the sidecar has no DAPR_API_TOKEN, and no token is requested",
    ProtectionReason.EMPTY_VALUE: "the last entry has neither a value nor a source",
    ProtectionReason.OPTIONAL_REFERENCE: (
        "the last entry has optional: true: without the Secret or key, the sidecar starts open"
    ),
    ProtectionReason.MAY_EXPAND_TO_EMPTY: (
        "the last entry is an annotation or label (fieldRef) or a file, which may be empty, or a value of nothing but "
        "references such as $(X). A kubelet without env files sets a fileKeyRef to an empty value"
    ),
    ProtectionReason.NO_SECRET: (
        "the kubelet reports secret … not found; or the container has not started, and the Secret does not exist"
    ),
    ProtectionReason.NO_KEY: (
        "the kubelet reports couldn't find key …; or the container has not started, and the managed fields of the "
        "Secret do not name the key"
    ),
    ProtectionReason.BAD_TOKEN_VALUE: (
        "the container dapr-token-injector-seal ended with exit code 1: the value is not a token that an env file "
        "can hold, or the file cannot be written"
    ),
    ProtectionReason.KUBELET_WITHOUT_ENV_FILES: (
        "the container dapr-token-injector-seal-check ended with exit code 1: the kubelet set the variables from the "
        "file to empty values"
    ),
    ProtectionReason.MALFORMED: "the Pod has fields of another type than in Kubernetes",
    ProtectionReason.ENV_FROM: (
        "the variable can come from envFrom: a ConfigMap, or a Secret whose keys are not known or include it"
    ),
    ProtectionReason.DAPR_SHARED: (
        "Dapr Shared: the Pod requests no sidecar, and its token has the key dapr-api-token, which the chart leaves "
        "empty by default"
    ),
    ProtectionReason.LITERAL: "the last entry has a value",
    ProtectionReason.OTHER_REFERENCE: (
        "the last entry references another Secret or key than the annotations, or a ConfigMap, whose value may be "
        "empty; or it is a text with references in it, or another field of the Pod"
    ),
    ProtectionReason.NOT_ADDED: "dapr.io/enabled is true, and no container is a sidecar",
    ProtectionReason.REFERENCE: (
        "the last entry is a secretKeyRef without optional, and is the requested one if one is requested"
    ),
    ProtectionReason.SEALED: (
        "the last entry is a fileKeyRef to the file of a sealed Pod, with the requested token if one is requested"
    ),
}
CURRENCY_MEANINGS: Final[Mapping[Currency, str]] = {
    Currency.CURRENT: "every container started after the last change of the key, or will start",
    Currency.SKEWED: ("some containers started before the change, others after it: calls between them are refused"),
    Currency.OUTDATED: "containers started before the change, and none after it",
    Currency.UNCERTAIN: "started within the tolerances of clocks and caches",
    Currency.UNKNOWN: ("the Secret's metadata cannot be read, the Secret does not exist, or it has no managed fields"),
}
FINDING_MEANINGS: Final[Mapping[PodFinding, str]] = {
    PodFinding.RENAMED_SIDECAR: ("a container runs daprd under another name, so the webhook does not serve it"),
    PodFinding.EXPOSED: "the API listens beyond loopback, so callers in other Pods exist or are possible",
    PodFinding.APP_WITHOUT_TOKEN: (
        "the webhook would give the app container the token, and it has none: its calls are refused"
    ),
    PodFinding.DAPRD_ADVISORY: "a published advisory affects this version of daprd",
    PodFinding.PARTLY_SEALED: (
        "a container gets the same token from elsewhere than the file, or the seal does not count, or nothing reads it"
    ),
}
FINDING_METHODS: Final[Mapping[PodFinding, str]] = {
    PodFinding.RENAMED_SIDECAR: "image or program",
    PodFinding.EXPOSED: "--dapr-listen-addresses. Flags with variables, or in a shell command line, are not evaluated",
    PodFinding.APP_WITHOUT_TOKEN: (
        "annotations, policy and containers, by the rules of the webhook. Not evaluated while the Pod is open"
    ),
    PodFinding.DAPRD_ADVISORY: (
        "the version in the image's tag: GO-2023-1955, GO-2024-2879, GO-2026-5242. An image without a version is not "
        "checked"
    ),
    PodFinding.PARTLY_SEALED: "every part of the seal, and all variables and volumes that read the key",
}
