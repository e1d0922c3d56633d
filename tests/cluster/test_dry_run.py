from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cluster.objects import ASKING, pod, token_variable, tokens

if TYPE_CHECKING:
    from tests.controlplane.kubectl import Kubectl

pytestmark = pytest.mark.usefixtures("injecting")


def test_server_side_dry_run_shows_the_patch_and_stores_nothing(kubectl: Kubectl) -> None:
    shown = kubectl.apply(pod(ASKING), "--dry-run=server", "-o", "json")

    assert tokens(json.loads(shown.stdout)) == [token_variable()]
    assert kubectl.list("pods") == ()
