#!/bin/sh
# Sees to it that promtool is there, which evaluates the alert rules in the tests: the program alone, out of Debian's
# package `prometheus`, which is downloaded and not installed, into .venv/bin. Does nothing when it is there or on the
# PATH. Where it cannot be had it says what to install; the tests of the rules fail then, and no others.
# Run by `make test`, after the virtual environment was made.
set -eu
cd "$(dirname "$0")/.."

if command -v promtool >/dev/null || [ -x .venv/bin/promtool ]; then exit 0; fi

advice="promtool is missing: apt-get install prometheus (macOS: brew install prometheus)"
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "$advice" >&2
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 0755 "$work"
# The lists of packages may be missing or out of date, and only root can fetch new ones.
fetch() { (cd "$work" && apt-get download -qq prometheus) >"$work/said" 2>&1; }
echo "fetching promtool"
if ! fetch && { [ "$(id -u)" != 0 ] || ! apt-get update -qq >/dev/null 2>&1 || ! fetch; }; then
    cat "$work/said" >&2
    echo "$advice" >&2
    exit 0
fi
dpkg-deb --fsys-tarfile "$work"/prometheus_*.deb | tar -xOf - ./usr/bin/promtool >"$work/promtool"
chmod +x "$work/promtool"
"$work/promtool" --version >/dev/null 2>&1 || { echo "$advice" >&2; exit 0; }
mv "$work/promtool" .venv/bin/promtool
