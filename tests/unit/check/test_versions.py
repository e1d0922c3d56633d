"""The versions of command, webhook and installed objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from injector import __version__
from injector.check.model import Result
from tests.fake_cluster.store import Store
from tests.unit.check.checking import outcome
from tests.unit.check.installed import MUTATING, NAME, InstalledApi, installed

if TYPE_CHECKING:
    from injector.check.model import Outcome

DIGEST = f"ghcr.io/x/y@sha256:{'0' * 64}"
METRICS = '# TYPE x gauge\ndapr_token_injector_build_info{{python="3.13.1",version="{}"}} 1.0\n'


def words(found: Outcome) -> str:
    return "\n".join(problem.message for problem in found.problems)


def with_image(image: str | None) -> Store:
    store = installed()
    deployment = store.objects["deployments", NAME, NAME]
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image
    return store


@pytest.mark.parametrize("name", ["same-version", "objects-of-one-version"])
def test_one_version_passes(name: str) -> None:
    found = outcome(name, InstalledApi(installed()))

    assert (found.result, words(found)) == (Result.PASSED, "")


@pytest.mark.parametrize("name", ["same-version", "objects-of-one-version"])
def test_nothing_installed_is_skipped(name: str) -> None:
    assert outcome(name, InstalledApi(Store())).result is Result.SKIPPED


@pytest.mark.parametrize("name", ["same-version", "objects-of-one-version"])
def test_missing_permission_is_unknown(name: str) -> None:
    assert outcome(name, InstalledApi(installed(), forbidden="deployments")).result is Result.UNKNOWN


@pytest.mark.parametrize(
    ("tag", "result"),
    [
        (__version__, Result.PASSED),
        (f"v{__version__}", Result.PASSED),
        ("0.1.7", Result.WARNING),
        ("0.1.0-rc.1", Result.WARNING),
        ("0.2.0", Result.FAILED),
        ("10.1.0", Result.FAILED),
    ],
)
def test_version_of_the_tag(tag: str, result: Result) -> None:
    found = outcome("same-version", InstalledApi(with_image(f"r:5000/x:{tag}")))

    assert found.result is result
    assert ("this command has version" in words(found)) is (result is not Result.PASSED)


@pytest.mark.parametrize("image", [DIGEST, "x:latest", "x", "x:1", f"x:{'1' * 500}"])
@pytest.mark.parametrize(("version", "result"), [(__version__, Result.PASSED), ("0.9.0", Result.FAILED)])
def test_version_of_the_metrics(image: str, version: str, result: Result) -> None:
    api = InstalledApi(with_image(image))
    api.metrics = METRICS.format(version)

    assert outcome("same-version", api).result is result


@pytest.mark.parametrize("metrics", ["", METRICS.format("?"), METRICS.format("main")])
def test_metrics_without_version_are_unknown(metrics: str) -> None:
    api = InstalledApi(with_image(DIGEST))
    api.metrics = metrics

    assert outcome("same-version", api).result is Result.UNKNOWN


def test_digest_without_permission_is_unknown() -> None:
    found = outcome("same-version", InstalledApi(with_image(DIGEST), forbidden="/proxy/"))

    assert found.result is Result.UNKNOWN
    assert "(you need get on services/proxy)" in words(found)


@pytest.mark.parametrize("containers", [None, [], [{"name": "other", "image": "x:1.0.0"}], ["x"]])
def test_deployment_of_another_shape_raises_nothing(containers: object) -> None:
    store = installed()
    store.objects["deployments", NAME, NAME]["spec"]["template"]["spec"]["containers"] = containers

    assert outcome("same-version", InstalledApi(store)).result is Result.UNKNOWN


@pytest.mark.parametrize("labels", [{"app.kubernetes.io/version": "0.2.0"}, {"helm.sh/chart": f"{NAME}-0.1.0"}])
def test_objects_of_several_versions_fail(labels: dict[str, str]) -> None:
    store = installed()
    store.objects[MUTATING, "", NAME]["metadata"]["labels"] = labels

    found = outcome("objects-of-one-version", InstalledApi(store))

    assert found.result is Result.FAILED
    assert "have several versions" in words(found)


def test_objects_without_labels_are_skipped() -> None:
    store = installed()
    for item in store.objects.values():
        item["metadata"]["labels"] = None

    assert outcome("objects-of-one-version", InstalledApi(store)).result is Result.SKIPPED
