"""`secret rotate` and `secret revoke`: another token, and everything that runs the old one started anew.

First everything is looked at and every write is tried as a dry run. Then the Secrets are written, each under the
resource version that was read, then workloads are restarted in waves. All state is in the cluster: ended anywhere, it
goes on with --resume.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from injector.cli import given, kubeconfig, minting, targets
from injector.cli.kubeconfig import Connect
from injector.cli.main import Exit
from injector.cli.minting import Minter
from injector.cli.output import counted
from injector.cli.rollouttable import Table, lines
from injector.cli.signals import interruptible
from injector.cli.token_source import given_token, token_options
from injector.core import claims
from injector.core.ownership import owner_of
from injector.core.rollout import Action, Version, holding, plan, version_of
from injector.kube.errors import NotFoundError
from injector.kube.resources import SECRETS
from injector.tokens import minting as tokens
from injector.tokens import observing, reading, rolling, writing
from injector.tokens.observing import Owners
from injector.tokens.rolling import Pace, Progress, Roller, SupersededError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from injector.core.ownership import SecretRef, TokenSecret
    from injector.core.rollout import Holder, Ref, Step
    from injector.kube.client import Api
    from injector.tokens.minting import Minted

_CommandT = TypeVar("_CommandT", bound="Callable[..., Any]")


def _options(command: _CommandT) -> _CommandT:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: Final = (
    click.argument("secrets", nargs=-1, metavar="NAMESPACE/NAME..."),
    targets.KEY,
    token_options,
    click.option("--same", is_flag=True, help="Make one token for all of them. Default: one each."),
    minting.options,
    click.option("--resume", is_flag=True, help="No new token: restart what still runs an older one."),
    click.option("--force", is_flag=True, help="Also where somebody else writes the Secret; shows what changes."),
    click.option("--dry-run", is_flag=True, help="Change nothing: tell what would restart and what would not."),
    click.option(
        "--at-once",
        type=click.IntRange(1, 100),
        default=2,
        metavar="N",
        help="Workloads of a namespace in one wave. Default: 2.",
    ),
    click.option("--timeout", default="10m", show_default=True, metavar="TIME", help="For each wave to be ready."),
    click.option(
        "--settle", default="2s", show_default=True, metavar="TIME", help="Between the Secret and the restarts."
    ),
    click.option(
        "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Format."
    ),
    kubeconfig.options,
)


@click.command(short_help="Give Secrets another token, and restart what uses them.")
@click.option("--restart", is_flag=True, help="Restart the workloads that use them, wave by wave.")
@click.option(
    "--wait",
    type=bool,
    default=True,
    metavar="true|false",
    help="false: start all restarts at once, and wait for none. Default: true.",
)
@_options
def rotate(**options: Any) -> int:  # noqa: ANN401 - those above
    """Give Secrets another token, and restart what uses them.

    Which workloads those are is read from the containers of running Pods. What
    must not be restarted is left alone and told: paused Deployments, OnDelete,
    Pods below a partition, Jobs, Pods without owner, other controllers.

    \b
      secret rotate shop/dapr-api-token --dry-run
      secret rotate shop/dapr-api-token --restart
      secret rotate shop/dapr-api-token --restart --resume

    Exit codes: 0 everything runs the new token, 1 something is left on an old
    one, 2 wrong use or refused, 3 our own fault.
    """  # noqa: D301 - click's mark for lines that stay as they are is a real backspace
    return _Rotation.of(options, restart=options["restart"], wait=options["wait"], revoke=False).run()


@click.command(short_help="Rotate, and wait until nobody holds the old token.")
@_options
def revoke(**options: Any) -> int:  # noqa: ANN401 - those above
    """Rotate, and wait until nobody holds the old token.

    A token is revoked only when the last process that read it has ended: a
    deleted or changed Secret takes nothing from a running one. Restarts like
    rotate --restart, then lists Pods that still hold the old token until there
    is none.

    Exit codes: 0 revoked, 1 not yet (the Pods are named), 2 wrong use or
    refused, 3 our own fault.
    """
    return _Rotation.of(options, restart=True, wait=True, revoke=True).run()


@dataclass(frozen=True, slots=True, repr=False)
class _Found:
    """A Secret as it was read; `object` holds its values."""

    secret: TokenSecret
    object: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """How it ended. `holders`: Pods that hold an old token, those included that are ending."""

    secrets: Sequence[Mapping[str, object]]
    progress: Mapping[Ref, Progress]
    holders: Sequence[Holder]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Rotation:
    """One run."""

    options: Mapping[str, Any]
    connect: Connect
    refs: tuple[SecretRef, ...]
    key: str
    minter: Minter
    supplied: Minted | None
    pace: Pace
    settle: float
    restart: bool
    wait: bool
    revoke: bool

    @classmethod
    def of(cls, options: Mapping[str, Any], *, restart: bool, wait: bool, revoke: bool) -> _Rotation:
        """From the command's options; nothing is asked yet but the token's file.

        Raises:
            click.UsageError: They do not go together.
        """
        if options["resume"]:
            given.refuse({"token_file", "token_stdin", "same", *minting.NAMES}, "--resume writes no token")
            if not restart:
                raise click.UsageError("--resume goes with --restart")
        if not restart:
            given.refuse({"wait", "at_once", "timeout", "settle"}, "without --restart nothing is waited for")
        targets.check_key(options["key"])
        value = given_token(options["token_file"], token_stdin=options["token_stdin"])
        if value is not None:
            given.refuse(minting.NAMES, "the token is there already, and none is made")
        return cls(
            options=options,
            connect=Connect.of(options),
            refs=targets.parse(options["secrets"], None),
            key=options["key"],
            minter=Minter.of(options),
            supplied=None if value is None else tokens.supplied(value, now=int(time.time())),
            pace=Pace(at_once=options["at_once"], timeout=claims.lifetime(options["timeout"], shortest=1)),
            settle=claims.lifetime(options["settle"], shortest=0),
            restart=restart,
            wait=wait,
            revoke=revoke,
        )

    def run(self) -> int:
        """Look, try, write, restart, tell."""
        with interruptible():
            return self._run()

    def _run(self) -> int:
        resume, dry_run = self.options["resume"], self.options["dry_run"]
        found = kubeconfig.run(self.connect, self._look)
        if not resume:
            self._check_owners(found)
        kubeconfig.run(self.connect, lambda api: self._try(api, found))
        minted = {} if resume or dry_run else self._mint()
        written: list[SecretRef] = []
        try:
            result = kubeconfig.run(self.connect, lambda api: self._act(api, found, minted, written))
        except SupersededError as error:
            raise click.ClickException(str(error)) from None
        except click.ClickException as error:
            raise click.ClickException(self._with_advice(error.message, written)) from None
        except KeyboardInterrupt:
            if not dry_run:
                click.echo(f"interrupted; {self._next(written)}", err=True)
            raise
        self._tell(result)
        left = result.holders or any(one.is_left for one in result.progress.values())
        return Exit.FINDINGS if left and not dry_run else Exit.FINE

    def _with_advice(self, message: str, written: Sequence[SecretRef]) -> str:
        """What to do when the API server refused after some were written."""
        if not written:
            return message
        return f"{message}; {self._next(written)}"

    def _next(self, written: Sequence[SecretRef]) -> str:
        """How to go on. A write whose answer never came may have been done: then only doing all of it again is sure."""
        if self.options["resume"] or len(written) == len(self.refs):
            return f"go on with: {self._again()}"
        done = ", ".join(map(str, written)) or "none for sure"
        return f"given another token before: {done}; run the same command again, which gives each a new one"

    def _again(self) -> str:
        what = "revoke" if self.revoke else "rotate --restart"
        key = "" if self.key == _DEFAULT_KEY else f" --key {self.key}"
        named = {"--kubeconfig": self.connect.kubeconfig, "--context": self.connect.context}
        where = "".join(f" {flag} {shlex.quote(value)}" for flag, value in named.items() if value)
        return f"dapr-token-injector secret {what} {' '.join(map(str, self.refs))}{key}{where} --resume"

    # --- before anything is written ---

    async def _look(self, api: Api) -> dict[SecretRef, _Found]:
        found: dict[SecretRef, _Found] = {}
        for ref in self.refs:
            try:
                read = await api.get(SECRETS, ref.name, ref.namespace)
            except NotFoundError:
                raise click.ClickException(f"there is no Secret {ref}; `secret create` makes it") from None
            found[ref] = _Found(reading.token_secret(read), read)
            self._check(found[ref].secret)
        return found

    def _check(self, secret: TokenSecret) -> None:
        if self.key not in secret.keys:
            known = counted(len(secret.keys), "other key")
            raise click.ClickException(f"Secret {secret.ref} has no key {self.key} but {known}; name one with --key")
        if self.options["resume"]:
            if version_of(secret, self.key).id is None:
                raise click.ClickException(
                    f"Secret {secret.ref}: nothing tells when its data changed; leave --resume out"
                )
        elif secret.immutable:
            raise click.ClickException(f"Secret {secret.ref} is immutable: create one of another name and use that")

    def _check_owners(self, found: Mapping[SecretRef, _Found]) -> None:
        for ref, one in found.items():
            owner = owner_of(one.secret, self.key)
            if owner is None:
                continue
            if not self.options["force"]:
                raise click.ClickException(
                    f"Secret {ref} is written by {owner.name} ({owner.sign}): rotate it there, then restart with "
                    "--resume; --force writes it all the same"
                )
            click.echo(f"Secret {ref} is written by {owner.name} ({owner.sign}), who may write it back", err=True)
            before = one.object
            after = writing.renewed(before, self.key, _PLACEHOLDER)
            for line in _changes(before["metadata"], after["metadata"]):
                click.echo(f"  {line}", err=True)

    async def _try(self, api: Api, found: Mapping[SecretRef, _Found]) -> None:
        """Every write as a dry run: rights and admission are known before the first one."""
        if not self.options["resume"]:
            for ref, one in found.items():
                body = writing.renewed(one.object, self.key, _PLACEHOLDER)
                await api.replace(SECRETS, body, ref.namespace, dry_run=True, before=one.object)
        if self.restart:
            versions = _all_new(found)
            for step in await self._plan(api, versions, Owners(api)):
                if step.action is Action.RESTART:
                    await rolling.restart(api, step, versions, dry_run=True)

    def _mint(self) -> dict[SecretRef, Minted]:
        if self.supplied is not None:
            return dict.fromkeys(self.refs, self.supplied)
        minter = self.minter.with_keys(self.options, self.connect)
        if minter.note is not None:
            click.echo(f"note: {minter.note}", err=True)
        if self.options["same"]:
            return dict.fromkeys(self.refs, minter())
        return {ref: minter(ref.namespace) for ref in self.refs}

    # --- writing ---

    async def _act(
        self,
        api: Api,
        found: Mapping[SecretRef, _Found],
        minted: Mapping[SecretRef, Minted],
        written: list[SecretRef],
    ) -> _Result:
        keys = dict.fromkeys(self.refs, self.key)
        if self.options["dry_run"]:
            versions = _current(found, self.key) if self.options["resume"] else _all_new(found)
            steps = await self._plan(api, versions, Owners(api))
            return _Result(secrets=_told(found), progress=rolling.at_first(steps, restart=self.restart), holders=())
        now = dict(found)
        for ref, token in minted.items():
            before = found[ref].object
            body = writing.renewed(before, self.key, token)
            answer = await api.replace(SECRETS, body, ref.namespace, before=before)
            now[ref] = _Found(reading.token_secret(answer), {})
            written.append(ref)
            click.echo(f"Secret {ref}: another token, id {token.id}", err=True)
        versions = _current(now, self.key)
        if not self.restart:
            seen = await observing.observe(api, keys, Owners(api))
            steps = plan(versions, seen.workloads, seen.holders)
            progress = {ref: one for ref, one in rolling.at_first(steps, restart=False).items() if one.stale}
            return _Result(secrets=_told(now), progress=progress, holders=holding(versions, seen.holders))
        if minted:
            await asyncio.sleep(self.settle)  # for kubelets, which hear of the change by a watch
        owners = Owners(api)
        steps = await self._plan(api, versions, owners)
        with Table() as table:
            roller = Roller(api, keys, versions, self.pace, table.show, owners)
            await roller.roll(steps, wait=self.wait)
            holders: Sequence[Holder] = ()
            if self.revoke:
                holders = await self._last(api, versions, table, owners, roller.progress)
            elif not self.wait:
                holders = holding(versions, (await observing.observe(api, keys, owners)).holders)
        return _Result(secrets=_told(now), progress=roller.progress, holders=holders)

    async def _last(
        self, api: Api, versions: Mapping[SecretRef, Version], table: Table, owners: Owners, held: Collection[Ref]
    ) -> Sequence[Holder]:
        """Wait until nobody holds an old token; who still does at the end."""
        deadline = time.monotonic() + self.pace.timeout
        told: tuple[str, ...] = ()
        keys = dict.fromkeys(self.refs, self.key)
        while True:
            owners.forget(held)
            seen = await observing.observe(api, keys, owners)
            holders = holding(versions, seen.holders)
            held = {holder.workload for holder in holders}
            steps = plan(versions, seen.workloads, holders)
            moving = [holder for holder in holders if holder.is_ending]
            names = tuple(f"{holder.namespace}/{holder.name}" for holder in holders)
            if names and names != told:
                table.note(f"not revoked yet, held by: {', '.join(names)}")
                told = names
            waits = moving or any(step.action is Action.WAIT for step in steps)
            if not holders or not waits or time.monotonic() >= deadline:
                return holders
            await asyncio.sleep(self.pace.interval)

    async def _plan(self, api: Api, versions: Mapping[SecretRef, Version], owners: Owners) -> tuple[Step, ...]:
        seen = await observing.observe(api, dict.fromkeys(self.refs, self.key), owners)
        return plan(versions, seen.workloads, seen.holders)

    # --- telling ---

    def _tell(self, result: _Result) -> None:
        if self.options["output"] == "json":
            click.echo(json.dumps(_as_json(result, revoked=not result.holders if self.revoke else None)))
            return
        for line in lines(result.progress.values()):
            click.echo(line)
        if self.revoke and not self.options["dry_run"]:
            held = ", ".join(f"{one.namespace}/{one.name}" for one in result.holders)
            click.echo(f"NOT revoked: still held by {held}" if held else "revoked: no process holds the old token")
        elif result.holders and not self.options["dry_run"]:
            what = "wait for them with" if self.restart else "restart with"
            click.echo(f"{counted(len(result.holders), 'Pod')} still with the old token; {what}: {self._again()}")


_DEFAULT_KEY: Final = "token"
_PLACEHOLDER: Final = tokens.opaque(now=0, lifetime=None)


def _current(found: Mapping[SecretRef, _Found], key: str) -> dict[SecretRef, Version]:
    return {ref: version_of(one.secret, key) for ref, one in found.items()}


def _all_new(found: Mapping[SecretRef, _Found]) -> dict[SecretRef, Version]:
    """What will be once the Secrets are written: every Pod that runs is older."""
    return {ref: Version(id=_PLACEHOLDER.id, changed=_FAR) for ref in found}


# Later than any Pod's start.
_FAR: Final = 1 << 40


def _told(found: Mapping[SecretRef, _Found]) -> list[dict[str, object]]:
    return [
        {"namespace": ref.namespace, "name": ref.name, "id": one.secret.token_id} for ref, one in sorted(found.items())
    ]


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Labels and annotations that change, as lines of a diff; of values, only ours are shown."""
    told = []
    for part in ("labels", "annotations"):
        old, new = before.get(part) or {}, after[part]
        told += [f"- {part}: {key}" for key in sorted(set(old) - set(new))]
        told += [f"+ {part}: {key}" for key in sorted(new) if old.get(key) != new[key]]
    return told


def _as_json(result: _Result, *, revoked: bool | None) -> dict[str, object]:
    told: dict[str, object] = {
        "secrets": list(result.secrets),
        "workloads": [
            {
                "kind": one.ref.kind,
                "namespace": one.ref.namespace,
                "name": one.ref.name,
                "state": one.state.value,
                "told": one.told,
                "stale": list(one.stale),
            }
            for one in result.progress.values()
        ],
        "holders": [f"{holder.namespace}/{holder.name}" for holder in result.holders],
    }
    return told if revoked is None else {**told, "revoked": revoked}
