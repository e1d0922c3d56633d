"""The kinds of objects that are read or written, their paths, and the default timeout of a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote

from injector.core import names

if TYPE_CHECKING:
    from collections.abc import Mapping

Object: TypeAlias = dict[str, Any]
Objects: TypeAlias = list[Object]

# The default: a write may pass slow webhooks of others.
REQUEST_TIMEOUT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object: its API group (empty for core), version and plural name."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """Return the path below the API server's address; no namespace means all namespaces."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
            if subresource:
                parts.append(subresource)
        return "/" + "/".join(quote(part, safe="") for part in parts)


NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
PODS: Final = Resource("", "v1", "pods", "Pod")
SECRETS: Final = Resource("", "v1", "secrets", "Secret")
EVENTS: Final = Resource("", "v1", "events", "Event")
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment")
REPLICASETS: Final = Resource("apps", "v1", "replicasets", "ReplicaSet")
STATEFULSETS: Final = Resource("apps", "v1", "statefulsets", "StatefulSet")
DAEMONSETS: Final = Resource("apps", "v1", "daemonsets", "DaemonSet")
JOBS: Final = Resource("batch", "v1", "jobs", "Job")
CRONJOBS: Final = Resource("batch", "v1", "cronjobs", "CronJob")
SERVICES: Final = Resource("", "v1", "services", "Service")
CONFIGMAPS: Final = Resource("", "v1", "configmaps", "ConfigMap")
ENDPOINTSLICES: Final = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
DISRUPTION_BUDGETS: Final = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
NODES: Final = Resource("", "v1", "nodes", "Node", namespaced=False)
# cert-manager: https://cert-manager.io/docs/reference/api-docs/#cert-manager.io/v1.Certificate
CERTIFICATES: Final = Resource("cert-manager.io", "v1", "certificates", "Certificate")
# Argo Rollouts: https://argoproj.github.io/argo-rollouts/
ROLLOUTS: Final = Resource("argoproj.io", "v1alpha1", "rollouts", "Rollout")
# Names of kinds before the slash, as in kubectl.
KINDS: Final[Mapping[str, Resource]] = {
    **dict.fromkeys(("pod", "pods", "po"), PODS),
    **dict.fromkeys(("deployment", "deployments", "deploy"), DEPLOYMENTS),
    **dict.fromkeys(("statefulset", "statefulsets", "sts"), STATEFULSETS),
    **dict.fromkeys(("daemonset", "daemonsets", "ds"), DAEMONSETS),
    **dict.fromkeys(("replicaset", "replicasets", "rs"), REPLICASETS),
    **dict.fromkeys(("job", "jobs"), JOBS),
    **dict.fromkeys(("cronjob", "cronjobs", "cj"), CRONJOBS),
    **dict.fromkeys(("rollout", "rollouts"), ROLLOUTS),
}
_ADMISSION: Final = "admissionregistration.k8s.io"
MUTATING_WEBHOOKS: Final = Resource(
    _ADMISSION, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", namespaced=False
)
VALIDATING_WEBHOOKS: Final = Resource(
    _ADMISSION, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", namespaced=False
)
# Those of an installation, by kind and name. The second mutating one exists with two groups of replicas.
WEBHOOK_CONFIGURATIONS: Final = (
    *((MUTATING_WEBHOOKS, name) for name in names.GROUPS),
    (VALIDATING_WEBHOOKS, names.MANAGER),
)
_RBAC: Final = "rbac.authorization.k8s.io"
ROLES: Final = Resource(_RBAC, "v1", "roles", "Role")
ROLE_BINDINGS: Final = Resource(_RBAC, "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLES: Final = Resource(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDINGS: Final = Resource(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)
POLICIES: Final = Resource(
    _ADMISSION, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False
)
POLICY_BINDINGS: Final = Resource(
    _ADMISSION, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", namespaced=False
)
