"""Rights and admission policies as `deploy/` ships them, for a test's namespace and user alone."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.controlplane.errors import KubectlError
from tests.documents import documents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
GUARD_LABEL: Final = "dapr-token-injector/guard"
_SHIPPED_USER: Final = "system:serviceaccount:dapr-token-injector:dapr-token-injector"


def guard(*, label: str) -> tuple[Json, ...]:
    """Return the guard and its bindings, for namespaces that have this label alone."""
    policy = _documents("components/guard/policy.yaml")
    bindings = _documents("components/guard/bindings.yaml")
    for binding in bindings:
        only = {"key": label, "operator": "Exists"}
        binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"].append(only)
    return (*policy, *bindings)


@contextlib.contextmanager
def guard_installed(kubectl: Kubectl) -> Iterator[str]:
    """Install the guard for namespaces with a label of its own, which is yielded, and remove it at the end."""
    label = f"guarded-by-test-{secrets.token_hex(4)}"
    items = guard(label=label)
    try:
        for item in items:
            kubectl.create(item)
        yield label
    finally:
        for item in items:
            kubectl.delete(item["kind"], item["metadata"]["name"])


def requested(*, label: str) -> tuple[Json, ...]:
    """Return the policy `requested` and its binding, for namespaces that have this label alone."""
    (policy,) = _documents("components/requested/policy.yaml")
    (binding,) = _documents("components/requested/binding.yaml")
    only = {"key": label, "operator": "Exists"}
    policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"].append(only)
    return policy, binding


def refusal(kubectl: Kubectl, item: Json, **query: str) -> str:
    """The error of a dry run; empty when it was accepted. `query` as the API has it (`timeout`)."""
    try:
        kubectl.dry_run(item, **query)
    except KubectlError as error:
        return error.stderr
    return ""


def rights(*, namespace: str, name: str) -> tuple[Json, ...]:
    """Return roles, bindings and fence for a namespace and for webhook configurations of another name."""
    items = [item for item in _documents("base/rbac.yaml") if item["kind"] != "ServiceAccount"]
    for item in items:
        item["metadata"] = {"name": name} | ({"namespace": namespace} if item["kind"].startswith("Role") else {})
        for rule in item.get("rules", ()):
            rule["resourceNames"] = [
                name if named == "dapr-token-injector" else named for named in rule["resourceNames"]
            ]
        if "roleRef" in item:
            item["roleRef"]["name"] = name
            item["subjects"][0]["namespace"] = namespace
    return (*items, *fence(namespace=namespace, name=name))


def fence(*, namespace: str, name: str) -> tuple[Json, ...]:
    """Return the fence around the ServiceAccount `dapr-token-injector` of a namespace."""
    policy, binding = _documents("base/fence.yaml")
    policy["metadata"]["name"] = binding["metadata"]["name"] = binding["spec"]["policyName"] = name
    for condition in policy["spec"]["matchConditions"]:
        condition["expression"] = condition["expression"].replace(
            _SHIPPED_USER, f"system:serviceaccount:{namespace}:dapr-token-injector"
        )
    return policy, binding


def _documents(path: str) -> list[Json]:
    return documents(DEPLOY / path)
