"""`secret rotate`: write new tokens and restart the workloads that run the previous ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import click

from injector.cli import connection, explicit_options
from injector.cli.connection import Connect
from injector.cli.main import Exit
from injector.cli.secret import secret_refs
from injector.cli.secret.outcome import as_json, pod_path, revoked_line, unfinished_text
from injector.cli.secret.progress import ProgressTable, lines, some
from injector.cli.secret.rotation_options import ForceOption, PaceOption, RestartOption, rotation_options
from injector.cli.signals import interrupt_on_termination
from injector.cli.token.options import Minter, supplied_token
from injector.cli.token.source import TokenOption
from injector.core.rollout import State
from injector.rotation.roller import Pace, SupersededError
from injector.rotation.rotator import RotationError, RotationOptions, RotationProblem, Rotator
from injector.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from injector.core.ownership import SecretManager, SecretRef
    from injector.core.rollout import Progress
    from injector.core.token_state import PodUsage
    from injector.kube.client import Api
    from injector.rotation.rotator import Mint, RotationOutcome
    from injector.tokens.minting import MintedToken


@click.command(
    cls=explicit_options.RepeatableCommand, short_help="Write new tokens and restart the workloads that use them."
)
@click.option("--restart", is_flag=True, help="Restart the workloads that use them, a few at a time.")
@click.option(
    "--wait",
    cls=RestartOption,
    type=bool,
    default=True,
    metavar="true|false",
    help="false: start all restarts and do not wait. [default: true]",
)
@rotation_options
def rotate(**options: Any) -> int:  # noqa: ANN401 - the options above
    """Write new tokens to Secrets and restart the workloads that use them.

    The containers of running Pods show which workloads use a Secret. With
    --restart, a dry run of a new Pod of each workload must come back with the
    token before anything is written. Workloads that cannot be restarted safely are skipped and
    reported: paused Deployments, OnDelete, Pods below a partition, Jobs, Pods
    without an owner, other controllers.

    \b
    Examples:
      dapr-token-injector secret rotate shop/dapr-api-token --dry-run
      dapr-token-injector secret rotate shop/dapr-api-token --restart
      dapr-token-injector secret rotate shop/dapr-api-token --restart --resume

    Exit codes: 0 every Pod runs the new token, 1 a Pod does not or may not,
    or a check failed, 2 usage error or request rejected, 3 internal error.
    """  # noqa: D301 - click does not wrap a paragraph after \b
    return RotationRun.of(options, restart=options["restart"], wait=options["wait"], revoke=False).run()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RotationRun:
    """One run of `secret rotate` or `secret revoke`."""

    options: RotationOptions
    selector: str | None
    connect: Connect
    mint: Mint
    output: str

    @classmethod
    def of(cls, options: Mapping[str, Any], *, restart: bool, wait: bool, revoke: bool) -> RotationRun:
        """Return the run that the options describe; only the token file is read.

        Raises:
            click.UsageError: Options contradict each other.
        """
        if options["resume"]:
            explicit_options.reject("no effect with --resume, which writes no token", TokenOption)
            if not restart:
                raise click.UsageError("--resume requires --restart")
            explicit_options.reject("no effect with --resume, which writes no Secret", ForceOption)
        if not restart:
            explicit_options.reject("no effect without --restart", RestartOption)
        if not wait:
            explicit_options.reject("no effect with --wait=false, which begins all restarts at once", PaceOption)
        if options["force"] and options["skip_foreign"]:
            raise click.UsageError("--force and --skip-foreign cannot be combined; use one of them")
        secret_refs.check_key(options["key"])
        selector = secret_refs.selector_of(options)
        supplied = supplied_token(options)
        pace = Pace(
            max_concurrent=options["max_concurrent"],
            max_concurrent_per_namespace=options["max_concurrent_per_namespace"],
            timeout=options["timeout"],
            keep_going=options["keep_going"],
        )
        return cls(
            options=RotationOptions(
                secrets=secret_refs.parse(options["secrets"], selector),
                key=options["key"],
                pace=pace,
                propagation_delay=options["propagation_delay"],
                restart=restart,
                wait=wait,
                revoke=revoke,
                resume=options["resume"],
                force=options["force"],
                skip_foreign=options["skip_foreign"],
                skip_missing=selector is not None,
                dry_run=options["dry_run"],
                include_uncertain=options["include_uncertain"],
                skip_admission_check=options["skip_admission_check"],
            ),
            selector=selector,
            connect=Connect.of(options),
            mint=_mint_of(options, supplied),
            output=options["output"],
        )

    @interrupt_on_termination()
    def run(self) -> int:
        """Rotate and report."""
        table = _Printer()

        async def work(api: Api) -> RotationOutcome:
            secrets = await secret_refs.resolve(api, self.options.secrets, self.selector)
            with table:
                return await Rotator(api, replace(self.options, secrets=secrets), table, self.mint).run()

        try:
            outcome = connection.run(self.connect, work)
        except RotationError as error:
            raise click.ClickException(f"{error}{_ADVICE.get(error.problem, '').format(error.ref)}") from None
        except SupersededError as error:
            raise click.ClickException(f"{error}; {self._continuation(table)}") from None
        except click.ClickException as error:
            has_begun = table.written or table.in_state(State.RESTARTING)
            advice = f"; {self._continuation(table)}" if has_begun else ""
            raise click.ClickException(f"{error.message}{advice}") from None
        except KeyboardInterrupt:
            if not self.options.dry_run:
                click.echo(f"interrupted; {self._continuation(table)}", err=True)
            raise
        self._report(outcome)
        is_fine = not outcome.is_blocked if self.options.dry_run else outcome.is_complete
        return Exit.FINE if is_fine else Exit.FINDINGS

    def _continuation(self, table: _Printer) -> str:
        """Where the run ended, and how to continue.

        A write without an answer may have succeeded, so only repeating the whole run is safe.
        """
        if self.options.resume or table.has_written_all:
            parts = {
                "failed": table.in_state(State.FAILED, State.NOT_INJECTED),
                "restarting": table.in_state(State.RESTARTING),
            }
            at = "".join(f"{word}: {some(refs)}; " for word, refs in parts.items() if refs)
            return f"{at}continue with: {self._resume_command()}"
        done = ", ".join(map(str, table.written)) or "none confirmed"
        return (
            f"Secrets with a new token: {done}; run the same command again, which writes a new token to each: "
            f"{explicit_options.command_line()}"
        )

    def _resume_command(self, *more: str) -> str:
        restart = () if self.options.revoke else ("--restart",)
        return explicit_options.command_line(
            *restart, "--resume", *more, without=(TokenOption, ForceOption), names=("wait",)
        )

    def _continue_with(self, outcome: RotationOutcome) -> str | None:
        """The command that continues an incomplete run; None if there is nothing to continue."""
        if outcome.is_complete or outcome.is_blocked or self.options.dry_run:
            return None
        is_uncertain = outcome.uncertain or any(one.uncertain for one in outcome.progress.values())
        return self._resume_command(*(("--include-uncertain",) if is_uncertain and not self.options.revoke else ()))

    def _report(self, outcome: RotationOutcome) -> None:
        command = self._continue_with(outcome)
        if self.output == "json":
            click.echo(json.dumps({**as_json(outcome, self.options), "continueWith": command}))
            return
        for line in lines(outcome.progress.values()):
            click.echo(line)
        if outcome.is_blocked:
            click.echo("nothing was changed: a check failed, see above")
            return
        if self.options.dry_run:
            return
        if self.options.revoke:
            click.echo(revoked_line(outcome))
        if not (self.options.restart and self.options.wait):
            self._report_remaining(outcome)
        elif command is not None:
            click.echo(f"not complete{unfinished_text(outcome)}; continue with: {command}")

    def _report_remaining(self, outcome: RotationOutcome) -> None:
        remaining = (
            ("runs an outdated token", "run an outdated token", outcome.outdated, ()),
            ("may run an outdated token", "may run an outdated token", outcome.uncertain, ("--include-uncertain",)),
            ("can serve without a token", "can serve without a token", outcome.missing, ()),
        )
        verb = "wait for them with" if self.options.restart else "restart with"
        for one, many, pods, flags in remaining:
            if pods:
                what = one if len(pods) == 1 else many
                click.echo(f"{counted(len(pods), 'Pod')} that {what}; {verb}: {self._resume_command(*flags)}")


_ADVICE: Final = {
    RotationProblem.MISSING: "; create it with: dapr-token-injector secret create {}",
    RotationProblem.NO_KEY: "; name one with --key",
    RotationProblem.UNKNOWN_CHANGE: "; omit --resume",
    RotationProblem.MANAGED: ": rotate it there, then restart with --resume; --force writes it anyway",
}


def _mint_of(options: Mapping[str, Any], supplied: MintedToken | None) -> Mint:
    minter = Minter.of(options)

    async def mint(api: Api, refs: Sequence[SecretRef]) -> Mapping[SecretRef, MintedToken]:
        if supplied is not None:
            return dict.fromkeys(refs, supplied)
        ready = await minter.with_keys(api)
        if ready.note is not None:
            click.echo(f"note: {ready.note}", err=True)
        return ready.mint_for(refs, same=options["same"])

    return mint


class _Printer(ProgressTable):
    """Reports a rotation on stderr, above the live table; `written` are the Secrets that have another token."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[SecretRef] = []
        self.has_written_all = False

    def left_out(self, ref: SecretRef, owner: SecretManager) -> None:
        self.note(f"Secret {ref} is managed by {owner.name} ({owner.sign}) and was left out")

    def missing(self, missing: Sequence[SecretRef]) -> None:
        self.note(f"left out, does not exist: {some(list(map(str, missing)))}")

    def overrides_owner(self, ref: SecretRef, owner: SecretManager, changes: Sequence[str]) -> None:
        self.note(f"Secret {ref} is managed by {owner.name} ({owner.sign}), which may overwrite it")
        for line in changes:
            self.note(f"  {line}")

    def wrote(self, ref: SecretRef, token_id: str, left: int) -> None:
        self.written.append(ref)
        self.has_written_all = not left
        self.note(f"Secret {ref}: new token, id {token_id}")

    def progressed(self, progress: Progress) -> None:
        self.show(progress)

    def still_held(self, pods: Sequence[PodUsage]) -> None:
        self.note(f"not revoked yet, held by: {', '.join(map(pod_path, pods))}")
