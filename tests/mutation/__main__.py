"""Mutate decision, plan and patch, and count how many mutants the tests of the core notice.

`python -m tests.mutation` fails when fewer than 90 % are noticed. `survivors.md` shows for each survivor why no test
could notice it; one that is not listed there is named.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
KNOWN: Final = Path(__file__).with_name("survivors.md")
LEAST: Final = 0.90
# What mutmut calls the fate of a mutant that a test noticed: by failing, or by not coming to an end.
NOTICED: Final = frozenset({"killed", "timeout"})


def main() -> int:
    """Exit code: 0 when enough was noticed."""
    shutil.rmtree(ROOT / "mutants", ignore_errors=True)
    subprocess.run([sys.executable, "-m", "mutmut", "run"], cwd=ROOT, check=True)
    fates = fates_of(
        subprocess.run(
            [sys.executable, "-m", "mutmut", "results", "--all", "true"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    if not fates:
        print("no mutants were made", file=sys.stderr)
        return 1
    known = KNOWN.read_text()
    for name, fate in sorted(fates.items()):
        if fate not in NOTICED:
            print(f"{fate}: {name}{'' if name in known else ' (not in survivors.md)'}")
    counted = Counter(fates.values())
    ratio = sum(counted[fate] for fate in NOTICED) / len(fates)
    print(
        ", ".join(f"{fate} {count}" for fate, count in sorted(counted.items())),
        f"- {ratio:.1%} of {len(fates)} noticed",
    )
    return 0 if ratio >= LEAST else 1


def fates_of(results: str) -> dict[str, str]:
    """What became of each mutant, from lines of `name: fate`."""
    pairs = (line.strip().partition(": ") for line in results.splitlines())
    return {name: fate for name, _, fate in pairs if fate}


if __name__ == "__main__":
    sys.exit(main())
