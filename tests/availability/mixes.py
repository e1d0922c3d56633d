"""The mixes of `make soak`, and the faults of each one."""

from __future__ import annotations

from functools import partial
from typing import Final

from tests.availability import faults
from tests.availability.faults import BOTH_SILENT, BOTH_SILENT_TWICE, SILENT, STEP, Fault
from tests.availability.scenario import SHORT, Mix

# A dead process: its address is dialled until it has left the EndpointSlice, and its running requests are lost. Go's
# HTTP client reports a lost request by what it notices first: the write, the answer, or the end of the connection,
# which it calls idle as long as the request is not noted (net/http/transport.go: mapRoundTripError).
_DEAD: Final = (
    "connect: connection refused",
    "EOF",
    "connection reset by peer",
    "broken pipe",
    "http: server closed idle connection",
    "use of closed network connection",
)
# No bundle: the API server trusts only the system's CAs.
_UNTRUSTED: Final = ("x509: certificate signed by unknown authority",)
# The policy `requested` denies a Pod that no webhook could serve.
_UNANSWERED: Final = ("ValidatingAdmissionPolicy 'dapr-token-injector-requested'",)

_ALL: Final = (
    Fault("rolling restart", faults.restart_in_turn, 100),
    Fault("SIGKILL of one of two", faults.kill_one, 10, loses=_DEAD),
    Fault("leaf renewed", faults.renew_leaf, 50),
    Fault("CA rotated", faults.rotate_authority, 100),
    Fault("caBundle blanked", faults.blank_bundle, STEP, loses=_UNTRUSTED),
    Fault("applied again", faults.apply_again, 3 * STEP),
    Fault("replaced", faults.replace, STEP, loses=_UNTRUSTED),
    Fault("overload", faults.overload, SHORT.overloaded),
    Fault("standstill", faults.pause_each, 4 * STEP),
)
# Certificates from files are managed by their owner only.
_SELF_ONLY: Final = frozenset({"caBundle blanked", "applied again", "replaced"})

_REQUESTED: Final = (
    Fault("SIGKILL of one of two", faults.kill_one, 10, loses=_DEAD),
    Fault("SIGKILL of both", faults.kill, STEP, loses=(*_DEAD, "no endpoints available for service")),
    Fault("configuration deleted", faults.delete_configuration, 2 * STEP, loses=(*_UNANSWERED, *_UNTRUSTED)),
)
# Until the rollout is through, some replicas are in shadow mode, and no policy denies what they do not patch.
_SHADOW: Final = (
    Fault("shadow mode ended", faults.end_shadow_mode, 100, opens=True),
    Fault("Deny after the rollout", faults.deny, 2 * STEP),
)

_FIRST, _SECOND, _BOTH = (0,), (1,), (0, 1)


_FIRST_SILENT: Final = partial(faults.silence, seconds=SILENT, which=_FIRST)
_SECOND_SILENT: Final = partial(faults.silence, seconds=SILENT, which=_SECOND)
_BOTH_SILENT: Final = partial(faults.silence, seconds=BOTH_SILENT, which=_BOTH)
_BOTH_SILENT_TWICE: Final = partial(faults.silence, seconds=BOTH_SILENT_TWICE, which=_BOTH)
_REDUNDANT: Final = (
    Fault("rolling restart", faults.restart_in_turn, 100),
    Fault("SIGKILL of the first", partial(faults.kill, which=_FIRST), STEP),
    Fault("SIGKILL of the second", partial(faults.kill, which=_SECOND), STEP),
    Fault("SIGKILL of both", partial(faults.kill, which=_BOTH), STEP, loses=_UNANSWERED),
    Fault("first silent", _FIRST_SILENT, STEP),
    Fault("second silent", _SECOND_SILENT, STEP),
    Fault("both silent", _BOTH_SILENT, STEP, loses=_UNANSWERED),
    Fault("first silent, later webhook", _FIRST_SILENT, STEP, later_webhook=True),
    Fault("second silent, later webhook", _SECOND_SILENT, STEP, later_webhook=True),
    Fault("both silent, later webhook", _BOTH_SILENT_TWICE, STEP, loses=_UNANSWERED, later_webhook=True),
    Fault("packets to the first lost", partial(faults.swallow, which=_FIRST), STEP),
    Fault("packets to the second lost", partial(faults.swallow, which=_SECOND), STEP),
    Fault("leaf renewed", faults.renew_leaf, 50),
    Fault("CA rotated", faults.rotate_authority, 100),
    Fault("first caBundle blanked", partial(faults.blank_bundle, which=_FIRST), STEP),
    Fault("all caBundles blanked", faults.blank_bundle, STEP, loses=_UNANSWERED),
    Fault("overload of the first", partial(faults.overload, which=_FIRST), SHORT.overloaded),
    Fault("overload of both", partial(faults.overload, which=_BOTH), SHORT.overloaded),
    Fault("first deleted", partial(faults.delete_configuration, which=_FIRST), 2 * STEP),
    Fault("second deleted", partial(faults.delete_configuration, which=_SECOND), 2 * STEP),
    Fault("both deleted", partial(faults.delete_configuration, which=_BOTH), 2 * STEP, loses=_UNANSWERED),
)

MIXES: Final = {
    mix.name: mix
    for mix in (
        Mix("endpoint per call"),
        # From 1.37 on an API server chooses an endpoint for each call, before that for each new connection.
        Mix("endpoint per connection", apiserver_flags=("--feature-gates=WebhookRoundTripLoadBalancing=false",)),
        Mix("certificates from files", tls="files"),
        Mix("requested", requested=True),
        Mix("end of shadow mode", requested=True, shadow=True),
        Mix("redundant", redundant=True),
    )
}


def calm_of(mix: Mix) -> Fault:
    """No fault: the time before the first one."""
    return Fault("no fault", lambda _: faults.Seen(), meets_at_least=0, opens=mix.shadow)


def faults_of(mix: Mix) -> tuple[Fault, ...]:
    """The faults that apply to a mix, in turn."""
    if mix.redundant:
        return _REDUNDANT
    if mix.requested:
        return _SHADOW if mix.shadow else _REQUESTED
    return tuple(fault for fault in _ALL if mix.tls == "self" or fault.name not in _SELF_ONLY)
