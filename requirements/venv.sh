#!/bin/sh
# Make a virtual environment with the pinned development requirements: venv.sh PYTHON FOLDER
set -eu
python=$1
folder=$2
cd "$(dirname "$0")/.."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "$python is too old: Python 3.11 or newer is needed (make PYTHON=python3.12 ... names another)" >&2
  exit 2
}
echo "Installing the pinned requirements into $folder (once) ..." >&2
rm -rf "$folder"
"$python" -m venv "$folder" || {
  echo "$python cannot make a virtual environment (on Debian and Ubuntu: apt-get install python3-venv)" >&2
  exit 2
}
"$folder/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
touch "$folder/.ready"
