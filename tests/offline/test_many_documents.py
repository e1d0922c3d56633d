"""2,000 documents in one file: memory stays flat, and the speed is compared with that of another tool."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from ruamel.yaml import YAML

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

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


def test_documents_per_second_compared_with_round_trip(capsys: pytest.CaptureFixture[str]) -> None:
    """Both read the same text and write it changed, one after the other in one process; the ratio is printed."""
    from tests.unit.manifests.working import inject  # noqa: PLC0415 - not measured

    count = _DOCUMENTS // 10
    text = f"{DEPLOYMENT}---\n" * count
    started = time.process_time()
    ours = inject(text)
    between = time.process_time()
    yaml = YAML()
    yaml.preserve_quotes = True
    out = io.StringIO()
    loaded = [document for document in yaml.load_all(text) if document]
    for document in loaded:
        container = document["spec"]["template"]["spec"]["containers"][0]
        container["env"] = [{"name": "DAPR_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}}]
    yaml.dump_all(loaded, out)
    ended = time.process_time()
    mine, theirs = count / (between - started), count / (ended - between)
    with capsys.disabled():
        print(f"\n  inject {mine:,.0f} documents/s, ruamel.yaml round trip {theirs:,.0f}: {mine / theirs:.1f} times")
    assert ours.count("secretKeyRef") == out.getvalue().count("secretKeyRef") == count
