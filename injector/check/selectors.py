"""Evaluates label selectors as the API server does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-metadata-name
NAME_LABEL: Final = "kubernetes.io/metadata.name"
# Whether an operator holds for the value of a label, None without the label, and the operator's values.
_OPERATORS: Final[Mapping[str, Callable[[str | None, frozenset[str]], bool]]] = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
}


class Selector:
    """A label selector; an absent or empty one matches everything.

    Raises:
        ValueError: An operator is unknown.
    """

    def __init__(self, raw: Mapping[str, Any] | None) -> None:
        raw = raw or {}
        labels = raw.get("matchLabels") or {}
        self._rules = [(key, "In", frozenset({value})) for key, value in labels.items()]
        for one in raw.get("matchExpressions") or ():
            if one["operator"] not in _OPERATORS:
                raise ValueError("an operator is unknown")
            self._rules.append((one["key"], one["operator"], frozenset(one.get("values") or ())))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether an object with these labels is selected."""
        return all(_OPERATORS[operator](labels.get(key), values) for key, operator, values in self._rules)

    def excludes(self, namespace: str) -> bool:
        """Return whether the selector excludes a namespace by its name."""
        return any(
            key == NAME_LABEL and operator == "NotIn" and namespace in values for key, operator, values in self._rules
        )


def labels_of(namespace: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of a namespace, with the one that has its name, which the API server always sets."""
    meta = namespace["metadata"]
    return {**(meta.get("labels") or {}), NAME_LABEL: meta["name"]}
