"""Options that make a token, alike in `token generate`, `secret create` and `secret rotate`."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from injector.cli.signingkeys import store_of
from injector.core import claims
from injector.core.claims import Wanted
from injector.tokens import keyring, minting
from injector.tokens.keyring import Algorithm, BadKeyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from injector.cli.kubeconfig import Connect
    from injector.cli.signingkeys import Store
    from injector.tokens.keyring import Keyring
    from injector.tokens.minting import Minted

_T = TypeVar("_T")
_CommandT = TypeVar("_CommandT", bound="Callable[..., Any]")

JWT: Final = "jwt"
OPAQUE: Final = "opaque"


def options(command: _CommandT) -> _CommandT:
    """What a new token is like."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: Final = (
    click.option(
        "--format",
        "form",
        type=click.Choice([JWT, OPAQUE]),
        default=JWT,
        show_default=True,
        help="jwt: says who made it, for whom, until when. opaque: 32 random bytes.",
    ),
    click.option(
        "--alg",
        type=click.Choice([one.value for one in Algorithm]),
        help="How a JWT is signed; default: as the key says, else Ed25519.",
    ),
    click.option(
        "--signing-key",
        type=click.Path(),  # shells complete paths
        metavar="FILE|secret:NS/NAME",
        help="JWK Set, JWK, PEM, or for HS256 a secret of 32 bytes or more. Default: a key made for this "
        "one token and forgotten.",
    ),
    click.option("--create-key", is_flag=True, help="Make the signing key if there is none, mode 0600."),
    click.option(
        "--rotate-key",
        is_flag=True,
        help="Make a new signing key first; of the one before, the public half stays.",
    ),
    click.option("--expires-in", metavar="TIME", help=f"30m, 12h, 90d; default: {claims.LIFETIME} for a JWT."),
    click.option("--iss", "issuer", default=claims.ISSUER, show_default=True, metavar="TEXT", help="Claim iss."),
    click.option("--sub", "subject", metavar="TEXT", help="Claim sub; default: ns:NAMESPACE, or dapr."),
    click.option(
        "--aud",
        "audience",
        multiple=True,
        default=(claims.AUDIENCE,),
        show_default=True,
        metavar="TEXT",
        help="Claim aud. Repeatable.",
    ),
    click.option("--claim", "extra", multiple=True, metavar="K=V", help="A claim of your own, as text. Repeatable."),
)


# The parameters' names.
NAMES: Final = frozenset(
    {"form", "alg", "signing_key", "create_key", "rotate_key", "expires_in", "issuer", "subject", "audience", "extra"}
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Minter:
    """Makes tokens as the options say."""

    form: str
    issuer: str
    subject: str | None
    audience: Sequence[str]
    lifetime: int | None
    extra: Mapping[str, str]
    keys: Keyring | None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Minter:
        """From the values of the options above, still without keys; nothing is read or made.

        Raises:
            click.UsageError: They do not go together.
            BadClaimError: Something is asked for that no token should say.
        """
        if options["form"] == OPAQUE:
            _refuse_jwt_options(options)
        chosen = options["expires_in"]
        minter = cls(
            form=options["form"],
            issuer=options["issuer"],
            subject=options["subject"],
            audience=options["audience"],
            lifetime=None if chosen is None else claims.lifetime(chosen),
            extra=_extra(options["extra"]),
            keys=None,
        )
        if minter.form == JWT:
            claims.build(minter.wanted(claims.SUBJECT), now=0, jti="")  # refused before a key is made for it
        return minter

    def with_keys(self, options: Mapping[str, Any], connect: Connect) -> Minter:
        """With the signing key that the options name; made or rotated if they say so.

        Raises:
            click.UsageError: It cannot be used.
        """
        return replace(self, keys=_keys(options, connect))

    def __call__(self, namespace: str | None = None) -> Minted:
        """A new token, for a namespace if there is one.

        Raises:
            BadKeyError: The keys cannot sign.
            TokenError: The claims make it too long.
        """
        now = int(time.time())
        if self.form == OPAQUE:
            return minting.opaque(now=now, lifetime=self.lifetime)
        return minting.signed(self.wanted(f"ns:{namespace}" if namespace else claims.SUBJECT), self.keys, now=now)

    @property
    def note(self) -> str | None:
        """What a person should know of the tokens."""
        if self.form == JWT and self.keys is None:
            return "signed with a key that was made for it alone and forgotten; --signing-key keeps one"
        return None

    def wanted(self, subject: str) -> Wanted:
        """What a JWT is to say; `subject` where none was given."""
        return Wanted(
            issuer=self.issuer,
            subject=subject if self.subject is None else self.subject,
            audience=tuple(self.audience),
            lifetime=self.lifetime or claims.lifetime(claims.LIFETIME),
            extra=self.extra,
        )


def read_keys(text: str, algorithm: str | None, connect: Connect) -> Keyring:
    """The keys in a file or Secret.

    Raises:
        click.UsageError: There are none, or they cannot be used.
    """
    store = store_of(text, connect)
    return _parsed(store, store.read(), algorithm)


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


def _extra(told: Sequence[str]) -> dict[str, str]:
    extra: dict[str, str] = {}
    for one in told:
        name, equals, value = one.partition("=")
        if not equals:
            raise click.UsageError("--claim: a name, = and a value are needed: --claim team=payments")
        if name in extra:
            raise click.UsageError("--claim: a name is given twice")
        extra[name] = value
    return extra


def _keys(options: Mapping[str, Any], connect: Connect) -> Keyring | None:
    text, algorithm = options["signing_key"], options["alg"]
    create, rotate = options["create_key"], options["rotate_key"]
    if text is None:
        if create or rotate:
            raise click.UsageError("--create-key and --rotate-key need --signing-key: where is it to be kept?")
        if algorithm == Algorithm.HS256:
            raise click.UsageError("--alg HS256 needs --signing-key: a secret of yours, 32 bytes or more")
        return (
            None if algorithm in {None, Algorithm.ED25519} else _attempt("--alg", lambda: keyring.generate(algorithm))
        )
    store = store_of(text, connect)
    with store.locked() if create or rotate else nullcontext():
        content = store.read()
        if content is None and create:
            made = _attempt("--create-key", lambda: keyring.generate(Algorithm(algorithm or Algorithm.ED25519)))
            if store.create(made.dump()):
                click.echo(f"made a signing key: {store.name}", err=True)
                return made
            content = store.read()  # somebody else was faster: one key is enough
        keys = _parsed(store, content, algorithm)
        _attempt(f"--signing-key {store.name}", lambda: keys.signing)
        return _rotated(store, keys) if rotate else keys


def _rotated(store: Store, keys: Keyring) -> Keyring:
    rotated = _attempt(f"--signing-key {store.name}", keys.rotated)
    store.replace(rotated.dump())
    click.echo(f"made a new signing key: {store.name}", err=True)
    return rotated


def _parsed(store: Store, content: bytes | None, algorithm: str | None) -> Keyring:
    if content is None:
        raise click.UsageError(f"--signing-key {store.name}: there is none; `token generate --create-key` makes one")
    wanted = Algorithm(algorithm) if algorithm else None
    return _attempt(f"--signing-key {store.name}", lambda: keyring.parse(content, wanted))


def _attempt(where: str, work: Callable[[], _T]) -> _T:
    try:
        return work()
    except BadKeyError as error:
        raise click.UsageError(f"{where}: {error}") from None
