"""Golden assessments: a folder for each case, with the Pod, what else is known, and the expected assessment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from injector.config.policy import load_policy
from injector.core.advisories import advisories, daprd_version, fixed_in
from injector.core.assess import assess, not_applicable
from injector.core.assessment import (
    CURRENCY_SEVERITIES,
    Assessment,
    Currency,
    Known,
    PodFinding,
    Protection,
    ProtectionReason,
)
from injector.core.ownership import SecretRef
from injector.core.sidecar import is_daprd
from injector.core.token_state import Ref
from injector.rotation.observation import observation
from injector.times import unix_time
from injector.tokens.decode import token_secret
from tests.documents import document

if TYPE_CHECKING:
    from injector.core.assess import Seen
    from injector.core.observed import Specs
    from injector.core.ownership import TokenSecret

FOLDER: Final = Path(__file__).parent / "assessments"
CASES: Final = sorted(path.parent.name for path in FOLDER.glob("*/pod.yaml"))
WORKLOAD: Final = Ref("Deployment", "shop", "web")
NOW: Final = "2026-01-01T01:00:00Z"


class KnownFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`known.yaml`. `secrets` are metadata; `absent` are the names of Secrets that do not exist."""

    now: str = NOW
    secrets: tuple[dict[str, Any], ...] = ()
    absent: tuple[str, ...] = ()
    policy: bool = False
    injectsDefault: bool = False  # noqa: N815 - as in the files
    guard: str = ""


def _known(folder: Path) -> Known:
    path = folder / "known.yaml"
    file = msgspec.convert(document(path) if path.exists() else {}, KnownFile)
    secrets: dict[SecretRef, TokenSecret | None] = {SecretRef("shop", name): None for name in file.absent}
    secrets |= {one.ref: one for one in map(token_secret, file.secrets)}
    return Known(
        now=unix_time(file.now) or 0,
        secrets=secrets,
        policy=load_policy(folder / "policy.yaml") if file.policy else None,
        injects_default=file.injectsDefault,
        guard=file.guard,
    )


def assessed(folder: Path) -> Assessment:
    return assess(observation(document(folder / "pod.yaml"), WORKLOAD), _known(folder))


def asdocument(found: Assessment) -> dict[str, Any]:
    return {
        "protection": found.protection.value,
        "reason": found.reason.value,
        "severity": found.severity.value,
        "container": found.container,
        "currencies": [
            " ".join((f"{one.key.name}/{one.key.key}", one.currency, *one.containers)) for one in found.currencies
        ],
        "findings": [f"{one.finding} {one.container} {one.detail}".strip() for one in found.findings],
    }


@pytest.mark.parametrize("name", CASES)
def test_case_has_the_expected_assessment(name: str) -> None:
    assert asdocument(assessed(FOLDER / name)) == document(FOLDER / name / "assessment.yaml")


@pytest.mark.parametrize("name", CASES)
def test_not_applicable_is_known_from_the_pod_alone(name: str) -> None:
    found = assessed(FOLDER / name)
    expected = found.reason if found.protection is Protection.NOT_APPLICABLE else None

    assert not_applicable(observation(document(FOLDER / name / "pod.yaml"), WORKLOAD)) is expected


def test_every_word_has_a_case() -> None:
    expected = [document(FOLDER / name / "assessment.yaml") for name in CASES]

    assert {one["protection"] for one in expected} == set(Protection)
    assert {one["reason"] for one in expected} == set(ProtectionReason)
    assert {text.split()[1] for one in expected for text in one["currencies"]} == set(Currency)
    assert {text.split()[0] for one in expected for text in one["findings"]} == set(PodFinding)
    assert set(CURRENCY_SEVERITIES) == set(Currency)


@pytest.mark.parametrize(
    ("image", "ids"),
    [
        ("daprio/daprd:1.10.8", ["GO-2023-1955", "GO-2026-5242"]),
        ("daprio/daprd:1.10.9", ["GO-2026-5242"]),
        ("daprio/daprd:1.11.1", ["GO-2023-1955", "GO-2026-5242"]),
        ("daprio/daprd:1.13.2", ["GO-2024-2879", "GO-2026-5242"]),
        ("localhost:5000/daprd:v1.13.3-mariner@sha256:00", ["GO-2026-5242"]),
        ("daprd:1.16.0-rc.1", ["GO-2026-5242"]),
        ("daprd:1.16.14-rc.1", ["GO-2026-5242"]),
        ("daprd:1.16.14", []),
        ("daprd:1.17.4-linux-amd64", ["GO-2026-5242"]),
        ("daprd:1.18.0", []),
        ("daprd:edge", []),
        ("daprd@sha256:00", []),
        ("localhost:1.2.3/daprd", []),
        ("daprd:" + "9" * 100_000 + ".1.1", []),
        ("", []),
    ],
)
def test_advisories_are_those_of_the_version_in_the_tag(image: str, ids: list[str]) -> None:
    assert list(advisories(image)) == ids
    assert bool(fixed_in(image)) is bool(ids)


@pytest.mark.parametrize(
    ("image", "version", "fixed"),
    [
        ("daprio/daprd:1.13.1", "1.13.1", "1.15.14"),
        ("registry:5000/x/daprd:v1.16.3-linux-amd64@sha256:00", "1.16.3", "1.16.14"),
        ("daprd:1.10.9-rc.1", "1.10.9-rc.1", "1.15.14"),
        ("daprd:1.2.0", "1.2.0", "1.15.14"),
        ("daprd:1.18.3", "1.18.3", ""),
        ("daprd:latest", "", ""),
        ("daprd:EDGE", "", ""),
        ("daprd:1.15", "", ""),
        ("daprd:\u0661.15.0", "", ""),
        ("registry:5000/daprd@sha256:00", "", ""),
    ],
)
def test_version_of_image_and_the_one_that_fixes_it(image: str, version: str, fixed: str) -> None:
    assert (daprd_version(image), fixed_in(image)) == (version, fixed)
    assert advisories(f"daprd:{fixed}") == ()


@pytest.mark.parametrize(
    ("image", "words", "expected"),
    [
        ("daprio/daprd:1.9.5-mariner", (), True),
        ("localhost:5000/x/daprd@sha256:00", (), True),
        ("daprd", (), True),
        ("example/runtime", ("./daprd", "-app-id", "x"), True),
        ("example/daprd-tools:1", (), False),
        ("daprd/app:1", (), False),
        ("app", ("sh", "-c", "daprd"), False),
        ("", (), False),
    ],
)
def test_daprd_is_recognized_by_image_and_program(
    image: str,
    words: tuple[str, ...],
    expected: bool,  # noqa: FBT001 - a parameter
) -> None:
    assert is_daprd(image, words) is expected


@pytest.mark.parametrize("pod", [{"spec": {"containers": 1}}, {"spec": []}, {"status": 1}, {"spec": {"volumes": [{}]}}])
def test_malformed_pod_is_unknown(pod: dict[str, Any]) -> None:
    found = assess(observation({"metadata": {"namespace": "shop", "name": "web"}, **pod}, WORKLOAD), Known(now=0))

    assert found.reason is ProtectionReason.MALFORMED


def test_waiting_container_with_malformed_environment_is_unknown() -> None:
    sidecar = {"name": "daprd", "env": [{"name": "DAPR_API_TOKEN", "value": "x", "valueFrom": []}]}
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}}
    pod = {
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"containers": [sidecar]},
        "status": {"containerStatuses": [{"name": "daprd", "state": state}]},
    }

    found = assess(observation(pod, WORKLOAD), Known(now=0))

    assert (found.reason, found.container) == (ProtectionReason.MALFORMED, "daprd")


def test_what_pods_share_changes_no_assessment() -> None:
    specs: Specs = {}
    seen: Seen = {}
    for folder in (FOLDER / name for name in CASES * 2):
        observed = observation(document(folder / "pod.yaml"), WORKLOAD, specs)

        assert assess(observed, _known(folder), seen) == assessed(folder)

    assert 0 < len(specs) <= len(CASES)
    assert 0 < len(seen) <= len(CASES)
