"""Which test runs the command blocks of a page: all of them that no comment marks, in the page's order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.pages.blocks import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

# By page. Pages of one test module share what is expensive: a control plane, a node.
FAMILIES: Final[Mapping[str, str]] = {
    "docs/tutorial.md": "tests/cluster/test_demo.py",
    "docs/how-to/inject-manifests-in-git.md": "tests/offline/test_pages.py",
    "docs/how-to/install-the-command.md": "tests/cluster/test_pages.py",
    "docs/how-to/lint-in-ci.md": "tests/offline/test_pages.py",
    "docs/how-to/canary.md": "tests/cluster/test_pages.py",
    "docs/how-to/choose-a-failure-policy.md": "tests/cluster/test_pages.py",
    "docs/how-to/create-and-rotate-tokens.md": "tests/cluster/test_pages.py",
    "docs/how-to/debug-a-pod.md": "tests/cluster/test_pages.py",
    "docs/how-to/managed-clusters.md": "tests/cluster/test_pages.py",
    "docs/how-to/register-by-hand.md": "tests/cluster/test_pages.py",
    "docs/how-to/troubleshoot.md": "tests/cluster/test_pages.py",
    "docs/how-to/uninstall.md": "tests/cluster/test_pages.py",
    "docs/how-to/use-cert-manager.md": "tests/cluster/test_pages.py",
    "docs/how-to/install.md": "tests/node/test_pages.py",
    "docs/how-to/prove-that-it-is-on.md": "tests/node/test_pages.py",
    "docs/how-to/roll-out-to-many-apps.md": "tests/node/test_pages.py",
    "docs/how-to/rotate-the-ca.md": "tests/node/test_pages.py",
    "docs/how-to/shadow-mode.md": "tests/node/test_pages.py",
    "docs/how-to/upgrade.md": "tests/node/test_pages.py",
    "docs/tutorial-status.md": "tests/node/test_pages.py",
    "docs/tutorial-tokens.md": "tests/node/test_pages.py",
    "docs/how-to/self-hosted.md": "tests/selfhosted/test_how_to.py",
    "docs/how-to/call-with-the-token.md": "tests/selfhosted/test_snippets.py",
    "docs/how-to/when-another-tool-changes-the-secret.md": "tests/cluster/test_pages.py",
    "docs/reference/guard.md": "tests/cluster/test_pages.py",
}


def run_by(module: str) -> tuple[str, ...]:
    """The pages that a test module runs; `module` is its `__file__`."""
    here = str(Path(module).relative_to(ROOT))
    found = tuple(page for page, family in FAMILIES.items() if family == here)
    assert found, f"{here} runs no page"
    return found
