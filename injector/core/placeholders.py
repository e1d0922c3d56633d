"""Placeholders in manifests that another tool replaces before they reach a cluster: Flux, envsubst, Helm and others."""

import re
from typing import Final

# ${X} ${X:=y}, $(X), {{ .X }}, #{X}#, <path:X#key>, %X%, @@X@@, and ref+vault://X of vals.
_PLACEHOLDER: Final = re.compile(
    r"\$\{[^{}]+\}|\$\([A-Za-z_][\w.-]*\)|\{\{[^{}]+\}\}|#\{[^{}]+\}#?|<[^<>]+>|%[A-Za-z_]\w*%|@@[^@]+@@"
    r"|\bref\+[a-z0-9]+://\S+"
)


def is_placeholder(text: str) -> bool:
    """Whether the whole text is a placeholder, so that its value is not in the file."""
    return _PLACEHOLDER.fullmatch(text) is not None


def has_placeholder(text: str) -> bool:
    """Whether a part of the text is a placeholder. Of a text longer than any name, only the beginning is searched."""
    return _PLACEHOLDER.search(text, 0, _LONGEST) is not None


_LONGEST: Final = 512
