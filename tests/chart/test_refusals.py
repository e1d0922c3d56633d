"""Dangerous values are rejected before anything reaches a cluster, with the fix."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.chart.conftest import documents
from tests.controlplane.helm import CHART, HelmError
from tests.documents import document

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.conftest import Render
    from tests.controlplane.helm import Helm

PEM: Final = "-----BEGIN CERTIFICATE-----"
FILES: Final = ("tls.mode=files", "tls.files.secretName=s", f"tls.files.caBundle={PEM}")
REDUNDANT: Final = ("webhook.redundancy=2", "requested.action=Deny")

# This one depends on what is installed: tests/cluster/test_chart_on_api_server.py.
TWO_STEPS: Final = "run this upgrade with webhook.redundancy: 1 first"

CONTRADICTIONS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "Fail with one replica": (("replicas=1",), "write replicas: 2, or webhook.failurePolicy: Ignore"),
    "two groups and one replica": ((*REDUNDANT, "replicas=1"), "write replicas: 2 or more, or webhook.redundancy: 1"),
    "two groups and one replica with Ignore": (
        ("webhook.redundancy=2", "replicas=1", "webhook.failurePolicy=Ignore"),
        "leaves the second group without a replica",
    ),
    "two groups and no policy": (("webhook.redundancy=2",), "write requested.action: Deny, or webhook.redundancy: 1"),
    "two groups and a policy that only audits": (
        ("webhook.redundancy=2", "requested.action=Audit"),
        "requested.action: Audit would create a Pod without its token",
    ),
    "two groups in the strict profile": (
        (f"--values={CHART / 'profiles/strict.yaml'}", "webhook.redundancy=2"), "write requested.action: Deny",
    ),
    "two rounds that take too long": (
        (*REDUNDANT, "webhook.timeoutSeconds=15"), "write webhook.timeoutSeconds: 14 or less",
    ),
    "groups that stop before they start": (
        (*REDUNDANT, "replicas=3", "hostNetwork=true", "webhook.port=10260"), "write replicas: 4 or more",
    ),
    "a certificate for one Service": ((*REDUNDANT, *FILES), "write tls.files.coversSecondService: true"),
    "own namespace not excluded": (("webhook.excludedNamespaces={kube-system}",), 'add "{{ .Release.Namespace }}"'),
    "another namespace's name": (("webhook.excludedNamespaces={kube-system,elsewhere}",), "own namespace"),
    "files with mode self": (("tls.files.secretName=s",), "two sources of one certificate"),
    "a bundle with cert-manager": (
        ("tls.mode=cert-manager", f"tls.files.caBundle={PEM}"), "two sources of one certificate",
    ),
    "an issuer with mode self": (("tls.certManager.issuerRef.name=i",), "two sources of one certificate"),
    "an issuer with files": ((*FILES, "tls.certManager.issuerRef.name=i"), "two sources of one certificate"),
    "an issuer without a name": (
        ("tls.mode=cert-manager", "tls.certManager.issuerRef.kind=ClusterIssuer"), "issuerRef has no name",
    ),
    "files without a Secret": (("tls.mode=files", f"tls.files.caBundle={PEM}"), "needs both"),
    "files without a bundle": (("tls.mode=files", "tls.files.secretName=s"), "needs both"),
    "a bundle that is none": ((*FILES[:2], "tls.files.caBundle=ca.crt"), "--set-file tls.files.caBundle=ca.crt"),
    "a private key to be published": (
        (*FILES[:2], f"tls.files.caBundle={PEM} -----BEGIN PRIVATE KEY-----"), "holds a private key",
    ),
    "renewal before the start": (
        ("tls.certManager.duration=24h", "tls.certManager.renewBefore=24h"), "must be shorter than",
    ),
    "a CA that hardly outlives its certificates": (("tls.self.caLifetime=6d",), "write a longer caLifetime"),
    "a certificate that outlives the CA": (("tls.self.leafLifetime=61d",), "write a longer caLifetime"),
    "a CA for ever": (("tls.self.caLifetime=3654d",), "at most 3653d"),
    "Deny in shadow": (("guard.action=Deny", "policy.shadow=true"), "write guard.action: Audit until shadow is off"),
    "the kubelet's port": (("hostNetwork=true",), "is the kubelet's own port"),
    "the kubelet's port for health": (
        ("hostNetwork=true", "webhook.port=10260", "webhook.opsPort=10250"), "such as webhook.opsPort: 10261",
    ),
    "a selector of one's own": (
        ("topologySpreadConstraints[0].labelSelector.matchLabels.a=b",), "take labelSelector out of the constraint",
    ),
    "a canary that is not allowed": (
        ("policy.allowedSecrets={dapr-*}", "canary.secretName=other"),
        "write canary.secretName: a name that is allowed",
    ),
    "sealed Pods on an old API server": (
        ("seal.mode=on-request", "--kube-version=1.34.9"), "upgrade the API servers and all nodes",
    ),
    "one port for both": (("webhook.opsPort=10250",), "write two different ports"),
    "no default Secret": (("policy.defaultSecret=",), "write webhook.default.enabled: false"),
    "a default that is not allowed": (("policy.allowedSecrets={team-*}",), "add a pattern that fits it"),
    "egress to nowhere": (
        ("networkPolicy.enabled=true", "networkPolicy.egress.enabled=true"), "networkPolicy.egress.cidrs",
    ),
    "a label that selectors rely on": (
        ("extraLabels.app\\.kubernetes\\.io/name=other",), "is the chart's own, and selectors rely on it",
    ),
    "the same for Pods": (
        ("podLabels.app\\.kubernetes\\.io/instance=other",), "is the chart's own, and selectors rely on it",
    ),
    "a canary that cannot pass": (("canary.namespace=kube-system",), "name one that it serves"),
}  # fmt: skip


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_contradicting_values_are_rejected_with_a_message(render: Render, what: str) -> None:
    values, sentence = CONTRADICTIONS[what]

    with pytest.raises(HelmError) as refused:
        render(*(part for value in values for part in ((value,) if value.startswith("--") else ("--set", value))))

    assert sentence in refused.value.message


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ("replica=3", "replica"),
        ("webhook.failPolicy=Fail", "failPolicy"),
        ("policy.allowedSecret={a}", "allowedSecret"),
        ("tls.mode=selfsigned", "tls/mode"),
        ("webhook.failurePolicy=fail", "webhook/failurePolicy"),
        ("webhook.timeoutSeconds=31", "webhook/timeoutSeconds"),
        ("webhook.timeoutSeconds=5s", "webhook/timeoutSeconds"),
        ("replicas=0", "replicas"),
        ("guard.action=deny", "guard/action"),
        ("requested.action=deny", "requested/action"),
        ("webhook.redundancy=0", "webhook/redundancy"),
        ("webhook.redundancy=3", "webhook/redundancy"),
        ("webhook.redundancy=true", "webhook/redundancy"),
        ("webhook.redundancy=null", "'redundancy'"),
        ("image.digest=latest", "image/digest"),
        ("imagePullSecrets[0].name=registry", "imagePullSecrets/0"),
        ("policy.conflict=drop", "policy/conflict"),
        ("seal.mode=false", "seal/mode"),
        ("seal.mode=yes", "seal/mode"),
        ("seal.image.digest=latest", "seal/image/digest"),
        ("seal.imagePullSecrets={a,b,c,d,e,f,g,h,i}", "seal/imagePullSecrets"),
        ("seal=null", "'seal'"),
        ("terminationGracePeriodSeconds=10", "terminationGracePeriodSeconds"),
        ("webhook.port=443", "webhook/port"),
        ("extraLabels.a=1", "extraLabels/a"),
        ("tls.self.leafLifetime=0s", "tls/self/leafLifetime"),
        ("policy.shadow=null", "'shadow'"),
        ("webhook.failurePolicy=null", "'failurePolicy'"),
        ("webhook=null", "'webhook'"),
        ("tls.self.caLifetime=1234567890d", "tls/self/caLifetime"),
    ],
)
def test_value_outside_the_schema_is_rejected_by_name(render: Render, values: str, complaint: str) -> None:
    with pytest.raises(HelmError) as refused:
        render("--set", values)

    assert complaint in refused.value.message


@pytest.mark.parametrize(
    "values",
    [
        ("replicas=1", "webhook.failurePolicy=Ignore"),
        (*REDUNDANT, "replicas=2", "webhook.timeoutSeconds=14"),
        (*REDUNDANT, "replicas=null"),
        (*REDUNDANT, "replicas=4", "hostNetwork=true", "webhook.port=10260"),
        (*REDUNDANT, "replicas=null", "hostNetwork=true", "webhook.port=10260"),
        (*REDUNDANT, *FILES, "tls.files.coversSecondService=true"),
        ("webhook.redundancy=2", "webhook.failurePolicy=Ignore"),
        ("webhook.redundancy=2", "policy.shadow=true"),
        ("replicas=null",),
        ("tls.self.caLifetime=21630m", "tls.self.leafLifetime=60h"),
        ("tls.mode=cert-manager", "tls.self.caLifetime=1s"),
        ("policy.defaultSecret=", "webhook.default.enabled=false"),
        ("policy.allowedSecrets={dapr-*}",),
        ("policy.allowedSecrets={other,d?pr-api-[!a]oken}",),
        ("hostNetwork=true", "webhook.port=10260"),
        ("global.anything=1",),
        ("networkPolicy.enabled=true", "networkPolicy.egress.enabled=true", *FILES),
        ("canary.namespace=team-a",),
    ],
    ids=" ".join,
)
def test_suggested_fix_of_a_rejection_is_accepted(render: Render, values: tuple[str, ...]) -> None:
    assert render(*(part for value in values for part in ("--set", value)))


def test_null_removes_a_default_or_is_rejected_by_name(helm: Helm, tmp_path: Path) -> None:
    # One rendering for all values that can be null; the schema names the others.
    defaults = document(CHART / "values.yaml")
    needed = json.loads((CHART / "values.schema.json").read_text())

    def taken_away(values: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
        kept = schema.get("required", [])
        return {
            key: taken_away(value, schema["properties"][key]) if key in kept else None
            for key, value in values.items()
            if key not in kept or isinstance(value, dict)
        }

    values = taken_away(defaults, needed)
    values["webhook"] |= {"default": {"enabled": False}, "excludedNamespaces": ["a"]}
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    assert documents(
        helm.run("template", "a", str(CHART), "--namespace", "a", "--values", str(tmp_path / "values.yaml"))
    )


@pytest.mark.parametrize("namespace", ["default", "dapr-token-injector", "kube-system", "kube-public"])
def test_chart_can_be_installed_into_any_namespace(render: Render, namespace: str) -> None:
    assert render(namespace=namespace, hooks=True)


def test_every_failure_of_the_templates_is_tested() -> None:
    text = (CHART / "templates/refusals.yaml").read_text()
    sentences = [found.replace('\\"', '"') for found in re.findall(r'fail (?:\(printf )?"((?:[^"\\]|\\.)*)"', text)]
    shown = {sentence for _, sentence in CONTRADICTIONS.values()} | {TWO_STEPS}

    assert len(sentences) == text.count("{{- fail ")
    assert [message for message in sentences if not any(sentence in message for sentence in shown)] == []
