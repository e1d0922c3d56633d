"""All strings of our interface to users, Dapr and Kubernetes; and all bounds with their unit and origin.

Dapr's names are those of its own injector:
https://github.com/dapr/dapr/blob/release-1.18/pkg/injector/annotations/annotations.go
"""

from typing import Final

# --- annotations that Dapr defines ---
ENABLED: Final = "dapr.io/enabled"
API_TOKEN_SECRET: Final = "dapr.io/api-token-secret"
APP_TOKEN_SECRET: Final = "dapr.io/app-token-secret"
DAPR_ENV: Final = "dapr.io/env"
DAPR_ENV_FROM_SECRET: Final = "dapr.io/env-from-secret"  # since Dapr 1.15

# --- annotations that we define ---
API_TOKEN_KEY: Final = "dapr-token-injector/api-token-key"
APP_TOKEN_KEY: Final = "dapr-token-injector/app-token-key"
APP_CONTAINERS: Final = "dapr-token-injector/app-containers"
SEAL: Final = "dapr-token-injector/seal"
STATUS: Final = "dapr-token-injector/status"
# Why a Pod needs no token: the assessment of a Pod reads it.
EXEMPT: Final = "dapr-token-injector/exempt"

# What a person writes for Dapr or for us; `STATUS` is ours to write.
REQUEST_ANNOTATIONS: Final = (
    ENABLED,
    API_TOKEN_SECRET,
    APP_TOKEN_SECRET,
    API_TOKEN_KEY,
    APP_TOKEN_KEY,
    APP_CONTAINERS,
    SEAL,
    DAPR_ENV,
    DAPR_ENV_FROM_SECRET,
)

# --- labels of any object: https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/
APP_NAME_LABEL: Final = "app.kubernetes.io/name"
APP_VERSION_LABEL: Final = "app.kubernetes.io/version"
# --- labels and annotations of Secrets of ours, and of templates that we restart ---
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "dapr-token-injector"  # also of fields
# Deployment, Service, and MutatingWebhookConfiguration of each group of replicas: docs/decisions/0039-two-entries.md.
GROUPS: Final = (MANAGER, f"{MANAGER}-2")
# Names of entries in webhook configurations, `<purpose>.dapr-token-injector.svc`, end with it. They never change.
ENTRY_SUFFIX: Final = f".{MANAGER}.svc"
# The direction that a token protects: calls to `daprd` (api) or calls of `daprd` to the app (app).
TOKEN_LABEL: Final = "dapr-token-injector/token"
# Never the value: a public id, and times in RFC 3339.
TOKEN_ID: Final = "dapr-token-injector/token-id"
TOKEN_ISSUED: Final = "dapr-token-injector/token-issued"
TOKEN_EXPIRES: Final = "dapr-token-injector/token-expires"
# On a Pod template: the id of the token for which it was restarted, one annotation per Secret, named after it.
RESTARTED_FOR: Final = "restarted-for.dapr-token-injector/"
# On a workload that we restart: Secret and key that its sidecars had from the Policy, as `<Secret>/<key>`.
OBSERVED_DEFAULT: Final = "observed.dapr-token-injector/default-secret"
# --- on namespaces: the Policy's default Secret, and the mode of the guard ---
INJECT_DEFAULT_LABEL: Final = "dapr-token-injector/inject-default"
GUARD_LABEL: Final = "dapr-token-injector/guard"
# --- on the Secret of the webhook's own CA: requests a new CA ---
ROTATE_CA: Final = "dapr-token-injector/rotate-ca"

# --- containers and their environment ---
SIDECAR: Final = "daprd"
API_TOKEN_ENV: Final = "DAPR_API_TOKEN"
APP_TOKEN_ENV: Final = "APP_API_TOKEN"
TOKEN_VARIABLES: Final = (API_TOKEN_ENV, APP_TOKEN_ENV)
# The annotations that request a variable: the Secret's name, and its key.
REQUESTS: Final = {
    API_TOKEN_ENV: (API_TOKEN_SECRET, API_TOKEN_KEY),
    APP_TOKEN_ENV: (APP_TOKEN_SECRET, APP_TOKEN_KEY),
}
# The HTTP header and gRPC metadata that carries either token:
# https://github.com/dapr/dapr/blob/v1.16.0/pkg/security/consts/consts.go
API_TOKEN_HEADER: Final = "dapr-api-token"
# The key that Dapr's own injector always references.
DAPR_FIXED_KEY: Final = "token"
# The key of the chart dapr-shared, which leaves its value empty by default:
# https://github.com/dapr/dapr-shared/blob/main/chart/dapr-shared/templates/secret.yaml
DAPR_SHARED_KEY: Final = "dapr-api-token"

# --- the two init containers and the volume of a sealed Pod: docs/decisions/0035-sealed-pods.md ---
SEAL_CONTAINER: Final = "dapr-token-injector-seal"
SEAL_CHECK_CONTAINER: Final = "dapr-token-injector-seal-check"
SEAL_VOLUME: Final = "dapr-token-injector-seal"
SEAL_DIRECTORY: Final = "/dapr-token-injector/seal"
SEAL_FILE: Final = "tokens.env"
# Followed by the variables, in this order, as `args`.
SEAL_COMMAND: Final = ("dapr-token-injector", "seal")
SEAL_CHECK_COMMAND: Final = ("dapr-token-injector", "seal", "--check")
# Two files with two of the longest tokens, while one replaces the other; the largest page of Linux is 64 KiB.
SEAL_SIZE_LIMIT: Final = "256Ki"
# The user of our image, for Pods whose own user is root.
SEAL_USER: Final = 65532

# --- webhook paths ---
MUTATE_PATH: Final = "/mutate"
MUTATE_DEFAULT_PATH: Final = "/mutate/default"
WARN_PATH: Final = "/warn"

# --- audit annotations: one key per outcome and target. The API server keeps the first value of a key, and a first
# round before Dapr's injector sees app containers only, so each target has its own key.
AUDIT_INJECTED_SIDECAR: Final = "injected-sidecar"
AUDIT_INJECTED_APP: Final = "injected-app"
AUDIT_KEPT: Final = "kept"
AUDIT_KEPT_APP: Final = "kept-app"
AUDIT_DENIED: Final = "denied"
AUDIT_WOULD_INJECT: Final = "would-inject"
AUDIT_WOULD_INJECT_APP: Final = "would-inject-app"
AUDIT_WOULD_DENY: Final = "would-deny"

# The words that Dapr's watchdog and operator treat as true, in any case:
# https://github.com/dapr/kit/blob/main/utils/strings.go
TRUE_WORDS: Final = frozenset({"y", "yes", "true", "t", "on", "1"})
FALSE_WORDS: Final = frozenset({"n", "no", "false", "f", "off", "0"})

# Containers that carry traffic or secrets and never call Dapr: `*` excludes them. The Policy may list others.
INFRASTRUCTURE_CONTAINERS: Final = (
    "istio-proxy",
    "istio-validation",
    "linkerd-proxy",
    "vault-agent",
    "vault-agent-init",
    "kuma-sidecar",
    "consul-dataplane",
    "envoy",
    "cloud-sql-proxy",
    "gke-gcsfuse-sidecar",
    "otc-container",
    "datadog-agent-injected",
    "aws-guardduty-agent",
)

# --- bounds, in bytes ---
# Keys and values of all annotations of an object: `TotalAnnotationSizeLimitB` of
# https://github.com/kubernetes/apimachinery/blob/master/pkg/api/validation/objectmeta.go
MAX_ANNOTATIONS: Final = 256 * 1024
# Upper bound for an entry of our record in an otherwise valid Pod: the longest names of a container, a Secret and a
# key, and the text around them.
MAX_RECORD_ENTRY: Final = 1024
# Lower bound for an entry of our record: `{"container":"","env":"","name":"","key":""},` with empty names.
MIN_RECORD_ENTRY: Final = 42

# --- bounds, in numbers ---
# Containers of a Pod, both lists together. etcd stores no object above 1.5 MiB by default, and an API server adds about
# 130 bytes of defaults to each container, so that no Pod with so many can be stored:
# https://etcd.io/docs/v3.6/dev-guide/limit/
MAX_CONTAINERS: Final = 16_384

# --- bounds, in characters ---
# A DNS subdomain: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names
MAX_SECRET_NAME: Final = 253
# `IsConfigMapKey` of k8s.io/apimachinery/pkg/util/validation.
MAX_SECRET_KEY: Final = 253
# Ours: shorter than the 256 to which the API server cuts a warning once there are many.
MAX_WARNING: Final = 119
# Ours: enough to find the mistake; a Pod with thousands of containers must not cause a response of megabytes.
MAX_WARNINGS: Final = 32
MAX_PROBLEMS: Final = 16
# Ours: problems that get a text. Warnings and audit annotations contain no more of them.
MAX_WORDED_PROBLEMS: Final = 32
# Ours: the maximum number of words of a list in a message, and of their characters together.
MAX_LISTED: Final = 20
MAX_LISTED_CHARACTERS: Final = 512
MAX_AUDIT_VALUE: Final = 1024
# Ours: the part of a rejected value that a message may show.
MAX_SHOWN_VALUE: Final = 40
# Ours: tokens get pasted where names belong. A longer value is never shown.
MAX_SHOWABLE_LENGTH: Final = 63


def is_own_entry(name: str) -> bool:
    """Return whether an entry of a webhook configuration is one of the injector."""
    return name.endswith(ENTRY_SUFFIX)
