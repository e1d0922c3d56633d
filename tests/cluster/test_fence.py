"""The webhook's ServiceAccount can read and fill one Secret and write `caBundle`, and nothing else."""

from __future__ import annotations

import functools
import json
import secrets
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cluster.policies import fence, rights
from tests.controlplane.cluster import own_namespace
from tests.controlplane.polling import wait_for
from tests.controlplane.registration import ServiceEndpoint, token_injector, workload_warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl, Output
    from tests.controlplane.target import Cluster

MUTATING: Final = "mutatingwebhookconfigurations"
VALIDATING: Final = "validatingwebhookconfigurations"
KINDS: Final = (MUTATING, VALIDATING)
SECRET: Final = "dapr-token-injector-ca"
# Base64 of anything: the fence does not check the content of a bundle.
BUNDLES: Final = ("Zmlyc3Q=", "c2Vjb25k")
REFUSED: Final = "dapr-token-injector may "


ENTRY: Final = "/webhooks/0"
SERVICE: Final = f"{ENTRY}/clientConfig/service"
ANYTHING: Final = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}
CONDITION: Final = {"name": "never", "expression": "false"}


def change(path: str, value: object, op: str = "replace") -> list[Json]:
    return [{"op": op, "path": path, "value": value}]


class Fenced:
    """A namespace with the ServiceAccount, its rights, and both configurations under a name of the test's own."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl
        self.name = f"dapr-token-injector-{secrets.token_hex(4)}"
        self.account = f"--as=system:serviceaccount:{kubectl.namespace}:dapr-token-injector"

    def patch(self, kind: str, operations: list[Json]) -> Output:
        return self.try_run("patch", kind, self.name, "--type=json", f"--patch={json.dumps(operations)}")

    def refuses_a_label(self, kind: str) -> bool:
        """Whether a new label is rejected; setting an existing one would be no change."""
        label = change("/metadata/labels", {"probe": secrets.token_hex(4)}, "add")
        return REFUSED in self.patch(kind, label).stderr

    def apply_bundle(self, kind: str, bundle: str, *flags: str) -> Output:
        found = self.get(kind)
        entries = [{"name": entry["name"], "clientConfig": {"caBundle": bundle}} for entry in found["webhooks"]]
        return self.apply(kind, {"webhooks": entries}, *flags)

    def apply(self, kind: str, content: Json, *flags: str) -> Output:
        found = self.get(kind)
        item = {key: found[key] for key in ("apiVersion", "kind")} | {"metadata": {"name": self.name}} | content
        manager = "--field-manager=dapr-token-injector-ca-bundle"
        return self.try_run("apply", "--server-side", manager, *flags, "-f", "-", stdin=item)

    def get(self, kind: str) -> Json:
        return self.kubectl.get(kind, self.name)

    def try_run(self, *arguments: str, stdin: Json | None = None) -> Output:
        return self.kubectl.try_run(*arguments, self.account, stdin=stdin)


@pytest.fixture(scope="module")
def fenced(cluster: Cluster) -> Iterator[Fenced]:
    with own_namespace(cluster.kubectl) as kubectl:
        made = Fenced(kubectl)
        service = ServiceEndpoint(kubectl.namespace, "dapr-token-injector", None)
        configurations = [make(service, namespace=kubectl.namespace) for make in (token_injector, workload_warnings)]
        for configuration in configurations:
            configuration["metadata"]["name"] = made.name
        items = [*rights(namespace=kubectl.namespace, name=made.name), *configurations]
        try:
            for name in (SECRET, "other"):
                kubectl.run("create", "secret", "generic", name)
            for item in items:
                kubectl.create(item)
            for kind in KINDS:
                wait_for("the fence in force", functools.partial(made.refuses_a_label, kind))
            yield made
        finally:
            for item in items:
                kubectl.delete(item["kind"], item["metadata"]["name"])


@pytest.mark.parametrize("kind", KINDS)
def test_fence_allows_ca_bundle_changes(fenced: Fenced, kind: str) -> None:
    for bundle in (*BUNDLES, BUNDLES[1], BUNDLES[0]):
        done = fenced.apply_bundle(kind, bundle)

        assert done.returncode == 0, done.stderr
        assert {entry["clientConfig"]["caBundle"] for entry in fenced.get(kind)["webhooks"]} == {bundle}


def test_fence_allows_repair_of_a_foreign_ca_bundle(fenced: Fenced) -> None:
    fenced.apply_bundle(MUTATING, BUNDLES[0])
    change = [{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": BUNDLES[1]}]
    fenced.kubectl.patch(MUTATING, fenced.name, change)

    done = fenced.apply_bundle(MUTATING, BUNDLES[0], "--force-conflicts")

    assert done.returncode == 0, done.stderr
    assert fenced.get(MUTATING)["webhooks"][0]["clientConfig"]["caBundle"] == BUNDLES[0]


FORBIDDEN: Final[dict[str, list[dict[str, Any]]]] = {
    "a label": change("/metadata/labels", {"a": "b"}, "add"),
    "an annotation": change("/metadata/annotations", {"cert-manager.io/inject-ca-from": "a/b"}, "add"),
    "a finalizer": change("/metadata/finalizers", ["example.com/stuck"], "add"),
    "an owner": change(
        "/metadata/ownerReferences", [{"apiVersion": "v1", "kind": "Namespace", "name": "n", "uid": "u"}], "add"
    ),
    "a failure policy": change(f"{ENTRY}/failurePolicy", "Ignore", "add"),
    "a match policy": change(f"{ENTRY}/matchPolicy", "Exact"),
    "a timeout": change(f"{ENTRY}/timeoutSeconds", 30),
    "rules for everything": change(f"{ENTRY}/rules", [ANYTHING]),
    "one more rule": change(f"{ENTRY}/rules/-", ANYTHING, "add"),
    "one more operation": change(f"{ENTRY}/rules/0/operations/-", "DELETE", "add"),
    "another scope": change(f"{ENTRY}/rules/0/scope", "*"),
    "no namespace selector": change(f"{ENTRY}/namespaceSelector", {}),
    "one requirement less": [{"op": "remove", "path": f"{ENTRY}/namespaceSelector/matchExpressions/0"}],
    "an object selector": change(f"{ENTRY}/objectSelector", {"matchLabels": {"a": "b"}}),
    "other side effects": change(f"{ENTRY}/sideEffects", "NoneOnDryRun"),
    "review versions": change(f"{ENTRY}/admissionReviewVersions", ["v1beta1", "v1"]),
    "a match condition": change(f"{ENTRY}/matchConditions/0", CONDITION),
    "one more match condition": change(f"{ENTRY}/matchConditions/-", CONDITION, "add"),
    "no match conditions": [{"op": "remove", "path": f"{ENTRY}/matchConditions"}],
    "another service": change(f"{SERVICE}/name", "evil"),
    "another namespace": change(f"{SERVICE}/namespace", "default"),
    "another path": change(f"{SERVICE}/path", "/warn-not"),
    "another port": change(f"{SERVICE}/port", 8443),
    "a url in place of the service": change(f"{ENTRY}/clientConfig", {"url": "https://evil.example/x"}),
    "an entry's name": change(f"{ENTRY}/name", "evil.example.com"),
    "no entries": change("/webhooks", []),
    "a bundle and one thing more": [
        *change(f"{ENTRY}/clientConfig/caBundle", BUNDLES[0], "add"),
        *change(f"{ENTRY}/timeoutSeconds", 29),
    ],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", FORBIDDEN)
def test_fence_rejects_any_other_change(fenced: Fenced, kind: str, what: str) -> None:
    # The validating entry is shipped with Ignore: from Fail every change of the table is one, in both kinds.
    fenced.kubectl.patch(kind, fenced.name, change(f"{ENTRY}/failurePolicy", "Fail"))
    before = fenced.get(kind)

    refused = fenced.patch(kind, FORBIDDEN[what])

    assert refused.returncode == 1
    assert REFUSED in refused.stderr, refused.stderr
    assert fenced.get(kind) == before


def test_fence_rejects_reinvocation_policy_changes(fenced: Fenced) -> None:
    assert REFUSED in fenced.patch(MUTATING, change(f"{ENTRY}/reinvocationPolicy", "Never")).stderr


def test_fence_rejects_moved_removed_and_added_entries(fenced: Fenced) -> None:
    first, second = fenced.get(MUTATING)["webhooks"]

    for entries in ([second, first], [first], [first, second, {**first, "name": "third.dapr-token-injector.svc"}]):
        assert REFUSED in fenced.patch(MUTATING, change("/webhooks", entries)).stderr


def test_fence_rejects_forced_apply(fenced: Fenced) -> None:
    entry = {"name": "inject.dapr-token-injector.svc", "timeoutSeconds": 30, "clientConfig": {"caBundle": BUNDLES[0]}}

    assert REFUSED in fenced.apply(MUTATING, {"webhooks": [entry]}, "--force-conflicts").stderr


def test_fence_rejects_apply_of_a_new_entry(fenced: Fenced) -> None:
    found = fenced.get(MUTATING)["webhooks"][0]
    entry = found | {"name": "evil.dapr-token-injector.svc"}

    assert REFUSED in fenced.apply(MUTATING, {"webhooks": [entry]}).stderr


@pytest.mark.parametrize("kind", KINDS)
def test_fence_does_not_restrict_other_users(fenced: Fenced, kind: str) -> None:
    fenced.kubectl.patch(kind, fenced.name, change(f"{ENTRY}/timeoutSeconds", 6))

    assert fenced.get(kind)["webhooks"][0]["timeoutSeconds"] == 6


def test_fence_limits_an_account_with_too_many_permissions(fenced: Fenced, register: Callable[[Json], None]) -> None:
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{fenced.name}-too-much"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "dapr-token-injector", "namespace": fenced.kubectl.namespace}],
    }
    register(binding)
    wait_for("the rights", lambda: fenced.try_run("get", "secret", "other").returncode == 0)
    found = fenced.get(MUTATING)
    del found["metadata"]["resourceVersion"], found["metadata"]["uid"]

    for arguments in (("delete", MUTATING, fenced.name), ("delete", VALIDATING, fenced.name)):
        assert "may neither create nor delete" in fenced.try_run(*arguments).stderr
    found["metadata"]["name"] = f"{fenced.name}-new"
    assert "may neither create nor delete" in fenced.try_run("create", "-f", "-", stdin=found).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "secret", SECRET),
        ("get", MUTATING, "{name}"),
        ("get", VALIDATING, "{name}"),
        ("get", "--raw", "/api/v1/namespaces/{namespace}/secrets?watch=1&timeoutSeconds=1&fieldSelector={mine}"),
        ("get", "--raw", f"/apis/admissionregistration.k8s.io/v1/{MUTATING}?watch=1&timeoutSeconds=1&{{field}}"),
        ("get", "--raw", f"/apis/admissionregistration.k8s.io/v1/{VALIDATING}?watch=1&timeoutSeconds=1&{{field}}"),
    ],
    ids=" ".join,
)
def test_role_grants_required_permissions(fenced: Fenced, arguments: tuple[str, ...]) -> None:
    done = fenced.try_run(*filled(fenced, arguments))

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "secret", "other"),
        ("get", "secrets"),
        ("get", "secrets", "--all-namespaces"),
        ("delete", "secret", SECRET),
        ("create", "secret", "generic", "new"),
        ("patch", "secret", SECRET, "--patch={{}}"),
        ("get", "configmaps"),
        ("get", "pods", "--all-namespaces"),
        ("get", MUTATING),
        ("get", VALIDATING),
        ("delete", MUTATING, "{name}"),
        ("get", "validatingadmissionpolicies"),
        ("get", "--raw", "/api/v1/namespaces/{namespace}/secrets?watch=1&timeoutSeconds=1"),
        ("get", "--raw", "/api/v1/namespaces/{namespace}/secrets?fieldSelector={mine}"),
        ("get", "--raw", f"/apis/admissionregistration.k8s.io/v1/{MUTATING}?watch=1&timeoutSeconds=1"),
    ],
    ids=" ".join,
)
def test_role_grants_no_other_permission(fenced: Fenced, arguments: tuple[str, ...]) -> None:
    done = fenced.try_run(*filled(fenced, arguments))

    assert done.returncode == 1
    assert "Forbidden" in done.stderr or "forbidden" in done.stderr


def filled(fenced: Fenced, arguments: tuple[str, ...]) -> list[str]:
    field = f"fieldSelector=metadata.name%3D{fenced.name}"
    mine = f"metadata.name%3D{SECRET}"
    names = {"name": fenced.name, "namespace": fenced.kubectl.namespace, "field": field, "mine": mine}
    return [argument.format(**names) for argument in arguments]


def test_fence_compares_every_field_of_the_api(fenced: Fenced) -> None:
    text = fenced.kubectl.run("get", "--raw", "/openapi/v3/apis/admissionregistration.k8s.io/v1").stdout
    schemas = {name.rpartition(".")[2]: schema for name, schema in json.loads(text)["components"]["schemas"].items()}
    policy, _ = fence(namespace="n", name="n")
    compared = " ".join(validation["expression"] for validation in policy["spec"]["validations"])

    def missing(schema: str, *free: str) -> set[str]:
        fields = set(schemas[schema]["properties"]) - set(free)
        return {name for name in fields if f"?{name} " not in compared and f"?'{name}'" not in compared}

    assert missing("MutatingWebhook", "name", "clientConfig") == set()
    assert missing("ValidatingWebhook", "name", "clientConfig") == set()
    assert missing("WebhookClientConfig", "caBundle") == set()
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        assert set(schemas[kind]["properties"]) == {"apiVersion", "kind", "metadata", "webhooks"}
    # Set by the API server, immutable, or the record of field managers.
    server = ("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation", "managedFields")
    fixed = ("name", "namespace", "generateName", "resourceVersion", "selfLink", "uid")
    assert missing("ObjectMeta", *server, *fixed) == set()


def test_policy_has_no_type_checking_warnings(fenced: Fenced) -> None:
    def checked() -> Json | None:
        status: Json = fenced.kubectl.get("validatingadmissionpolicy", fenced.name).get("status", {})
        return status if "typeChecking" in status else None

    assert wait_for("the policy type checked", checked)["typeChecking"] == {}
