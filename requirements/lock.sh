#!/bin/sh
# Renew the lock files from pyproject.toml: what is shipped (runtime.txt), development on top of it (dev.txt), and
# what makes the wheel inside the image (build.txt), what the release workflow publishes it with (release.txt), and what
# installs development (uv.txt).
set -eu
cd "$(dirname "$0")/.."
# Extras stay in the pins: pip before 24 looks for the newest `coverage[toml]` when only `coverage` is pinned.
compile() {
  .venv/bin/uv pip compile --quiet --universal --generate-hashes --no-strip-extras --no-header --no-emit-find-links --python-version 3.11 "$@"
}
compile --upgrade pyproject.toml -o requirements/runtime.txt
compile --upgrade pyproject.toml --group dev -c requirements/runtime.txt -o requirements/dev.txt
compile --upgrade --group build -c requirements/dev.txt -o requirements/build.txt
compile --upgrade --group release -c requirements/dev.txt -o requirements/release.txt
compile --upgrade --group uv -c requirements/dev.txt -o requirements/uv.txt
