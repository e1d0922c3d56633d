"""The canary: a Pod that requests a token, sent as a server-side dry run, and what its answer means.

Nothing is stored, and nothing is read. It needs the permission to create Pods in one namespace.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from injector.check.chart import GUARD, REQUESTED
from injector.check.model import CheckProblem, Outcome, failed, unknown
from injector.core import names
from injector.core.assess import assess
from injector.core.assessment import Known, Protection, ProtectionReason
from injector.core.decision import SHADOW_WARNING
from injector.core.model import Policy
from injector.core.token_state import Ref
from injector.kube.errors import ForbiddenError, KubeError, UnauthorizedError
from injector.kube.resources import PODS
from injector.rotation.admission import pod_of_template
from injector.rotation.observation import observation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from injector.check.reader import Expectations
    from injector.kube.client import Api
    from injector.kube.resources import Object

NAME: Final = "dapr-token-injector-canary"


def served_namespace(installation: str | None) -> str:
    """Return a namespace that exists everywhere and that a default installation serves, as the chart chooses it."""
    return "kube-public" if installation == "default" else "default"


def pod(namespace: str, annotations: Mapping[str, str]) -> Object:
    """Return a Pod with a sidecar that meets Pod Security `restricted` and a ResourceQuota."""
    resources = {"cpu": "1m", "memory": "1Mi"}
    sidecar = {
        "name": names.SIDECAR,
        "image": "example.invalid/never-pulled",
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [sidecar],
    }
    template = {"metadata": {"annotations": dict(annotations)}, "spec": spec}
    return pod_of_template({"metadata": {"name": NAME, "namespace": namespace}, "spec": {"template": template}}, None)


async def send(api: Api, expected: Expectations, namespace: str, cause: Callable[[], Awaitable[str]]) -> Outcome:
    """Send the Pod and return what its answer means. `cause` returns why a webhook did not inject.

    Raises:
        UnauthorizedError: The API server does not accept the credentials.
    """
    requested = {names.API_TOKEN_SECRET: expected.secret} if expected.secret else {}
    seen = f"a Pod as a dry run in namespace {namespace}"
    try:
        answer, warnings = await api.dry_run_create(
            PODS, pod(namespace, {names.ENABLED: "true", **requested}), namespace
        )
    except UnauthorizedError:
        raise
    except KubeError as error:
        return Outcome(seen=seen, problems=(refusal(error, namespace),))
    shadow = [one for one in warnings if one.startswith(SHADOW_WARNING)]
    problem = _shadow_problem(shadow, expected) or await _problem(answer, expected, namespace, cause)
    if problem is not None:
        return Outcome(seen=seen, problems=(problem,))
    result = f"only reported, as expected: {shadow[0]}" if expected.is_shadow else "comes back with its token"
    return Outcome(seen=f"{seen} {result}")


def _shadow_problem(shadow: Sequence[str], expected: Expectations) -> CheckProblem | None:
    if shadow and not expected.is_shadow:
        return failed(f"the webhook's Policy is in shadow mode, so Pods get no token: {shadow[0]}")
    if expected.is_shadow and not any(names.API_TOKEN_ENV in one for one in shadow):
        reported = shadow[0] if shadow else "no warning"
        return failed(f"in shadow mode the webhook should report what it would inject, and did not: {reported}")
    return None


async def _problem(
    answer: Object, expected: Expectations, namespace: str, cause: Callable[[], Awaitable[str]]
) -> CheckProblem | None:
    """Return what is wrong with the sidecar of an answered Pod."""
    known = Known(
        now=0,
        policy=Policy(default_api_key=expected.key) if expected.key else None,
        injects_default=not expected.secret,
    )
    found = assess(observation(answer, Ref("Pod", namespace, NAME)), known)
    if expected.is_shadow:
        is_unchanged = found.reason is ProtectionReason.NOT_INJECTED
        return None if is_unchanged else failed(f"the Pod of shadow mode came back with {names.API_TOKEN_ENV}")
    if found.protection is Protection.PROTECTED:
        return None
    if found.reason is ProtectionReason.NOT_INJECTED:
        return failed(f"the Pod came back without its token: {await cause()}")
    if found.protection is Protection.UNKNOWN:
        return unknown(f"another webhook or policy changed the Pod, so its token cannot be determined ({found.reason})")
    wanted = f"Secret {expected.secret or 'of the Policy'}{f', key {expected.key}' if expected.key else ''}"
    return failed(
        f"the Pod came back with another {names.API_TOKEN_ENV} than a reference to {wanted} ({found.reason}): the "
        "webhook's Policy has another default key, or another webhook or policy changed the variable"
    )


# Messages of the API server (see `kube.api_messages`) about our own webhook and policy.
_OWN: Final = re.compile(
    rf"""(?P<silent>failed\ calling\ webhook\ "[^"]+\.{names.MANAGER}\.svc")
    |(?P<denied>admission\ webhook\ "[^"]+\.{names.MANAGER}\.svc"\ denied)
    |(?P<guarded>ValidatingAdmissionPolicy\ '{GUARD}'\ with\ binding)
    |(?P<requested>ValidatingAdmissionPolicy\ '{REQUESTED}'\ with\ binding)""",
    re.VERBOSE,
)
_REASONS: Final = {
    "silent": "the webhook does not answer, and such Pods cannot be created",
    "denied": "the webhook denies the Pod; name a Secret that its Policy allows with --canary-secret",
    "guarded": "the webhook did not inject the token, and the guard denied the Pod",
    "requested": "the webhook did not inject the token, and the policy requested denied the Pod",
}


def refusal(error: KubeError, namespace: str) -> CheckProblem:
    """Return the problem for a Pod that the API server rejected."""
    own = own_rule(error)
    if own:
        return failed(f"{_REASONS[own]}: {error}")
    if isinstance(error, ForbiddenError):
        return unknown(f"{error}; the canary needs the permission to create pods in namespace {namespace}")
    return unknown(str(error))


def own_rule(error: KubeError) -> str:
    """Return which rule of ours refused a Pod: `silent`, `denied`, `guarded`, `requested`, or empty."""
    found = _OWN.search(error.refusal.message) if error.refusal is not None else None
    return found.lastgroup or "" if found else ""
