"""Parses `NAMESPACE/NAME` arguments and resolves namespace selectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from injector.cli.common_options import together
from injector.core.messages import redact
from injector.core.ownership import SecretRef
from injector.core.secret_names import is_secret_key, is_secret_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from injector.kube.client import Api


class KeyOption(click.Option):
    """Names the key of the Secret's data."""


KEY: Final = click.option(
    "--key",
    cls=KeyOption,
    default="token",
    show_default=True,
    metavar="KEY",
    help="Set the key of the Secret's data that holds the token.",
)


namespace_options: Final = together(
    click.option("--namespace-selector", metavar="SELECTOR", help="Use NAME in each namespace with these labels."),
    click.option("-A", "--all-namespaces", is_flag=True, help="Use NAME in every namespace."),
)


def selector_of(options: Mapping[str, Any]) -> str | None:
    """Return the selector of namespaces that the options above give: empty for all, None if no option is set.

    Raises:
        click.UsageError: Both are set, or the selector is empty.
    """
    selector: str | None = options["namespace_selector"]
    if not options["all_namespaces"]:
        if selector is not None and not selector.strip():
            raise click.UsageError("--namespace-selector: empty; use -A for all namespaces")
        return selector
    if selector is not None:
        raise click.UsageError("--namespace-selector and --all-namespaces cannot be combined; use one of them")
    return ""


def parse(texts: Sequence[str], selector: str | None) -> tuple[SecretRef, ...]:
    """Return the Secrets in arguments; with a selector, their namespace is empty until `resolve`.

    Raises:
        click.UsageError: There is none, or one is malformed.
    """
    if not texts:
        raise click.UsageError("no Secret given; use NAMESPACE/NAME, or only NAME with --namespace-selector or -A")
    return tuple(dict.fromkeys(_parse(text, selector) for text in texts))


def _parse(text: str, selector: str | None) -> SecretRef:
    namespace, slash, name = text.rpartition("/")
    if selector is not None and slash:
        option = "--namespace-selector" if selector else "--all-namespaces"
        raise click.UsageError(f"{redact(text)}: {option} selects the namespaces; give only the name")
    if selector is None and not slash:
        raise click.UsageError(f"{redact(text)}: no namespace; use NAMESPACE/NAME")
    for part in (name, *((namespace,) if slash else ())):
        if not is_secret_name(part):
            raise click.UsageError(
                f"{redact(text)}: invalid name; use lower-case letters, digits, '-' and '.', starting and ending "
                "with a letter or digit"
            )
    return SecretRef(namespace, name)


def namespace_not_found(name: str) -> click.ClickException:
    """Return the error for a namespace that does not exist."""
    return click.ClickException(f"namespace {name} not found; create it, or check --context")


def check_key(key: str) -> None:
    """Check the key of a Secret's data.

    Raises:
        click.UsageError: It is not valid.
    """
    if not is_secret_key(key):
        raise click.UsageError(f"--key: {redact(key)} is not a valid key; use letters, digits, '-', '_' and '.'")


async def resolve(api: Api, refs: Sequence[SecretRef], selector: str | None) -> tuple[SecretRef, ...]:
    """Return the Secrets in each namespace that the selector matches; unchanged without a selector.

    Raises:
        click.ClickException: The selector is not valid, or no namespace matches.
    """
    from injector.kube.errors import InvalidError  # noqa: PLC0415 - help and completion import this module
    from injector.kube.resources import NAMESPACES  # noqa: PLC0415 - as above

    if selector is None:
        return tuple(refs)
    try:
        found = await api.list(NAMESPACES, label_selector=selector)
    except InvalidError as error:
        raise click.ClickException(f"--namespace-selector: {error}; use labels such as dapr=on,team!=x") from None
    alive = sorted(one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"])
    if not alive:
        raise click.ClickException("--namespace-selector: no namespace matches; check `kubectl get ns --show-labels`")
    return tuple(SecretRef(namespace, ref.name) for namespace in alive for ref in refs)
