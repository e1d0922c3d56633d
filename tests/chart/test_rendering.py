"""Properties of the chart with any values: names, selectors, permissions, and forbidden content."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.cli.main import Exit, main
from injector.config.policy import parse_policy
from injector.config.settings import Given, Settings, load
from injector.config.shapes import TlsMode
from injector.core import names
from injector.core.errors import ConfigError
from tests.chart.conftest import documents, only, selects
from tests.controlplane.helm import CHART, Helm, HelmError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.chart.conftest import Render
    from tests.controlplane.api import Json

VALUES: Final = sorted([*CHART.glob("ci/*.yaml"), *CHART.glob("profiles/*.yaml")])
CLUSTER_SCOPED: Final = {
    "ClusterRole",
    "ClusterRoleBinding",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
CONVENTIONAL: Final = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
}
CANARIES: Final = {"dapr-token-injector-canary", "dapr-token-injector-test"}
every_values_file: Final = pytest.mark.parametrize("values", VALUES, ids=lambda path: f"{path.parent.name}/{path.stem}")


def ci(name: str) -> tuple[str, str]:
    return "--values", str(CHART / f"ci/{name}-values.yaml")


def sets(*values: str) -> tuple[str, ...]:
    return tuple(part for value in values for part in ("--set", value))


def pod_spec(objects: list[Json]) -> Json:
    spec: Json = only(objects, "Deployment")["spec"]["template"]["spec"]
    return spec


def entries(objects: list[Json]) -> list[Json]:
    return [
        entry
        for item in objects
        if item["kind"] in {"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}
        for entry in item["webhooks"]
    ]


@every_values_file
def test_no_null_and_no_empty_metadata_is_rendered(render: Render, values: Path) -> None:
    """A null is drift for ever in GitOps: the API server drops it, the manifest has it."""

    def nulls(tree: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - any YAML
        if tree is None:
            yield path
        elif isinstance(tree, dict):
            for key, child in tree.items():
                yield from nulls(child, f"{path}.{key}")
        elif isinstance(tree, list):
            for index, child in enumerate(tree):
                yield from nulls(child, f"{path}[{index}]")

    for item in render("--values", str(values), hooks=True):
        assert list(nulls(item, item["kind"])) == []
        assert item["metadata"].get("annotations", {"some": "thing"}) != {}


@every_values_file
def test_every_object_has_the_conventional_labels_and_its_namespace(render: Render, values: Path) -> None:
    for item in render("--values", str(values), namespace="elsewhere", hooks=True):
        assert set(item["metadata"]["labels"]) >= CONVENTIONAL
        # The canary's permissions are in the namespace of its Pod.
        wanted = None if item["kind"] in CLUSTER_SCOPED else "elsewhere"
        if item["metadata"]["name"] in CANARIES and item["kind"] in {"Role", "RoleBinding"}:
            wanted = "kube-public" if "everything" in values.name else "default"
        assert item["metadata"].get("namespace") == wanted, (item["kind"], item["metadata"]["name"])


@every_values_file
def test_only_mode_files_sets_a_ca_bundle(render: Render, values: Path) -> None:
    objects = render("--values", str(values))
    bundles = {entry["clientConfig"].get("caBundle") for entry in entries(objects)}

    if "--tls-mode=files" in pod_spec(objects)["containers"][0]["args"]:
        assert base64.b64decode(bundles.pop()).startswith(b"-----BEGIN CERTIFICATE-----")
    assert bundles <= {None}


@every_values_file
def test_arguments_are_valid_program_options(render: Render, values: Path) -> None:
    for deployment in render("--values", str(values)):
        if deployment["kind"] == "Deployment":
            command, *arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
            options = [argument.removeprefix("--").partition("=") for argument in arguments]
            assert command == "serve"
            # Raises if one is not.
            load(Given({name.replace("-", "_"): value or "true" for name, _, value in options}, {}))


@every_values_file
def test_policy_is_readable_by_the_program(render: Render, values: Path) -> None:
    text = only(render("--values", str(values)), "ConfigMap", "dapr-token-injector-policy")["data"]["policy.yaml"]

    parse_policy(text, "policy.yaml")  # raises if it is not


@every_values_file
def test_selectors_of_the_mutating_entries_are_disjoint(render: Render, values: Path) -> None:
    configurations = [o for o in render("--values", str(values)) if o["kind"] == "MutatingWebhookConfiguration"]
    label = "dapr-token-injector/inject-default"
    for configuration in configurations:
        chosen = {
            entry["name"].split(".")[0].removesuffix("-2"): [
                (rule["operator"], rule["values"])
                for rule in entry["namespaceSelector"]["matchExpressions"]
                if rule["key"] == label
            ]
            for entry in configuration["webhooks"]
        }

        if len(chosen) == 1:
            assert chosen == {"inject": []}
        else:
            assert chosen == {"inject": [("NotIn", ["enabled"])], "default": [("In", ["enabled"])]}
    assert len(configurations) == (2 if "redundant" in values.name else 1)


@every_values_file
def test_own_namespace_and_kube_system_are_excluded(render: Render, values: Path) -> None:
    objects = render("--values", str(values), namespace="elsewhere")
    bindings = [item["spec"]["matchResources"] for item in objects if "guard" in item["metadata"]["name"]
                and item["kind"] == "ValidatingAdmissionPolicyBinding"]  # fmt: skip

    for selected in (*entries(objects), *bindings):
        left_out = {
            name
            for rule in selected["namespaceSelector"]["matchExpressions"]
            if rule["key"] == "kubernetes.io/metadata.name" and rule["operator"] == "NotIn"
            for name in rule["values"]
        }
        assert left_out >= {"elsewhere", "kube-system"}


def test_entries_post_to_the_paths_of_the_program(render: Render) -> None:
    paths = {entry["name"].split(".")[0]: entry["clientConfig"]["service"]["path"] for entry in entries(render())}

    assert paths == {
        "inject": names.MUTATE_PATH,
        "default": names.MUTATE_DEFAULT_PATH,
        "warn": names.WARN_PATH,
    }


@pytest.mark.parametrize("mode", ["files", "cert-manager"])
def test_only_mode_self_has_permissions_token_and_ca(render: Render, mode: str) -> None:
    objects = render(*ci(mode))

    assert pod_spec(objects)["automountServiceAccountToken"] is False
    kinds = {item["kind"] for item in objects if "guard" not in item["metadata"]["name"]}
    rights = {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Secret", "ValidatingAdmissionPolicy"}
    assert kinds & rights == set()


def test_rules_grant_exactly_the_used_permissions(render: Render) -> None:
    objects = render()

    assert only(objects, "Role")["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": [Settings.model_fields["ca_secret_name"].default],
            "verbs": ["get", "watch", "update"],
        }
    ]
    assert only(objects, "ClusterRole")["rules"] == [
        {
            "apiGroups": ["admissionregistration.k8s.io"],
            "resources": ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
            "resourceNames": [Settings.model_fields["webhook_configuration_name"].default],
            "verbs": ["get", "watch", "patch"],
        }
    ]
    assert only(objects, "Service")["metadata"]["name"] == Settings.model_fields["service_name"].default
    assert {item["kind"] for item in objects if "Role" in item["kind"]} == {
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
    }


def test_fence_and_rules_follow_a_custom_service_account(render: Render) -> None:
    objects = render(*sets("serviceAccount.name=existing"), namespace="elsewhere")

    assert [item for item in objects if item["kind"] == "ServiceAccount"] == []
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        subject = {"kind": "ServiceAccount", "name": "existing", "namespace": "elsewhere"}
        assert only(objects, kind)["subjects"] == [subject]
    fence = only(objects, "ValidatingAdmissionPolicy", "dapr-token-injector-fence")
    assert "'system:serviceaccount:elsewhere:existing'" in fence["spec"]["matchConditions"][0]["expression"]


def test_secret_is_rendered_without_data(render: Render) -> None:
    assert set(only(render(), "Secret", "dapr-token-injector-ca")) == {"apiVersion", "kind", "metadata", "type"}


def test_rendering_is_deterministic(helm: Helm) -> None:
    """No generated key, no date: nothing rolls or drifts without a reason."""
    command = ("template", "dapr-token-injector", str(CHART), *ci("everything"))

    assert helm.run(*command) == helm.run(*command)


def test_pods_roll_on_policy_change_and_not_on_chart_version(render: Render) -> None:
    def template(*arguments: str) -> Json:
        found: Json = only(render(*arguments), "Deployment")["spec"]["template"]
        return found

    assert template() != template(*sets("policy.conflict=replace"))
    assert "helm.sh/chart" not in template()["metadata"]["labels"]


def test_numeric_names_stay_strings(render: Render) -> None:
    """`1e3` and `007` are good names of namespaces and Secrets."""
    values = ("canary.secretName=1e3", "imagePullSecrets={007}", "priorityClassName=0x1", "serviceAccount.name=1e4")
    strings = (part for value in values for part in ("--set-string", value))

    def numbers(tree: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - any YAML
        if isinstance(tree, dict):
            for key, child in tree.items():
                yield from numbers(child, f"{path}.{key}")
        elif isinstance(tree, list):
            for child in tree:
                yield from numbers(child, path)
        elif isinstance(tree, float) or (isinstance(tree, int) and path.endswith((".name", "amespace", ".value"))):
            yield path

    objects = render(*strings, namespace="1e3", hooks=True)

    assert [path for item in objects for path in numbers(item, item["kind"])] == []
    assert pod_spec(objects)["imagePullSecrets"] == [{"name": "007"}]


@every_values_file
def test_chart_passes_the_strict_linter(helm: Helm, values: Path) -> None:
    assert "0 chart(s) failed" in helm.run("lint", "--strict", str(CHART), "--values", str(values))


def test_packed_chart_renders_the_same(helm: Helm, render: Render, tmp_path: Path) -> None:
    """What `.helmignore` leaves out is nothing that a template needs."""
    helm.run("package", str(CHART), "--destination", str(tmp_path))
    (packed,) = tmp_path.glob("*.tgz")
    values = ci("everything")

    text = helm.run("template", "dapr-token-injector", str(packed), "--namespace", "dapr-token-injector", *values)

    assert documents(text) == render(*values, hooks=True)


@pytest.mark.parametrize(("leaf", "ca"), [("60h", "21630m"), ("1m", "2160s"), ("366d", "2197d"), ("5s", "1830s")])
def test_certificate_lifetimes_of_the_chart_are_accepted_by_the_program(render: Render, leaf: str, ca: str) -> None:
    def arguments(life: str) -> dict[str, str]:
        values = sets(f"tls.self.leafLifetime={leaf}", f"tls.self.caLifetime={life}")
        options = pod_spec(render(*values))["containers"][0]["args"][1:]
        return dict(argument.removeprefix("--").split("=", 1) for argument in options)

    taken = {name.replace("-", "_"): value for name, value in arguments(ca).items()}
    load(Given(taken, {}))

    number, unit = int(ca[:-1]), ca[-1]
    too_short = f"{number - 1}{unit}"
    with pytest.raises(ConfigError):
        load(Given(taken | {"ca_lifetime": too_short}, {}))
    with pytest.raises(HelmError, match="write a longer caLifetime"):
        arguments(too_short)


def test_replicas_null_leaves_the_field_to_an_autoscaler(render: Render, notes: Callable[..., str]) -> None:
    assert "replicas" not in only(render(*sets("replicas=null")), "Deployment")["spec"]
    assert "as many replicas as the autoscaler sets" in notes(*sets("replicas=null"))


def test_digest_overrides_the_tag(render: Render) -> None:
    digest = "sha256:" + "0" * 64

    image = pod_spec(render(*sets("image.tag=1.2.3", f"image.digest={digest}")))["containers"][0]["image"]

    assert image == f"ghcr.io/dapr-token-injector/dapr-token-injector@{digest}"


def test_grace_period_is_longer_than_the_drain(render: Render) -> None:
    drain = Settings.model_fields["drain_max_seconds"].default

    assert pod_spec(render())["terminationGracePeriodSeconds"] >= drain + 10


def test_ports_match_the_program_arguments(render: Render) -> None:
    ports = {port["name"]: port["containerPort"] for port in pod_spec(render())["containers"][0]["ports"]}

    assert ports == {"webhook": Settings.model_fields["port"].default, "ops": Settings.model_fields["ops_port"].default}


def test_host_network_deletes_a_pod_before_creating_the_next(render: Render) -> None:
    objects = render(*ci("host-network"))

    rolling = only(objects, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 0, "maxUnavailable": 1}
    assert pod_spec(objects)["dnsPolicy"] == "ClusterFirstWithHostNet"


def test_chart_and_program_have_the_same_tls_modes(render: Render) -> None:
    for mode in TlsMode:
        found = render(*(() if mode is TlsMode.SELF else ci(mode)))
        assert f"--tls-mode={mode}" in pod_spec(found)["containers"][0]["args"]


def test_label_deny_is_only_audited_in_shadow(render: Render) -> None:
    def actions(*arguments: str) -> list[str]:
        name = "dapr-token-injector-guard-deny"
        found: list[str] = only(render(*arguments), "ValidatingAdmissionPolicyBinding", name)["spec"][
            "validationActions"
        ]
        return found

    assert actions() == ["Deny", "Audit"]
    assert actions(*sets("policy.shadow=true")) == ["Audit"]


def requested(objects: list[Json]) -> list[Json]:
    return [item for item in objects if item["metadata"]["name"] == "dapr-token-injector-requested"]


@pytest.mark.parametrize(
    ("action", "actions"),
    [("Audit", ["Audit"]), ("Warn", ["Warn", "Audit"]), ("Deny", ["Deny", "Audit"])],
)
def test_requested_action_is_the_only_difference(render: Render, action: str, actions: list[str]) -> None:
    policy, binding = sorted(requested(render(*sets(f"requested.action={action}"))), key=lambda item: len(item["kind"]))

    assert policy["spec"]["failurePolicy"] == "Fail"
    assert (binding["kind"], binding["spec"]["validationActions"]) == ("ValidatingAdmissionPolicyBinding", actions)
    assert policy == requested(render(*sets("requested.action=Deny")))[0]


@pytest.mark.parametrize(
    "values",
    [(), ("requested.action=Deny", "policy.shadow=true"), ("requested.action=Deny", "webhook.failurePolicy=Ignore")],
    ids=" ".join,
)
def test_requested_is_absent_by_default_in_shadow_and_with_ignore(render: Render, values: tuple[str, ...]) -> None:
    assert requested(render(*sets(*values))) == []


def test_requested_has_the_exclusions_of_the_webhook(render: Render) -> None:
    objects = render(*ci("everything"))
    policy = requested(objects)[0]
    selector = policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    labels = "dapr-token-injector/inject-default"

    for entry in only(objects, "MutatingWebhookConfiguration")["webhooks"]:
        assert selector == [one for one in entry["namespaceSelector"]["matchExpressions"] if one["key"] != labels]


def test_requested_knows_the_default_secret_only_with_its_entry(render: Render) -> None:
    def text(*values: str) -> str:
        return str(requested(render(*sets("requested.action=Deny", *values)))[0]["spec"]["variables"])

    assert "inject-default" in text()
    assert "inject-default" not in text("webhook.default.enabled=false")


def test_guard_can_be_disabled(render: Render) -> None:
    assert not any("guard" in item["metadata"]["name"] for item in render(*sets("guard.action=Off")))


def canary_pods(objects: list[Json]) -> list[Json]:
    """The Pod of `helm test`, and the template of the CronJob if there is one."""
    jobs = [item["spec"]["jobTemplate"]["spec"]["template"] for item in objects if item["kind"] == "CronJob"]
    return [only(objects, "Pod", "dapr-token-injector-test"), *jobs]


def test_canary_requests_an_allowed_secret(render: Render) -> None:
    values = sets("policy.defaultSecret=team-x", "policy.defaultKeys.api=key", "canary.enabled=true")
    hook, job = canary_pods(render(*values, hooks=True))

    arguments = hook["spec"]["containers"][0]["args"]
    assert arguments == ["check", "--canary", "--canary-namespace=default", "--canary-secret=team-x:key"]
    job["spec"]["containers"][0]["args"].remove("--canary-groups=1")
    assert job["spec"]["containers"] == hook["spec"]["containers"]


@every_values_file
def test_canary_arguments_are_valid_program_options(
    render: Render, values: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for pod in canary_pods(render("--values", str(values), hooks=True)):
        arguments = pod["spec"]["containers"][0]["args"]
        assert ("--canary-shadow" in arguments) is ("shadow" in values.name or "safe" in values.name)

        assert main([*arguments, f"--kubeconfig={tmp_path / 'none'}"]) == Exit.USAGE
        assert "there is no file" in capsys.readouterr().err


@every_values_file
def test_no_selector_of_the_webhook_selects_the_canary(render: Render, values: Path) -> None:
    objects = render("--values", str(values), hooks=True)
    selectors = [{"matchLabels": one["spec"]["selector"]} for one in objects if one["kind"] == "Service"]
    selectors += [one["spec"]["selector"] for one in objects if one["kind"] in {"Deployment", "PodDisruptionBudget"}]
    selectors += [one["spec"]["podSelector"] for one in objects if one["kind"] == "NetworkPolicy"]

    assert len(selectors) >= 2
    for pod in canary_pods(objects):
        assert not any(selects(selector, pod["metadata"]["labels"]) for selector in selectors)


def test_canary_is_off_by_default_and_fenced_when_enabled(render: Render) -> None:
    name = "dapr-token-injector-canary"
    assert [item for item in render() if item["metadata"]["name"] == name] == []

    objects = render(*sets("canary.enabled=true"))
    role = only(objects, "Role", name)
    fence = only(objects, "ValidatingAdmissionPolicy", name)
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]
    assert [one["expression"] for one in fence["spec"]["validations"]] == ["request.?dryRun.orValue(false)"]
    assert only(objects, "ValidatingAdmissionPolicyBinding", name)["spec"]["validationActions"] == ["Deny"]


@pytest.mark.parametrize(
    ("values", "expected", "readable"),
    [
        ((), ["--canary-groups=1"], 1),
        (("requested.action=Audit",), ["--canary-groups=1", "--canary-requested=Audit"], 3),
        (("requested.action=Deny",), ["--canary-groups=1", "--canary-requested=Deny"], 3),
        (("requested.action=Deny", "policy.shadow=true"), ["--canary-shadow", "--canary-groups=1"], 1),
        (("requested.action=Deny", "webhook.failurePolicy=Ignore"), ["--canary-groups=1"], 1),
        (("requested.action=Deny", "webhook.redundancy=2"), ["--canary-groups=2", "--canary-requested=Deny"], 4),
    ],
)
def test_canary_expects_and_reads_what_is_installed(
    render: Render, values: tuple[str, ...], expected: list[str], readable: int
) -> None:
    objects = render(*sets("canary.enabled=true", *values), hooks=True)
    hook, job = canary_pods(objects)
    rules = only(objects, "ClusterRole", "dapr-token-injector-canary")["rules"]
    named = {(kind, name) for rule in rules for kind in rule["resources"] for name in rule["resourceNames"]}

    assert job["spec"]["containers"][0]["args"][4:] == expected
    assert not [one for one in hook["spec"]["containers"][0]["args"] if one.startswith(("--canary-g", "--canary-r"))]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get"}
    # Each object that the chart installs under this name, and no other.
    installed = {(PLURALS[one["kind"]], one["metadata"]["name"]) for one in objects if one["kind"] in PLURALS}
    assert named <= installed
    assert len(named) == readable


PLURALS: Final = {
    "MutatingWebhookConfiguration": "mutatingwebhookconfigurations",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}


def test_notes_end_with_one_command(notes: Callable[..., str]) -> None:
    rendered_notes = notes("--namespace", "elsewhere")

    assert rendered_notes.count("helm test") == 1
    assert rendered_notes.splitlines()[-1].strip().endswith("helm test release -n elsewhere")
    assert ":" in rendered_notes
    assert "%!" not in rendered_notes


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("replicas=1", "webhook.failurePolicy=Ignore"), "are created without it"),
        (("policy.shadow=true",), "Shadow mode"),
        (("guard.action=Off",), "The guard is off"),
        (("requested.action=Deny", "policy.shadow=true"), "requested.action: Deny has no effect"),
    ],
)
def test_notes_warn_about_weak_settings(notes: Callable[..., str], values: tuple[str, ...], words: str) -> None:
    assert words in notes(*sets(*values))


def test_every_template_is_used_by_some_values_file(render: Render) -> None:
    kinds = {item["kind"] for values in VALUES for item in render("--values", str(values), hooks=True)}
    written = {
        kind
        for template in (CHART / "templates").rglob("*.yaml")
        for kind in re.findall(r"^(?:    )?kind: (\w+)", template.read_text(), re.MULTILINE)
        if not kind.endswith("List")
    }

    assert kinds == written


def test_object_labels_override_common_labels(render: Render) -> None:
    # This YAML reader rejects duplicate keys, which Helm accepts.
    values = ("extraLabels.release=all", "serviceMonitor.enabled=true", "serviceMonitor.labels.release=prometheus")
    objects = render(*(part for value in values for part in ("--set", value)))
    assert only(objects, "ServiceMonitor")["metadata"]["labels"]["release"] == "prometheus"
    assert only(objects, "Service")["metadata"]["labels"]["release"] == "all"
