"""Options that make a token, alike in `token generate`, `secret create` and `secret rotate`."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from injector.cli import kubeconfig
from injector.cli.param_types import Duration
from injector.cli.token.source import TokenOption
from injector.core import claims
from injector.core.claims import TokenSpec
from injector.core.ownership import SecretRef
from injector.core.request import is_secret_name
from injector.tokens import minting, signing_keys
from injector.tokens.key_stores import FileKeyStore, KeyStoreError
from injector.tokens.signing_keys import Algorithm, BadKeyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from injector.cli.kubeconfig import Connect
    from injector.kube.client import Api
    from injector.tokens.key_stores import KeyStore, StoredKeys
    from injector.tokens.minting import MintedToken
    from injector.tokens.signing_keys import SigningKeys

_T = TypeVar("_T")
_CommandT = TypeVar("_CommandT", bound="Callable[..., Any]")

JWT: Final = "jwt"
OPAQUE: Final = "opaque"


class MintOption(TokenOption):
    """Describes a token that is made, so it has no effect on one that is given."""


_mint_option = partial(click.option, cls=MintOption)


def minting_options(command: _CommandT) -> _CommandT:
    """What a new token is like."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: Final = (
    _mint_option(
        "--format",
        "token_format",
        type=click.Choice([JWT, OPAQUE]),
        default=JWT,
        show_default=True,
        help="jwt: says who made it, for whom, until when. opaque: 32 random bytes.",
    ),
    _mint_option(
        "--alg",
        type=click.Choice([one.value for one in Algorithm]),
        help="How a JWT is signed; default: as the key says, else Ed25519.",
    ),
    _mint_option(
        "--signing-key",
        type=click.Path(),  # shells complete paths
        metavar="FILE|secret:NS/NAME",
        help="JWK Set, JWK, PEM, or for HS256 a secret of 32 bytes or more. Default: a key made for this "
        "one token and forgotten.",
    ),
    _mint_option("--create-key", is_flag=True, help="Make the signing key if there is none, mode 0600."),
    _mint_option(
        "--rotate-key",
        is_flag=True,
        help="Make a new signing key first; of the one before, the public half stays.",
    ),
    _mint_option(
        "--expires-in",
        type=Duration(shortest=claims.SHORTEST_LIFETIME),
        metavar="TIME",
        help="30m, 12h, 90d; default: 90d for a JWT.",
    ),
    _mint_option("--iss", "issuer", default=claims.ISSUER, show_default=True, metavar="TEXT", help="Claim iss."),
    _mint_option("--sub", "subject", metavar="TEXT", help="Claim sub; default: ns:NAMESPACE, or dapr."),
    _mint_option(
        "--aud",
        "audience",
        multiple=True,
        default=(claims.AUDIENCE,),
        show_default=True,
        metavar="TEXT",
        help="Claim aud. Repeatable.",
    ),
    _mint_option("--claim", "extra", multiple=True, metavar="K=V", help="A claim of your own, as text. Repeatable."),
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Minter:
    """Makes tokens as the options say."""

    token_format: str
    issuer: str
    subject: str | None
    audience: Sequence[str]
    lifetime: int | None
    extra: Mapping[str, str]
    keys: SigningKeys | None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Minter:
        """From the values of the options above, still without keys; nothing is read or made.

        Raises:
            click.UsageError: They do not go together.
            BadClaimError: Something is asked for that no token should say.
        """
        if options["token_format"] == OPAQUE:
            _refuse_jwt_options(options)
        if options["signing_key"] is not None:
            _secret_ref(options["signing_key"])
        minter = cls(
            token_format=options["token_format"],
            issuer=options["issuer"],
            subject=options["subject"],
            audience=options["audience"],
            lifetime=options["expires_in"],
            extra=_extra(options["extra"]),
            keys=None,
        )
        if minter.token_format == JWT:
            claims.build(minter.spec(claims.SUBJECT), now=0, jti="")  # refused before a key is made for it
        return minter

    async def with_keys(self, options: Mapping[str, Any], api: Api | None) -> Minter:
        """Return it with the signing key that the options name, created or rotated if they say so.

        Args:
            options: The values of the options above.
            api: The API server; None is enough where `needs_cluster` is false.

        Raises:
            click.UsageError: It cannot be used.
            KubeError: The API server refuses.
        """
        return replace(self, keys=await _signing_keys(options, api))

    def __call__(self, namespace: str | None = None) -> MintedToken:
        """A new token, for a namespace if there is one.

        Raises:
            BadKeyError: The keys cannot sign.
            TokenError: The claims make it too long.
        """
        now = int(time.time())
        if self.token_format == OPAQUE:
            return minting.mint_opaque(now=now, lifetime=self.lifetime)
        return minting.mint_jwt(self.spec(f"ns:{namespace}" if namespace else claims.SUBJECT), self.keys, now=now)

    @property
    def note(self) -> str | None:
        """What a person should know of the tokens."""
        if self.token_format == JWT and self.keys is None:
            return "signed with a key that was made for it alone and forgotten; --signing-key keeps one"
        return None

    def spec(self, subject: str) -> TokenSpec:
        """What a JWT is to say; `subject` where none was given."""
        return TokenSpec(
            issuer=self.issuer,
            subject=subject if self.subject is None else self.subject,
            audience=tuple(self.audience),
            lifetime=self.lifetime or claims.LIFETIME,
            extra=self.extra,
        )


SECRET_PREFIX: Final = "secret:"


def run_with_key(text: str | None, connect: Connect, work: Callable[[Api | None], Awaitable[_T]]) -> _T:
    """Do work that reads the signing key `text`, with an API server only if the key is in one.

    Raises:
        click.ClickException: The API server refuses or gives no answer.
    """
    if text is not None and _secret_ref(text) is not None:
        return kubeconfig.run(connect, work)

    async def alone() -> _T:
        return await work(None)

    return asyncio.run(alone())


def read_keys(text: str, algorithm: str | None, connect: Connect) -> SigningKeys:
    """Return the keys in a file or Secret.

    Raises:
        click.UsageError: There are none, or they cannot be used.
    """

    async def work(api: Api | None) -> SigningKeys:
        store = _key_store(text, api)
        try:
            return _parsed(store, await _read(store), algorithm)
        except KeyStoreError as error:
            raise click.ClickException(f"--signing-key {error}") from None

    return run_with_key(text, connect, work)


def _secret_ref(text: str) -> SecretRef | None:
    """The Secret that `secret:NAMESPACE/NAME` means; None: it is a file."""
    if not text.startswith(SECRET_PREFIX):
        return None
    namespace, slash, name = text.removeprefix(SECRET_PREFIX).partition("/")
    if not slash or not is_secret_name(namespace) or not is_secret_name(name):
        raise click.UsageError(f"--signing-key: {SECRET_PREFIX} needs a namespace and a name: {SECRET_PREFIX}shop/key")
    return SecretRef(namespace, name)


def _key_store(text: str, api: Api | None) -> KeyStore:
    secret = _secret_ref(text)
    if secret is None:
        return FileKeyStore(Path(text))
    from injector.tokens.secret_key_store import SecretKeyStore  # noqa: PLC0415 - the client is slow to import

    if api is None:
        raise TypeError("a key in a Secret needs an API server")
    return SecretKeyStore(api, secret)


async def _read(store: KeyStore) -> StoredKeys | None:
    if isinstance(store, FileKeyStore) and store.is_readable_by_others():
        click.echo(f"note: {store.name} can be read by users other than its owner; chmod 600 it", err=True)
    return await store.read()


def _refuse_jwt_options(options: Mapping[str, Any]) -> None:
    given = {
        "--alg": options["alg"],
        "--signing-key": options["signing_key"],
        "--create-key": options["create_key"],
        "--rotate-key": options["rotate_key"],
        "--sub": options["subject"],
        "--claim": options["extra"],
    }
    wrong = [name for name, value in given.items() if value]
    if wrong:
        raise click.UsageError(f"{', '.join(wrong)}: an opaque token says nothing and is not signed")


def _extra(texts: Sequence[str]) -> dict[str, str]:
    extra: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError("--claim: a name, = and a value are needed: --claim team=payments")
        if name in extra:
            raise click.UsageError("--claim: a name is given twice")
        extra[name] = value
    return extra


async def _signing_keys(options: Mapping[str, Any], api: Api | None) -> SigningKeys | None:
    text, algorithm = options["signing_key"], options["alg"]
    create, rotate = options["create_key"], options["rotate_key"]
    if text is None:
        if create or rotate:
            raise click.UsageError("--create-key and --rotate-key need --signing-key: where is it to be kept?")
        if algorithm == Algorithm.HS256:
            raise click.UsageError("--alg HS256 needs --signing-key: a secret of yours, 32 bytes or more")
        return (
            None
            if algorithm in {None, Algorithm.ED25519}
            else _as_usage_error("--alg", lambda: signing_keys.generate(algorithm))
        )
    store = _key_store(text, api)
    try:
        with store.locked() if create or rotate else nullcontext():
            return await _stored_keys(store, algorithm, create=create, rotate=rotate)
    except KeyStoreError as error:
        raise click.ClickException(f"--signing-key {error}") from None


async def _stored_keys(store: KeyStore, algorithm: str | None, *, create: bool, rotate: bool) -> SigningKeys:
    found = await _read(store)
    if found is None and create:
        created = _as_usage_error(
            "--create-key", lambda: signing_keys.generate(Algorithm(algorithm or Algorithm.ED25519))
        )
        if await store.create(created.dump()):
            click.echo(f"made a signing key: {store.name}", err=True)
            return created
        found = await store.read()  # another process was faster: one key is enough
    keys = _parsed(store, found, algorithm)
    _as_usage_error(f"--signing-key {store.name}", lambda: keys.signing)
    if not rotate or found is None:
        return keys
    rotated = _as_usage_error(f"--signing-key {store.name}", keys.rotated)
    await store.replace(rotated.dump(), found)
    click.echo(f"made a new signing key: {store.name}", err=True)
    return rotated


def _parsed(store: KeyStore, found: StoredKeys | None, algorithm: str | None) -> SigningKeys:
    if found is None:
        raise click.UsageError(f"--signing-key {store.name}: there is none; `token generate --create-key` makes one")
    wanted = Algorithm(algorithm) if algorithm else None
    return _as_usage_error(f"--signing-key {store.name}", lambda: signing_keys.parse(found.content, wanted))


def _as_usage_error(where: str, work: Callable[[], _T]) -> _T:
    try:
        return work()
    except BadKeyError as error:
        raise click.UsageError(f"{where}: {error}") from None
