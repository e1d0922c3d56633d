"""`deploy/` has the same objects as the chart with the values of its folders."""

from __future__ import annotations

import operator
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from ruamel.yaml import YAML

from injector.config.policy import parse_policy
from tests.controlplane.helm import CHART

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chart.conftest import Render
    from tests.controlplane.api import Json

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
# Values, and the folder or the components on top of base that are the same.
PAIRS: Final[dict[str, str | tuple[str, ...]]] = {
    "minimal": "base",
    "dev": "overlays/dev",
    "default": "overlays/production",
    "cert-manager": ("cert-manager",),
    "canary": ("canary",),
    "requested": ("requested",),
    "monitoring": ("monitoring", "network-policy"),
    "redundant": ("requested", "redundant"),
    "redundant-cert-manager": (
        *("canary", "ha", "requested", "network-policy", "monitoring", "guard", "cert-manager"),
        *("redundant", "redundant/cert-manager"),
    ),
}
# Only the chart's: they say that Helm made it.
HELMS_LABELS: Final = ("helm.sh/chart", "app.kubernetes.io/managed-by")


@pytest.mark.parametrize("values", PAIRS)
def test_chart_and_manifests_render_the_same_objects(
    render: Render, kustomize: Callable[[Path], list[Json]], tmp_path: Path, values: str
) -> None:
    folder = PAIRS[values]
    path = DEPLOY / folder if isinstance(folder, str) else composed(tmp_path, folder)

    ours = by_identity(render("--values", str(CHART / f"ci/{values}-values.yaml")))
    theirs = by_identity(kustomize(path))

    # A chart does not make the namespace that it is installed into.
    assert theirs.pop(("Namespace", "dapr-token-injector"))
    assert ours.keys() == theirs.keys()
    for identity, item in ours.items():
        assert item == theirs[identity], identity


def composed(folder: Path, components: tuple[str, ...]) -> Path:
    """A kustomization of a user's own."""
    relative = os.path.relpath(DEPLOY, folder)
    content = {
        "resources": [f"{relative}/base"],
        "components": [f"{relative}/components/{name}" for name in components],
    }
    with (folder / "kustomization.yaml").open("w") as file:
        YAML().dump(content, file)
    return folder


def by_identity(objects: list[Json]) -> dict[tuple[str, str], Json]:
    found = {}
    for item in map(normal, objects):
        identity = (item["kind"], item["metadata"]["name"])
        assert identity not in found, f"{identity} twice"
        found[identity] = item
    return found


def normal(item: Json) -> Json:
    """The object without the marks of the tool that rendered it."""
    labels = item["metadata"].get("labels", {})
    for label in HELMS_LABELS:
        labels.pop(label, None)
    match item["kind"]:
        case "Deployment":
            # Of the policy's content: the chart has it in an annotation, kustomize in the name.
            template = item["spec"]["template"]
            template["metadata"].get("annotations", {}).pop("checksum/policy", None)
            if not template["metadata"].get("annotations"):
                template["metadata"].pop("annotations", None)
            volume = next(v for v in template["spec"]["volumes"] if v["name"] == "policy")
            volume["configMap"]["name"] = without_hash(volume["configMap"]["name"])
            # Merged by name, so that their order means nothing.
            template["spec"]["volumes"].sort(key=operator.itemgetter("name"))
            template["spec"]["containers"][0]["volumeMounts"].sort(key=operator.itemgetter("name"))
        case "ConfigMap":
            item["metadata"]["name"] = without_hash(item["metadata"]["name"])
            item["data"] = {name: parse_policy(text, name) for name, text in item["data"].items()}
        case _:
            pass
    return item


def without_hash(name: str) -> str:
    return re.sub(r"(?<=-policy)-[a-z0-9]{10}$", "", name)
