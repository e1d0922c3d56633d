"""The policy `requested` denies what the webhook would have patched, and nothing that it lets through."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cluster.conftest import wait_until_injecting
from tests.cluster.objects import APP, ASKING, DAPR, SECRET, SIDECAR, pod
from tests.cluster.policies import refusal, requested
from tests.controlplane import registration
from tests.controlplane.cluster import own_namespace
from tests.controlplane.polling import wait_for
from tests.golden.cases import folders, is_error, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.target import Cluster
    from tests.controlplane.webhook import Webhook
    from tests.golden.cases import Golden

NAME: Final = "dapr-token-injector-requested"
DEFAULT_LABEL: Final = "dapr-token-injector/inject-default"
EMERGENCY: Final = (
    f"kubectl delete --ignore-not-found validatingadmissionpolicybinding/{NAME} "
    "mutatingwebhookconfiguration/dapr-token-injector mutatingwebhookconfiguration/dapr-token-injector-2 "
    "validatingwebhookconfiguration/dapr-token-injector"
)
MARKER: Final = "never-show-me-3f9a"
PATIENT: Final = "60s"  # an API server needs many seconds for the largest Pod
USER: Final = "deployer"  # with rights of its own, unlike `system:masters`
AS_USER: Final = (f"--as={USER}", "--as-group=system:authenticated")

# Cases that no API server accepts, so that no policy sees them.
INVALID: Final = {
    "A1-pod-of-another-group-is-skipped",
    "D-all-of-several-sidecars-are-patched",
    "D-entry-with-two-sources-is-kept",
    "D-name-like-daprd-is-not-a-sidecar",
    "D-pod-with-null-lists-is-skipped",
    "D-pod-without-a-spec-is-skipped",
    "D-sidecars-that-disagree-leave-the-app-with-nothing",
    "D-sidecars-that-keep-the-same-reference-share-it-with-the-app",
    "D-seal-has-the-resources-of-the-largest-container",
    "D-seal-that-was-lost-is-added-again",
    "W13-source-of-a-future-kind-is-kept",
    "W13-source-of-a-future-kind-that-is-not-a-mapping-is-kept",
    "W21-empty-source-is-replaced",
    "W21-source-of-nulls-is-replaced",
    "W3-native-sidecar-without-other-containers",
    "W6-optional-file-reference-is-replaced",
}
# Cases that the webhook patches and the policy does not deny, and why.
NOT_ENFORCED: Final = {
    "D-reference-off-the-list-is-replaced-when-the-policy-says-so": "conflict",
    "W5-literal-is-replaced-when-the-policy-says-so": "conflict",
    "W5-other-reference-is-replaced-when-the-policy-says-so": "conflict",
    "W7-of-two-entries-the-last-is-replaced": "conflict",
    "W20-app-gets-the-reference-that-replaces-daprds-literal": "conflict",
    "W18-re-pointed-to-the-policys-default-key": "defaultKeys",
    "W23-reference-through-another-variable-to-another-secret-is-kept": "an app next to an indirect reference",
    "D-seal-takes-over-the-references-of-earlier-rounds": "seal",
    "D-seal-waits-for-the-sidecar": "no sidecar",
    "W17-app-container-is-patched-before-the-sidecar-is-added": "no sidecar",
    "W25-named-sidecar-by-another-name-gets-nothing": "no sidecar",
    "W25-star-leaves-out-a-sidecar-by-another-name": "no sidecar",
}


@contextlib.contextmanager
def in_force(cluster: Cluster, kubectl: Kubectl, items: Sequence[Json], label: str) -> Iterator[Kubectl]:
    """The policy, in kubectl's namespace."""
    try:
        for item in items:
            cluster.kubectl.create(item)
        kubectl.run("label", "namespace", kubectl.namespace, f"{label}=")
        wait_for("the policy in force", lambda: refusal(kubectl, pod(ASKING)))
        yield kubectl
    finally:
        for item in reversed(items):
            cluster.kubectl.delete(item["kind"], item["metadata"]["name"])


@pytest.fixture(scope="module")
def denying(cluster: Cluster) -> Iterator[Kubectl]:
    """A namespace in which the policy denies and no webhook is registered."""
    label = f"requested-by-test-{secrets.token_hex(4)}"
    with (
        own_namespace(cluster.kubectl) as kubectl,
        in_force(cluster, kubectl, requested(label=label), label) as within,
    ):
        within.run("create", "rolebinding", USER, "--clusterrole=edit", f"--user={USER}")
        yield within


def refusals(kubectl: Kubectl, pods: dict[str, Json]) -> dict[str, str]:
    """The errors of dry runs by a user who is not an administrator, by the key of each refused Pod."""
    items = {f"p-{number}": copy.deepcopy(item) for number, item in enumerate(pods.values())}
    for name, item in items.items():
        item["metadata"] |= {"name": name}
        item["metadata"].pop("namespace", None)
    done = kubectl.try_run(
        "create", "-f", "-", "--dry-run=server", "--validate=false", *AS_USER, stdin=list(items.values())
    )
    found = dict(zip(items, pods, strict=True))
    accepted = re.findall(r"pod/(p-\d+) created", done.stdout)
    errors = {
        match[1]: line
        for line in done.stderr.splitlines()
        if line.startswith(("Error", "The Pod", "error")) and (match := re.search(r'"(p-\d+)"', line))
    }
    return {key: errors.get(name, "not sent") for name, key in found.items() if name not in accepted}


def golden_pods(*, defaults: bool, env_files: bool) -> dict[str, Golden]:
    """The cases that create a Pod, for namespaces with or without the label of the default Secret.

    Without `env_files` only Pods that do not read a file, before and after the webhook.
    """
    found = {}
    for folder in folders():
        if is_error(folder):
            continue
        case = load(folder)
        request = case.review["request"]
        item = request.get("object")
        is_pod = isinstance(item, dict) and item.get("kind") == "Pod" and request.get("operation") == "CREATE"
        is_served = is_pod and not request.get("subResource") and case.case.endpoint != "/warn"
        is_answer = is_served and case.case.verdict in {"inject", "skip"} and not case.policy.shadow
        is_known = env_files or "fileKeyRef" not in json.dumps([item, case.want])
        if is_answer and is_known and (case.case.endpoint == "/mutate/default") == defaults:
            found[case.name] = case
    return found


@pytest.mark.parametrize("defaults", [False, True], ids=["plain", "default"])
def test_policy_agrees_with_the_webhook_in_every_golden_case(
    denying: Kubectl,
    has_env_files: bool,  # noqa: FBT001
    defaults: bool,  # noqa: FBT001
) -> None:
    if defaults:
        denying.run("label", "namespace", denying.namespace, f"{DEFAULT_LABEL}=enabled")
        wait_for("the label noticed", lambda: refusal(denying, pod(DAPR)))
    cases = golden_pods(defaults=defaults, env_files=has_env_files)

    after = refusals(denying, {name: case.want or case.review["request"]["object"] for name, case in cases.items()})
    patched = {name: case for name, case in cases.items() if case.case.verdict == "inject" and name not in INVALID}
    before = refusals(denying, {name: case.review["request"]["object"] for name, case in patched.items()})

    assert {name: error for name, error in after.items() if name not in INVALID} == {}
    assert all(NAME not in error for error in after.values()), after
    assert set(patched) - set(before) == set(patched) & set(NOT_ENFORCED)
    assert all(f"'{NAME}' denied request" in error and EMERGENCY in error for error in before.values()), before
    assert len(before) > (0 if defaults else 80)
    denying.run("label", "namespace", denying.namespace, f"{DEFAULT_LABEL}-")
    wait_for("the label gone", lambda: not refusal(denying, pod(DAPR)))


def entry(name: str = "DAPR_API_TOKEN", **more: Any) -> Json:  # noqa: ANN401 - any field
    return {"name": name, **more}


def secret_ref(name: str = "DAPR_API_TOKEN", *, secret: str = SECRET, **more: object) -> Json:
    return entry(name, valueFrom={"secretKeyRef": {"name": secret, "key": "token", **more}})


def sidecar(*env: Json) -> Json:
    return SIDECAR | {"env": list(env)}


def web(*env: Json) -> Json:
    return APP | {"env": list(env)}


BOTH: Final = {**ASKING, "dapr.io/app-token-secret": SECRET}
NAMES_WEB: Final = {**ASKING, "dapr-token-injector/app-containers": " web ,*,other"}
KEY: Final = {**ASKING, "dapr-token-injector/api-token-key": "current"}
INDIRECT: Final = (entry("X", value=""), entry(value="$(X)"))
FROM_FILE: Final = entry(valueFrom={"fileKeyRef": {"volumeName": "v", "path": "p", "key": "K"}})
# A Pod, and a part of the finding; none where it passes.
CASES: Final[dict[str, tuple[Json, str | None]]] = {
    "no entry": (pod(ASKING), 'container "daprd" has no DAPR_API_TOKEN'),
    "a native sidecar": (
        pod(ASKING, APP, init_containers=({**SIDECAR, "restartPolicy": "Always"},)), "has no DAPR_API_TOKEN",
    ),
    "an empty entry": (pod(ASKING, APP, sidecar(entry(value=""))), "has an empty DAPR_API_TOKEN"),
    "an optional reference": (pod(ASKING, APP, sidecar(secret_ref(optional=True))), "with optional: true"),
    "a literal": (pod(ASKING, APP, sidecar(entry(value=MARKER))), None),
    "a good entry before an empty one": (pod(ASKING, APP, sidecar(secret_ref(), entry())), "has an empty"),
    "an empty entry before a good one": (pod(ASKING, APP, sidecar(entry(), secret_ref())), None),
    "an indirect empty one": (pod(ASKING, APP, sidecar(*INDIRECT)), "from a variable that is empty or optional"),
    "an indirect one of a later variable": (pod(ASKING, APP, sidecar(*reversed(INDIRECT))), None),
    "no request": (pod(DAPR), None),
    "a blank request": (pod({**DAPR, "dapr.io/api-token-secret": " \t"}), None),
    "a request without Dapr": (pod({**ASKING, "dapr.io/enabled": "off"}), None),
    "a true word with blanks": (pod({**ASKING, "dapr.io/enabled": " Yes "}), "has no DAPR_API_TOKEN"),
    "no sidecar": (pod(ASKING, APP), None),
    "the app token is missing": (pod(BOTH, APP, sidecar(secret_ref())), "has no APP_API_TOKEN"),
    "both tokens are missing": (pod(BOTH), "has no DAPR_API_TOKEN (and 1 more)"),
    "both tokens": (pod(BOTH, APP, sidecar(secret_ref(), secret_ref("APP_API_TOKEN"))), None),
    "an app container by name": (pod(NAMES_WEB, APP, sidecar(secret_ref())), 'container "web" has no DAPR_API_TOKEN'),
    "an app container with its token": (pod(NAMES_WEB, web(secret_ref()), sidecar(secret_ref())), None),
    "an app container that is not named": (pod(NAMES_WEB, {**APP, "name": "api"}, sidecar(secret_ref())), None),
    "an app container by `*` only": (
        pod({**ASKING, "dapr-token-injector/app-containers": "*"}, APP, sidecar(secret_ref())), None,
    ),
    "an app container next to a literal": (pod(NAMES_WEB, APP, sidecar(entry(value=MARKER))), None),
    "an app container that runs daprd": (
        pod(NAMES_WEB, {**APP, "image": "r.example:5000/x/daprd:1@sha256:0"}, sidecar(secret_ref())), None,
    ),
    "an app container with a similar image": (
        pod(NAMES_WEB, {**APP, "image": "example.invalid/daprd/web:1"}, sidecar(secret_ref())), 'container "web"',
    ),
    "Dapr's key and not the annotated one": (pod(KEY, APP, sidecar(secret_ref())), "not from the annotated one"),
    "the annotated key": (pod(KEY, APP, sidecar(secret_ref(key="current"))), None),
    "the same key of another Secret": (pod(KEY, APP, sidecar(secret_ref(secret="other"))), None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_policy_judges_the_effective_entry_of_each_requested_variable(denying: Kubectl, case: str) -> None:
    item, finding = CASES[case]

    message = refusal(denying, item)

    assert (finding or "") in message
    assert bool(message) == (finding is not None)
    assert MARKER not in message


@pytest.mark.usefixtures("env_files")
def test_policy_denies_a_file_outside_a_sealed_pod(denying: Kubectl) -> None:
    spec = {"containers": [sidecar(FROM_FILE)], "volumes": [{"name": "v", "emptyDir": {}}]}

    assert "from a file that may be empty" in refusal(denying, {**pod(ASKING), "spec": spec})


def test_policy_skips_mirror_pod(denying: Kubectl) -> None:
    mirror = pod({**ASKING, "kubernetes.io/config.mirror": "hash"})
    mirror["spec"]["nodeName"] = "n1"

    assert refusal(denying, mirror) == ""


def test_deleted_configuration_denies_pods_that_request_a_token_only(
    denying: Kubectl, webhook: Webhook, register: Callable[[Json], None]
) -> None:
    configuration = registration.token_injector(webhook.endpoint, namespace=denying.namespace)
    register(configuration)
    wait_until_injecting(denying)
    pods = {"asking": pod(ASKING), "other": pod(DAPR), "plain": pod({}, APP)}
    assert refusals(denying, pods) == {}

    denying.delete(configuration["kind"], configuration["metadata"]["name"])

    wait_for("the deletion noticed", lambda: refusal(denying, pod(ASKING)))
    assert list(refusals(denying, pods)) == ["asking"]


def largest_pod(words: int) -> Json:
    """200 containers with 500 entries; the kubelet uses the last of each name, and the API server counts all."""
    env = [entry("V", value="x")] * 498 + [secret_ref(), secret_ref("APP_API_TOKEN")]
    names = ["daprd", *(f"c{number}" for number in range(199))]
    listed = ",".join([*names, *(["x"] * (words - len(names)))])
    annotations = {**BOTH, "dapr-token-injector/app-containers": listed}
    return pod(annotations, *({"name": name, "image": "i", "env": env} for name in names))


def doubled(policy: Json) -> Json:
    """The policy with each expression evaluated twice: what it admits costs half of each budget at most."""
    for one in (*policy["spec"]["variables"], *policy["spec"]["validations"], *policy["spec"]["matchConditions"]):
        one["expression"] = f"[{one['expression']}, {one['expression']}][0]"
    return policy


def test_largest_pod_costs_at_most_half_the_budget(cluster: Cluster, kubectl: Kubectl) -> None:
    label = f"requested-by-test-{secrets.token_hex(4)}"
    policy, binding = requested(label=label)
    for item in (policy, binding):
        item["metadata"]["name"] = label
    binding["spec"]["policyName"] = label

    with in_force(cluster, kubectl, (doubled(policy), binding), label):
        assert refusal(kubectl, largest_pod(200_000 // 220), timeout=PATIENT) == ""
        missing = largest_pod(200_000 // 220)
        missing["spec"]["containers"][-1]["env"] = [entry("V", value="x")]
        assert 'container "c198" has no DAPR_API_TOKEN (and 1 more)' in refusal(kubectl, missing, timeout=PATIENT)


def test_too_many_names_leave_the_sidecar_judged(denying: Kubectl) -> None:
    many = {**ASKING, "dapr-token-injector/app-containers": "web," + "x," * 130_000}

    assert refusal(denying, pod(many, APP, sidecar(secret_ref()))) == ""
    assert 'container "daprd" has no' in refusal(denying, pod(many))


def test_policy_has_no_type_checking_warnings(denying: Kubectl) -> None:
    def checked() -> Json | None:
        status: Json = denying.get("validatingadmissionpolicy", NAME).get("status", {})
        return status if "typeChecking" in status else None

    assert wait_for("the policy type checked", checked)["typeChecking"] == {}
