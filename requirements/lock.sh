#!/bin/sh
# Renew the lock files from pyproject.toml: what is shipped (runtime.txt), and development on top of it (dev.txt).
set -eu
cd "$(dirname "$0")/.."
compile() {
  .venv/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-find-links --python-version 3.11 "$@"
}
compile --upgrade pyproject.toml -o requirements/runtime.txt
compile --upgrade pyproject.toml --group dev -c requirements/runtime.txt -o requirements/dev.txt
