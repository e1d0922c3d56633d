"""Reloader's annotations, and which workloads it restarts."""

from __future__ import annotations

from injector.rotation.reloader import restarted_by


def test_reloader_is_found_by_its_annotation_with_names() -> None:
    named = {"secret.reloader.stakater.com/reload": "t, s"}
    assert restarted_by({"metadata": {"annotations": named}}, {"s"}) == "Reloader"
    template = {"spec": {"template": {"metadata": {"annotations": named}}}, "metadata": {}}
    assert restarted_by(template, {"s"}) == "Reloader"
    assert restarted_by({"metadata": {"annotations": {"reloader.stakater.com/auto": "true"}}}, {"s"}) == ""
    assert restarted_by({"metadata": {"annotations": named}}, {"x"}) == ""
