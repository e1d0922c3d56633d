"""Pods and containers that read a token, for the tests of their states and of rollouts."""

from __future__ import annotations

from injector.core import names
from injector.core.ownership import SecretKey, SecretRef
from injector.core.token_state import (
    SKEW,
    ContainerUsage,
    MissingToken,
    PodUsage,
    Ref,
    SecretRevision,
    annotation_for,
)

SECRET = SecretRef("shop", "s")
KEY = SecretKey.of(SECRET, "token")
OTHER_KEY = SecretKey.of(SECRET, "other")
OTHER_SECRET = SecretKey("shop", "t", "token")
CHANGED = 1000
LATE = CHANGED + SKEW + 1  # by a node's clock
REVISION = SecretRevision(id="bcdfghjklm", changed=CHANGED)
FIRST = SecretRevision(id="bcdfghjklm", changed=CHANGED, created=CHANGED)
REVISIONS = {KEY: REVISION}
WEB = Ref("Deployment", "shop", "web")
DB = Ref("StatefulSet", "shop", "db")
DATA_KEYS = frozenset({"token"})
MARK_NAME = annotation_for("s")
MARK = {MARK_NAME: "bcdfghjklm"}
SECOND_MARK = {MARK_NAME: "bcdfghjklm (2)"}
MISSING = MissingToken(key=KEY, container="daprd", variable=names.API_TOKEN_ENV)
EXPECTED = {KEY: {"daprd"}}


def usage(started: int | None = 0, **more: object) -> ContainerUsage:
    fields: dict[str, object] = {"container": "daprd", "key": KEY, "started": started, **more}
    return ContainerUsage(**fields)  # type: ignore[arg-type] # fields by name


def pod(name: str = "web-1", *, started: int | None = 0, **more: object) -> PodUsage:
    fields = {"namespace": "shop", "name": name, "workload": WEB, "usages": (usage(started),), **more}
    return PodUsage(**fields)  # type: ignore[arg-type] # fields by name


def starting(created: int | None, **more: object) -> PodUsage:
    """A Pod without a report of its kubelet."""
    return pod(**{"usages": (usage(None, is_starting=True),), "created": created, **more})  # type: ignore[arg-type] # as above


def waited(*, started: int, clock_lead: int | None, is_optional: bool = False) -> PodUsage:
    """A Pod that was created before the Secret."""
    usages = (usage(started, is_optional=is_optional),)
    return pod(usages=usages, created=CHANGED - 300, clock_lead=clock_lead)


def open_pod(name: str = "web-1", **more: object) -> PodUsage:
    """A Pod that requests a token and has none."""
    return pod(name, **{"usages": (), "missing": (MISSING,), **more})  # type: ignore[arg-type] # as above


def uncertain_pod(name: str = "web-1", **more: object) -> PodUsage:
    return pod(name, **{"usages": (usage(CHANGED + 1),), **more})  # type: ignore[arg-type] # as above
