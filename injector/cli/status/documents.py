"""The documents of `status -o json`. The published JSON schema is made from these types."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
from msgspec import Meta

from injector.core.assessment import (  # noqa: TC001 - msgspec resolves the annotations
    Currency,
    PodFinding,
    Protection,
    ProtectionReason,
    Severity,
)

_Count = Annotated[int, Meta(ge=0)]


def _by(word: str, description: str) -> Meta:
    """Return the description of a mapping; msgspec leaves out that its keys are words."""
    return Meta(description=description, extra_json_schema={"propertyNames": {"$ref": f"#/$defs/{word}"}})


class SummaryDocument(TypedDict):
    """Numbers of Pods. A word without Pods is absent."""

    pods: Annotated[int, Meta(ge=0, description="Pods that use Dapr.")]
    namespaces: Annotated[int, Meta(ge=0, description="Namespaces of these Pods.")]
    protection: Annotated[dict[Protection, _Count], _by("Protection", "Number of Pods by protection.")]
    currency: Annotated[dict[Currency, _Count], _by("Currency", "Number of Pods by the worst currency of their keys.")]


class CurrencyDocument(TypedDict):
    """The currency of one key that a container reads as a token."""

    secret: str
    key: str
    currency: Currency
    severity: Severity
    containers: Annotated[list[str], Meta(description="Containers that do not surely run the current value.")]


class FindingDocument(TypedDict):
    """A finding about a container, independent of protection and currency."""

    finding: PodFinding
    container: str
    detail: NotRequired[Annotated[str, Meta(description="The id of an advisory.")]]


class PodDocument(TypedDict):
    """The assessment of one Pod."""

    namespace: str
    name: str
    workload: Annotated[
        str, Meta(pattern="^[^/]+/", description="KIND/NAME of the workload; of the Pod itself without one.")
    ]
    protection: Protection
    reason: ProtectionReason
    severity: Annotated[Severity, Meta(description="The severity of the protection.")]
    container: Annotated[str | None, Meta(description="The container that decides the protection.")]
    currencies: list[CurrencyDocument]
    findings: list[FindingDocument]


class StatusDocument(TypedDict):
    """The output of `status -o json`. A minor version may add fields."""

    summary: SummaryDocument
    limits: Annotated[list[str], Meta(description="What is missing because of a missing permission, for people.")]
    pods: list[PodDocument]


def status_schema() -> dict[str, Any]:
    """Return the JSON schema of `status -o json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(StatusDocument)}
