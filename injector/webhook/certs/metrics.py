"""Metrics of the serving certificate, and of the CA in `--tls-mode self`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from injector.telemetry.metrics import PREFIX, counter, gauge, keyed
from injector.webhook.certs.ca_lifecycle import CaStep, Phase
from injector.webhook.certs.objects import MUTATING, SECOND_MUTATING, VALIDATING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from injector.telemetry.metrics import Family

LOADED: Final = "loaded"
REJECTED: Final = "rejected"
RELOADS: Final = (LOADED, REJECTED)
PHASES: Final[Mapping[Phase, str]] = {
    Phase.NONE: "there is no CA yet, or the CA cannot be read",
    Phase.STEADY: "one CA signs, and no other is trusted",
    Phase.PUBLISHING: "the next CA is being written to the caBundles",
    Phase.SETTLING: "every caBundle contains the next CA, and API servers are reading it",
    Phase.RETIRING: "the new CA signs; the previous one is trusted until all certificates that it signed have expired",
}
STEPS: Final[Mapping[CaStep, str]] = {
    CaStep.CREATE: "the first CA was created",
    CaStep.RESTORE: "the Secret was emptied, and the CA was restored from memory",
    CaStep.REPLACE: "the CA had expired and was replaced",
    CaStep.ADD: "the next CA was created",
    CaStep.SEEN: "every caBundle was seen to contain the next CA",
    CaStep.WITHDRAW: "a caBundle no longer contained the next CA, and the wait started again",
    CaStep.PROMOTE: "the next CA began to sign",
    CaStep.PRUNE: "the previous CA is no longer trusted",
}
PUBLISHED: Final = "published"
HEALED: Final = "healed"
BUNDLE_WRITES: Final[Mapping[str, str]] = {
    PUBLISHED: "the CAs in the Secret had changed",
    HEALED: "another client had changed a caBundle",
}
CONFIGURATIONS: Final[Mapping[str, str]] = {
    MUTATING: "the MutatingWebhookConfiguration `--webhook-configuration-name`",
    SECOND_MUTATING: "the MutatingWebhookConfiguration `--second-webhook-configuration-name`; absent without it",
    VALIDATING: "the ValidatingWebhookConfiguration `--webhook-configuration-name`",
}


class CertificateMetrics(Collector):
    """Counters of certificates. Metrics of the CA are zero unless `--tls-mode self` is set."""

    def __init__(self) -> None:
        self.reloads: dict[str, int] = dict.fromkeys(RELOADS, 0)
        self.certificate_expiry = 0.0  # Unix time; 0 before the first pair
        self.ca_expiry = 0.0  # Unix time
        self.ca_phase: dict[str, int] = {each.value: 0 for each in PHASES}
        self.ca_steps: dict[str, int] = {each.value: 0 for each in STEPS}
        self.ca_bundle_writes: dict[str, int] = dict.fromkeys(BUNDLE_WRITES, 0)
        self.ca_bundle_trusted = 0
        self.configurations_trusted: dict[str, int] = {MUTATING: 0, VALIDATING: 0}

    def collect(self) -> Iterator[Family]:
        """All samples."""
        yield gauge(
            "certificate_expiry_timestamp_seconds",
            "Expiry of the serving certificate, in Unix time.",
            self.certificate_expiry,
        )
        yield counter(
            "certificate_reloads",
            "Serving certificates that were loaded or rejected.",
            ("outcome",),
            keyed(self.reloads),
        )
        yield gauge("ca_expiry_timestamp_seconds", "Expiry of the signing CA, in Unix time.", self.ca_expiry)
        phases = GaugeMetricFamily(
            f"{PREFIX}_ca_phase", "1 for the current phase of the CA rotation.", labels=("phase",)
        )
        for phase, value in self.ca_phase.items():
            phases.add_metric((phase,), value)
        yield phases
        yield counter("ca_steps", "Steps of the CA rotation that this replica took.", ("step",), keyed(self.ca_steps))
        yield counter(
            "ca_bundle_writes", "caBundles that this replica wrote.", ("cause",), keyed(self.ca_bundle_writes)
        )
        yield gauge(
            "ca_bundle_trusted",
            "1 while the caBundle of each entry that calls this replica trusts the serving certificate.",
            self.ca_bundle_trusted,
        )
        trusted = GaugeMetricFamily(
            f"{PREFIX}_webhook_configuration_trusted",
            "1 while the webhook configuration can be read and each of its entries trusts the serving certificate. "
            "0 for a mutating one that does not exist.",
            labels=("configuration",),
        )
        for role, value in self.configurations_trusted.items():
            trusted.add_metric((role,), value)
        yield trusted
