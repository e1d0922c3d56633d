"""What Helm users do from the first day to the last, and what stays behind: nothing. And the canary, every minute."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.objects import ASKING, pod, tokens
from tests.controlplane.helm import HelmError
from tests.controlplane.pki import Authority
from tests.controlplane.polling import wait_for
from tests.node import snapshot
from tests.node.release import NAME, NAMESPACE, RESTRICTED, WAIT, Release

if TYPE_CHECKING:
    from collections.abc import Container

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.node.conftest import Installation
    from tests.node.target import Target

CANARY: Final = "dapr-token-injector-canary"
BACKOFF: Final = "BackoffLimitExceeded"
WITHOUT_TOKEN: Final = "failed: the Pod came back without its token: "


@pytest.mark.usefixtures("not_installed")
def test_release_lifecycle_leaves_the_cluster_unchanged(kubectl: Kubectl, target: Target) -> None:
    before = snapshot.take(target.kubectl)

    release = Release.install(target)
    try:
        assert "Phase:" in release.helm.run("test", NAME, f"--namespace={NAMESPACE}", "--timeout=3m")
        assert injected(kubectl)
        release.call("upgrade", "--set=log.level=debug", "--set=replicas=3", *WAIT)
        wait_for("three Pods", lambda: len(release.pods()) == 3)
        assert injected(kubectl)
        release.helm.run("rollback", NAME, "1", f"--namespace={NAMESPACE}", *WAIT)
        wait_for("two Pods left", lambda: len(release.pods()) == 2)
        assert injected(kubectl)
        assert "Phase:" in release.helm.run("test", NAME, f"--namespace={NAMESPACE}", "--timeout=3m")
    finally:
        release.uninstall()

    # Controllers and the garbage collector finish their work.
    left = functools.partial(snapshot.differences, target.kubectl, before)
    wait_for("the cluster as it was", lambda: not left(), describe=lambda: str(left()))
    assert not injected(kubectl)


def injected(kubectl: Kubectl) -> bool:
    return bool(tokens(kubectl.dry_run(pod(ASKING))))


@pytest.mark.usefixtures("not_installed")
def test_canary_job_succeeds_then_fails_without_the_registration(installation: Installation) -> None:
    release = installation.install("canary.enabled=true")
    wait_for("a run that succeeds", lambda: ended(release, "Complete"), timeout_seconds=100)

    earlier = ended(release, "Failed").keys()  # before the webhook was ready
    release.kubectl.run("delete", "mutatingwebhookconfiguration", NAME)
    failed = wait_for("a run that fails", lambda: ended(release, "Failed", but=earlier), timeout_seconds=130)

    ((name, job),) = failed.items()
    assert [one["reason"] for one in job["status"]["conditions"] if one["type"] == "Failed"] == [BACKOFF]
    (pod,) = release.kubectl.list("pods", labelSelector=f"batch.kubernetes.io/job-name={name}")
    (status,) = pod["status"]["containerStatuses"]
    assert status["state"]["terminated"]["exitCode"] == 1
    assert status["state"]["terminated"]["message"].startswith(WITHOUT_TOKEN)
    wait_for(
        "the Job's Event", lambda: (BACKOFF, "Job has reached the specified backoff limit") in events(release, name)
    )
    seen = ("SawCompletedJob", f"Saw completed job: {name}, condition: Failed")
    wait_for("the CronJob's Event", lambda: seen in events(release, CANARY))

    # `helm test` fails, and its Pod is kept with the reason; the upgrade that `check` advises repairs both.
    with pytest.raises(HelmError):
        release.helm.run("test", NAME, f"--namespace={NAMESPACE}", "--timeout=1m")
    assert release.kubectl.run("logs", "dapr-token-injector-test").stdout.startswith(WITHOUT_TOKEN)
    release.call("upgrade", *WAIT)
    assert "Phase:" in release.helm.run("test", NAME, f"--namespace={NAMESPACE}", "--timeout=3m")


def ended(release: Release, condition: str, but: Container[str] = ()) -> dict[str, Json]:
    """Return the Jobs of the canary with this condition by name, but not those of these names."""
    found: dict[str, Json] = {}
    for job in release.kubectl.list("jobs"):
        name = job["metadata"]["name"]
        states = {one["type"] for one in job["status"].get("conditions") or () if one["status"] == "True"}
        if name.startswith(f"{CANARY}-") and condition in states and name not in but:
            found[name] = job
    return found


def events(release: Release, name: str) -> set[tuple[str, str]]:
    """Return the Events about a Job or CronJob: reason and message."""
    found = release.kubectl.list("events", fieldSelector=f"involvedObject.name={name}")
    return {(event["reason"], event["message"]) for event in found}


@pytest.mark.usefixtures("not_installed")
def test_mode_files_pods_have_no_token_and_make_no_api_calls(
    kubectl: Kubectl, target: Target, installation: Installation
) -> None:
    authority = Authority.create("company-ca")
    pair = authority.issue_server(hosts=[f"{NAME}.{NAMESPACE}.svc"])
    target.kubectl.apply(RESTRICTED)
    target.kubectl.within(NAMESPACE).create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "webhook-certificate"},
            "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": pair.certificate.decode(), "tls.key": pair.key.decode()},
        }
    )
    files = ("secretName=webhook-certificate", f"caBundle={authority.pem.decode()}")

    release = installation.install("tls.mode=files", *(f"tls.files.{value}" for value in files))

    assert injected(kubectl)
    assert [process_facts(release, name) for name in release.pods()] == [{"token": False, "calls": []}] * 2


def test_mode_self_pods_have_a_token_and_call_the_api_server(release: Release) -> None:
    for name in release.pods():
        # A watch that has just ended is followed by the next one: there may be no connection in between.
        facts = wait_for("its connections", functools.partial(calling, release, name))
        assert facts["token"]
        assert set(facts["calls"]) == {443}  # Service `kubernetes`


def calling(release: Release, name: str) -> Json | None:
    facts = process_facts(release, name)
    return facts if facts["calls"] else None


def test_pods_are_restricted_with_a_read_only_root(release: Release) -> None:
    labels = release.kubectl.get("namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    wait_for("two Pods", lambda: len(release.pods()) == 2)

    for name in release.pods():
        script = "import os; print(os.getuid(), os.getgid()); open('/tmp/x', 'w')"
        done = release.kubectl.try_run("exec", name, "--", "python", "-c", script)
        assert done.stdout == "65532 65532\n"
        assert "Read-only file system" in done.stderr


def process_facts(release: Release, name: str) -> Json:
    """Whether a Pod has a ServiceAccount's token, and the ports of whom it is connected to by its own doing."""
    done = release.kubectl.run("exec", name, "--", "python", "-c", FACTS)
    facts: Json = json.loads(done.stdout)
    return facts


# Columns 2 to 4 of /proc/net/tcp (proc(5)): local and remote address with the port in hexadecimal, state; 0A listens.
FACTS: Final = """
import json, os
lines = [line.split()[1:4] for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}").readlines()[1:]]
ports = [(int(local[-4:], 16), int(remote[-4:], 16), state) for local, remote, state in lines]
served = {local for local, _, state in ports if state == "0A"}
calls = [remote for local, remote, state in ports if state == "01" and local not in served]
print(json.dumps({"token": os.path.exists("/var/run/secrets/kubernetes.io"), "calls": calls}))
"""
