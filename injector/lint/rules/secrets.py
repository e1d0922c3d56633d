"""Rules about Secrets that are in the same set of files as the Pods that use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.core.token import MAX_TOKEN, MIN_TOKEN, TokenFlaw
from injector.lint.files import Malformed
from injector.lint.location import label
from injector.lint.model import Level, Rule
from injector.lint.rules.examples import DAPR, FOR_WEB, SECRET, pod, secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from injector.lint.files import FileSet
    from injector.lint.location import Location

_POD: Final = pod(DAPR, SECRET, FOR_WEB)
_POD_IN_SHOP: Final = _POD.replace("  name: orders\n", "  name: orders\n  namespace: shop\n")
_SOUND: Final = "stringData:\n  token: ${DAPR_API_TOKEN}   # replaced by a tool when the Secret is applied\n"


def _both(one: str, other: str) -> str:
    return f"{one}---\n{other}"


def _elsewhere(files: FileSet) -> Iterator[tuple[Location, str]]:
    for use in files.uses:
        others = files.elsewhere(use)
        if others.secrets:
            there = others.namespaces_in_words
            message = f"Secret {label(use.ref.name)} is in namespace {there} and the Pod in {label(use.namespace)}"
            yield use.location, f"{use.where}: {message}; a Pod can only use Secrets of its own namespace"


SECRET_IN_OTHER_NAMESPACE: Final = Rule(
    id="DTI021",
    name="secret-in-other-namespace",
    level=Level.ERROR,
    summary="The Secret is in a different namespace than the Pod.",
    why=(
        "A `secretKeyRef` has no namespace: the kubelet looks in the Pod's own. The container waits in "
        "`CreateContainerConfigError` until a Secret of that name appears there. Reported when the files hold a "
        "Secret of the name, and all of them say another namespace."
    ),
    fix="Add the Secret to the Pod's namespace, by itself or with a tool that copies Secrets.",
    bad=_both(_POD_IN_SHOP, secret(_SOUND, namespace="vault")),
    good=_both(_POD_IN_SHOP, secret(_SOUND, namespace="shop")),
    files=_elsewhere,
)


def _without_key(files: FileSet) -> Iterator[tuple[Location, str]]:
    for use in files.uses:
        found = files.found(use)
        if found.secrets and use.ref.key not in found.by_key and not found.has_unknown_key:
            keys = found.keys_in_words
            message = f"Secret {label(use.ref.name)} has no key {label(use.ref.key)}; its keys are: {keys}"
            yield use.location, f"{use.where}: {message}"


SECRET_WITHOUT_KEY: Final = Rule(
    id="DTI022",
    name="secret-without-key",
    level=Level.ERROR,
    summary="The Secret has no such key.",
    why=(
        "The kubelet does not start the container: `CreateContainerConfigError`, `couldn't find key`. The key is "
        "`token` unless `dapr-token-injector/api-token-key` (or `app-token-key`) names another."
    ),
    fix="Add the key to the Secret, or name the one that it has.",
    bad=_both(_POD, secret("stringData:\n  api-token: ${DAPR_API_TOKEN}\n")),
    good=_both(_POD, secret(_SOUND)),
    files=_without_key,
)


def _with(messages: Mapping[TokenFlaw | Malformed | None, str]) -> Callable[[FileSet], Iterator[tuple[Location, str]]]:
    """A rule that reports every used key whose value has one of the flaws, with its message."""

    def check(files: FileSet) -> Iterator[tuple[Location, str]]:
        for seen, name, key in files.used_keys():
            if key.flaw in messages:
                yield key.location, f"key {label(name)} of Secret {label(seen.name)} {messages[key.flaw]}"

    return check


SECRET_VALUE_EMPTY: Final = Rule(
    id="DTI023",
    name="secret-value-empty",
    level=Level.ERROR,
    summary="The token is empty.",
    why=(
        "`daprd` takes an empty `DAPR_API_TOKEN` for none and serves without authentication. The reference is "
        "valid and the Pod becomes ready, so nothing reports it. The chart `dapr-shared` makes such a Secret unless "
        "`shared.daprd.token` is set."
    ),
    fix="Fill it, or leave the key out: then the container waits instead of running open.",
    bad=_both(_POD, secret('stringData:\n  token: ""\n')),
    good=_both(_POD, secret(_SOUND)),
    files=_with({TokenFlaw.EMPTY: "is empty, which turns authentication off"}),
)

SECRET_VALUE_NEWLINE: Final = Rule(
    id="DTI024",
    name="secret-value-newline",
    level=Level.ERROR,
    summary="The token has a line end in it.",
    why=(
        "`daprd` compares byte by byte, and no HTTP header carries a line end: clients refuse to send it or send "
        "it without, and every call is a 401. It comes from `echo token | base64`, which encodes the line end "
        "too, and from YAML's `|`, which keeps it."
    ),
    fix="Encode with `printf %s`, or write `|-` instead of `|`. A token that was in Git is to be replaced anyway.",
    bad=_both(_POD, secret("data:\n  token: bm90LWEtc2VjcmV0LWFueS1tb3JlCg==\n")),
    good=_both(_POD, secret("data:\n  token: bm90LWEtc2VjcmV0LWFueS1tb3Jl\n")),
    files=_with({TokenFlaw.NEWLINE: "has a line end, which no header can carry: every call will be refused"}),
)

SECRET_VALUE_UNFIT: Final = Rule(
    id="DTI025",
    name="secret-value-unfit",
    level=Level.ERROR,
    summary="The token has a character other than printable ASCII, or a space.",
    why=(
        "A token is sent in the header `dapr-api-token`. Clients and proxies cut off spaces at the ends of a header, "
        "and reject or change control characters and everything beyond ASCII: the token never matches. `run`, "
        "`secret create` and `secret rotate` reject such a token, also one with a space inside."
    ),
    fix="Use printable ASCII without spaces, such as 32 random bytes in base64.",
    bad=_both(_POD, secret('stringData:\n  token: " blanks-at-both-ends "\n')),
    good=_both(_POD, secret(_SOUND)),
    files=_with({TokenFlaw.CHARACTER: "has a space or a character that is not printable ASCII; replace the token"}),
)

SECRET_VALUE_LENGTH: Final = Rule(
    id="DTI026",
    name="secret-value-length",
    level=Level.WARNING,
    summary="The token is so short that it can be guessed, or too long for a header.",
    why=(
        f"Below {MIN_TOKEN} bytes a token can be tried out: `daprd` limits no attempts. Above {MAX_TOKEN} bytes it "
        "does not fit into the 4 KiB that `daprd` reads of an HTTP request's headers."
    ),
    fix="Use 32 random bytes in base64.",
    bad=_both(_POD, secret("stringData:\n  token: change-me\n")),
    good=_both(_POD, secret(_SOUND)),
    files=_with({TokenFlaw.LENGTH: f"is not {MIN_TOKEN} to {MAX_TOKEN} bytes long"}),
)

SECRET_VALUE_MALFORMED: Final = Rule(
    id="DTI027",
    name="secret-value-malformed",
    level=Level.ERROR,
    summary="The value is not base64, or not text.",
    why=(
        "Values under `data` are base64, values under `stringData` are text. The API server refuses a Secret with "
        "anything else, and the Pods wait for it. Digits without quotes are a number."
    ),
    fix="Move plain text to `stringData`, and quote it.",
    bad=_both(_POD, secret("data:\n  token: plain text, not base64\n")),
    good=_both(_POD, secret(_SOUND)),
    files=_with(
        {
            Malformed.NOT_BASE64: "is not base64: the API server refuses the Secret; put plain text under stringData",
            Malformed.NOT_TEXT: "is not text: the API server refuses the Secret; put it in quotes",
        }
    ),
)


def _in_git(files: FileSet) -> Iterator[tuple[Location, str]]:
    for seen, name, key in files.used_keys():
        if key.is_secret and seen.in_file:
            yield key.location, f"the value of key {label(name)} of Secret {label(seen.name)} is in the file"


SECRET_VALUE_IN_GIT: Final = Rule(
    id="DTI028",
    name="secret-value-in-git",
    level=Level.WARNING,
    summary="A token's value is in a file.",
    why=(
        "Files of this kind live in Git, and base64 is not encryption: every user with access to the repository, its "
        "forks, its history and its CI has the token, and deleting the line does not take it back. Values that "
        "were encrypted with SOPS and placeholders such as `${TOKEN}` or `<path:...>` are not values, and "
        "SealedSecrets and ExternalSecrets hold none. What comes through a pipe is not reported: it may have been "
        "made a moment ago."
    ),
    fix=(
        "Replace the token, and keep the new one out: create the Secret in the cluster, or use an ExternalSecret, "
        "a SealedSecret or SOPS."
    ),
    bad=_both(_POD, secret("stringData:\n  token: not-a-secret-any-more\n")),
    good=_both(_POD, secret(_SOUND)),
    files=_in_git,
)


def _shared(files: FileSet) -> Iterator[tuple[Location, str]]:
    for use in files.uses:
        if use.is_dapr_shared and not files.found(use).secrets:
            message = f"Dapr Shared has an empty token by default, and Secret {label(use.ref.name)} is not in the files"
            yield use.location, f"{use.where}: {message}; check its value"


_SHARED: Final = """\
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: orders-dapr-shared
spec:
  template:
    spec:
      containers:
        - name: daprd
          image: daprio/daprd
          args: ["--app-id=orders", "--dapr-listen-addresses=0.0.0.0"]
          env:
            - name: DAPR_API_TOKEN
              valueFrom:
                secretKeyRef:
                  name: orders-dapr-shared
                  key: dapr-api-token
"""

DAPR_SHARED_TOKEN: Final = Rule(
    id="DTI029",
    name="dapr-shared-token",
    level=Level.WARNING,
    summary="Dapr Shared may have an empty token.",
    why=(
        "The chart `dapr-shared` runs one `daprd` for other Pods, as a DaemonSet or Deployment. It listens on "
        "`0.0.0.0`, so every Pod that reaches it can call it, and only the token protects it. The token is the key "
        "`dapr-api-token` of a Secret of the chart, and its value `shared.daprd.token` is empty by default: `daprd` "
        "then serves without authentication, although the reference is valid. Its Pods do not request a token, so the "
        "webhook does not change them, and the guard accepts the reference. Such a Pod is recognised by this key and "
        "by a missing `dapr.io/enabled`. If the Secret is in the files, its value is checked instead."
    ),
    fix=(
        "Set `shared.daprd.token` and check the output of `helm template` with its Secret, or ignore the line with a "
        "reason. `probe` shows whether a running Pod demands its token."
    ),
    bad=_SHARED,
    good=_both(_SHARED, secret("stringData:\n  dapr-api-token: ${DAPR_API_TOKEN}\n", name="orders-dapr-shared")),
    files=_shared,
)

RULES: Final = (
    DAPR_SHARED_TOKEN,
    SECRET_IN_OTHER_NAMESPACE,
    SECRET_WITHOUT_KEY,
    SECRET_VALUE_EMPTY,
    SECRET_VALUE_NEWLINE,
    SECRET_VALUE_UNFIT,
    SECRET_VALUE_LENGTH,
    SECRET_VALUE_MALFORMED,
    SECRET_VALUE_IN_GIT,
)
