"""`status`: which Pods are protected, and which run an outdated token."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from injector.cli import connection
from injector.cli.connection import Connect
from injector.cli.main import Exit
from injector.cli.namespace_option import namespace_option
from injector.cli.output import output_option
from injector.cli.param_types import States
from injector.cli.status.html import Scope, show_html
from injector.cli.status.report import show
from injector.core.assessment import Currency, Protection
from injector.kube.errors import ForbiddenError
from injector.kube.kubeconfig import context_name, default_namespace
from injector.rotation.status import read_status

if TYPE_CHECKING:
    from injector.kube.client import Api
    from injector.rotation.status import Status

# States that a caller may want to fail on.
_FAIL_ON: Final = (
    *(Protection.OPEN, Protection.WAITING, Protection.UNKNOWN, Protection.CUSTOM, Protection.NO_SIDECAR),
    *(Currency.SKEWED, Currency.OUTDATED, Currency.UNCERTAIN),
)


@click.command(short_help="Show which Pods are protected by a token.")
@namespace_option("Show one namespace. [default: that of the context]")
@click.option("-A", "--all-namespaces", is_flag=True, help="Show all namespaces.")
@click.option(
    "--fail-on",
    type=States(*_FAIL_ON),
    metavar="WORDS",
    default=Protection.OPEN.value,
    show_default=True,
    help=f"Exit with 1 on these states, comma-separated: {', '.join(_FAIL_ON)}.",
)
@output_option("table", "wide", "json", "html")
@connection.options
def command(
    *,
    namespace: str | None,
    all_namespaces: bool,
    fail_on: frozenset[str],
    output: str,
    **options: Any,  # noqa: ANN401 - those of `connection.options`
) -> int:
    """Show which Pods are protected by a token.

    One line for each workload that uses Dapr, the worst first. OPEN: a sidecar
    can serve callers without a token. It reads Pods, their owners, namespaces
    and the metadata of Secrets, never a value. The ClusterRole view is enough;
    without the right to list Secrets, CURRENCY is unknown. A sidecar with an
    empty token counts as protected: only probe calls it.

    \b
    Examples:
      dapr-token-injector status -n shop
      dapr-token-injector status -A --fail-on open,outdated,skewed
      dapr-token-injector status -A -o json
      dapr-token-injector status -A -o html >report.html

    Exit codes: 0 no state that --fail-on names, 1 such a state, 2 usage error,
    request rejected, or a state could not be determined, 3 internal error.
    """  # noqa: D301 - \b tells click not to wrap a paragraph
    if all_namespaces and namespace is not None:
        raise click.UsageError("-A shows all namespaces; it cannot be combined with -n")
    connect = Connect.of(options)
    scope = None if all_namespaces else namespace or default_namespace(connect.kubeconfig, connect.context)
    now = int(time.time())
    status = connection.run(connect, lambda api: _status(api, scope, now))
    if output == "html":
        context = context_name(connect.kubeconfig, connect.context)
        show_html(status, Scope(context=context, namespace=scope, at=now))
    else:
        show(status, output, with_namespace=scope is None)
    return _exit(status, fail_on)


async def _status(api: Api, namespace: str | None, now: int) -> Status:
    try:
        return await read_status(api, namespace, now)
    except ForbiddenError as error:
        if namespace is not None:
            raise
        raise click.ClickException(
            f"{error}; show one namespace with -n NAMESPACE, or request that permission"
        ) from None


def _exit(status: Status, wanted: frozenset[str]) -> Exit:
    found = [one.assessment for one in status.pods]
    protections = {one.protection.value for one in found}
    currencies = {key.currency.value for one in found for key in one.currencies}
    if wanted & (protections | currencies):
        return Exit.FINDINGS
    # What is not known may be any of these.
    is_open_unknown = Protection.UNKNOWN in protections and Protection.OPEN in wanted
    is_age_unknown = Currency.UNKNOWN in currencies and bool(wanted & set(Currency))
    if is_open_unknown or is_age_unknown:
        which = "protection" if is_open_unknown else "currency"
        click.echo(f"unknown: the {which} of some Pods could not be determined", err=True)
        return Exit.USAGE
    return Exit.FINE
