"""`status`: which Pods are protected, and which run an outdated token."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from injector.cli import connection
from injector.cli.connection import Connect
from injector.cli.main import Exit
from injector.cli.namespace_option import namespace_option, reject_with_all_namespaces
from injector.cli.output import output_option
from injector.cli.param_types import States, duration_option
from injector.cli.status.html import Scope, show_html
from injector.cli.status.pages import WORDS, page
from injector.core.assessment import Currency, Protection

if TYPE_CHECKING:
    from injector.cli.status.views import Answer

# States that a caller may want to fail on.
_FAIL_ON: Final = (
    *(Protection.OPEN, Protection.WAITING, Protection.UNKNOWN, Protection.CUSTOM, Protection.NO_SIDECAR),
    *(Currency.SKEWED, Currency.OUTDATED, Currency.UNCERTAIN),
)


@click.command(short_help="Show which Pods are protected by a token.")
@click.argument("target", required=False, metavar="[KIND/NAME | secret/NAME]")
@namespace_option("Show one namespace. [default: that of the context]")
@click.option("-A", "--all-namespaces", is_flag=True, help="Show all namespaces.")
@click.option("--all", "ended", is_flag=True, help="Also show Pods that have ended or are ending.")
@click.option("-w", "--watch", "watches", is_flag=True, help="Show changes until Ctrl-C.")
@duration_option("--interval", "5s", "Wait this long before --watch lists again.", shortest=1)
@click.option(
    "--fail-on",
    type=States(*_FAIL_ON),
    metavar="WORDS",
    default=Protection.OPEN.value,
    show_default=True,
    help=f"Exit with 1 on these states, comma-separated: {', '.join(_FAIL_ON)}.",
)
@click.option(
    "--show-word",
    type=click.Choice(sorted(WORDS)),
    metavar="WORD",
    help="Print the page of a reason, currency or finding, and exit.",
)
@output_option("table", "wide", "json", "html")
@connection.options
def command(  # noqa: PLR0913 - one parameter per option, all by name
    *,
    target: str | None,
    namespace: str | None,
    all_namespaces: bool,
    ended: bool,
    watches: bool,
    interval: int,
    fail_on: frozenset[str],
    show_word: str | None,
    output: str,
    **options: Any,  # noqa: ANN401 - those of `connection.options`
) -> int:
    """Show which Pods are protected by a token.

    One line for each workload that uses Dapr, the worst first. OPEN: a sidecar
    can serve callers without a token. It reads Pods, their owners, namespaces
    and the metadata of Secrets, never a value. The ClusterRole view is enough;
    without the permission to list Secrets, CURRENCY is unknown. A sidecar with
    an empty token counts as protected: only probe calls it.

    KIND/NAME shows each container of one workload or Pod, secret/NAME one
    Secret with the Pods that use it and recent Events.

    \b
    Examples:
      dapr-token-injector status -n shop
      dapr-token-injector status deployment/cart -n shop
      dapr-token-injector status secret/dapr-api-token -n shop
      dapr-token-injector status -A --fail-on open,outdated,skewed
      dapr-token-injector status -A -o html >report.html
      dapr-token-injector status -A --watch

    Exit codes: 0 no state that --fail-on names, 1 such a state, 2 usage error,
    request rejected, or a state could not be determined, 3 internal error.
    """  # noqa: D301 - click does not wrap a paragraph after \b
    if show_word is not None:
        click.echo(page(WORDS[show_word]), nl=False)
        return Exit.FINE
    from injector.cli.status.views import View, parse  # noqa: PLC0415 - the client costs more than all of the help
    from injector.cli.status.watch import watch  # noqa: PLC0415 - as above
    from injector.kube.kubeconfig import context_name, default_namespace  # noqa: PLC0415 - as above

    reject_with_all_namespaces(namespace, all_namespaces=all_namespaces)
    found = parse(target) if target is not None else None
    if found is not None and all_namespaces:
        raise click.UsageError(f"-A shows all namespaces; for {found.label}, set its namespace with -n")
    if watches and output not in {"table", "wide"}:
        raise click.UsageError(f"--watch shows a table; it cannot be combined with -o {output}")
    connect = Connect.of(options)
    scope = None if all_namespaces else namespace or default_namespace(connect.kubeconfig, connect.context)
    view = View(scope, found, ended)
    if watches:
        return _exit(watch(connect, view, output, interval), fail_on)
    answer = connection.run(connect, view.read, everywhere="show" if scope is None else None)
    if output == "html":
        context = context_name(connect.kubeconfig, connect.context)
        of = found.label if found is not None else ""
        show_html(answer.status, Scope(context=context, namespace=scope, at=int(time.time()), of=of))
    else:
        answer.show(output)
    return _exit(answer, fail_on)


def _exit(answer: Answer, wanted: frozenset[str]) -> Exit:
    found = [one.assessment for one in answer.status.pods]
    protections = {one.protection.value for one in found}
    currencies = {key.currency.value for one in found for key in one.currencies}
    if wanted & (protections | currencies):
        return Exit.FINDINGS
    # What is not known may be any of these.
    is_open_unknown = (Protection.UNKNOWN in protections or answer.is_unknown) and Protection.OPEN in wanted
    is_age_unknown = (Currency.UNKNOWN in currencies or answer.is_unknown) and bool(wanted & set(Currency))
    if is_open_unknown or is_age_unknown:
        which = "protection" if is_open_unknown else "currency"
        click.echo(f"unknown: the {which} of some Pods could not be determined", err=True)
        return Exit.USAGE
    return Exit.FINE
