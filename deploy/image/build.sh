#!/usr/bin/env bash
# Build the image with the first of docker, podman or buildah that is installed: build.sh [NAME:TAG]
# BASE=... sets another base image; ENGINE=... selects one of several engines.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' injector/__init__.py)
image=${1:-dapr-token-injector:$version}
engine=${ENGINE:-}
for candidate in docker podman buildah; do
  [[ -n $engine ]] || ! command -v "$candidate" >/dev/null || engine=$candidate
done
case $engine in
  docker) command=(docker build) ;;
  podman) command=(podman build --format docker) ;;
  buildah) command=(buildah bud --format docker) ;;
  "")
    echo "No docker, podman or buildah on the PATH: install one (Debian and Ubuntu: apt-get install buildah)" >&2
    exit 2
    ;;
  *)
    echo "ENGINE is \"$engine\"; allowed are docker, podman and buildah" >&2
    exit 2
    ;;
esac
[[ -z ${BASE:-} ]] || command+=(--build-arg "BASE=$BASE")
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
"${command[@]}" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" --tag "$image" .
echo "Built $image"
