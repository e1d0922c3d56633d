"""Checks of the webhook configurations and of the guard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.check.model import Category, Check, Outcome, failed
from injector.core import names

if TYPE_CHECKING:
    from injector.check.reader import Reader

# Entries of the configuration: charts/dapr-token-injector/templates/webhook/mutatingwebhookconfiguration.yaml.
INJECT_ENTRY: Final = "inject.dapr-token-injector.svc"


async def _registered(reader: Reader) -> Outcome:
    found = await reader.registration()
    seen = f"MutatingWebhookConfiguration {names.MANAGER}"
    if found is None:
        missing = failed(
            f"MutatingWebhookConfiguration {names.MANAGER} does not exist: Pods are created without a token",
            f"helm upgrade {names.MANAGER} CHART --namespace {await reader.namespace()} --reuse-values",
        )
        return Outcome(seen=seen, problems=(missing,))
    entries = [entry["name"] for entry in found.get("webhooks") or ()]
    if INJECT_ENTRY not in entries:
        lost = failed(f"{seen} has no entry {INJECT_ENTRY}: Pods that request a token are created without it")
        return Outcome(seen=seen, problems=(lost,))
    return Outcome(seen=f"{seen} has the entries {', '.join(entries)}")


CHECKS: Final = (
    Check(
        id="DTC010",
        name="registered",
        category=Category.REGISTRATION,
        summary="The webhook is registered at the API server.",
        why="The API server calls only registered webhooks. If the registration is deleted, every Pod is created "
        "without a token, whatever the failure policy.",
        how="Reads the MutatingWebhookConfiguration `dapr-token-injector` and looks for its entry "
        f"`{INJECT_ENTRY}`. Whether the entry works is the subject of other checks.",
        fix="Install the chart again; it creates the registration. Then restart the Pods that `status` shows as open.",
        run=_registered,
    ),
)
