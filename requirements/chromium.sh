#!/bin/sh
# Sees to it that Chromium is there, in which a test looks at the worker's page: its headless shell, without a window.
# As root on Debian it installs the package with what it needs and nothing that it recommends. Elsewhere it says in
# one line what to install; the test of the page fails then, and no others. Does nothing when it is there.
# Run by `make test`.
set -eu

there() { command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null ||
    command -v google-chrome >/dev/null; }

if there; then exit 0; fi

advice="Chromium is missing: apt-get install --no-install-recommends chromium-headless-shell (macOS: brew install chromium)"
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "$advice" >&2
    exit 0
fi

install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" 2>&1 </dev/null; }

echo "installing Chromium"
# Releases before Debian 12 have the whole browser only.
if ! said=$(apt-get update -qq 2>&1 && { install chromium-headless-shell || install chromium; }); then
    printf '%s\n' "$said" >&2
fi
there || echo "$advice" >&2
