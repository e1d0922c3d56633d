"""Certificates that need nobody, on a real API server and with exactly the rights that the chart gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.conftest import wait_until_injecting
from tests.cluster.installation import MUTATING, VALIDATING, Installation, eventually, installation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.controlplane.kubectl import Kubectl


@pytest.fixture
def installed(kubectl: Kubectl, tmp_path: Path) -> Iterator[Installation]:
    with installation(kubectl, tmp_path) as made:
        yield made


def test_the_first_replica_fills_the_secret_and_every_bundle(installed: Installation) -> None:
    replica = installed.start()

    authority = installed.secret()["ca.crt"]
    assert installed.bundles() == [authority] * 3
    wait_until_injecting(installed.kubectl)
    assert replica.metric('ca_phase{phase="steady"}') == 1
    assert replica.metric("ca_bundle_trusted") == 1
    assert {record["step"] for record in replica.records("authority changed")} == {"create"}
    assert installed.bundle_owners(MUTATING) == installed.bundle_owners(VALIDATING) == {"dapr-token-injector-ca-bundle"}


def test_replicas_that_start_together_agree_on_one_authority(installed: Installation) -> None:
    replicas = [installed.start(ready=False) for _ in range(3)]

    for replica in replicas:
        eventually("a ready replica", replica.is_ready, replica)
    assert installed.bundles() == [installed.secret()["ca.crt"]] * 3
    assert sum(replica.metric('ca_steps_total{step="create"}') for replica in replicas) == 1
