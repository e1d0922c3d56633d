"""Checks of token Secrets, by their metadata alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING, Final

from injector.check.model import Category, Check, CheckProblem, Outcome, failed, unknown, warning
from injector.check.pods import all_pods, workloads
from injector.core import names
from injector.core.durations import DAY, span
from injector.core.messages import listed
from injector.core.ownership import SecretRef, managed_by, may_have
from injector.core.secret_names import is_secret_key, is_secret_name
from injector.kube.resources import SECRETS
from injector.rotation.usage import EXPIRING_WITHIN
from injector.times import unix_time
from injector.tokens.decode import token_secret
from injector.words import counted, escaped

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from injector.check.pods import PodFacts
    from injector.check.reader import ClusterReader
    from injector.core.ownership import SecretKey, TokenSecret
    from injector.kube.resources import Object

# Characters of the value of an annotation: none of ours is longer, and kubectl stores whole Secrets in one.
_LONGEST: Final = 256


async def _secrets(reader: ClusterReader) -> dict[SecretRef, TokenSecret]:
    """Return the metadata of the Secrets that have our label or that Pods use as a token.

    Raises:
        KubeError: Pods or Secrets cannot be listed.
    """
    used = {key.secret for pod in await all_pods(reader) for _, key in pod.tokens}

    def kept(item: Object) -> Object | None:
        meta = item["metadata"]
        labels = meta.get("labels") or {}
        if names.TOKEN_LABEL not in labels and SecretRef(meta["namespace"], meta["name"]) not in used:
            return None
        secret = token_secret({"metadata": meta})
        short = {key: value[:_LONGEST] for key, value in secret.annotations.items()}
        return {"secret": replace(secret, annotations=short)}

    found = await reader.once(_secrets, lambda: reader.api.list(SECRETS, keep=kept, metadata_only=True))
    return {one["secret"].ref: one["secret"] for one in found}


# --- expiry ---


async def _expiry(reader: ClusterReader) -> Outcome:
    secrets = (await _secrets(reader)).values()
    dated = [one for one in secrets if names.TOKEN_EXPIRES in one.annotations]
    return Outcome(
        seen=f"{counted(len(dated), 'token Secret')} with an expiry date, {len(secrets) - len(dated):,} without",
        problems=tuple(expiry_problems(dated, reader.now)),
        is_skipped=not secrets,
    )


def expiry_problems(secrets: Iterable[TokenSecret], now: int) -> Iterator[CheckProblem]:
    """Yield the Secrets whose token has expired or expires soon, the first to expire first."""
    dated = [(unix_time(one.annotations.get(names.TOKEN_EXPIRES)), one) for one in secrets]
    for expires, secret in sorted(dated, key=lambda pair: (pair[0] or 0, pair[1].ref)):
        what = f"Secret {escaped(str(secret.ref))}"
        fix, where = _renewal(secret)
        if expires is None:
            yield unknown(f"{what}: its annotation {names.TOKEN_EXPIRES} is not a time in RFC 3339", fix)
        elif expires <= now:
            yield failed(f"{what}: its token expired {span(now - expires)} ago{where}", fix)
        elif expires <= now + EXPIRING_WITHIN:
            yield warning(f"{what}: its token expires in {span(expires - now)}{where}", fix)


def _renewal(secret: TokenSecret) -> tuple[str, str]:
    """Return the command that renews a token, and, if another tool manages the Secret, where to renew it instead."""
    key = min((key for writer in secret.writers for key in writer.keys), default=names.DAPR_FIXED_KEY)
    manager = managed_by(secret, key)
    if manager is not None:
        return "", f"; {escaped(manager.name)} manages the Secret, renew the token there"
    option = "" if key == names.DAPR_FIXED_KEY else f" --key {quote(escaped(key))}"
    return f"dapr-token-injector secret rotate {quote(escaped(str(secret.ref)))}{option} --restart", ""


# --- Secrets that do not exist ---


async def _exists(reader: ClusterReader) -> Outcome:
    users: dict[SecretKey, list[PodFacts]] = defaultdict(list)
    variables: dict[SecretKey, set[str]] = defaultdict(set)
    for pod in await all_pods(reader):
        for variable, key in pod.tokens:
            variables[key].add(variable)
            users[key].append(pod)
    secrets = await _secrets(reader)
    missing = [key for key in sorted(users) if not _has(secrets.get(key.secret), key.key)]
    return Outcome(
        seen=f"{counted(len(users), 'key')} of Secrets that Pods use as a token",
        problems=tuple(missing_problem(key, variables[key], users[key], secrets.get(key.secret)) for key in missing),
        is_skipped=not users,
    )


def _has(secret: TokenSecret | None, key: str) -> bool:
    """Return whether a Secret exists and may have a key; an empty key is the Policy's default one."""
    return may_have(secret, key) if key else secret is not None


def missing_problem(
    key: SecretKey, variables: Collection[str], pods: Collection[PodFacts], secret: TokenSecret | None
) -> CheckProblem:
    """Return the problem of a Secret or key that Pods use for these variables and that does not exist."""
    who = f"used by {counted(len(pods), 'Pod')}: {workloads(pods)}"
    namespace = escaped(key.namespace)
    if not is_secret_name(key.name) or (key.key and not is_secret_key(key.key)):
        # The text may be a token that was pasted into the annotation.
        return failed(
            f"a token annotation in namespace {namespace} has no valid name of a Secret or key; {who}",
            f"dapr-token-injector status --namespace {quote(namespace)}",
        )
    what = f"Secret {escaped(str(key.secret))}"
    if secret is not None:
        fix = f"kubectl --namespace {quote(namespace)} describe secret {key.name}"
        return failed(f"{what} has no key {key.key}; {who}", fix)
    options = "" if key.key in {"", names.DAPR_FIXED_KEY} else f" --key {key.key}"
    options += "" if names.API_TOKEN_ENV in variables else " --app-token"
    return failed(
        f"{what} does not exist; {who}",
        f"dapr-token-injector secret create {quote(escaped(str(key.secret)))}{options}",
    )


# --- Secrets that nothing uses ---


async def _used(reader: ClusterReader) -> Outcome:
    used = {SecretRef(pod.workload.namespace, name) for pod in await all_pods(reader) for name in pod.secrets}
    labelled = {ref for ref, one in (await _secrets(reader)).items() if names.TOKEN_LABEL in one.labels}
    seen = counted(len(labelled), "token Secret")
    unused = sorted(labelled - used)
    if not unused:
        return Outcome(seen=seen, is_skipped=not labelled)
    problem = warning(
        f"no Pod uses {counted(len(unused), 'token Secret')}: {listed([escaped(str(ref)) for ref in unused])}",
        "dapr-token-injector secret list --all-namespaces",
    )
    return Outcome(seen=seen, problems=(problem,))


CHECKS: Final = (
    Check(
        id="DTC060",
        name="token-expiry",
        category=Category.TOKENS,
        summary=f"No token has expired or expires within {EXPIRING_WITHIN // DAY} days.",
        why="daprd does not check when a token expires: one that has expired still opens the API. The date is the end "
        "of its intended use. The longer a token is used, the more copies of it exist.",
        how=f"Reads the annotation `{names.TOKEN_EXPIRES}`, which `secret create` and `secret rotate` write, of every "
        f"Secret that has the label `{names.TOKEN_LABEL}` or that a Pod uses as a token. The limit is that of `secret "
        "list --fail-on expiring`. It reads no value: a token without the annotation, such as an opaque one or one "
        "that another tool wrote, has no date here. There is no limit for the age of such a token.",
        fix="Write a new token and restart the workloads that use it: `dapr-token-injector secret rotate "
        "NAMESPACE/NAME --restart`. If another tool manages the Secret, renew the token there and then run "
        "`dapr-token-injector secret rotate NAMESPACE/NAME --restart --resume`.",
        run=_expiry,
    ),
    Check(
        id="DTC061",
        name="token-secret-exists",
        category=Category.TOKENS,
        summary="Every Secret and key that a Pod uses as a token exists.",
        why="A container whose Secret or key does not exist waits and never starts. If its reference is optional, or "
        "admission was bypassed, its sidecar runs without a token, and its API is open.",
        how="Compares the Secrets and keys that running and waiting Pods read as DAPR_API_TOKEN or APP_API_TOKEN, or "
        "request by annotation without having a value, with the metadata of the Secrets. Keys are in `managedFields`; "
        "if a Secret has none, its keys are not known and not reported. Workloads without Pods are not seen.",
        fix="Create the Secret: `dapr-token-injector secret create NAMESPACE/NAME --key KEY`. If the name is a typing "
        "error, correct the annotation on the Pod template.",
        run=_exists,
    ),
    Check(
        id="DTC062",
        name="token-secret-used",
        category=Category.TOKENS,
        summary="A Pod uses every token Secret.",
        why="A token that no Pod uses protects nothing. It may be left over, or a workload was meant to request it and "
        "does not.",
        how=f"Compares the Secrets with the label `{names.TOKEN_LABEL}` with the Secrets that Pods read in any way or "
        "request by annotation. Workloads that have no Pod now, such as a CronJob or a Deployment without replicas, "
        "and callers outside the cluster are not seen, so this is a warning.",
        fix="See the list: `dapr-token-injector secret list --all-namespaces`. Delete a Secret that is not needed: "
        "`kubectl --namespace NAMESPACE delete secret NAME`.",
        run=_used,
    ),
)
