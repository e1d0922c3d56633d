"""2,000 documents in one file: memory stays flat."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

from tests.offline.test_commands import DEPLOYMENT

_DOCUMENTS = 2_000
# MiB that a run over all documents may hold beyond one over a single document: 4 KiB for each. The text itself is 1.
_MAX_GROWTH = 8

_RUN = """
import resource, sys
from injector.cli.main import main
code = main(["inject", "-q", "-f", sys.argv[1], "-o", "diff" if len(sys.argv) > 2 else "yaml"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def _inject(path: Path, *more: str) -> tuple[bytes, float]:
    """Output, and the most memory held, in MiB."""
    done = subprocess.run([sys.executable, "-c", _RUN, path, *more], capture_output=True, check=True)
    return done.stdout, int(done.stderr.split()[-1]) / 1024


def test_memory_is_flat_over_many_documents(tmp_path: Path) -> None:
    many, one = tmp_path / "many.yaml", tmp_path / "one.yaml"
    many.write_text(f"{DEPLOYMENT}---\n" * _DOCUMENTS)
    one.write_text(DEPLOYMENT)
    out, held = _inject(many)
    assert out.count(b"secretKeyRef") == _DOCUMENTS
    diff, held_for_diff = _inject(many, "diff")
    assert diff.count(b"\n+ ") == 7 * _DOCUMENTS
    _, base = _inject(one)
    assert held - base < _MAX_GROWTH
    assert held_for_diff - base < _MAX_GROWTH
