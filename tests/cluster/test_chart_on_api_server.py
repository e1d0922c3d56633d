"""The chart and the manifests on a real API server: installed, changed, rolled back, removed.

There is no node, so no Pod runs; the test writes what the webhook would write, with its permissions.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import shutil
import textwrap
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.chart.conftest import documents as without_lists
from tests.chart.test_refusals import TWO_STEPS
from tests.cluster.installation import Forwarder, Installation, write_kubeconfig
from tests.cluster.objects import ASKING, pod, token_variable, tokens
from tests.cluster.policies import refusal
from tests.controlplane.cluster import own_namespace
from tests.controlplane.errors import KubectlError
from tests.controlplane.helm import CHART, Helm, HelmError
from tests.controlplane.polling import wait_for
from tests.documents import documents

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.controlplane import binaries
    from tests.controlplane.api import Json
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl

NAME: Final = "dapr-token-injector"
SECOND: Final = "dapr-token-injector-2"
NAMESPACE: Final = "dapr-token-injector"
DEPLOY: Final = Path(__file__).parents[2] / "deploy"
VALUES: Final = sorted([*CHART.glob("ci/*.yaml"), *CHART.glob("profiles/*.yaml")])
COMPONENTS: Final = sorted(DEPLOY.glob("components/*/kustomization.yaml"))
FOREIGN: Final = {"Issuer", "Certificate", "ServiceMonitor", "PrometheusRule"}
CLUSTER_WIDE: Final = (
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "clusterroles",
    "clusterrolebindings",
    "namespaces",
)
MUTATING: Final = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
MUTATING_KIND: Final = "mutatingwebhookconfigurations"
VALIDATING: Final = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
SERVICES: Final = "/api/v1/services"
DEPLOYMENTS: Final = "/apis/apps/v1/deployments"
BINDINGS: Final = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
REQUESTED: Final = "dapr-token-injector-requested"
TWO_GROUPS: Final = ("--set", "webhook.redundancy=2", "--set", "requested.action=Deny")
BUNDLE: Final = base64.b64encode(b"what the webhook published").decode()
KEY: Final = base64.b64encode(b"what the webhook stored").decode()


@pytest.fixture
def helm(own_control_plane: ControlPlane, report: binaries.Report) -> Helm:
    return Helm.find(own_control_plane.folder, own_control_plane.kubeconfig, report=report)


@pytest.fixture
def kubectl(own_control_plane: ControlPlane) -> Iterator[Kubectl]:
    """Kubectl in the namespace of the installation, without leftovers of a failed test."""
    kubectl = own_control_plane.kubectl.within(NAMESPACE)
    before = names(kubectl)
    yield kubectl
    for kind, found in names(kubectl).items():
        for name in found - before[kind]:
            kubectl.delete(kind, name)
    wait_for("the namespace gone", lambda: NAMESPACE not in names(kubectl)["namespaces"])


def names(kubectl: Kubectl) -> dict[str, set[str]]:
    """What the cluster has beyond namespaces, and whether it has ours; those of other tests come and go."""
    found = {kind: {item["metadata"]["name"] for item in kubectl.list(kind)} for kind in CLUSTER_WIDE}
    return found | {"namespaces": found["namespaces"] & {NAMESPACE}}


def install(helm: Helm, *arguments: str) -> str:
    return helm.run("install", NAME, str(CHART), "--namespace", NAMESPACE, "--create-namespace", *arguments)


def upgrade(helm: Helm, *arguments: str) -> str:
    return helm.run("upgrade", NAME, str(CHART), "--namespace", NAMESPACE, *arguments)


def write_as_the_webhook(kubectl: Kubectl) -> None:
    """Store a CA and publish it: by its own ServiceAccount, so with its rights and no others."""
    account = f"--as=system:serviceaccount:{NAMESPACE}:{NAME}"
    secret = kubectl.get("secret", "dapr-token-injector-ca")
    # As it is sent, not as kubectl would: that keeps a note of what it replaced, and the next apply would undo it.
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets/dapr-token-injector-ca"
    kubectl.run("replace", account, "--raw", path, "-f", "-", stdin=secret | {"data": {"ca.key": KEY}})
    for kind, name in configurations(kubectl):
        found = kubectl.get(kind, name)
        bundles = [{"name": w["name"], "clientConfig": {"caBundle": BUNDLE}} for w in found["webhooks"]]
        apply = {
            "apiVersion": found["apiVersion"],
            "kind": found["kind"],
            "metadata": {"name": name, "uid": found["metadata"]["uid"]},
            "webhooks": bundles,
        }
        kubectl.run("apply", account, "--server-side", f"--field-manager={NAME}", "-f", "-", stdin=apply)


def configurations(kubectl: Kubectl) -> list[tuple[str, str]]:
    """Kind and name of each of our webhook configurations."""
    second = [(MUTATING_KIND, SECOND)] if kubectl.find(MUTATING_KIND, SECOND) else []
    return [(MUTATING_KIND, NAME), *second, ("validatingwebhookconfigurations", NAME)]


def assert_still_written(kubectl: Kubectl) -> None:
    assert kubectl.get("secret", "dapr-token-injector-ca")["data"] == {"ca.key": KEY}
    assert bundles(kubectl) == {BUNDLE}


def bundles(kubectl: Kubectl) -> set[str]:
    entries = [entry for kind, name in configurations(kubectl) for entry in kubectl.get(kind, name)["webhooks"]]
    return {entry["clientConfig"].get("caBundle", "") for entry in entries}


@pytest.mark.parametrize("values", VALUES, ids=lambda path: f"{path.parent.name}/{path.stem}")
@pytest.mark.usefixtures("foreign_kinds")
def test_every_rendered_object_is_accepted(helm: Helm, own_control_plane: ControlPlane, values: Path) -> None:
    rendered = helm.run("template", NAME, str(CHART), "--namespace", "default", "--values", str(values), "--no-hooks")
    objects = without_lists(rendered)

    assert_accepted(own_control_plane.kubectl, objects)
    assert len(objects) > 5


@pytest.mark.usefixtures("foreign_kinds")
def test_custom_resources_of_the_manifests_are_accepted(own_control_plane: ControlPlane) -> None:
    files = [file for component in COMPONENTS for file in component.parent.glob("*.yaml") if file != component]
    items = [item for file in files for item in documents(file) if item["kind"] in FOREIGN]

    placed = [item | {"metadata": item["metadata"] | {"namespace": "default"}} for item in items]
    assert_accepted(own_control_plane.kubectl, placed)
    assert {item["kind"] for item in items} == FOREIGN


@pytest.mark.parametrize(
    ("api", "kind", "spec", "complaint"),
    [
        (
            "monitoring.coreos.com/v1",
            "ServiceMonitor",
            {"selector": {}, "endpoints": [{"prt": "ops"}]},
            ".spec.endpoints[0].prt: field not declared in schema",
        ),
        (
            "cert-manager.io/v1",
            "Certificate",
            {"secretName": "s", "issuerRef": {"name": "i"}, "durations": "1h"},
            ".spec.durations: field not declared in schema",
        ),
    ],
)
@pytest.mark.usefixtures("foreign_kinds")
def test_unknown_field_of_a_custom_resource_is_found(
    own_control_plane: ControlPlane, api: str, kind: str, spec: dict[str, object], complaint: str
) -> None:
    item = {"apiVersion": api, "kind": kind, "metadata": {"name": "wrong"}, "spec": spec}

    with pytest.raises(KubectlError, match=re.escape(complaint)):
        assert_accepted(own_control_plane.kubectl, [item])


def assert_accepted(kubectl: Kubectl, items: Sequence[Json]) -> None:
    """Also without warnings, in which an API server reports unknown fields."""
    flags = ("--server-side", "--dry-run=server", "--validate=strict")
    for namespace, group in groupby(items, key=lambda item: item.get("metadata", {}).get("namespace", "default")):
        those = list(group)
        output = kubectl.within(namespace).apply(those, *flags)
        assert (len(output.stdout.splitlines()), output.warnings) == (len(those), ())


def test_chart_install_upgrade_and_uninstall(helm: Helm, kubectl: Kubectl) -> None:
    before = names(kubectl)
    kubectl.run("create", "namespace", NAMESPACE)
    kubectl.run("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")

    notes = install(helm)
    assert "helm test dapr-token-injector -n dapr-token-injector" in notes
    assert bundles(kubectl) == {""}
    assert "data" not in kubectl.get("secret", "dapr-token-injector-ca")
    wait_for("Pods that Pod Security lets in", lambda: len(kubectl.list("pods")) == 2)
    write_as_the_webhook(kubectl)

    upgrade(helm, "--set", "webhook.timeoutSeconds=7", "--set", "policy.conflict=replace", "--set", "replicas=3")
    assert_still_written(kubectl)
    assert {w["timeoutSeconds"] for w in kubectl.get("mutatingwebhookconfigurations", NAME)["webhooks"]} == {7}
    assert kubectl.get("deployment", NAME)["spec"]["replicas"] == 3

    helm.run("rollback", NAME, "1", "--namespace", NAMESPACE)
    assert_still_written(kubectl)
    assert {w["timeoutSeconds"] for w in kubectl.get("mutatingwebhookconfigurations", NAME)["webhooks"]} == {5}
    assert kubectl.get("deployment", NAME)["spec"]["replicas"] == 2

    helm.run("uninstall", NAME, "--namespace", NAMESPACE)
    after = names(kubectl)
    assert after.pop("namespaces") - before.pop("namespaces") == {
        NAMESPACE
    }  # --create-namespace made it, Helm keeps it
    assert after == before
    assert left_in_namespace(kubectl) == set()


def test_second_group_comes_and_goes_with_the_value(helm: Helm, kubectl: Kubectl) -> None:
    before = names(kubectl)
    install(helm, *TWO_GROUPS, "--set", "replicas=3")
    wait_for("Pods of both groups", lambda: len(kubectl.list("pods")) == 3)
    assert [len(kubectl.get(MUTATING_KIND, name)["webhooks"]) for name in (NAME, SECOND)] == [2, 2]
    write_as_the_webhook(kubectl)

    upgrade(helm, *TWO_GROUPS, "--set", "replicas=5")
    assert_still_written(kubectl)
    assert [kubectl.get("deployment", name)["spec"]["replicas"] for name in (NAME, SECOND)] == [3, 2]

    upgrade(helm, "--reset-values")
    assert_still_written(kubectl)
    assert {entry["failurePolicy"] for entry in kubectl.get(MUTATING_KIND, NAME)["webhooks"]} == {"Fail"}
    assert [kind for kind in ("deployment", "service", MUTATING_KIND) if kubectl.find(kind, SECOND)] == []
    # The entries would ignore failures before the policy is in force.
    with pytest.raises(HelmError, match=re.escape(TWO_STEPS)):
        upgrade(helm, *TWO_GROUPS)

    helm.run("rollback", NAME, "1", "--namespace", NAMESPACE)
    assert kubectl.get("deployment", SECOND)["spec"]["replicas"] == 1
    helm.run("uninstall", NAME, "--namespace", NAMESPACE)
    assert names(kubectl) | {"namespaces": before["namespaces"]} == before
    assert left_in_namespace(kubectl) == set()


def test_pod_gets_its_token_through_either_group(helm: Helm, own_control_plane: ControlPlane, kubectl: Kubectl) -> None:
    install(helm, *TWO_GROUPS)
    with own_namespace(kubectl) as shop, contextlib.ExitStack() as stack:
        groups = [group(own_control_plane, kubectl, name, stack) for name in (NAME, SECOND)]
        replicas = [each.start(*flags(kubectl, name)) for each, name in zip(groups, (NAME, SECOND), strict=True)]
        wait_for("a Pod with its token", lambda: admitted(shop) == [token_variable()])
        assert "" not in bundles(kubectl)

        for index, name in enumerate((NAME, SECOND)):
            replicas[index].process.kill()
            assert admitted(shop) == [token_variable()]
            groups[index].forwarder.backends = ()
            replicas[index] = groups[index].start(*flags(kubectl, name))
        for replica in replicas:
            replica.process.kill()
        denied = refusal(shop, pod(ASKING))
        assert f"'{REQUESTED}' denied request" in denied

        # The command in the message, as it is.
        kubectl.run(*denied.partition("in an emergency: kubectl ")[2].split())
        wait_for("a Pod without a token", lambda: not refusal(shop, pod(ASKING)))
        assert admitted(shop) == []
        assert not {NAME, SECOND} & names(kubectl)["mutatingwebhookconfigurations"]


def admitted(kubectl: Kubectl) -> list[Json]:
    """The token variables in the sidecar of a Pod that the API server admits."""
    shown = kubectl.run("create", "-f", "-", "--dry-run=server", "-o", "json", stdin=pod(ASKING))
    return tokens(json.loads(shown.stdout))


def group(plane: ControlPlane, kubectl: Kubectl, name: str, stack: contextlib.ExitStack) -> Installation:
    """One group of replicas, with the permissions that the chart gives it. Its entries have its URL."""
    folder = plane.folder / f"{name}-{secrets.token_hex(4)}"
    folder.mkdir()
    write_kubeconfig(kubectl, folder / "replica.kubeconfig")
    forwarder = Forwarder()
    stack.callback(forwarder.close)
    made = Installation(kubectl, folder, NAME, forwarder, stack)
    for index, entry in enumerate(kubectl.get(MUTATING_KIND, name)["webhooks"]):
        service = entry["clientConfig"]["service"]
        assert service["name"] == name
        change = {
            "op": "replace",
            "path": f"/webhooks/{index}/clientConfig",
            "value": made.client_config(service["path"]),
        }
        kubectl.patch(MUTATING_KIND, name, [change])
    return made


def flags(kubectl: Kubectl, deployment: str) -> list[str]:
    """The arguments of a group's replicas that only exist with two groups."""
    arguments = kubectl.get("deployment", deployment)["spec"]["template"]["spec"]["containers"][0]["args"]
    return [one for one in arguments if one.startswith(("--fail-over", "--service-name=", "--second-"))]


def left_in_namespace(kubectl: Kubectl) -> set[str]:
    """What stays, less what every namespace has and less what the garbage collector is about to remove."""
    found = kubectl.run("get", "all,cm,secret,sa,role,rolebinding,pdb,networkpolicy", "-o", "name").stdout.split()
    return {
        item
        for item in found
        if item not in {"configmap/kube-root-ca.crt", "serviceaccount/default"}
        and not item.startswith(("pod/", "replicaset.apps/"))
    }


def test_upgrade_keeps_the_replicas_of_an_autoscaler(helm: Helm, kubectl: Kubectl) -> None:
    install(helm, "--set", "replicas=null")
    kubectl.run("scale", f"deployment/{NAME}", "--replicas=5")

    upgrade(helm, "--set", "replicas=null", "--set", "log.level=debug")

    assert kubectl.get("deployment", NAME)["spec"]["replicas"] == 5


def test_mode_changes_remove_unused_permissions_and_can_be_reverted(helm: Helm, kubectl: Kubectl) -> None:
    install(helm)
    write_as_the_webhook(kubectl)

    # The bundle is ours by server-side apply; Helm 4 must be asked to take it away from us, Helm 3 does it unasked.
    taking = ("--values", str(CHART / "ci/files-values.yaml"))
    if helm.major_version() == 3:
        upgrade(helm, *taking)
    else:
        with pytest.raises(HelmError, match="caBundle"):
            upgrade(helm, *taking)
        upgrade(helm, *taking, "--force-conflicts")
    assert names(kubectl)["clusterroles"] & {NAME} == set()
    assert kubectl.find("secret", "dapr-token-injector-ca") is None
    assert bundles(kubectl) != {BUNDLE}

    upgrade(helm, "--reset-values")
    write_as_the_webhook(kubectl)
    assert_still_written(kubectl)


def test_chart_upgrade_keeps_the_data_written_by_the_webhook(helm: Helm, kubectl: Kubectl, tmp_path: Path) -> None:
    older = shutil.copytree(CHART, tmp_path / "dapr-token-injector")
    about = (older / "Chart.yaml").read_text()
    (older / "Chart.yaml").write_text(about.replace("ersion: 0.1.0", "ersion: 0.0.9"))
    helm.run("install", NAME, str(older), "--namespace", NAMESPACE, "--create-namespace")
    assert kubectl.get("deployment", NAME)["metadata"]["labels"]["helm.sh/chart"] == "dapr-token-injector-0.0.9"
    write_as_the_webhook(kubectl)

    upgrade(helm)

    assert_still_written(kubectl)
    assert kubectl.get("deployment", NAME)["metadata"]["labels"]["helm.sh/chart"] == "dapr-token-injector-0.1.0"


def test_second_installation_is_rejected_and_the_first_is_kept(helm: Helm, kubectl: Kubectl) -> None:
    install(helm)

    with pytest.raises(HelmError) as refused:
        helm.run("install", "other", str(CHART), "--namespace", "default")

    assert "exists and cannot be imported" in refused.value.message
    assert names(kubectl)["clusterroles"] >= {NAME}


def test_uninstall_deletes_configurations_before_the_service(helm: Helm, kubectl: Kubectl) -> None:
    install(helm)
    start = revision(kubectl)

    helm.run("uninstall", NAME, "--namespace", NAMESPACE)

    (mutating,), (service,), (deployment,) = (
        deletions(kubectl, path, start) for path in (MUTATING, SERVICES, DEPLOYMENTS)
    )
    assert mutating < service
    # Helm 3 deletes the Deployment first; its Pods serve on.
    assert mutating < deployment or helm.major_version() == 3


def test_interrupted_uninstall_is_completed_by_the_next_run(helm: Helm, kubectl: Kubectl) -> None:
    before = names(kubectl)
    install(helm)
    for kind in ("mutatingwebhookconfiguration", "service", "clusterrole"):
        kubectl.run("delete", kind, NAME)

    helm.run("uninstall", NAME, "--namespace", NAMESPACE)

    assert names(kubectl) | {"namespaces": before["namespaces"]} == before
    assert left_in_namespace(kubectl) == set()


def test_upgrade_from_older_chart_keeps_the_service_object(helm: Helm, kubectl: Kubectl, tmp_path: Path) -> None:
    older = shutil.copytree(CHART, tmp_path / NAME)
    template = older / "templates/webhook/service.yaml"
    first, *_, listed = re.split("^# A list|^items:\n", template.read_text(), flags=re.MULTILINE)
    listed = re.sub(r"^  (?={{- (?:range|end))", "    ", listed.replace("  - ", "    ", 1), flags=re.MULTILINE)
    alone = textwrap.dedent(listed).replace("nindent 6", "nindent 2").replace("nindent 8", "nindent 4")
    template.write_text(first + alone)
    helm.run("install", NAME, str(older), "--namespace", NAMESPACE, "--create-namespace")
    uid = kubectl.get("service", NAME)["metadata"]["uid"]

    upgrade(helm)
    assert kubectl.get("service", NAME)["metadata"]["uid"] == uid
    helm.run("rollback", NAME, "1", "--namespace", NAMESPACE)
    assert kubectl.get("service", NAME)["metadata"]["uid"] == uid


def test_manifests_apply_update_and_delete(kubectl: Kubectl) -> None:
    before = names(kubectl)
    folder = str(DEPLOY / "overlays/production")

    # Configurations come first in the list and their namespace need not exist for that.
    kubectl.run("apply", "-k", folder)
    write_as_the_webhook(kubectl)
    kubectl.run("apply", "-k", folder)
    kubectl.run("apply", "-k", folder, "--server-side", "--force-conflicts")
    assert_still_written(kubectl)

    start = revision(kubectl)
    kubectl.run("delete", "-k", folder, "--ignore-not-found")
    assert names(kubectl) == before
    assert_configurations_went_first(kubectl, start)


def test_manifests_of_two_groups_apply_update_and_delete(kubectl: Kubectl, tmp_path: Path) -> None:
    before = names(kubectl)
    base = os.path.relpath(DEPLOY, tmp_path.resolve())
    components = ", ".join(f"{base}/components/{name}" for name in ("ha", "requested", "redundant"))
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{base}/base]\ncomponents: [{components}]\nsortOptions: {{order: fifo}}\n"
    )

    kubectl.run("apply", "-k", str(tmp_path))
    write_as_the_webhook(kubectl)
    kubectl.run("apply", "-k", str(tmp_path))
    kubectl.run("apply", "-k", str(tmp_path), "--server-side", "--force-conflicts")
    assert_still_written(kubectl)
    assert kubectl.find(MUTATING_KIND, SECOND)
    wait_for("Pods of both groups", lambda: len(kubectl.list("pods")) == 2)

    kubectl.run("delete", "-k", str(tmp_path), "--ignore-not-found")
    assert names(kubectl) == before


def test_manifests_deleted_twice_in_reverse_order_leave_nothing(kubectl: Kubectl) -> None:
    before = names(kubectl)
    folder = str(DEPLOY / "overlays/production")
    kubectl.run("apply", "-k", folder)
    objects = documents(kubectl.run("kustomize", folder).stdout)

    for item in reversed(objects):
        kubectl.run("delete", "--ignore-not-found", "-f", "-", stdin=item)
    kubectl.run("delete", "-k", folder, "--ignore-not-found")

    assert names(kubectl) == before


def revision(kubectl: Kubectl) -> str:
    """The present revision of the whole store."""
    listed: str = json.loads(kubectl.run("get", "--raw", "/api/v1/namespaces").stdout)["metadata"]["resourceVersion"]
    return listed


@pytest.mark.parametrize("groups", [1, 2])
def test_end_of_shadow_mode_begins_with_audit(helm: Helm, kubectl: Kubectl, groups: int) -> None:
    deny = ("--set", "requested.action=Deny", "--set", f"webhook.redundancy={groups}")
    shadow = ("--set", "policy.shadow=true")

    def actions() -> list[str]:
        found: list[str] = kubectl.get("validatingadmissionpolicybinding", REQUESTED)["spec"]["validationActions"]
        return found

    assert "requested.action: Deny has no effect" in install(helm, *deny, *shadow)
    assert kubectl.find("validatingadmissionpolicy", REQUESTED) is None

    ended = upgrade(helm, *deny)
    assert "run this upgrade again" in ended
    assert ("a Pod that no group serves is created without its token" in ended) is (groups == 2)
    assert actions() == ["Audit"]

    assert "requested.action" not in upgrade(helm, *deny)
    assert actions() == ["Deny", "Audit"]

    upgrade(helm, *deny, *shadow)
    assert kubectl.find("validatingadmissionpolicybinding", REQUESTED) is None


def test_uninstall_leaves_no_policy_that_denies(helm: Helm, kubectl: Kubectl) -> None:
    install(helm, "--set", "requested.action=Deny")
    with own_namespace(kubectl) as shop:
        # The policy alone: no Pod answers the webhook.
        wait_for("the policy in force", lambda: "no DAPR_API_TOKEN" in refusal_without_webhook(kubectl, shop))
        helm.run("upgrade", NAME, str(CHART), "--namespace", NAMESPACE, "--set", "requested.action=Deny")
        start = revision(kubectl)

        helm.run("uninstall", NAME, "--namespace", NAMESPACE)

        (mutating,), (binding,) = deletions(kubectl, MUTATING, start), deletions(kubectl, BINDINGS, start, REQUESTED)
        assert mutating < binding  # the kind is unknown to Helm, so that it comes after those that it knows
        wait_for("a Pod without a token", lambda: not refusal(shop, pod(ASKING)))


def refusal_without_webhook(kubectl: Kubectl, shop: Kubectl) -> str:
    kubectl.delete("mutatingwebhookconfiguration", NAME)
    return refusal(shop, pod(ASKING))


def deletions(kubectl: Kubectl, path: str, start: str, name: str = NAME) -> list[int]:
    """Revisions at which an object of ours was deleted, or asked to end, since `start`."""
    query = f"{path}?watch=1&resourceVersion={start}&timeoutSeconds=1"
    events = [json.loads(line) for line in kubectl.run("get", "--raw", query).stdout.splitlines()]
    return [
        int(event["object"]["metadata"]["resourceVersion"])
        for event in events
        if event["object"]["metadata"]["name"] == name
        and (event["type"] == "DELETED" or "deletionTimestamp" in event["object"]["metadata"])
    ]


def assert_configurations_went_first(kubectl: Kubectl, start: str) -> None:
    configurations = [revision for path in (MUTATING, VALIDATING) for revision in deletions(kubectl, path, start)]
    pointed_at = [
        revision
        for path in (SERVICES, DEPLOYMENTS, "/api/v1/namespaces", "/api/v1/serviceaccounts")
        for revision in deletions(kubectl, path, start)
    ]
    assert len(configurations) == 2
    assert pointed_at
    assert max(configurations) < min(pointed_at)
