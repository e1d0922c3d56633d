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
"$folder/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
# uv takes what it once downloaded from ~/.cache; pip would spend a minute of CPU on each new folder. It knows neither
# pip's index nor the certificates of the system unless told.
index=$("$folder/bin/pip" config get global.index-url 2>/dev/null || true)
export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-${index:-https://pypi.org/simple}}}" UV_SYSTEM_CERTS=true
uv() {
  "$folder/bin/uv" pip install --quiet --python "$folder/bin/python" "$@"
}
uv --require-hashes -r requirements/dev.txt
uv --no-deps --no-build-isolation --editable .
touch "$folder/.ready"
