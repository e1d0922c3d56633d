"""Parts of the rules' examples."""

from __future__ import annotations

from textwrap import indent
from typing import Final

WEB: Final = """\
- name: web
  image: example/orders
"""
DAPRD: Final = """\
- name: daprd
  image: daprio/daprd
"""

DAPR: Final = 'dapr.io/enabled: "true"'
SECRET: Final = "dapr.io/api-token-secret: dapr-api-token"
FOR_WEB: Final = "dapr-token-injector/app-containers: web"


def pod(*annotations: str, containers: str = WEB, init_containers: str = "") -> str:
    """A Pod in YAML."""
    init = f"  initContainers:\n{indent(init_containers, ' ' * 4)}" if init_containers else ""
    head = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: orders\n  annotations:\n"
    written = "".join(f"    {line}\n" for line in annotations)
    return f"{head}{written}spec:\n{init}  containers:\n{indent(containers, ' ' * 4)}"


def variable(*values: str, container: str = "daprd", image: str = "daprio/daprd") -> str:
    """A container with DAPR_API_TOKEN, once for each value; a value is the text next to the name, in YAML."""
    entries = "".join(f"    - name: DAPR_API_TOKEN\n{indent(value, ' ' * 6)}" for value in values)
    return f"- name: {container}\n  image: {image}\n  env:\n{entries}"


def reference(secret: str = "dapr-api-token", more: str = "") -> str:
    """A source of a variable: key `token` of `secret`."""
    return f"valueFrom:\n  secretKeyRef:\n    name: {secret}\n    key: token\n{indent(more, ' ' * 4)}"


def secret(data: str, *, namespace: str = "", name: str = "dapr-api-token") -> str:
    """A Secret in YAML; `data` is the part below the metadata."""
    where = f"  namespace: {namespace}\n" if namespace else ""
    return f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n{where}{data}"
