"""Metrics of the serving certificate, and of the authority that `--tls-mode self` keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from injector.telemetry.metrics import PREFIX, counter, gauge, keyed
from injector.webhook.certs.rotation import Phase, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from injector.telemetry.metrics import Family

RELOADS: Final = ("loaded", "rejected")
PHASES: Final[Mapping[Phase, str]] = {
    Phase.NONE: "there is no authority yet, or none that can be read",
    Phase.STEADY: "one authority signs, and no other is trusted",
    Phase.PUBLISHING: "the next authority is on its way into the bundles",
    Phase.SETTLING: "it is in every bundle, and API servers take notice",
    Phase.RETIRING: "it signs; the one before is trusted until nothing that it signed can live",
}
STEPS: Final[Mapping[Step, str]] = {
    Step.CREATE: "the first authority was made",
    Step.RESTORE: "the Secret was emptied, and the CA was restored from memory",
    Step.REPLACE: "the authority had run out, and another took its place",
    Step.ADD: "the next authority was made",
    Step.SEEN: "every bundle was seen to hold it",
    Step.WITHDRAW: "a caBundle lost it again, and the wait started again",
    Step.PROMOTE: "it began to sign",
    Step.PRUNE: "the one before is trusted no more",
}
BUNDLE_WRITES: Final[Mapping[str, str]] = {
    "published": "the Secret's authorities had changed",
    "healed": "another client had changed a caBundle",
}


class CertificateMetrics(Collector):
    """Counters of certificates. What is about the authority is zero unless the certificates are our own."""

    def __init__(self) -> None:
        self.reloads: dict[str, int] = dict.fromkeys(RELOADS, 0)
        self.certificate_expiry = 0.0  # Unix time; 0 before the first pair
        self.ca_expiry = 0.0  # Unix time
        self.ca_phase: dict[str, int] = {each.value: 0 for each in PHASES}
        self.ca_steps: dict[str, int] = {each.value: 0 for each in STEPS}
        self.ca_bundle_writes: dict[str, int] = dict.fromkeys(BUNDLE_WRITES, 0)
        self.ca_bundle_trusted = 0

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
            "1 while every registered caBundle trusts the serving certificate.",
            self.ca_bundle_trusted,
        )
