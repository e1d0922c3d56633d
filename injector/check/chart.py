"""Names of the objects that the chart installs, as in charts/dapr-token-injector/templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.core import names

if TYPE_CHECKING:
    from collections.abc import Mapping

UPGRADE: Final = f"helm upgrade {names.MANAGER} CHART --namespace {{}} --reset-then-reuse-values"
MUTATING: Final = f"MutatingWebhookConfiguration {names.MANAGER}"
VALIDATING: Final = f"ValidatingWebhookConfiguration {names.MANAGER}"
# Entries of these configurations; the second ones are those of group 2.
INJECT_ENTRIES: Final = (f"inject{names.ENTRY_SUFFIX}", f"inject-2{names.ENTRY_SUFFIX}")
DEFAULT_ENTRIES: Final = (f"default{names.ENTRY_SUFFIX}", f"default-2{names.ENTRY_SUFFIX}")
WARN_ENTRY: Final = f"warn{names.ENTRY_SUFFIX}"
# Policies of admission; each but the guard has one binding of its name.
FENCE: Final = f"{names.MANAGER}-fence"
REQUESTED: Final = f"{names.MANAGER}-requested"
GUARD: Final = f"{names.MANAGER}-guard"
# The bindings of the guard, and the word in the label of their namespaces; empty: without the label.
GUARD_BINDINGS: Final[Mapping[str, str]] = {
    GUARD: "",
    **{f"{GUARD}-{word}": word for word in ("audit", "warn", "deny")},
}
