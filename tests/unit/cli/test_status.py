"""`status` against a stand-in for an API server: what it shows, what it needs, and how it exits."""

from __future__ import annotations

import asyncio
import functools
import json
import tracemalloc
from typing import TYPE_CHECKING, Any, Final

import jsonschema  # type: ignore[import-untyped] # it has no types to offer
import pytest
from aiohttp import web

from injector.cli.main import main
from injector.cli.status.advice import REMEDIES
from injector.cli.status.documents import status_schema
from injector.core.assessment import (
    CURRENCY_SEVERITIES,
    PROTECTIONS,
    SEVERITIES,
    Currency,
    PodFinding,
    ProtectionReason,
    Severity,
)
from injector.rotation.status import read_status
from tests.fake_cluster.server import ApiServer
from tests.fake_cluster.store import Refusal
from tests.unit.cli.objects import SHOP, install_webhook, pod, put_outdated_workload
from tests.unit.cli.output_page import OutputPage
from tests.unit.cli.test_probe_selection import LargeCluster
from tests.unit.kube.test_redirects import api_at, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Capture = pytest.CaptureFixture[str]
PAGE: Final = OutputPage("status-output.md")
SCHEMA: Final = status_schema()
OPEN: Final = {"containers": [{"name": "daprd", "image": "daprio/daprd:1.13.1"}]}
URGENT: Final = {Severity.ERROR, Severity.WARNING}
PLAIN: Final = {"containers": [{"name": "app"}]}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    """One outdated workload of two Pods, one open Pod, and one that does not use Dapr."""
    with ApiServer(folder=tmp_path) as server:
        put_outdated_workload(server)
        for name, spec in (("open", OPEN), ("plain", PLAIN)):
            made = pod(name, owner=False)
            made["spec"] = spec
            server.put("pods", made)
        yield server


def shown(api: ApiServer, capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = main(["status", "--kubeconfig", str(api.kubeconfig), *arguments])
    output = capsys.readouterr()
    if output.out and "json" in arguments:
        jsonschema.validate(json.loads(output.out), SCHEMA)
    return code, output.out, output.err


def test_table_has_a_line_for_each_workload_worst_first(api: ApiServer, capsys: Capture) -> None:
    code, out, error = shown(api, capsys, "-n", SHOP)

    assert (code, error) == (1, "")
    lines = out.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["WORKLOAD", "PROTECTION", "REASON", "PODS", "CURRENCY"],
        ["pod/open-1-1", "open", "no-variable", "1/1", "-"],
        ["deployment/web", "protected", "reference", "2/2", "outdated"],
    ]
    request = "request a token on the Pod template, for the sidecar and its app"
    assert lines[3] == f"  shop/open-1-1, container daprd: no-variable: {request}"
    assert "  shop/web-1-1, shop/web-1-2: outdated (Secret s, key token): it has a previous token; restart it" in lines
    assert "    kubectl rollout restart deployment/web -n shop" in lines
    assert lines[-1] == "3 Dapr Pods in 1 namespace: 2 protected (2 outdated), 1 open"
    assert max(map(len, lines[:3])) <= 80


def test_wide_table_adds_namespace_container_and_findings(api: ApiServer, capsys: Capture) -> None:
    _, out, _ = shown(api, capsys, "-A", "-o", "wide")

    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == [
        *("NAMESPACE", "WORKLOAD", "PROTECTION", "REASON", "PODS", "CURRENCY", "CONTAINER", "FINDINGS"),
    ]
    assert lines[1][:2] == ["shop", "pod/open-1-1"]
    assert lines[1][6:] == ["daprd", "exposed,", "daprd-advisory"]


def test_json_has_the_fields_of_the_page(api: ApiServer, capsys: Capture) -> None:
    code, out, _ = shown(api, capsys, "-A", "-o", "json")

    found = json.loads(out)
    assert code == 1
    PAGE.check("status", found)
    assert found["summary"]["protection"] == {"open": 1, "protected": 2}
    assert found["summary"]["currency"] == {"outdated": 2}
    assert [one["workload"] for one in found["pods"]] == ["Pod/open-1-1", "Deployment/web", "Deployment/web"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("summary", "pods"), -1),
        (("summary", "protection"), {"opened": 1}),
        (("limits",), None),
        (("pods", 0, "protection"), "opened"),
        (("pods", 0, "reason"), ""),
        (("pods", 0, "severity"), "fatal"),
        (("pods", 0, "workload"), "web"),
        (("pods", 0, "currencies"), [{"secret": "s"}]),
        (("pods", 0, "findings"), [{"finding": "x", "container": "daprd"}]),
    ],
)
def test_schema_rejects_other_words_and_types(
    path: tuple[str | int, ...], value: object, api: ApiServer, capsys: Capture
) -> None:
    document = json.loads(shown(api, capsys, "-A", "-o", "json")[1])
    *parents, last = path
    functools.reduce(lambda found, key: found[key], parents, document)[last] = value

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_schema_allows_fields_of_later_versions(api: ApiServer, capsys: Capture) -> None:
    document = json.loads(shown(api, capsys, "-A", "-o", "json")[1])
    for found in (document, document["summary"], document["pods"][0], document["pods"][0]["findings"][0]):
        found["later"] = True

    jsonschema.validate(document, SCHEMA)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_page_has_the_severities_of_the_code() -> None:
    assert PAGE.words("status", "pods[].severity") == set(Severity)


def test_urgent_words_have_a_remedy() -> None:
    assert set(REMEDIES) <= {*ProtectionReason, *Currency, *PodFinding}
    assert {reason for reason, protection in PROTECTIONS.items() if SEVERITIES[protection] in URGENT} <= set(REMEDIES)
    assert {currency for currency, severity in CURRENCY_SEVERITIES.items() if severity in URGENT} <= set(REMEDIES)
    assert set(PodFinding) <= set(REMEDIES)


def test_cluster_without_dapr_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    with ApiServer(folder=tmp_path) as server:
        assert shown(server, capsys, "-A") == (0, "No Pod uses Dapr.\n", "")


@pytest.mark.parametrize(
    ("plural", "limit"),
    [
        (
            "secrets",
            "whether Pods run the current token is unknown: cannot list secrets in all namespaces: not allowed",
        ),
        ("replicasets", "workloads are shown by their ReplicaSets and Jobs: cannot list replicasets in all namespaces"),
        ("deployments", "the webhook's Policy is not known: cannot list deployments in all namespaces: not allowed"),
        ("namespaces", "defaults and exemptions of namespaces are not known: cannot list namespaces"),
    ],
)
def test_missing_permission_is_named_and_the_rest_is_answered(
    plural: str, limit: str, api: ApiServer, capsys: Capture
) -> None:
    message = f'{plural} is forbidden: User "x" cannot list resource "{plural}" in API group ""'
    api.refusals.append(Refusal(f"GET .*/{plural}(\\?|$)", 403, message, "Forbidden"))

    code, out, error = shown(api, capsys, "-A")

    assert code == 1
    assert "pod/open-1-1" in out
    assert error.startswith(f"note: {limit}")
    assert error.count("\n") == 1
    assert ("outdated" in out) == (plural != "secrets")
    assert ("replicaset/web-1" in out) == (plural == "replicasets")


def test_missing_permission_to_list_pods_names_the_smaller_scope(api: ApiServer, capsys: Capture) -> None:
    message = 'pods is forbidden: User "x" cannot list resource "pods" in API group "" at the cluster scope'
    api.refusals.append(Refusal("GET .*/pods", 403, message, "Forbidden"))

    code, out, error = shown(api, capsys, "-A")

    assert (code, out) == (2, "")
    assert "; show one namespace with -n NAMESPACE, or request that permission" in error


@pytest.mark.parametrize(
    ("policy", "protection"),
    [("{}", "open"), ("allowExemptions: true", "exempt"), ("allowExemptions: yes please", "open"), ("[", "open")],
)
def test_exemption_needs_a_policy_that_allows_it(policy: str, protection: str, api: ApiServer, capsys: Capture) -> None:
    install_webhook(api, policy)
    made = pod("left", owner=False)
    made["spec"] = OPEN
    made["metadata"]["annotations"] = {"dapr-token-injector/exempt": "a test"}
    api.put("pods", made)

    _, out, _ = shown(api, capsys, "-A", "-o", "json")

    found = json.loads(out)
    assert {one["protection"] for one in found["pods"] if one["name"].startswith("left")} == {protection}
    assert [limit.partition(": ")[0] for limit in found["limits"]] == (
        [] if policy in {"{}", "allowExemptions: true"} else ["the webhook's Policy is not known"]
    )


@pytest.mark.parametrize("remove", ["deployments", "configmaps"])
def test_unknown_policy_is_reported(remove: str, api: ApiServer, capsys: Capture) -> None:
    for key in [key for key in api.objects if key[0] == remove and key[1] == "injector"]:
        del api.objects[key]

    _, _, error = shown(api, capsys, "-A")

    assert error.startswith("note: the webhook's Policy is not known: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("fail_on", "code"),
    [("open", 1), ("outdated", 1), ("skewed", 0), ("waiting,no-sidecar", 0), ("custom, outdated", 1)],
)
def test_exit_code_is_that_of_the_states(fail_on: str, code: int, api: ApiServer, capsys: Capture) -> None:
    assert shown(api, capsys, "-A", "--fail-on", fail_on)[0] == code


def test_unknown_state_is_never_fine(api: ApiServer, capsys: Capture) -> None:
    api.refusals.append(Refusal("GET .*/secrets", 403, 'secrets is forbidden: User "x" cannot list', "Forbidden"))
    del api.objects["pods", SHOP, "open-1-1"]

    assert shown(api, capsys, "-A")[0] == 0
    code, _, error = shown(api, capsys, "-A", "--fail-on", "outdated")
    assert code == 2
    assert "unknown: the currency of some Pods could not be determined" in error

    made = pod("shared", owner=False)
    made["spec"]["containers"][0]["env"] = []
    made["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "c"}}]
    api.put("pods", made)
    code, _, error = shown(api, capsys, "-A")
    assert code == 2
    assert "unknown: the protection of some Pods could not be determined" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-A", "-n", "x"], "--namespace and --all-namespaces cannot be combined; use one of them"),
        (["--fail-on", "opened"], "--fail-on: unknown state: opened; use open, waiting,"),
    ],
)
def test_invalid_options_are_a_usage_error(arguments: list[str], message: str, capsys: Capture) -> None:
    assert main(["status", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_namespace_labels_are_read(api: ApiServer, capsys: Capture) -> None:
    api.put("namespaces", {"metadata": {"name": SHOP, "labels": {"dapr-token-injector/guard": "off"}}})

    for scope in (["-A"], ["-n", SHOP]):
        assert "3 exempt" in shown(api, capsys, *scope)[1]


@pytest.mark.slow
def test_little_is_kept_of_each_pod() -> None:
    tracemalloc.start()
    try:
        status = asyncio.run(read_status(LargeCluster(), None, 0))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(status.pods) == 1000
    assert most < 15_000_000  # of 40 MB


def test_secrets_are_requested_as_metadata_only() -> None:
    accepted: dict[str, str] = {}

    async def answer(request: web.Request) -> web.Response:
        plural = request.path.rpartition("/")[2]
        accepted[plural] = request.headers["Accept"]
        items: list[Any] = [pod("web")] if plural == "pods" else []
        return web.json_response({"items": items, "metadata": {}})

    async def read() -> None:
        async with served(answer) as port, api_at(port) as api:
            await read_status(api, None, 0)

    asyncio.run(read())

    metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    assert {plural for plural, accept in accepted.items() if accept == metadata} == {
        *("secrets", "replicasets", "namespaces"),
    }
    assert set(accepted) == {"pods", "secrets", "replicasets", "namespaces", "deployments"}


def ended(name: str, *, spec: Any = None, is_ending: bool = False) -> dict[str, Any]:  # noqa: ANN401 - of a Pod
    made = pod(name, owner=False)
    made["spec"] = spec or made["spec"]
    if is_ending:
        made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    else:
        made["status"] = {"phase": "Succeeded"}
    return made


def test_ended_pods_are_listed_only_with_all_and_only_with_dapr(api: ApiServer, capsys: Capture) -> None:
    for is_ending in (False, True):
        api.put("pods", ended(f"dapr-{is_ending}".lower(), is_ending=is_ending))
        api.put("pods", ended(f"plain-{is_ending}".lower(), spec=PLAIN, is_ending=is_ending))

    assert not {"ended", "ending"} & set(shown(api, capsys, "-A")[1].split())
    code, out, _ = shown(api, capsys, "-A", "--all")

    lines = [line.split()[1:4] for line in out.splitlines() if "not-applicable" in line][:2]
    assert (code, lines) == (
        1,
        [["pod/dapr-false-1-1", "not-applicable", "ended"], ["pod/dapr-true-1-1", "not-applicable", "ending"]],
    )
    assert out.endswith("5 Dapr Pods in 1 namespace: 2 protected (2 outdated), 2 not-applicable, 1 open\n")
    assert "plain" not in out
