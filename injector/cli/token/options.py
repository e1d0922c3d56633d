"""Options for minting tokens, shared by `token generate`, `secret create`, `rotate` and `revoke`."""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from injector.cli import connection, explicit_options, signals
from injector.cli.common_options import together
from injector.cli.param_types import Duration
from injector.cli.token.source import TokenOption, given_token
from injector.core import claims
from injector.core.claims import TokenSpec
from injector.core.errors import TokenError
from injector.core.ownership import SecretRef
from injector.core.secret_names import is_secret_name
from injector.tokens import minting, signing_keys
from injector.tokens.key_stores import FileKeyStore, KeyStoreError
from injector.tokens.private_files import PrivateFileError
from injector.tokens.signing_keys import Algorithm, BadKeyError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence

    from injector.cli.connection import Connect
    from injector.kube.client import Api
    from injector.tokens.key_stores import StoredKeys
    from injector.tokens.minting import MintedToken
    from injector.tokens.secret_key_store import KeyStore
    from injector.tokens.signing_keys import SigningKeys

_T = TypeVar("_T")

JWT: Final = "jwt"
OPAQUE: Final = "opaque"


class MintOption(TokenOption):
    """Describes a token to mint, so it has no effect on one that is given."""


class JwtOption(MintOption):
    """Describes a JWT, so it has no effect on an opaque token."""


def supplied_token(options: Mapping[str, Any]) -> MintedToken | None:
    """Return the token of --token-file or --token-stdin; None if neither is set.

    Raises:
        click.ClickException: It cannot be read or is not a token, or an option that describes a token to mint is set.
    """
    value = given_token(options["token_file"], token_stdin=options["token_stdin"])
    if value is None:
        return None
    explicit_options.reject("no effect on a token that is given by --token-file or --token-stdin", MintOption)
    return minting.describe_given(value, now=int(time.time()))


_mint_option = partial(click.option, cls=MintOption)
_jwt_option = partial(click.option, cls=JwtOption)


minting_options: Final = together(
    _mint_option(
        "--format",
        "token_format",
        type=click.Choice([JWT, OPAQUE]),
        default=JWT,
        show_default=True,
        help="jwt: issuer, audience and expiry. opaque: 32 random bytes.",
    ),
    _jwt_option(
        "--alg",
        type=click.Choice([one.value for one in Algorithm]),
        help="Sign a JWT with this algorithm. [default: that of the key, or Ed25519]",
    ),
    _jwt_option(
        "--signing-key",
        type=click.Path(),  # shells complete paths
        metavar="FILE|secret:NS/NAME",
        help="Sign with this JWK Set, JWK, PEM or HS256 secret. [default: a temporary key]",
    ),
    _jwt_option(
        "--create-key", is_flag=True, help="Create the signing key (a file has mode 0600) if it does not exist."
    ),
    _jwt_option(
        "--rotate-key",
        is_flag=True,
        help="Create a new signing key first; keep the public half of the previous one.",
    ),
    _mint_option(
        "--expires-in",
        type=Duration(shortest=claims.SHORTEST_LIFETIME),
        metavar="TIME",
        help="Set the lifetime: 30m, 12h, 90d. [default: 90d for a JWT]",
    ),
    _jwt_option("--iss", "issuer", default=claims.ISSUER, show_default=True, metavar="TEXT", help="Set the claim iss."),
    _jwt_option(
        "--sub",
        "subject",
        metavar="TEXT",
        help="Set the claim sub. [default: ns:NAMESPACE of the Secret; dapr for token generate]",
    ),
    _jwt_option(
        "--aud",
        "audience",
        multiple=True,
        default=(claims.AUDIENCE,),
        show_default=True,
        metavar="TEXT",
        help="Set the claim aud. Repeatable.",
    ),
    _jwt_option("--claim", "extra", multiple=True, metavar="K=V", help="Add a claim of your own, as text. Repeatable."),
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Minter:
    """Mints tokens as the options describe."""

    token_format: str
    issuer: str
    subject: str | None
    audience: Sequence[str]
    lifetime: int | None
    extra: Mapping[str, str]
    signing_key: str | None
    algorithm: Algorithm | None
    create_key: bool
    rotate_key: bool
    keys: SigningKeys | None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Minter:
        """Return a minter for the values of the options above, without keys; nothing is read or created.

        Raises:
            click.UsageError: Options contradict each other.
            BadClaimError: A claim is not valid.
        """
        if options["token_format"] == OPAQUE:
            explicit_options.reject("no effect with --format opaque, which has no claims and no signature", JwtOption)
        minter = cls(
            token_format=options["token_format"],
            issuer=options["issuer"],
            subject=options["subject"],
            audience=options["audience"],
            lifetime=options["expires_in"],
            extra=_extra(options["extra"]),
            signing_key=options["signing_key"],
            algorithm=Algorithm(options["alg"]) if options["alg"] else None,
            create_key=options["create_key"],
            rotate_key=options["rotate_key"],
            keys=None,
        )
        minter._check_key_options()
        if minter.token_format == JWT:
            claims.build(minter.spec(claims.SUBJECT), now=0, jti="")  # fails before a key is created
        return minter

    def _check_key_options(self) -> None:
        if self.signing_key is not None:
            _secret_ref(self.signing_key)
        elif self.create_key or self.rotate_key:
            raise click.UsageError("--create-key and --rotate-key require --signing-key, where the key is kept")
        elif self.algorithm is Algorithm.HS256:
            raise click.UsageError("--alg HS256 requires --signing-key, a secret of 32 bytes or more")

    async def with_keys(self, api: Api | None) -> Minter:
        """Return a minter with the signing key of the options, created or rotated if requested.

        `api` is the API server; None if the key is not in a Secret.

        Raises:
            click.ClickException: The key cannot be used, read or written.
            KubeError: The API server rejects a request.
        """
        if self.signing_key is None:
            if self.algorithm in {None, Algorithm.ED25519}:
                return self
            return replace(self, keys=signing_keys.generate(self.algorithm))
        is_written = self.create_key or self.rotate_key
        with _key_store(self.signing_key, api) as store, store.locked() if is_written else nullcontext():
            return replace(self, keys=await self._stored_keys(store))

    async def _stored_keys(self, store: KeyStore) -> SigningKeys:
        found = await store.read()
        if found is None and self.create_key:
            created = signing_keys.generate(self.algorithm or Algorithm.ED25519)
            if await store.create(created.dump()):
                click.echo(f"created a signing key: {store.name}", err=True)
                return created
            found = await store.read()  # another process has created it in the meantime
        keys = _parsed(found, self.algorithm)
        keys.signing  # noqa: B018 - raises if they cannot sign
        if found is None or not self.rotate_key:
            return keys
        rotated = keys.rotated()
        await store.replace(rotated.dump(), found)
        click.echo(f"rotated the signing key: {store.name}", err=True)
        return rotated

    def __call__(self, namespace: str | None = None) -> MintedToken:
        """Return a new token; `namespace` is its subject unless --sub is set.

        Raises:
            BadKeyError: The keys cannot sign.
            click.ClickException: The token would be too long.
        """
        now = int(time.time())
        if self.token_format == OPAQUE:
            return minting.mint_opaque(now=now, lifetime=self.lifetime)
        try:
            return minting.mint_jwt(self.spec(f"ns:{namespace}" if namespace else claims.SUBJECT), self.keys, now=now)
        except TokenError as error:
            raise click.ClickException(f"--claim, --aud: not a token: {error}; use fewer or shorter values") from None

    def mint_for(self, refs: Iterable[SecretRef], *, same: bool) -> dict[SecretRef, MintedToken]:
        """Return a new token for each Secret, or with `same` one for all; raises as a call does."""
        shared = self() if same else None
        return {ref: shared or self(ref.namespace) for ref in refs}

    @property
    def note(self) -> str | None:
        """A note for the user about the tokens, if there is one."""
        if self.token_format == JWT and self.signing_key is None:
            return "the token is signed with a new key that was not kept; use --signing-key to keep one"
        return None

    def spec(self, subject: str) -> TokenSpec:
        """The claims of a JWT; `subject` is the default of --sub."""
        return TokenSpec(
            issuer=self.issuer,
            subject=subject if self.subject is None else self.subject,
            audience=tuple(self.audience),
            lifetime=self.lifetime or claims.LIFETIME,
            extra=self.extra,
        )


SECRET_PREFIX: Final = "secret:"


def run_with_key(text: str | None, connect: Connect, work: Callable[[Api | None], Coroutine[Any, Any, _T]]) -> _T:
    """Run work that reads the signing key `text`; it gets an API server only if the key is in a Secret.

    Raises:
        click.ClickException: The API server rejects a request or does not answer.
    """
    if text is not None and _secret_ref(text) is not None:
        return connection.run(connect, work)
    return signals.run(work(None))


def read_keys(text: str, algorithm: Algorithm | None, connect: Connect) -> SigningKeys:
    """Return the keys in a file or Secret.

    Raises:
        click.ClickException: They do not exist or cannot be used.
    """

    async def work(api: Api | None) -> SigningKeys:
        with _key_store(text, api) as store:
            return _parsed(await store.read(), algorithm)

    return run_with_key(text, connect, work)


def _secret_ref(text: str) -> SecretRef | None:
    """Return the Secret that `secret:NAMESPACE/NAME` refers to; None for a file."""
    if not text.startswith(SECRET_PREFIX):
        return None
    namespace, slash, name = text.removeprefix(SECRET_PREFIX).partition("/")
    if not slash or not is_secret_name(namespace) or not is_secret_name(name):
        raise click.UsageError(f"--signing-key: invalid Secret; use {SECRET_PREFIX}NAMESPACE/NAME")
    return SecretRef(namespace, name)


def _parsed(found: StoredKeys | None, algorithm: Algorithm | None) -> SigningKeys:
    if found is None:
        raise BadKeyError("not found; create it with `token generate --create-key`")
    return signing_keys.parse(found.content, algorithm)


@contextmanager
def _key_store(text: str, api: Api | None) -> Iterator[KeyStore]:
    """Yield the file or Secret of a signing key, whose errors name the option."""
    secret = _secret_ref(text)
    store: KeyStore
    if secret is None:
        store = FileKeyStore(Path(text))
        if store.is_readable_by_others():
            click.echo(f"note: {store.name}: other users can read it; run chmod 600", err=True)
    else:
        from injector.tokens.secret_key_store import SecretKeyStore  # noqa: PLC0415 - the client is slow to import

        if api is None:
            raise TypeError("a key in a Secret requires an API server")
        store = SecretKeyStore(api, secret)
    try:
        yield store
    except BadKeyError as error:
        raise click.UsageError(f"--signing-key {store.name}: {error}") from None
    except (KeyStoreError, PrivateFileError) as error:
        raise click.ClickException(f"--signing-key {error}") from None


def _extra(texts: Sequence[str]) -> dict[str, str]:
    extra: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError("--claim: no value; use NAME=VALUE, such as team=payments")
        if name in extra:
            raise click.UsageError("--claim: the same name twice; give each name once")
        extra[name] = value
    return extra
