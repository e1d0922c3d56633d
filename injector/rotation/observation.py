"""Decodes a Pod of the API server into what `core.assess` assesses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from injector.core import names
from injector.core.assessment import Observation
from injector.core.errors import MalformedObjectError
from injector.core.observed import observed_pod
from injector.rotation import decode
from injector.times import unix_time

if TYPE_CHECKING:
    from injector.core.observed import Specs
    from injector.core.token_state import Ref

_STARTS: Final = frozenset({"PodScheduled", "Initialized"})


def observation(pod: dict[str, Any], workload: Ref, specs: Specs | None = None) -> Observation:
    """Return a Pod as observed; `workload` as for `decode.pod_usage`, `specs` as for `observed_pod`."""
    meta = pod["metadata"]
    namespace, name = str(meta["namespace"]), str(meta["name"])
    try:
        found = observed_pod(pod, {} if specs is None else specs)
        keys = decode.index(key for _, key in decode.token_keys(pod)).get(namespace, {})
        usage = decode.pod_usage(pod, keys, workload, 0)
        if usage is not None:  # other annotations may be large
            marks = {key: value for key, value in usage.restarted_for.items() if key.startswith(names.RESTARTED_FOR)}
            usage = replace(usage, restarted_for=marks)
        since = _waits_since(pod)
    except (MalformedObjectError, KeyError, TypeError, AttributeError):
        return Observation(namespace=namespace, name=name, pod=None)
    return Observation(namespace=namespace, name=name, pod=found, usage=usage, waits_since=since)


def _waits_since(pod: dict[str, Any]) -> int | None:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    times = (unix_time(one.get("lastTransitionTime")) for one in conditions if one.get("type") in _STARTS)
    return max((time for time in times if time is not None), default=None)
