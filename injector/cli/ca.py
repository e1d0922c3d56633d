"""`ca`: the authority that the webhook's replicas keep in a Secret, asked for a successor."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from injector.cli import kubeconfig
from injector.cli.kubeconfig import Connect, run
from injector.cli.main import Exit
from injector.cli.param_types import Duration
from injector.config import Settings
from injector.core import names
from injector.core.ownership import SecretRef
from injector.kube.resources import SECRETS
from injector.webhook.certs import keyring, rotation
from injector.webhook.certs.keyring import ForeignSecretError, Keyring
from injector.webhook.certs.rotation import Phase

if TYPE_CHECKING:
    from injector.kube.client import Api, Object
    from injector.webhook.certs.rotation import Outlook

_SECRET: Final[str] = Settings.model_fields["ca_secret_name"].default
# Seconds between two looks of --wait.
_POLL_SECONDS: Final = 1.0


@click.group(short_help="Rotate the authority of the webhook's certificates.")
def command() -> None:
    """Look after the authority of the webhook's certificates (--tls-mode self)."""


@command.command(short_help="Ask the replicas for a new authority.")
@click.option(
    "-n", "--namespace", default="dapr-token-injector", show_default=True, metavar="NAME", help="Of the webhook."
)
@click.option("--ca-secret-name", default=_SECRET, show_default=True, metavar="NAME", help="Secret with the authority.")
@click.option("--wait", is_flag=True, help="Wait until the new authority signs.")
@click.option(
    "--timeout", type=Duration(), default="15m", show_default=True, metavar="TIME", help="How long to wait at most."
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Format.")
@kubeconfig.options
def rotate(  # noqa: PLR0913 - one parameter per option
    *,
    namespace: str,
    ca_secret_name: str,
    wait: bool,
    timeout: int,
    output: str,
    kubeconfig: str | None,
    context: str | None,
) -> int:
    """Ask the replicas for a new authority.

    Marks the Secret; the replicas do the rest: the new authority is trusted
    before it signs, and the old one until nothing that it signed can be
    valid. Nothing fails meanwhile. A rotation that is under way is told and
    not begun again.

    Exit codes: 0 fine, 1 the new authority does not sign within --timeout,
    2 wrong use or bad input, 3 our own fault.
    """
    ref = SecretRef(namespace, ca_secret_name)
    result = run(Connect(kubeconfig, context), lambda api: request_rotation(api, ref, timeout if wait else None))
    click.echo(json.dumps(result.document()) if output == "json" else result.text())
    return Exit.FINDINGS if wait and not result.signs else Exit.FINE


@dataclass(frozen=True, slots=True)
class CaRotation:
    """What a person wants to know of it."""

    secret: SecretRef
    phase: Phase
    signs: bool  # the new authority
    outlook: Outlook
    asked: bool  # by this call

    def document(self) -> dict[str, object]:
        """For programs."""
        return {
            "secret": str(self.secret),
            "asked": self.asked,
            "phase": self.phase.value,
            "newAuthoritySigns": self.signs,
            "signsAt": _time(self.outlook.signs),
            "oldAuthorityTrustedUntil": _time(self.outlook.ends),
        }

    def text(self) -> str:
        """For people."""
        first = "Asked for a new authority." if self.asked else "A rotation is under way; nothing was asked for."
        signs = "has signed since" if self.signs else "will sign from about"
        return "\n".join(
            (
                f"{first} Phase: {self.phase.value}.",
                f"The new authority {signs} {_time(self.outlook.signs)}.",
                f"The one before is trusted until about {_time(self.outlook.ends)}.",
            )
        )


def _time(at: datetime) -> str:
    return at.replace(microsecond=0).isoformat().replace("+00:00", "Z")


async def request_rotation(api: Api, ref: SecretRef, timeout_seconds: float | None) -> CaRotation:
    """Mark the Secret unless a rotation is under way, and wait for so many seconds at most if asked to.

    Raises:
        click.ClickException: There is no authority of ours in the Secret.
        KubeError: As the API server answered.
    """
    secret = await api.get(SECRETS, ref.name, ref.namespace)
    ring = _keyring(secret, ref)
    is_new = rotation.phase(ring) is Phase.STEADY
    if is_new and not keyring.rotation_request(secret):
        await api.patch(SECRETS, ref.name, _request_patch(secret), ref.namespace)
    if timeout_seconds is None:
        return _status(ref, ring, is_new=is_new)
    return await _wait(api, ref, ring, timeout_seconds)


def _request_patch(secret: Object) -> Object:
    """The annotation that asks; with the version that was looked at, so that nothing new is asked for twice."""
    version = secret["metadata"]["resourceVersion"]
    return {"metadata": {"resourceVersion": version, "annotations": {names.ROTATE_CA: _time(datetime.now(UTC))}}}


async def _wait(api: Api, ref: SecretRef, before: Keyring, timeout_seconds: float) -> CaRotation:
    """Look until the new authority signs or timeout ends, and tell each phase as it comes."""
    is_new, until, phase = rotation.phase(before) is Phase.STEADY, time.monotonic() + timeout_seconds, None
    while True:
        ring = _keyring(await api.get(SECRETS, ref.name, ref.namespace), ref)
        result = _status(ref, ring, is_new=is_new, before=before)
        if result.phase is not phase:
            phase = result.phase
            click.echo(f"{phase.value}: {_MEANINGS[phase]}", err=True)
        if result.signs or time.monotonic() >= until:
            return result
        await asyncio.sleep(_POLL_SECONDS)


_MEANINGS: Final = {
    Phase.NONE: "there is no authority yet",
    Phase.STEADY: "the replicas have not begun, or all is done",
    Phase.PUBLISHING: "the new authority is on its way into every bundle",
    Phase.SETTLING: "it is in every bundle; API servers take notice",
    Phase.RETIRING: "it signs; the one before is trusted until nothing that it signed can be valid",
}


def _status(ref: SecretRef, ring: Keyring, *, is_new: bool, before: Keyring | None = None) -> CaRotation:
    now, phase = datetime.now(UTC), rotation.phase(ring)
    signs = phase is Phase.RETIRING or (before is not None and before.signing.anchor != ring.signing.anchor)
    return CaRotation(ref, phase, signs, rotation.outlook(ring, now), is_new)


def _keyring(secret: Object, ref: SecretRef) -> Keyring:
    try:
        ring = keyring.read(secret)
    except ForeignSecretError as error:
        raise click.ClickException(f"{_where(ref)}: {error}; it was left alone") from None
    if ring is None:
        raise click.ClickException(f"{_where(ref)} is empty: a replica with --tls-mode self fills it when it starts")
    return ring


def _where(ref: SecretRef) -> str:
    return f"secrets/{ref.name} in namespace {ref.namespace}"
