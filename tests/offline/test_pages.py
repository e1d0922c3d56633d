"""The pages whose commands need no cluster, typed in a folder with the manifests that they speak of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.pages.families import run_by
from tests.pages.terminal import follow_page, terminal

if TYPE_CHECKING:
    from pathlib import Path

WORKLOAD = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  namespace: shop
  labels:
    app: {name}
  annotations:
    {workload}
spec:
  selector:
    matchLabels:
      app: {name}
  template:
    metadata:
      labels:
        app: {name}
      annotations:
        {template}
    spec:
      containers:
        - name: web
          image: example/{name}
"""
SIDECAR = """\
        - name: daprd
          image: daprio/daprd:1.16.0
"""
REQUEST = "dapr.io/api-token-secret: dapr-api-token"
OTHER = "example.com/team: shop"


def misplaced(name: str) -> str:
    """A Deployment with the annotation on it and not on its Pod template, in line 9."""
    return WORKLOAD.format(name=name, workload=REQUEST, template=OTHER)


def right(name: str) -> str:
    """A Deployment with its sidecar that requests a token for it and for the app."""
    template = f'dapr.io/enabled: "true"\n        {REQUEST}\n        dapr-token-injector/app-containers: web'
    return WORKLOAD.format(name=name, workload=OTHER, template=template) + SIDECAR


FILES = {
    "docs/how-to/lint-in-ci.md": {
        "deploy/orders.yaml": misplaced("orders"),
        **{f"manifests/{n}.yaml": (misplaced if n < 7 else right)(f"app-{n}") for n in range(12)},
    },
    "docs/how-to/inject-manifests-in-git.md": {
        "deploy/orders.yaml": right("orders"),
        "seal.yaml": "seal: always\nsealImage: registry.example.com/dapr-token-injector:1.0.0\n",
    },
}


@pytest.mark.parametrize("page", run_by(__file__))
def test_commands_of_the_page_print_what_it_shows(page: str, tmp_path: Path) -> None:
    for name, text in FILES[page].items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    with terminal(tmp_path) as opened:
        assert follow_page(page, opened) > 1

    for name, text in FILES[page].items():
        assert (tmp_path / name).read_text() == text  # also after `inject` and `uninject`
