"""Make the virtual environment of the newest Python of this machine, and print the path of its interpreter.

`python -m tests.newest` finds every interpreter on the path and under pyenv, and makes `.venv-X.Y` for the newest one.
On a machine with one Python it is `.venv`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
# Pre-releases lack wheels of the pinned requirements.
ASK = "import sys; v = sys.version_info; print(v[0], v[1]) if v[3] == 'final' else None"


def main() -> None:
    """Print the path of its interpreter from the project's folder, and to stderr its version."""
    python, version = newest()
    folder = ROOT / (".venv" if version == sys.version_info[:2] else f".venv-{version[0]}.{version[1]}")
    ready = folder / ".ready"
    if not ready.exists() or ready.stat().st_mtime < (ROOT / "requirements/dev.txt").stat().st_mtime:
        subprocess.run([ROOT / "requirements/venv.sh", python, folder], cwd=ROOT, check=True, stdout=sys.stderr)
    print(
        f"Testing without a cluster on Python {version[0]}.{version[1]}, the newest here", file=sys.stderr, flush=True
    )
    print(folder.relative_to(ROOT) / "bin/python")  # no spaces in it, wherever the project is


def newest() -> tuple[str, tuple[int, int]]:
    """The newest interpreter that runs, and its version."""
    found = {version: path for path in candidates() if (version := version_of(path)) is not None}
    version = max(found, default=sys.version_info[:2])
    return found.get(version, sys.executable), version


def candidates() -> list[str]:
    """Interpreters by name on the path, then those of pyenv; its shims may not run."""
    named = [shutil.which(f"python3.{minor}") for minor in range(OLDEST[1], 30)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return [sys.executable, *filter(None, named), *map(str, sorted(pyenv.glob("3.*/bin/python3")))]


def version_of(path: str) -> tuple[int, int] | None:
    """Major and minor version; None for what does not run, is too old or not final."""
    answer = subprocess.run([path, "-c", ASK], capture_output=True, text=True, check=False).stdout.split()
    if len(answer) != len(OLDEST):
        return None
    version = (int(answer[0]), int(answer[1]))
    return version if version >= OLDEST else None


if __name__ == "__main__":
    main()
