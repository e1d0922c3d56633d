"""Checks that command, webhook and installed objects have the same version."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from injector import __version__
from injector.check.chart import GUARD, REQUESTED, UPGRADE
from injector.check.installation import deployments_of_groups
from injector.check.model import Category, Check, Outcome, failed, unknown, warning
from injector.core import names
from injector.core.images import repository_and_tag
from injector.kube.errors import ForbiddenError, KubeError
from injector.kube.resources import DEPLOYMENTS, POLICIES, SERVICES, WEBHOOK_CONFIGURATIONS
from injector.kube.transport import Request

if TYPE_CHECKING:
    from injector.check.reader import ClusterReader
    from injector.kube.resources import Object

_CONTAINER: Final = "webhook"
_VERSION: Final = re.compile(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6}(?:[-.+][\w.+-]{1,40})?)", re.ASCII)
_BUILD: Final = re.compile(
    r'^dapr_token_injector_build_info\{[^}\n]*version="([\w.+-]{1,64})"', re.MULTILINE | re.ASCII
)
_CHART_LABEL: Final = "helm.sh/chart"


async def _same_version(reader: ClusterReader) -> Outcome:
    namespace = await reader.namespace()
    deployments = await deployments_of_groups(reader)
    if not deployments:
        return Outcome(seen=f"no Deployment {names.MANAGER} in namespace {namespace}", is_skipped=True)
    image = image_of(deployments[0])
    _, version = repository_and_tag(image)
    where = f"image {image}"
    if not _VERSION.fullmatch(version):
        try:
            version = await _running_version(reader, namespace, deployments[0]["metadata"]["name"])
        except KubeError as error:
            reason = "the image names no version, and the metrics of the webhook cannot be read"
            needed = " (you need get on services/proxy)" if isinstance(error, ForbiddenError) else ""
            return Outcome(seen=where, problems=(unknown(f"{reason}{needed}: {error}"),))
        where += f", metrics: version {version}"
    theirs, ours = _VERSION.fullmatch(version), _VERSION.fullmatch(__version__)
    if theirs is None or ours is None:
        return Outcome(seen=where, problems=(unknown("the version of the webhook cannot be compared"),))
    seen = f"command {__version__}, {where}"
    if theirs.groups() == ours.groups():
        return Outcome(seen=seen)
    kind = warning if theirs.groups()[:2] == ours.groups()[:2] else failed
    problem = kind(f"this command has version {__version__}, the webhook {version.removeprefix('v')}")
    return Outcome(seen=seen, problems=(problem,))


def image_of(deployment: Object) -> str:
    """Return the image of the webhook in a Deployment."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return str({one["name"]: one["image"] for one in containers}[_CONTAINER])


async def _running_version(reader: ClusterReader, namespace: str, service: str) -> str:
    """Return the version in the metrics of a replica that is ready, empty if they have none.

    Raises:
        KubeError: The metrics cannot be read through the API server.
    """
    path = f"{SERVICES.path(namespace, f'http:{service}:ops')}/proxy/metrics"
    request = Request("GET", path, f"get services/proxy of {service} in namespace {namespace}", accept="*/*")
    found = _BUILD.search((await reader.api.fetch(request)).decode("utf-8", "replace"))
    return found[1] if found else ""


async def _objects_of_one_version(reader: ClusterReader) -> Outcome:
    namespace = await reader.namespace()
    kinds = (
        *((DEPLOYMENTS, name, namespace) for name in names.GROUPS),
        *((kind, name, None) for kind, name in WEBHOOK_CONFIGURATIONS),
        (POLICIES, GUARD, None),
        (POLICIES, REQUESTED, None),
    )
    found = await asyncio.gather(*(reader.get(*one) for one in kinds))
    versions: dict[str, list[str]] = {}
    for (kind, name, _), item in zip(kinds, found, strict=True):
        labels = ((item or {}).get("metadata") or {}).get("labels") or {}
        parts = [labels[key] for key in (_CHART_LABEL, names.APP_VERSION_LABEL) if key in labels]
        if parts:
            versions.setdefault(", ".join(parts), []).append(f"{kind.kind} {name}")
    if not versions:
        return Outcome(seen="no object has a label with its version", is_skipped=True)
    seen = "; ".join(f"{version}: {', '.join(words)}" for version, words in sorted(versions.items()))
    problems = []
    if len(versions) > 1:
        problems.append(failed("the objects of the installation have several versions", UPGRADE.format(namespace)))
    return Outcome(seen=seen, problems=tuple(problems))


CHECKS: Final = (
    Check(
        id="DTC080",
        name="same-version",
        category=Category.VERSIONS,
        summary="This command and the webhook have the same version.",
        why="The command decides with its own rules, as in `explain`, `inject` and `check`. A webhook of another "
        "version can decide differently, so the report is not about what runs.",
        how="Compares the version of the command with the tag of the image of the Deployment's container `webhook`. "
        "If the image has only a digest, or its tag is not a version, it reads the metric "
        "`dapr_token_injector_build_info` of a ready replica through the API server, which requires `get` on "
        "`services/proxy`; without it the result is unknown. Another patch version is a warning. Of two groups, it "
        "looks at the first; `groups-alike` compares them. It cannot see whether a registry serves another image "
        "under the same tag.",
        fix="Install the command in the version of the webhook, or upgrade the chart: "
        "[Upgrade](../../how-to/upgrade.md).",
        run=_same_version,
    ),
    Check(
        id="DTC081",
        name="objects-of-one-version",
        category=Category.VERSIONS,
        summary="All installed objects come from one version of the chart.",
        why="After an upgrade that was interrupted, or one with manifests that leaves out an object, the webhook, its "
        "registration and the policies follow different rules.",
        how="Compares the labels `helm.sh/chart` and `app.kubernetes.io/version` of the Deployments, the webhook "
        "configurations and both policies. It is skipped if no object has them. It cannot see changes of an object "
        "under the same label.",
        fix="Run `helm upgrade dapr-token-injector CHART --reset-then-reuse-values` or `kubectl apply -k` again, with "
        "all objects of one version: [Upgrade](../../how-to/upgrade.md).",
        run=_objects_of_one_version,
    ),
)
