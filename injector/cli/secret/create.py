"""`secret create`: create token Secrets; existing ones are never overwritten.

All checks and a dry run of every write come before the first write.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click
import yaml  # type: ignore[import-untyped] # it brings no types

from injector.cli import cluster_completion, connection, explicit_options
from injector.cli.connection import Connect
from injector.cli.main import Exit
from injector.cli.output import output_option
from injector.cli.secret import secret_refs
from injector.cli.token.options import Minter, minting_options, supplied_token
from injector.cli.token.source import TokenOption, given_token_options
from injector.core import names
from injector.core.errors import TokenError
from injector.core.messages import redact
from injector.core.ownership import managed_by
from injector.core.secret_names import is_secret_name
from injector.core.token import Token, parse_token
from injector.kube.errors import AlreadyExistsError, ForbiddenError, NotFoundError
from injector.kube.resources import NAMESPACES, SECRETS
from injector.times import unix_time
from injector.tokens import decode, manifests, minting
from injector.tokens.minting import MintedToken

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from injector.core.ownership import SecretRef, TokenSecret
    from injector.kube.client import Api


class ManifestOption(click.Option):
    """Has an effect on the manifest that --print-manifest prints."""


@click.command(short_help="Create token Secrets; existing ones are kept.")
@click.argument("secrets", nargs=-1, metavar="[NAMESPACE/]NAME...", shell_complete=cluster_completion.new_secrets)
@secret_refs.namespace_options
@click.option("--fail-if-exists", is_flag=True, help="Exit with 1 if a Secret exists, also with a valid token.")
@secret_refs.KEY
@given_token_options
@click.option("--same", cls=TokenOption, is_flag=True, help="Use one token for all Secrets. [default: one for each]")
@click.option(
    "--app-token",
    cls=ManifestOption,
    is_flag=True,
    help="Create tokens for calls from daprd to the app (APP_API_TOKEN).",
)
@minting_options
@click.option(
    "--dry-run", type=click.Choice(["client", "server"]), help="Write nothing; server: let the API server validate."
)
@click.option(
    "--print-manifest", cls=ManifestOption, is_flag=True, help="Print an ExternalSecret instead; it holds no value."
)
@click.option(
    "--store",
    cls=ManifestOption,
    metavar="[KIND/]NAME",
    help="Set its store. KIND: SecretStore or ClusterSecretStore [default].",
)
@click.option(
    "--remote-key",
    cls=ManifestOption,
    metavar="KEY",
    help="Set the token's key in the store. [default: dapr/NAMESPACE/NAME]",
)
@output_option("table", "json")
@connection.options
def create(  # noqa: PLR0913 - one parameter per option
    *,
    secrets: Sequence[str],
    fail_if_exists: bool,
    key: str,
    same: bool,
    app_token: bool,
    dry_run: str | None,
    print_manifest: bool,
    store: str | None,
    remote_key: str | None,
    output: str,
    **options: Any,  # noqa: ANN401 - those of the groups of options above
) -> int:
    """Create token Secrets. Existing Secrets are never overwritten.

    The Secrets get the label dapr-token-injector/token, type Opaque, the key
    `token`, and annotations with the token's id and times, never its value.
    Existing Secrets are reported with the tool that manages them, and checked
    for a valid token under the key.

    \b
    Examples:
      dapr-token-injector secret create shop/dapr-api-token
      dapr-token-injector secret create token --namespace-selector dapr=on
      dapr-token-injector secret create shop/token --print-manifest --store vault

    Exit codes: 0 each Secret was created or has a valid token, 1 one has no
    valid token or cannot be read, or one existed with --fail-if-exists,
    2 usage error or request rejected, 3 internal error. If a check or dry run
    fails, nothing is written.
    """  # noqa: D301 - click does not wrap a paragraph after \b
    namespace_selector = secret_refs.selector_of(options)
    refs = secret_refs.parse(secrets, namespace_selector)
    secret_refs.check_key(key)
    direction = manifests.APP if app_token else manifests.API
    if print_manifest:
        explicit_options.reject_all_but(
            "no effect with --print-manifest, which creates no token and does not access the cluster",
            ManifestOption,
            secret_refs.KeyOption,
        )
        return _print_manifests(refs, key, direction, _store(store), remote_key)
    if store is not None or remote_key is not None:
        raise click.UsageError("--store and --remote-key require --print-manifest")
    supplied = supplied_token(options)
    run = _Creation(key, direction)
    minter = Minter.of(options)
    connect = Connect.of(options)
    if dry_run == "client":
        if namespace_selector is not None:
            refs = connection.run(connect, lambda api: secret_refs.resolve(api, refs, namespace_selector))
        _report(dict.fromkeys(refs, _Result(_WOULD_CREATE)), output)
        return Exit.FINE

    async def work(api: Api) -> tuple[dict[SecretRef, str], dict[SecretRef, _ExistingSecret | None]]:
        existing = await _look(api, await secret_refs.resolve(api, refs, namespace_selector))
        tried = await run.write(
            api, {ref: minting.PLACEHOLDER for ref, found in existing.items() if found is None}, dry_run=True
        )
        missing = [ref for ref, outcome in tried.items() if outcome != _EXISTS]
        outcomes = {**tried, **dict.fromkeys(missing, _WOULD_CREATE)}
        if dry_run is None and missing:
            ready = minter if supplied else await minter.with_keys(api)
            shared = supplied or (_token_of_earlier_run(existing.values(), key) if same else None)
            tokens = dict.fromkeys(missing, shared) if shared else ready.mint_for(missing, same=same)
            outcomes |= await run.write(api, tokens, dry_run=False)
            if shared is None and ready.note is not None:
                click.echo(f"note: {ready.note}", err=True)
        # Created by another process in the meantime.
        existing |= {ref: await _read(api, ref) for ref, outcome in outcomes.items() if outcome == _EXISTS}
        return outcomes, existing

    try:
        outcomes, existing = connection.run(connect, work)
    except click.ClickException as error:
        if not run.created:
            raise
        done = f"{run.created} of {run.wanted} Secrets were already created and are kept"
        raise click.ClickException(f"{error.message}; {done}") from None
    results = {
        ref: _Result(outcomes[ref]) if outcomes.get(ref, _EXISTS) != _EXISTS else _checked(existing[ref], key)
        for ref in {*outcomes, *existing}
    }
    _report(results, output)
    fine = {_CREATED, _WOULD_CREATE} | (set() if fail_if_exists else {_EXISTS})
    return Exit.FINE if {result.outcome for result in results.values()} <= fine else Exit.FINDINGS


_CREATED: Final = "created"
_WOULD_CREATE: Final = "would-create"
_EXISTS: Final = "exists"  # with a valid token under the key
_INVALID: Final = "invalid"  # it exists without one
_UNKNOWN: Final = "unknown"  # it exists and cannot be read


@dataclass(frozen=True, slots=True, repr=False)
class _ExistingSecret:
    """An existing Secret; `object` holds its values."""

    secret: TokenSecret
    object: dict[str, Any]

    def token(self, key: str) -> Token:
        """Return the token under the key.

        Raises:
            TokenError: There is no valid one.
        """
        if key not in self.secret.keys:
            raise TokenError(f"no key {key}")
        return parse_token(base64.b64decode(self.object["data"][key] or ""))


@dataclass(frozen=True, slots=True)
class _Result:
    """What was done about a Secret, and why."""

    outcome: str
    message: str = ""


def _checked(found: _ExistingSecret | None, key: str) -> _Result:
    """Return whether an existing Secret has a valid token, why it was not modified, and which tool manages it."""
    if found is None:
        return _Result(_UNKNOWN, "it exists and you may not read it, so its token was not checked; request get secrets")
    owner = managed_by(found.secret, key)
    message = f"not modified; {f'managed by {owner.name}: {owner.sign}' if owner else 'no other tool manages it'}"
    if "deletionTimestamp" in found.object["metadata"]:
        return _Result(_INVALID, f"{message}; it is being deleted")
    try:
        found.token(key)
    except TokenError as error:
        return _Result(_INVALID, f"{message}; no valid token: {error}")
    return _Result(_EXISTS, message)


@dataclass(slots=True)
class _Creation:
    """Creates Secrets. `created` of `wanted` were created, also if an error ended the run."""

    key: str
    direction: str
    created: int = 0
    wanted: int = 0

    async def write(
        self, api: Api, tokens_by_secret: Mapping[SecretRef, MintedToken], *, dry_run: bool
    ) -> dict[SecretRef, str]:
        """Create the Secrets; one that another process has created in the meantime is kept.

        Raises:
            click.ClickException: A namespace does not exist.
        """
        outcome: dict[SecretRef, str] = {}
        self.wanted = len(tokens_by_secret)
        for ref, minted in tokens_by_secret.items():
            body = manifests.new_secret(ref, self.key, minted, self.direction)
            try:
                await api.create(SECRETS, body, ref.namespace, dry_run=dry_run)
                outcome[ref] = _CREATED
                self.created += not dry_run
            except AlreadyExistsError:
                outcome[ref] = _EXISTS
            except NotFoundError:  # for users who cannot read namespaces, the first check that the namespace exists
                raise secret_refs.namespace_not_found(ref.namespace) from None
        return outcome


async def _look(api: Api, refs: Sequence[SecretRef]) -> dict[SecretRef, _ExistingSecret | None]:
    """Return the existing Secret, or None, for each Secret to create.

    Raises:
        click.ClickException: A namespace does not exist.
    """
    for namespace in sorted({ref.namespace for ref in refs}):
        await _check_namespace(api, namespace)
    return {ref: await _read(api, ref) for ref in refs}


async def _check_namespace(api: Api, name: str) -> None:
    try:
        found = await api.get(NAMESPACES, name)
    except NotFoundError:
        raise secret_refs.namespace_not_found(name) from None
    except ForbiddenError:
        return  # creating a Secret does not require permission to read the namespace
    if "deletionTimestamp" in found["metadata"]:
        raise click.ClickException(f"namespace {name} is being deleted; wait until it is gone and create it again")


async def _read(api: Api, ref: SecretRef) -> _ExistingSecret | None:
    try:
        found = await api.get(SECRETS, ref.name, ref.namespace)
    except (NotFoundError, ForbiddenError):
        return None  # creating does not require permission to read; the create fails if the Secret exists
    return _ExistingSecret(decode.token_secret(found), found)


def _token_of_earlier_run(existing: Iterable[_ExistingSecret | None], key: str) -> MintedToken | None:
    """Return the token of an interrupted run: the one that all existing Secrets without another owner hold."""
    managed = [
        one
        for one in existing
        if one is not None and managed_by(one.secret, key) is None and one.secret.token_id is not None
    ]
    if len({one.secret.token_id for one in managed}) != 1:
        return None
    secret = managed[0].secret
    try:
        value = managed[0].token(key)
    except TokenError:
        return None
    return MintedToken(
        value,
        str(secret.token_id),
        unix_time(secret.annotations.get(names.TOKEN_ISSUED)) or int(time.time()),
        unix_time(secret.annotations.get(names.TOKEN_EXPIRES)),
    )


def _store(text: str | None) -> manifests.StoreRef:
    """Return the store that `[KIND/]NAME` refers to.

    Raises:
        click.UsageError: It is missing or not valid.
    """
    if not text:
        raise click.UsageError("--print-manifest requires --store, the store that holds the token")
    kind, slash, name = text.rpartition("/")
    if slash and kind not in manifests.STORE_KINDS:
        raise click.UsageError(
            f"--store: {redact(kind)} is not a kind of store; use {' or '.join(manifests.STORE_KINDS)}"
        )
    if not is_secret_name(name):
        raise click.UsageError(
            f"--store: {redact(name)} is not a valid name; use lower-case letters, digits, '-' and '.', "
            "starting and ending with a letter or digit"
        )
    return manifests.StoreRef(kind if slash else manifests.STORE_KINDS[0], name)


def _print_manifests(
    refs: Sequence[SecretRef], key: str, direction: str, store: manifests.StoreRef, remote: str | None
) -> int:
    if remote is not None and len(refs) > 1:
        raise click.UsageError("--remote-key: one key for several Secrets; print one manifest at a time")
    if remote is not None and not remote.strip():
        raise click.UsageError("--remote-key: empty; use the token's key in the store")
    found = [
        manifests.external_secret(ref, key, direction, store, remote or f"dapr/{ref.namespace}/{ref.name}")
        for ref in refs
    ]
    click.echo(yaml.safe_dump_all(found, sort_keys=False), nl=False)
    return Exit.FINE


def _report(results: Mapping[SecretRef, _Result], output: str) -> None:
    if output == "json":
        rows = [
            {"namespace": ref.namespace, "name": ref.name, "outcome": result.outcome, "message": result.message}
            for ref, result in sorted(results.items())
        ]
        click.echo(json.dumps({"secrets": rows}))
        return
    for ref, result in sorted(results.items()):
        click.echo(f"{ref}: {result.outcome}{f' ({result.message})' if result.message else ''}")
