"""Loads the address and credentials of a cluster: from a Pod's ServiceAccount, or from a kubeconfig."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kubernetes.aio import config
from kubernetes.aio.client import Configuration

from injector.kube import api_messages
from injector.kube.errors import KubeconfigError, UnknownContextError
from injector.kube.oidc import Loader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import TypeAlias

    from injector.kube.resources import Object

    # The configuration of the official client, and a function that reads its credentials again.
    Access: TypeAlias = tuple[Configuration, Callable[[], Awaitable[None]]]


async def in_cluster() -> Access:
    """Return the access of the Pod's ServiceAccount.

    Raises:
        KubeconfigError: The process does not run in a Pod, or no token is mounted.
    """
    configuration = Configuration()

    async def load() -> None:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call] # as in close

    try:
        await load()
    except (config.ConfigException, OSError) as error:
        raise KubeconfigError("reach the cluster as its Pod", why=str(error)) from None
    # The official client reads the token again each minute of the wall clock, but not after that was set back.
    return configuration, load


async def from_file(path: str | None = None, context: str | None = None) -> Access:
    """Return the access that a kubeconfig describes; the default is that of kubectl.

    Raises:
        KubeconfigError: The kubeconfig does not exist, is malformed, or does not have the context.
    """
    configuration = Configuration()

    async def load() -> None:
        with _complaints() as complaints:
            merged = config.kube_config.KubeConfigMerger(_place(path)).config  # type: ignore[no-untyped-call] # as in close
            loader = Loader(config_dict=merged, config_base_path=None, active_context=context)  # type: ignore[no-untyped-call]
            await loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
        if complaints:  # the official client would continue without credentials
            raise config.ConfigException(f"its credential plugin failed: {api_messages.redact_words(complaints[0])}")

    operation = f"read the kubeconfig{f' {path}' if path else ''}"
    if missing := _missing(path):
        # Checked here, because the official client writes a line of its own to stderr.
        raise KubeconfigError(operation, why=f"there is no file {missing}")
    known, current = _contexts(path)
    wanted = context or current
    if known and wanted not in known:
        why = f"context {wanted} does not exist" if wanted else "no current context is set"
        raise UnknownContextError(operation, why, known)
    try:
        await load()
    except Exception as error:  # noqa: BLE001 - YAML, base64, PEM, plugins: errors of many types
        # The message of a parser may quote the file, which contains credentials.
        why = str(error) if isinstance(error, config.ConfigException) else "not a valid kubeconfig"
        raise KubeconfigError(operation, why=why) from None
    return configuration, load


def uses_service_account(path: str | None = None, context: str | None = None) -> bool:
    """Return whether commands use the Pod's ServiceAccount: in a Pod, if no kubeconfig is named and none exists.

    As kubectl, but not if the variable KUBECONFIG names a missing file: that may have been another cluster's.
    """
    if path is not None or context is not None or os.environ.get("KUBECONFIG") or not _missing(None):
        return False
    address = (os.environ.get(name) for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"))
    return all(address) and Path(config.incluster_config.SERVICE_TOKEN_FILENAME).is_file()


def default_namespace(path: str | None = None, context: str | None = None) -> str:
    """Return the namespace of a kubeconfig's context, `default` if the context has none; or that of the Pod.

    Raises:
        KubeconfigError: The kubeconfig or the context does not exist, or the ServiceAccount cannot be read.
    """
    if uses_service_account(path, context):
        file = Path(config.incluster_config.SERVICE_TOKEN_FILENAME).with_name("namespace")
        try:
            return file.read_text().strip()
        except (OSError, UnicodeError):
            raise KubeconfigError(f"read the Pod's namespace from {file}") from None
    operation = f"read the namespace of the kubeconfig{f' {path}' if path else ''}"
    if missing := _missing(path):
        raise KubeconfigError(operation, why=f"there is no file {missing}")
    try:
        known, current = _contexts(path)
        return str(known[context or current]["context"].get("namespace") or "default")
    except Exception:  # noqa: BLE001 - as in `from_file`
        raise KubeconfigError(operation) from None


def context_name(path: str | None = None, context: str | None = None) -> str:
    """Return the name of the context that is used; empty if the kubeconfig cannot be read."""
    return context or _contexts(path)[1]


@contextlib.contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect the errors that the official client only logs: those of a credential plugin."""
    messages: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign] # for one call
    log = logging.getLogger(config.kube_config.__name__)
    propagates, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield messages
    finally:
        log.removeHandler(handler)
        log.propagate = propagates


def _contexts(path: str | None) -> tuple[dict[str, Object], str]:
    """Return a kubeconfig's contexts by name, and the current context; nothing if it cannot be read."""
    try:
        merged = config.kube_config.KubeConfigMerger(_place(path)).config.value  # type: ignore[no-untyped-call] # as in close
        contexts = {str(one["name"]): one.value for one in merged.get("contexts") or ()}
        return contexts, str(merged.get("current-context") or "")
    except Exception:  # noqa: BLE001 - as in `from_file`, which reports the error
        return {}, ""


def _place(path: str | None) -> str:
    """Return the path of a kubeconfig for the official client; several files are separated as in KUBECONFIG."""
    return _expanded(_named(path))


def _missing(path: str | None) -> str:
    """Return the files where kubectl looks for a kubeconfig, if none of them exists; otherwise an empty text."""
    places = [_expanded(place) for place in _named(path).split(os.pathsep) if place]
    return "" if any(Path(place).is_file() for place in places) else " or ".join(places)


def _named(path: str | None) -> str:
    """Return where kubectl looks for a kubeconfig."""
    return path or os.environ.get("KUBECONFIG") or "~/.kube/config"


def _expanded(place: str) -> str:
    return os.path.expanduser(place)  # noqa: PTH111 - pathlib raises for a user without a home, as in a Pod
