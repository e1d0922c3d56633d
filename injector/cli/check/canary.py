"""`check --canary`: sends one Pod as a dry run, runs the checks of what it shall expect, and prints one line."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import click

from injector.check.canary import send, served_namespace
from injector.check.catalogue import BY_WORD
from injector.check.model import WORST_FIRST, Outcome, Result, unknown
from injector.check.reader import ClusterReader, Expectations
from injector.check.runner import run
from injector.cli import cluster_completion, connection, explicit_options
from injector.cli.common_options import together
from injector.cli.connection import ConnectionOption
from injector.cli.main import Exit
from injector.cli.param_types import ObjectName
from injector.core import names
from injector.core.messages import redact
from injector.core.secret_names import is_secret_key, is_secret_name
from injector.words import escaped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from injector.check.model import Check
    from injector.cli.connection import Connect
    from injector.kube.client import Api

# Shorter than the minute between two runs of the CronJob, longer than two calls with the default timeout of webhooks.
DEADLINE_SECONDS: Final = 20.0


class CanaryOption(click.Option):
    """An option of the dry-run Pod."""


class _SecretAndKey(click.ParamType):  # type: ignore[type-arg] # click 8.3 has it without a parameter
    """`NAME` or `NAME:KEY`."""

    name = "secret"

    def convert(
        self, value: str | tuple[str, str], _param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return the name and the key, which may be empty.

        Raises:
            click.UsageError: It is not valid.
        """
        if not isinstance(value, str):
            return value
        name, colon, key = value.partition(":")
        if not is_secret_name(name) or (colon and not is_secret_key(key)):
            raise click.UsageError(f"--canary-secret: {redact(value)} is not NAME or NAME:KEY of a Secret", ctx)
        return name, key


# The options of the dry-run Pod.
options: Final = together(
    click.option("--canary", cls=CanaryOption, is_flag=True, help="Only send a dry-run Pod, and print one line."),
    click.option(
        "--canary-namespace",
        cls=CanaryOption,
        type=ObjectName(),
        metavar="NAME",
        help="Send dry-run Pods in this namespace, which the webhook must serve. [default: default]",
        shell_complete=cluster_completion.namespaces,
    ),
    click.option(
        "--canary-secret",
        cls=CanaryOption,
        type=_SecretAndKey(),
        default=Expectations().secret,
        show_default=True,
        metavar="NAME[:KEY]",
        help="Let the Pod request this Secret, which need not exist, and expect this key.",
    ),
    click.option("--canary-shadow", cls=CanaryOption, is_flag=True, help="Expect a Policy in shadow mode."),
    click.option(
        "--canary-groups",
        cls=CanaryOption,
        type=click.IntRange(1, len(names.GROUPS)),
        metavar="NUMBER",
        help="Expect the unchanged webhook entries of this number of groups: 1 or 2.",
    ),
    click.option(
        "--canary-requested",
        cls=CanaryOption,
        type=click.Choice(("Audit", "Warn", "Deny")),
        metavar="ACTION",
        help="Expect the policy requested, unchanged and with this action: Audit, Warn or Deny.",
    ),
)


def expectations_of(options: Mapping[str, Any]) -> Expectations:
    """Return the values of the options."""
    secret, key = options["canary_secret"]
    return Expectations(
        namespace=options["canary_namespace"],
        secret=secret,
        key=key,
        is_shadow=options["canary_shadow"],
        groups=options["canary_groups"] or 0,
        requested=options["canary_requested"] or "",
    )


def run_canary(connect: Connect, expected: Expectations) -> Exit:
    """Send the Pod, run the checks of what is expected, print the result, and return the exit code.

    Raises:
        click.UsageError: An option is set that has no effect.
    """
    explicit_options.reject_all_but("no effect with --canary, which only sends a Pod", CanaryOption, ConnectionOption)
    outcome = connection.run(connect, lambda api: _send(api, expected))
    texts = [problem.message for problem in outcome.problems] or [outcome.seen]
    click.echo(escaped(f"{outcome.result.value}: {'; '.join(texts)}"))
    return _EXITS.get(outcome.result, Exit.USAGE)


_EXITS: Final = {Result.PASSED: Exit.FINE, Result.FAILED: Exit.FINDINGS}


async def _send(api: Api, expected: Expectations) -> Outcome:
    namespace = expected.namespace or served_namespace(None)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            found = [await send(api, expected, namespace, _cause)]
            reader = ClusterReader(api, None, int(time.time()), expected)
            found += [one.outcome for one in await run(_checks(expected), reader)]
    except TimeoutError:
        late = unknown(f"no answer within {DEADLINE_SECONDS:.0f}s to a Pod as a dry run in namespace {namespace}")
        return Outcome(seen="", problems=(late,))
    # A warning may be intended: a Job that fails because of it would always fail.
    problems = [problem for one in found for problem in one.problems if problem.result is not Result.WARNING]
    seen = "; ".join(one.seen for one in found if not one.is_skipped)
    return Outcome(seen=seen, problems=tuple(sorted(problems, key=lambda one: WORST_FIRST.index(one.result))))


def _checks(expected: Expectations) -> list[Check]:
    """Return the checks of what is expected."""
    of_groups = ("registered", "entries-as-installed", "entries-alike") if expected.groups else ()
    of_policy = ("requested-bound",) if expected.requested else ()
    return [BY_WORD[name] for name in (*of_groups, *of_policy)]


async def _cause() -> str:
    return (
        "the webhook is not registered for such a Pod in this namespace, or did not answer under failurePolicy Ignore; "
        "`dapr-token-injector check` shows which"
    )
