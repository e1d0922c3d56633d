"""The checks of permissions, against an API server that reviews them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from injector.check.catalogue import CHECKS
from injector.check.model import Category, Result
from injector.check.reader import ClusterReader
from injector.check.rights import INSTALLED_KINDS
from injector.check.runner import run
from injector.kube.client import Api
from injector.kube.errors import ForbiddenError, Refusal
from tests.fake_cluster.client import StoreApi
from tests.fake_cluster.server import ApiServer
from tests.fake_cluster.store import Store
from tests.unit.check.checking import outcome
from tests.unit.check.sound_webhook import NAME, forbidding, installed, messages, pod

if TYPE_CHECKING:
    from collections.abc import Callable

    from injector.kube.transport import Request

Json = dict[str, Any]
TEMPLATES = Path(__file__).parents[3] / "charts/dapr-token-injector/templates"
RIGHTS = [one for one in CHECKS if one.category is Category.RIGHTS]
FORBIDDEN = ("mutatingwebhookconfigurations",)
IN_NAMESPACE = f"in namespace {NAME}"
NAMED_RULE = (
    "{apiGroups: [admissionregistration.k8s.io], resources: [mutatingwebhookconfigurations], "
    f"resourceNames: [{NAME}], verbs: [get]}}"
)
OF_COMMANDS = [one.name for one in RIGHTS if one.name not in {"webhook-rights", "install-rights"}]


class ReviewingApi(StoreApi):
    """A store whose access reviews are answered by a function of user (empty: the caller) and attributes."""

    def __init__(
        self,
        store: Store,
        allows: Callable[[str, str], bool],
        *,
        can_review_others: bool = True,
        forbidden: tuple[str, ...] = (),
    ) -> None:
        super().__init__(store, forbidding(*forbidden))
        self.reviewed: list[Json] = []
        self._allows = allows
        self._can_review_others = can_review_others

    async def send(self, request: Request) -> Json:
        if not request.path.startswith("/apis/authorization.k8s.io/v1/"):
            return await super().send(request)
        assert isinstance(request.body, dict)
        spec = request.body["spec"]
        if "user" in spec and not self._can_review_others:
            raise ForbiddenError(request.operation, Refusal(403))
        self.reviewed.append(spec)
        return {"status": {"allowed": self._allows(spec.get("user", ""), words(spec["resourceAttributes"]))}}


def words(attributes: Json) -> str:
    """Return attributes as `verb group/plural/subresource name in namespace`, what is empty left out."""
    kind = "/".join(filter(None, (attributes[key] for key in ("group", "resource"))))
    kind += f"/{attributes['subresource']}" if "subresource" in attributes else ""
    name = f" {attributes['name']}" if "name" in attributes else ""
    return f"{attributes['verb']} {kind}{name}" + (
        f" in {attributes['namespace']}" if "namespace" in attributes else ""
    )


def allowing(*denied: str) -> Callable[[str, str], bool]:
    """Allow everything but what fully matches one of the patterns."""
    return lambda _, asked: not any(re.fullmatch(pattern, asked) for pattern in denied)


@pytest.mark.parametrize("name", OF_COMMANDS)
def test_all_permissions_pass(name: str) -> None:
    found = outcome(name, ReviewingApi(installed(), allowing()))

    assert (found.result, found.problems) == (Result.PASSED, ())


@pytest.mark.parametrize("name", OF_COMMANDS)
def test_no_permission_is_a_warning_with_the_rule(name: str) -> None:
    found = outcome(name, ReviewingApi(installed(), allowing(".*")))

    assert found.result is Result.WARNING
    assert all(one.message.startswith("you may not ") for one in found.problems)
    assert all(one.fix.startswith("request the rule {apiGroups: [") for one in found.problems)


@pytest.mark.parametrize(
    ("name", "denied", "message", "rule"),
    [
        (
            "status-rights",
            "list pods",
            "you may not list pods in all namespaces: status finds no Pods",
            '{apiGroups: [""], resources: [pods], verbs: [list]}',
        ),
        (
            "status-rights",
            "get configmaps",
            "you may not get configmaps in all namespaces: status does not know the webhook's Policy",
            '{apiGroups: [""], resources: [configmaps], verbs: [get]}',
        ),
        (
            "currency-rights",
            "list secrets",
            "you may not list secrets in all namespaces: status does not know which Pods run an outdated token",
            '{apiGroups: [""], resources: [secrets], verbs: [list]}',
        ),
        (
            "secret-list-rights",
            "list batch/cronjobs",
            "you may not list cronjobs in all namespaces: secret list names no CronJobs",
            "{apiGroups: [batch], resources: [cronjobs], verbs: [list]}",
        ),
        (
            "secret-create-rights",
            "create secrets",
            "you may not create secrets in all namespaces: secret create creates no Secret",
            '{apiGroups: [""], resources: [secrets], verbs: [create]}',
        ),
        (
            "secret-rotate-rights",
            "patch apps/deployments",
            "you may not patch deployments in all namespaces: secret rotate --restart restarts no Deployment",
            "{apiGroups: [apps], resources: [deployments], verbs: [patch]}",
        ),
        (
            "probe-rights",
            "create pods/portforward",
            "you may not create pods/portforward in all namespaces: probe reaches no sidecar",
            '{apiGroups: [""], resources: [pods/portforward], verbs: [create]}',
        ),
        (
            "check-rights",
            f".*/mutatingwebhookconfigurations {NAME}",
            f"you may not get mutatingwebhookconfigurations {NAME}: check does not see the registration",
            NAMED_RULE,
        ),
        (
            "check-rights",
            f"list policy/poddisruptionbudgets in {NAME}",
            f"you may not list poddisruptionbudgets {IN_NAMESPACE}: check sees no PodDisruptionBudget of the webhook",
            "{apiGroups: [policy], resources: [poddisruptionbudgets], verbs: [list]}",
        ),
        (
            "check-rights",
            "list nodes",
            "you may not list nodes: check does not know the zones and kubelets of the cluster",
            '{apiGroups: [""], resources: [nodes], verbs: [list]}',
        ),
    ],
)
def test_missing_permission_is_named(name: str, denied: str, message: str, rule: str) -> None:
    found = outcome(name, ReviewingApi(installed(), allowing(denied)))

    assert [(one.result, one.message, one.fix) for one in found.problems] == [
        (Result.WARNING, message, f"request the rule {rule}")
    ]


@pytest.mark.parametrize("answer", [{}, {"status": None}, {"status": {"allowed": None}}])
def test_answer_without_status_is_not_a_permission(answer: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    async def send(_: ReviewingApi, _request: Request) -> Json:
        return answer

    monkeypatch.setattr(ReviewingApi, "send", send)

    assert outcome("currency-rights", ReviewingApi(Store(), allowing())).result is Result.WARNING


def test_all_permissions_pass_over_http(tmp_path: Path) -> None:
    async def checked(kubeconfig: Path) -> list[Result]:
        async with await Api.from_kubeconfig(str(kubeconfig)) as api:
            return [
                one.result
                for one in await run([one for one in RIGHTS if one.name in OF_COMMANDS], ClusterReader(api, None, 0))
            ]

    with ApiServer(folder=tmp_path) as server:
        assert set(asyncio.run(checked(server.kubeconfig))) == {Result.PASSED}


# --- webhook-rights ---


def with_options(*arguments: str, account: str | None = None) -> Store:
    store = installed()
    containers = [
        {"name": "other", "args": None},
        {"name": "webhook", "args": ["serve", "--tls-mode=self", *arguments]},
    ]
    for name in ("1", "2"):
        store.put("pods", pod(name, containers=containers, serviceAccountName=account))
    return store


def test_webhook_with_its_roles_passes() -> None:
    api = ReviewingApi(with_options(account="hook"), allowing())

    found = outcome("webhook-rights", api)

    assert (found.result, found.problems) == (Result.PASSED, ())
    assert {one["user"] for one in api.reviewed} == {f"system:serviceaccount:{NAME}:hook"}
    assert api.reviewed[0]["groups"][1] == f"system:serviceaccounts:{NAME}"
    group = "admissionregistration.k8s.io"
    assert [words(one["resourceAttributes"]) for one in api.reviewed] == [
        *(f"{verb} secrets {NAME}-ca in {NAME}" for verb in ("get", "watch", "update")),
        *(f"{verb} {group}/mutatingwebhookconfigurations {NAME}" for verb in ("get", "watch", "patch")),
        *(f"{verb} {group}/validatingwebhookconfigurations {NAME}" for verb in ("get", "watch", "patch")),
    ]


def test_webhook_without_its_roles_fails() -> None:
    store = with_options("--ca-secret-name=x", "--webhook-configuration-name=y=z")

    found = outcome("webhook-rights", ReviewingApi(store, allowing("(update|watch) secrets.*", "patch .*/muta.*")))

    who = f"ServiceAccount {NAME}/default may not"
    assert messages(found) == [
        ("failed", f"{who} watch, update secrets x: it can neither read nor replace its CA"),
        ("failed", f"{who} patch mutatingwebhookconfigurations y=z: it can neither write nor repair the caBundle"),
    ]
    assert found.problems[0].fix == (
        'grant the rule {apiGroups: [""], resources: [secrets], resourceNames: [x], verbs: [watch, update]}'
    )


def test_caller_who_cannot_review_the_webhook_gets_unknown() -> None:
    found = outcome("webhook-rights", ReviewingApi(with_options(), allowing(), can_review_others=False))

    assert messages(found) == [("unknown", "cannot review the permissions of the webhook: not allowed")]


@pytest.mark.parametrize("arguments", [None, [], ["serve"], ["--tls-mode=files"]])
def test_other_modes_need_no_permission(arguments: list[str] | None) -> None:
    store = installed()
    for name in ("1", "2"):
        store.put("pods", pod(name, containers=[{"name": "webhook", "args": arguments}]))

    assert outcome("webhook-rights", ReviewingApi(store, allowing(".*"))).result is Result.SKIPPED


# --- install-rights ---


def test_installer_with_all_permissions_passes() -> None:
    found = outcome("install-rights", ReviewingApi(Store(), allowing()), namespace="hooks")

    assert (found.result, found.problems) == (Result.PASSED, ())
    assert found.seen == "your permissions for the objects of the chart in namespace hooks"


def test_installer_without_cluster_roles_fails() -> None:
    found = outcome("install-rights", ReviewingApi(Store(), allowing("create .*/clusterroles")))

    assert messages(found) == [("failed", "you may not create clusterroles: the installation fails half-way")]


@pytest.mark.parametrize("verb", ["escalate", "bind"])
def test_installer_must_have_what_is_granted(verb: str) -> None:
    """RBAC: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping."""
    lacking = (f"{verb} .*/roles in default", "(watch|update) secrets .*")

    found = outcome("install-rights", ReviewingApi(Store(), allowing(*lacking)), namespace="default")

    granted = "RBAC rejects the Role of the webhook: you can grant only permissions that you have"
    assert messages(found) == [("failed", f"you may not watch, update secrets in namespace default: {granted}")]
    assert outcome("install-rights", ReviewingApi(Store(), allowing(lacking[0]))).result is Result.PASSED


def test_installer_who_cannot_see_the_registration_gets_the_rules() -> None:
    api = ReviewingApi(Store(), allowing("create secrets .*", "create secrets in .*"), forbidden=FORBIDDEN)

    assert messages(outcome("install-rights", api, namespace="hooks")) == [
        ("unknown", "you may not create secrets in namespace hooks: the installation fails half-way")
    ]


def test_check_rights_without_the_registration_name_what_is_known() -> None:
    api = ReviewingApi(Store(), allowing("list nodes"), forbidden=FORBIDDEN)

    first, second = messages(outcome("check-rights", api))

    assert first == ("warning", "you may not list nodes: check does not know the zones and kubelets of the cluster")
    assert second[0] == "unknown"
    assert second[1].startswith("the namespace of the installation is not known; set it with -n: cannot get ")


def test_installed_webhook_is_skipped() -> None:
    assert outcome("install-rights", ReviewingApi(installed(), allowing(".*"))).result is Result.SKIPPED


def test_checked_kinds_are_those_of_the_chart() -> None:
    optional = {"networkpolicy.yaml", "certificate.yaml", "servicemonitor.yaml", "prometheusrule.yaml"}
    pages = [
        path.read_text()
        for path in TEMPLATES.rglob("*.yaml")
        if path.name not in optional and path.parent.name not in {"canary", "tests"}
    ]
    kinds = {kind for page in pages for kind in re.findall(r"^kind: (\w+)", page, re.MULTILINE)}

    assert {one.kind for one in INSTALLED_KINDS} == {kind.removesuffix("List") for kind in kinds}


def test_only_the_installation_is_checked_before_it() -> None:
    assert [one.name for one in RIGHTS if one.is_pre] == ["install-rights"]
