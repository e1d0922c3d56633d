"""Read golden cases from their folders."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from injector.config.policy import load_policy
from injector.core.model import Endpoint, Policy
from tests import builders
from tests.documents import document

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = Path(__file__).parent


class Grow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Containers and variables to add to the object and to the expected one, so that files stay small."""

    containers: int
    variables: int


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`case.yaml`. Texts are fragments: each warning, and the denial's message, must contain all of its own."""

    rule: str
    # the request
    endpoint: Endpoint = Endpoint.MUTATE
    operation: str = "CREATE"
    subResource: str = ""  # noqa: N815 - Kubernetes' own spelling
    dryRun: bool = False  # noqa: N815 - Kubernetes' own spelling
    apiVersion: str = "admission.k8s.io/v1"  # noqa: N815 - Kubernetes' own spelling
    grow: Grow | None = None
    # the answer
    error: str = ""  # the reason of an InjectorError; then there is no answer
    verdict: str = ""
    reason: str = ""
    message: tuple[str, ...] = ()
    code: int = 0
    warnings: tuple[tuple[str, ...], ...] = ()  # all of them, in order
    audit: dict[str, str] = {}
    hides: tuple[str, ...] = ()  # must not occur anywhere in the answer


class Golden(msgspec.Struct, frozen=True):
    """One folder."""

    name: str
    case: Case
    policy: Policy
    review: builders.Json
    want: builders.Json | None


def folders() -> list[Path]:
    """Every case's folder, in order of their names."""
    return sorted(path.parent for path in FOLDER.glob("*/case.yaml"))


def row_of(folder: Path) -> str:
    """The row of the conformance page that a folder belongs to, or D."""
    return folder.name.partition("-")[0]


def is_error(folder: Path) -> bool:
    """Whether the case has no answer; without decoding it, since every test process collects every case."""
    return any(line.startswith("error:") for line in (folder / "case.yaml").read_text().splitlines())


def is_patched(folder: Path) -> bool:
    """Whether the case has an object after the patch."""
    return (folder / "want.yaml").exists()


def read_case(folder: Path) -> Case:
    """Return `case.yaml` of a folder."""
    return msgspec.convert(document(folder / "case.yaml"), Case)


@functools.cache
def load(folder: Path) -> Golden:
    """Return the case in a folder; tests must not change it."""
    case = read_case(folder)
    policy_file = folder / "policy.yaml"
    want = document(folder / "want.yaml") if is_patched(folder) else None
    question = _question(folder, case)
    if case.grow is not None:
        for found in filter(None, (question["request"]["object"], want)):
            found["spec"]["containers"].extend(_more_containers(case.grow))
    policy = load_policy(policy_file) if policy_file.exists() else Policy()
    return Golden(folder.name, case, policy, question, want)


def _question(folder: Path, case: Case) -> builders.Json:
    whole = folder / "review.yaml"
    if whole.exists():
        return dict(document(whole))
    found = next(document(folder / name) for name in ("pod.yaml", "workload.yaml") if (folder / name).exists())
    return builders.review(
        found,
        version=case.apiVersion.rpartition("/")[2],
        operation=case.operation,
        subResource=case.subResource,
        dryRun=case.dryRun,
    )


def _more_containers(grow: Grow) -> Iterator[builders.Json]:
    for number in range(grow.containers):
        variables = [{"name": f"VARIABLE_{i}", "value": "x" * 20} for i in range(grow.variables)]
        yield builders.container(f"more-{number}", env=variables)
