"""`ca`: rotate the certificate authority that the webhook's replicas keep in a Secret."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from injector.cli import connection
from injector.cli.connection import Connect, run
from injector.cli.main import Exit
from injector.cli.namespace_option import namespace_option
from injector.cli.output import output_option
from injector.cli.param_types import ObjectName, duration_option
from injector.config.settings import Settings
from injector.core import names
from injector.core.ownership import SecretRef
from injector.kube.errors import KubeError, NotFoundError
from injector.kube.resources import SECRETS, WEBHOOK_CONFIGURATIONS
from injector.times import rfc3339
from injector.webhook.certs import ca_lifecycle, keyring, registration
from injector.webhook.certs.ca_lifecycle import Phase
from injector.webhook.certs.keyring import ForeignSecretError, Keyring

if TYPE_CHECKING:
    from collections.abc import Mapping

    from injector.kube.client import Api
    from injector.kube.resources import Object
    from injector.webhook.certs.ca_lifecycle import Outlook

_SECRET: Final[str] = Settings.model_fields["ca_secret_name"].default
# Interval of --wait in seconds.
_POLL_SECONDS: Final = 1.0


@click.group(short_help="Rotate the CA of the webhook's certificates.")
def command() -> None:
    """Manage the CA of the webhook's certificates (--tls-mode self)."""


@command.command(short_help="Request a new CA from the replicas.")
@namespace_option("Set the webhook's namespace.", default="dapr-token-injector")
@click.option(
    "--ca-secret-name",
    type=ObjectName(),
    default=_SECRET,
    show_default=True,
    metavar="NAME",
    help="Set the Secret that holds the CA.",
)
@click.option("--wait", is_flag=True, help="Wait until the new CA signs.")
@duration_option("--timeout", "15m", "Wait at most this long.")
@output_option("text", "json")
@connection.options
def rotate(
    *,
    namespace: str,
    ca_secret_name: str,
    wait: bool,
    timeout: int,
    output: str,
    **options: Any,  # noqa: ANN401 - those of `connection.options`
) -> int:
    """Request a new CA from the replicas.

    An annotation on the Secret requests it; the replicas do the rest. The new
    CA is trusted before it signs, and the previous one until all its
    certificates have expired, so no call fails during the rotation. A rotation
    in progress is reported and not started again.

    \b
    Examples:
      dapr-token-injector ca rotate
      dapr-token-injector ca rotate --wait --timeout 30m

    Exit codes: 0 fine, 1 the new CA does not sign within --timeout, 2 usage
    error or request rejected, 3 internal error.
    """  # noqa: D301 - click does not wrap a paragraph after \b
    ref = SecretRef(namespace, ca_secret_name)
    result = run(Connect.of(options), lambda api: request_rotation(api, ref, timeout if wait else None))
    click.echo(json.dumps(result.document()) if output == "json" else result.text())
    return Exit.FINDINGS if wait and not result.signs else Exit.FINE


@dataclass(frozen=True, slots=True)
class CaRotation:
    """State of a rotation. `signs`: the new CA signs. `requested`: by this call, as none was in progress.

    `lacking`: webhook configurations whose caBundle does not contain the new CA yet, so that it may not sign.
    `unknown`: those that could not be read, with the reason.
    """

    secret: SecretRef
    phase: Phase
    signs: bool
    outlook: Outlook
    requested: bool
    lacking: tuple[str, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """Return the JSON output."""
        return {
            "secret": str(self.secret),
            "requested": self.requested,
            "phase": self.phase.value,
            "newCaSigns": self.signs,
            "signsAt": _time(self.outlook.signs),
            "previousCaTrustedUntil": _time(self.outlook.ends),
            "notYetIn": list(self.lacking),
            "unknown": [{"configuration": what, "message": why} for what, why in self.unknown.items()],
        }

    def text(self) -> str:
        """Return the text output."""
        first = "Requested a new CA." if self.requested else "A rotation is in progress; no new one was requested."
        signs = "has signed since" if self.signs else "will sign from about"
        return "\n".join(
            (
                f"{first} Phase: {self.phase.value}.",
                f"The new CA {signs} {_time(self.outlook.signs)}.",
                f"The previous CA is trusted until about {_time(self.outlook.ends)}.",
                *(f"The CA bundle of {what} does not contain the new CA yet." for what in self.lacking),
                *(
                    f"It is unknown whether the CA bundle of {what} contains the new CA: {why}."
                    for what, why in self.unknown.items()
                ),
            )
        )


def _time(at: datetime) -> str:
    return rfc3339(int(at.timestamp()))


async def request_rotation(api: Api, ref: SecretRef, timeout_seconds: float | None) -> CaRotation:
    """Request a rotation unless one is in progress; with a timeout, wait until the new CA signs.

    Raises:
        click.ClickException: The Secret holds no CA of the webhook.
        KubeError: The API server rejects a request.
    """
    secret = await api.get(SECRETS, ref.name, ref.namespace)
    ring = _keyring(secret, ref)
    is_new = ca_lifecycle.phase(ring) is Phase.STEADY
    if is_new and not keyring.rotation_request(secret):
        await api.patch(SECRETS, ref.name, _request_patch(secret), ref.namespace)
    if timeout_seconds is None:
        result = _status(ref, ring, is_new=is_new)
    else:
        result = await _wait(api, ref, ring, timeout_seconds)
    if result.phase is not Phase.PUBLISHING:
        return result
    lacking, unknown = await _lacking(api, ref)
    return dataclasses.replace(result, lacking=lacking, unknown=unknown)


async def _lacking(api: Api, ref: SecretRef) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the webhook configurations that a rotation waits for, and why others could not be read."""
    next_ca = _keyring(await api.get(SECRETS, ref.name, ref.namespace), ref).next_ca
    found: list[str] = []
    unknown: dict[str, str] = {}
    if next_ca is None:  # it signs since then
        return (), unknown
    for resource, name in WEBHOOK_CONFIGURATIONS:
        what = f"{resource.plural}/{name}"
        try:
            if not registration.read(await api.get(resource, name)).trusts(next_ca.anchor):
                found.append(what)
        except NotFoundError:
            pass  # the rotation does not wait for it
        except KubeError as error:
            unknown[what] = str(error)
    return tuple(found), unknown


def _request_patch(secret: Object) -> Object:
    """Return the annotation that requests a rotation; the resource version prevents a second request."""
    version = secret["metadata"]["resourceVersion"]
    return {"metadata": {"resourceVersion": version, "annotations": {names.ROTATE_CA: _time(datetime.now(UTC))}}}


async def _wait(api: Api, ref: SecretRef, before: Keyring, timeout_seconds: float) -> CaRotation:
    """Poll until the new CA signs or the timeout ends, and report each new phase."""
    is_new, until, phase = ca_lifecycle.phase(before) is Phase.STEADY, time.monotonic() + timeout_seconds, None
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
    Phase.NONE: "there is no CA yet",
    Phase.STEADY: "the replicas have not begun the rotation yet, or it is complete",
    Phase.PUBLISHING: "the new CA is being added to every CA bundle",
    Phase.SETTLING: "the new CA is in every CA bundle; waiting for the API servers",
    Phase.RETIRING: "the new CA signs; the previous one is trusted until its certificates have expired",
}


def _status(ref: SecretRef, ring: Keyring, *, is_new: bool, before: Keyring | None = None) -> CaRotation:
    now, phase = datetime.now(UTC), ca_lifecycle.phase(ring)
    signs = phase is Phase.RETIRING or (before is not None and before.signing.anchor != ring.signing.anchor)
    return CaRotation(ref, phase, signs, ca_lifecycle.outlook(ring, now), is_new)


def _keyring(secret: Object, ref: SecretRef) -> Keyring:
    where = f"secrets/{ref.name} in namespace {ref.namespace}"
    try:
        ring = keyring.read(secret)
    except ForeignSecretError as error:
        raise click.ClickException(f"{where}: {error}; it was not modified") from None
    if ring is None:
        raise click.ClickException(f"{where} is empty; a replica with --tls-mode self creates the CA when it starts")
    return ring
