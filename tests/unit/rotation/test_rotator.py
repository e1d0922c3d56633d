"""Rotations against an API server on loopback, in the time of the test."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from injector.core.ownership import SecretRef
from injector.kube.client import Api
from injector.rotation.roller import Pace
from injector.rotation.rotator import RotationOptions, Rotator
from injector.tokens import minting
from tests.fake_cluster.server import ApiServer
from tests.unit.cli.objects import namespace, pod, secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from injector.rotation.rotator import RotationOutcome
    from injector.tokens.minting import MintedToken


async def mint(_: Api, refs: Sequence[SecretRef]) -> Mapping[SecretRef, MintedToken]:
    return {ref: minting.mint_opaque(now=0, lifetime=None) for ref in refs}


class Silent:
    """A listener that keeps nothing."""

    @staticmethod
    def left_out(*_: object, **__: object) -> None: ...

    missing = overrides_owner = wrote = progressed = still_held = left_out


def test_revoke_waits_for_an_ending_pod_until_the_timeout(tmp_path: Path) -> None:
    ending = pod("web", owner=False)
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def revoke(server: ApiServer) -> RotationOutcome:
        async with await Api.from_kubeconfig(str(server.kubeconfig)) as api:
            pace = Pace(timeout=10, interval=4)
            ref = SecretRef("shop", "s")
            options = RotationOptions(
                secrets=(ref,), key="token", pace=pace, propagation_delay=3, restart=True, revoke=True
            )
            return await Rotator(api, options, Silent(), mint, clock=lambda: sum(slept), sleep=sleep).run()

    with ApiServer(folder=tmp_path) as server:
        for plural, found in (("namespaces", namespace()), ("secrets", secret("s")), ("pods", ending)):
            server.put(plural, found)
        outcome = asyncio.run(revoke(server))

    assert slept == [3, 4, 4, 4]
    assert [one.name for one in outcome.outdated] == ["web-1-1"]
    assert not outcome.is_complete
