"""Which Secrets a person means by `NAMESPACE/NAME`, and by a selector of namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from injector.core.ownership import SecretRef
from injector.core.request import is_secret_key, is_secret_name, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from injector.kube.client import Api


class KeyOption(click.Option):
    """Names the key of the Secret's data."""


KEY: Final = click.option(
    "--key",
    cls=KeyOption,
    default="token",
    show_default=True,
    metavar="KEY",
    help="Key of the Secret's data that holds the token.",
)


def parse(texts: Sequence[str], selector: str | None) -> tuple[SecretRef, ...]:
    """The Secrets that are named; with a selector the namespace is still open, and empty.

    Raises:
        click.UsageError: None is named, or one is malformed.
    """
    if not texts:
        raise click.UsageError("name a Secret: NAMESPACE/NAME, or with --namespace-selector just NAME")
    return tuple(dict.fromkeys(_parse(text, selector) for text in texts))


def _parse(text: str, selector: str | None) -> SecretRef:
    namespace, slash, name = text.rpartition("/")
    if selector is not None and slash:
        raise click.UsageError(f"{shown(text)}: with --namespace-selector the name alone is needed")
    if selector is None and not slash:
        raise click.UsageError(f"{shown(text)}: a namespace is needed: NAMESPACE/NAME")
    for part in (name, *((namespace,) if slash else ())):
        if not is_secret_name(part):
            raise click.UsageError(
                f"{shown(text)}: names are lower-case letters, digits, '-' and '.', a letter or digit first and last"
            )
    return SecretRef(namespace, name)


def namespace_not_found(name: str) -> click.ClickException:
    """What to say where a namespace is not there."""
    return click.ClickException(f"there is no namespace {name}; create it first, or look at --context")


def check_key(key: str) -> None:
    """Refuse what no Secret can have.

    Raises:
        click.UsageError: It is no key.
    """
    if not is_secret_key(key):
        raise click.UsageError(f"--key: {shown(key)} is no key; allowed are letters, digits, '-', '_' and '.'")


async def resolve(api: Api, refs: Sequence[SecretRef], selector: str | None) -> tuple[SecretRef, ...]:
    """The Secrets in the namespaces that the selector selects, or as they are without one.

    Raises:
        click.ClickException: No namespace is selected.
    """
    from injector.kube.resources import NAMESPACES  # noqa: PLC0415 - commands are imported for their help, too

    if selector is None:
        return tuple(refs)
    found = await api.list(NAMESPACES, label_selector=selector)
    alive = sorted(one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"])
    if not alive:
        raise click.ClickException("--namespace-selector selects no namespace; look at `kubectl get ns --show-labels`")
    return tuple(SecretRef(namespace, ref.name) for namespace in alive for ref in refs)
