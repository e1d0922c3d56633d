"""Demonstrate dapr-token-injector: first one response of the webhook, then a Pod on a real API server.

Run it as `python deploy/demo/demo.py`. The first part takes seconds. The second needs a control plane: it
is built with Go (once, a quarter of an hour), or taken from KUBEBUILDER_ASSETS, or it is your own cluster
(see `tests/controlplane/target.py`, also for kind). With KEEP=1 everything runs until Ctrl-C. At the end
the demo removes everything that it created.
"""

from __future__ import annotations

import base64
import contextlib
import difflib
import io
import json
import os
import secrets
import shlex
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).parent
# The harness is shared with the tests and is not part of the installed package.
sys.path.insert(0, str(HERE.parents[1]))

import httpx  # noqa: E402  the path comes first
import jsonpatch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.text import Text  # noqa: E402
from ruamel.yaml import YAML  # noqa: E402

from tests.controlplane.cluster import wait_for_service_account  # noqa: E402
from tests.controlplane.errors import HarnessError  # noqa: E402
from tests.controlplane.polling import wait_for  # noqa: E402
from tests.controlplane.registration import token_injector, workload_warnings  # noqa: E402
from tests.controlplane.target import Cluster, open_cluster, webhook_host  # noqa: E402
from tests.controlplane.webhook import Webhook, WebhookSettings  # noqa: E402
from tests.controlplane.workspace import temporary_folder, write_private  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

STYLES = {"+": "green", "-": "red"}


def main() -> int:
    """Run the demo; return 0, 130 after Ctrl-C, or 3 if a prerequisite is missing."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as after Ctrl-C
    console = Console(highlight=False, soft_wrap=True)
    try:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(temporary_folder())
            with step(console, "Starting the webhook with a new certificate"):
                webhook = Webhook.start(WebhookSettings(folder, host=webhook_host()))
                stack.enter_context(webhook.process)
            show_answer(console, webhook, load("pod.yaml"))
            show_on_cluster(console, webhook)
    except HarnessError as error:
        console.print(Text(str(error), style="red"))
        return 3
    except KeyboardInterrupt:
        console.print("Interrupted; nothing is left running.")
        return 130
    console.print("Nothing is left running.")
    return 0


def show_answer(console: Console, webhook: Webhook, pod: Json) -> None:
    """Post one review as the API server does, and show the Pod before and after."""
    with step(console, "Sending deploy/demo/pod.yaml to it, as an API server does"):
        response = post_review(webhook, pod)
    if not response["allowed"]:
        raise HarnessError(f"the webhook denied the example: {response['status']['message']}")
    patch = json.loads(base64.b64decode(response["patch"]))
    show_diff(console, "The Pod, before and after", pod, jsonpatch.apply_patch(pod, patch))


def show_on_cluster(console: Console, webhook: Webhook) -> None:
    """Apply the Deployment on a real API server and show its Pod."""
    heading(console, "The same on a real API server")

    def report(line: str) -> None:
        console.print(f"  {line}")

    with contextlib.ExitStack() as stack:
        with step(console, "Starting a control plane (the first run builds its programs)"):
            cluster = stack.enter_context(open_cluster(report))
        kubectl = stack.enter_context(namespace(cluster))
        with step(console, "Registering the webhook"):
            stack.enter_context(registered(kubectl, webhook))
        deployment = load("deployment.yaml")
        with step(console, "Applying deploy/demo/deployment.yaml"):
            pod = applied(kubectl, deployment)
        template = deployment["spec"]["template"]
        title = "The Deployment's template, and its Pod (without the defaults of Kubernetes)"
        show_diff(console, title, template, only_like(template, pod))
        if os.environ.get("KEEP") == "1":
            keep(console, kubectl, webhook, stack.enter_context(temporary_folder()))


def keep(console: Console, kubectl: Kubectl, webhook: Webhook, folder: Path) -> None:
    """Print the command that prepares another terminal, and wait until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        prepared = prepare_terminal(kubectl, webhook, folder)
        heading(console, "Everything runs until Ctrl-C")
        console.print(f"In another terminal, run:\n\n  . {prepared}\n")
        console.print("It selects the cluster, the namespace and kubectl, and sets $METRICS.")
        signal.pause()


def prepare_terminal(kubectl: Kubectl, webhook: Webhook, folder: Path) -> Path:
    """Write a file that a shell reads: it selects the cluster, the namespace and kubectl, and sets METRICS."""
    kubeconfig, programs, prepared = folder / "kubeconfig", folder / "bin", folder / "env"
    kubectl.write_kubeconfig(kubeconfig)
    programs.mkdir()
    (programs / "kubectl").symlink_to(kubectl.binary)
    lines = [
        f"export KUBECONFIG={shlex.quote(str(kubeconfig))}",
        f"export PATH={shlex.quote(str(programs))}:$PATH",
        f"export METRICS={webhook.ops_url}/metrics",
    ]
    write_private(prepared, "".join(f"{line}\n" for line in lines).encode())
    return prepared


def post_review(webhook: Webhook, pod: Json) -> Json:
    """Return the webhook's response to the creation of `pod`."""
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
        "requestResource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "default",
        "operation": "CREATE",
        "userInfo": {"username": "demo"},
        "object": pod,
        "dryRun": False,
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    context = ssl.create_default_context(cadata=webhook.endpoint.ca_pem.decode())
    answer = httpx.post(f"{webhook.endpoint.url}/mutate", json=review, verify=context, trust_env=False)
    response: Json = answer.raise_for_status().json()["response"]
    return response


@contextlib.contextmanager
def namespace(cluster: Cluster) -> Iterator[Kubectl]:
    """Yield kubectl in a new namespace, which is deleted at the end."""
    name = f"token-injector-demo-{secrets.token_hex(4)}"
    cluster.kubectl.run("create", "namespace", name)
    try:
        within = cluster.kubectl.within(name)
        wait_for_service_account(within)
        yield within
    finally:
        cluster.kubectl.delete("namespace", name)


@contextlib.contextmanager
def registered(kubectl: Kubectl, webhook: Webhook) -> Iterator[None]:
    """Register the webhook for the namespace, with its warnings, and wait until the API server calls it."""
    with contextlib.ExitStack() as stack:
        for configuration in (token_injector, workload_warnings):
            created = kubectl.create(configuration(webhook.endpoint, namespace=kubectl.namespace))
            stack.callback(kubectl.delete, created["kind"], created["metadata"]["name"])
        before = webhook.requests_served()

        def is_called() -> bool:
            kubectl.dry_run(load("pod.yaml"))
            return webhook.requests_served() > before

        wait_for("the webhook called", is_called, timeout_seconds=10)
        yield


def applied(kubectl: Kubectl, deployment: Json) -> Json:
    """Apply a Deployment and return its first Pod."""
    kubectl.apply(deployment)
    selector = ",".join(f"{k}={v}" for k, v in deployment["spec"]["selector"]["matchLabels"].items())
    return wait_for("the Deployment's Pod", lambda: kubectl.list("pods", labelSelector=selector))[0]


def only_like(template: Any, actual: Any) -> Any:  # noqa: ANN401  any JSON
    """The parts of `actual` that the template has or a webhook may have added, in the template's order."""
    if isinstance(template, dict) and isinstance(actual, dict):
        kept = {key: only_like(template[key], actual[key]) for key in template if key in actual}
        return kept | {key: value for key, value in actual.items() if key not in template and may_be_ours(key)}
    if isinstance(template, list) and isinstance(actual, list):
        paired = [only_like(mine, theirs) for mine, theirs in zip(template, actual, strict=False)]
        return paired + actual[len(template) :]
    return actual


def may_be_ours(key: str) -> bool:
    """Whether a webhook may have added the key. Kubernetes adds all other keys that a template lacks."""
    return key == "env" or key.startswith("dapr-token-injector/")


def show_diff(console: Console, title: str, before: Json, after: Json) -> None:
    """Print the complete second object, with the differences from the first marked and coloured."""
    heading(console, title)
    # All lines as context, to show the complete object. The first three lines are the diff's header.
    lines = difflib.unified_diff(to_yaml(before).splitlines(), to_yaml(after).splitlines(), lineterm="", n=sys.maxsize)
    body = list(lines)[3:]
    for line in body:
        console.print(Text(f"  {line}", style=STYLES.get(line[0], "")))
    console.print(f"  {sum(line.startswith('+') for line in body)} lines were added.\n")


def heading(console: Console, title: str) -> None:
    """Print a title."""
    console.print(Text(f"\n{title}", style="bold"))


@contextlib.contextmanager
def step(console: Console, what: str) -> Iterator[None]:
    """Print the step, and its duration at the end."""
    started = time.monotonic()
    if not console.is_terminal:  # no spinner
        console.print(f"{what} ...")
    with console.status(what):
        yield
    console.print(f"{what}: {time.monotonic() - started:.1f} s")


def load(name: str) -> Json:
    """Read an example as plain data."""
    loaded: Json = YAML(typ="safe").load(HERE / name)
    return loaded


def to_yaml(item: Json) -> str:
    """Write an object as YAML, keys in their order."""
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 120
    text = io.StringIO()
    yaml.dump(item, text)
    return text.getvalue()


if __name__ == "__main__":
    sys.exit(main())
