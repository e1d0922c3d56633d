"""`helm test`: send a Pod to the API server as a dry run, and check the webhook's changes.

Runs in the webhook's own image and only uses the standard library. Exits with 0 if the Pod has its token, otherwise
with 1 and a message that names the cause.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TIMEOUT_SECONDS = 40
NAME = "dapr-token-injector-canary-"
MOST_SHOWN = 200  # characters of a redirect's target, which is text of an untrusted server


def main(env: Mapping[str, str]) -> int:
    """Send the Pod, check it, print the result; return the exit code."""
    try:
        pod, warnings = dry_run(request(env), Path(env.get("CANARY_ACCOUNT", ACCOUNT)))
        trouble = findings(pod, warnings, env)
    except urllib.error.HTTPError as error:
        warnings, trouble = [], message_of(error)
    except (OSError, http.client.HTTPException) as error:
        warnings, trouble = [], f"the API server cannot be reached: {error}"
    for warning in warnings:
        print(f"Warning: {warning}")
    if trouble:
        print(f"FAILED: {trouble}. See docs/how-to/troubleshoot.md.")
        return 1
    print(f"OK: the webhook serves namespace {env['CANARY_NAMESPACE']}. It was a dry run; no Pod was made.")
    return 0


def findings(pod: dict[str, Any], warnings: list[str], env: Mapping[str, str]) -> str:
    """The problem of the returned Pod; empty if there is none."""
    where = f"namespace {env['CANARY_NAMESPACE']}"
    if not is_ours(pod, env["CANARY_NAMESPACE"]):
        return "the answer is not the Pod that was sent; another server or a proxy may have sent it"
    entries = [entry for entry in pod["spec"]["containers"][0].get("env", []) if entry["name"] == "DAPR_API_TOKEN"]
    reference = {"name": env["CANARY_SECRET"], "key": env["CANARY_KEY"]}
    if env["CANARY_SHADOW"] == "true":
        warned = any("DAPR_API_TOKEN" in warning for warning in warnings)
        return "" if warned and not entries else f"in shadow mode the webhook should only warn, and did not in {where}"
    if entries != [{"name": "DAPR_API_TOKEN", "valueFrom": {"secretKeyRef": reference}}]:
        return f"the Pod came out of {where} without its token: is a replica ready, and is that namespace served"
    return ""


def is_ours(answer: Any, namespace: str) -> bool:  # noqa: ANN401 - JSON
    """Whether an answer is the Pod, by kind, namespace and generated name. Admission may change all other fields."""
    if not isinstance(answer, dict) or (answer.get("apiVersion"), answer.get("kind")) != ("v1", "Pod"):
        return False
    meta, containers = answer.get("metadata"), (answer.get("spec") or {}).get("containers")
    is_named = isinstance(meta, dict) and str(meta.get("name")).startswith(NAME) and meta.get("namespace") == namespace
    return is_named and bool(containers)


def request(env: Mapping[str, str]) -> urllib.request.Request:
    """The creation of a Pod that meets Pod Security `restricted` and a ResourceQuota."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": NAME,
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
    """The API server's URL from the Pod's environment; an IPv6 address is bracketed."""
    host = env["KUBERNETES_SERVICE_HOST"]
    return f"https://{f'[{host}]' if ':' in host else host}:{env['KUBERNETES_SERVICE_PORT']}"


def opener(trust: ssl.SSLContext) -> urllib.request.OpenerDirector:
    """A urllib opener without its redirect handler, which would send the account's token to another server."""
    made = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(context=trust),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        made.add_handler(handler)
    return made


def dry_run(asked: urllib.request.Request, account: Path) -> tuple[Any, list[str]]:
    """The Pod as it would be created, and its warnings; None if the answer is not JSON."""
    asked.add_header("Authorization", f"Bearer {(account / 'token').read_text().strip()}")
    trust = ssl.create_default_context(cafile=str(account / "ca.crt"))
    with opener(trust).open(asked, timeout=TIMEOUT_SECONDS) as answer:
        warnings = answer.headers.get_all("Warning") or []
        try:
            return json.load(answer), warnings
        except (ValueError, RecursionError):
            return None, warnings


def message_of(error: urllib.error.HTTPError) -> str:
    """Why there is no Pod: the API server's own message, or the target of a redirect."""
    if error.code // 100 == 3:  # noqa: PLR2004 - redirects
        target = redirect_target(error.headers.get("Location"), error.url or "")
        return f"the API server redirects {target} (status {error.code}), and no redirect is followed"
    try:
        return f"the API server refused the Pod: {json.load(error)['message']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"the API server refused the Pod: HTTP {error.code}"


def redirect_target(location: str | None, base: str) -> str:
    """Scheme, host, port and path of a redirect's target, on one line; no user information and no query."""
    if not location:
        return "without naming a target"
    try:
        url = urlsplit(urljoin(base, location))
        port = f":{url.port}" if url.port is not None else ""
    except ValueError:
        return "to a target that is not a URL"
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""
    shown = f"{url.scheme}://{host}{port}{url.path}"[:MOST_SHOWN]
    return "to " + "".join(letter if "!" <= letter <= "~" else "?" for letter in shown)


if __name__ == "__main__":
    sys.exit(main(os.environ))
