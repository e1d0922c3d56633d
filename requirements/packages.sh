#!/bin/sh
# Install the system's packages that the tests need: packages.sh [--node] [--browser]
# Ends at once with the command to type where this user or this system cannot install them.
set -eu
PATH="$PATH:/usr/sbin:/sbin"

missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need git git
need go golang
need unshare util-linux
need curl curl
need node nodejs
need npm npm
need jq jq
need openssl openssl
for option; do
  case $option in
  --node) has_node=yes ;;
  --browser) has_browser=yes ;;
  esac
done
if [ "${has_browser:-}" ]; then
  command -v google-chrome >/dev/null 2>&1 || need chromium chromium
  need pdftotext poppler-utils
fi
# Only root can run a node: without it its tests are skipped, and its packages would be of no use.
if [ "${has_node:-}" ] && [ "$(id -u)" = 0 ]; then
  need ip iproute2
  need mount mount
  need iptables iptables
  need conntrack conntrack
  need runc runc
  need buildah buildah
  need debootstrap debootstrap
  [ -e /opt/cni/bin/bridge ] || [ -e /usr/lib/cni/bridge ] || missing="$missing containernetworking-plugins"
fi
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
  echo "The tests need programs that this machine lacks. Install what Debian calls:$missing" >&2
  exit 2
fi
if [ "$(id -u)" != 0 ]; then
  echo "The tests need packages that this machine lacks. Install them with:" >&2
  echo "  sudo apt-get install --yes --no-install-recommends$missing" >&2
  exit 2
fi
echo "Installing$missing ..." >&2
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends $missing
