"""`helm test`: asks the API server for a Pod, as a dry run, and looks at what the webhook made of it.

Runs in the webhook's own image, with nothing but the standard library. Ends with 0 when the Pod has its token, else
with 1 and a sentence that says where to look.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TIMEOUT_SECONDS = 40


def main(env: Mapping[str, str]) -> int:
    """Ask, look, tell; return the exit code."""
    try:
        pod, warnings = dry_run(request(env), Path(env.get("CANARY_ACCOUNT", ACCOUNT)))
        trouble = findings(pod, warnings, env)
    except urllib.error.HTTPError as error:
        warnings, trouble = [], f"the API server refused the Pod: {told(error)}"
    except OSError as error:
        warnings, trouble = [], f"the API server cannot be reached: {error}"
    for warning in warnings:
        print(f"Warning: {warning}")
    if trouble:
        print(f"FAILED: {trouble}. See docs/how-to/troubleshoot.md.")
        return 1
    print(f"OK: the webhook serves namespace {env['CANARY_NAMESPACE']}. It was a dry run; no Pod was made.")
    return 0


def findings(pod: dict[str, Any], warnings: list[str], env: Mapping[str, str]) -> str:
    """What is wrong with the Pod that came back; empty when nothing is."""
    where = f"namespace {env['CANARY_NAMESPACE']}"
    entries = [entry for entry in pod["spec"]["containers"][0].get("env", []) if entry["name"] == "DAPR_API_TOKEN"]
    reference = {"name": env["CANARY_SECRET"], "key": env["CANARY_KEY"]}
    if env["CANARY_SHADOW"] == "true":
        warned = any("DAPR_API_TOKEN" in warning for warning in warnings)
        return "" if warned and not entries else f"in shadow mode the webhook should only warn, and did not in {where}"
    if entries != [{"name": "DAPR_API_TOKEN", "valueFrom": {"secretKeyRef": reference}}]:
        return f"the Pod came out of {where} without its token: is a replica ready, and is that namespace served"
    return ""


def request(env: Mapping[str, str]) -> urllib.request.Request:
    """The creation of a Pod that a namespace under Pod Security `restricted` and a ResourceQuota accepts, too."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "dapr-token-injector-canary-",
            "annotations": {"dapr.io/enabled": "true", "dapr.io/api-token-secret": env["CANARY_SECRET"]},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "daprd",
                    "image": "example.invalid/never-pulled",
                    "resources": {
                        "requests": {"cpu": "1m", "memory": "1Mi"},
                        "limits": {"cpu": "1m", "memory": "1Mi"},
                    },
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
    return urllib.request.Request(  # noqa: S310 - https, see server()
        f"{server(env)}/api/v1/namespaces/{env['CANARY_NAMESPACE']}/pods?dryRun=All",
        data=json.dumps(pod).encode(),
        headers={"Content-Type": "application/json"},
    )


def server(env: Mapping[str, str]) -> str:
    """The API server's URL, as every Pod is told it; an IPv6 address is bracketed."""
    host = env["KUBERNETES_SERVICE_HOST"]
    return f"https://{f'[{host}]' if ':' in host else host}:{env['KUBERNETES_SERVICE_PORT']}"


def dry_run(asked: urllib.request.Request, account: Path) -> tuple[dict[str, Any], list[str]]:
    """The Pod as it would be, and the warnings about it."""
    asked.add_header("Authorization", f"Bearer {(account / 'token').read_text().strip()}")
    trust = ssl.create_default_context(cafile=str(account / "ca.crt"))
    with urllib.request.urlopen(asked, timeout=TIMEOUT_SECONDS, context=trust) as answer:  # noqa: S310 - as above
        warnings = answer.headers.get_all("Warning") or []
        pod: dict[str, Any] = json.load(answer)
    return pod, warnings


def told(error: urllib.error.HTTPError) -> str:
    """The API server's own sentence."""
    try:
        return str(json.load(error)["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"


if __name__ == "__main__":
    sys.exit(main(os.environ))
