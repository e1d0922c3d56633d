"""What Helm users do from the first day to the last, and what stays behind: nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.objects import ASKING, pod, tokens
from tests.controlplane.polling import wait_for
from tests.node import snapshot
from tests.node.release import NAME, NAMESPACE, WAIT, Release

if TYPE_CHECKING:
    from tests.controlplane.kubectl import Kubectl
    from tests.node.target import Target


@pytest.mark.usefixtures("not_installed")
def test_install_test_upgrade_rollback_and_uninstall_leave_the_cluster_as_it_was(
    kubectl: Kubectl, target: Target
) -> None:
    before = snapshot.take(target.kubectl)

    release = Release.install(target)
    try:
        assert "Phase:" in release.helm.run("test", NAME, f"--namespace={NAMESPACE}", "--timeout=3m")
        assert injected(kubectl)
        release.call("upgrade", "--set=log.level=debug", "--set=replicas=3", *WAIT)
        assert len(release.pods()) == 3
        assert injected(kubectl)
        release.helm.run("rollback", NAME, "1", f"--namespace={NAMESPACE}", *WAIT)
        wait_for("two Pods left", lambda: len(release.pods()) == 2, timeout_seconds=60)
        assert injected(kubectl)
        assert "Phase:" in release.helm.run("test", NAME, f"--namespace={NAMESPACE}", "--timeout=3m")
    finally:
        release.uninstall()

    after = snapshot.take(target.kubectl)
    assert sorted(after.keys() - before.keys()) == []
    assert sorted(before.keys() - after.keys()) == []
    assert [name for name in before if before[name] != after[name]] == []
    assert not injected(kubectl)


def injected(kubectl: Kubectl) -> bool:
    return bool(tokens(kubectl.create(pod(ASKING), "--dry-run=server")))


def test_pods_run_as_restricted_demands_with_a_root_that_nobody_can_write(release: Release) -> None:
    labels = release.kubectl.get("namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert len(release.pods()) == 2

    for name in release.pods():
        script = "import os; print(os.getuid(), os.getgid()); open('/tmp/x', 'w')"
        done = release.kubectl.try_run("exec", name, "--", "python", "-c", script)
        assert done.stdout == "65532 65532\n"
        assert "Read-only file system" in done.stderr
