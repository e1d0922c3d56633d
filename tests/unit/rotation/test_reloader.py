"""Reloader's annotations, and which workloads it restarts."""

from __future__ import annotations

import pytest

from injector.rotation.reloader import NAMED, reloader_annotations, restarted_by


def test_reloader_is_found_by_its_annotation_with_names() -> None:
    named = {"secret.reloader.stakater.com/reload": "t, s"}
    assert restarted_by({"metadata": {"annotations": named}}, {"s"}) == "Reloader"
    template = {"spec": {"template": {"metadata": {"annotations": named}}}, "metadata": {}}
    assert restarted_by(template, {"s"}) == "Reloader"
    assert restarted_by({"metadata": {"annotations": {"reloader.stakater.com/auto": "true"}}}, {"s"}) == ""
    assert restarted_by({"metadata": {"annotations": named}}, {"x"}) == ""


@pytest.mark.parametrize(
    "own", [{"reloader.stakater.com/auto": "true"}, {"reloader.stakater.com/search": "true"}, {NAMED: "other"}]
)
def test_annotations_of_the_workload_hide_those_of_the_template(own: dict[str, str]) -> None:
    found = {"metadata": {"annotations": own}, "spec": {"template": {"metadata": {"annotations": {NAMED: "s"}}}}}

    assert reloader_annotations(found) == (own, False)
    assert restarted_by(found, {"s"}) == ""
    assert restarted_by({**found, "metadata": {"annotations": None}}, {"s"}) == "Reloader"
