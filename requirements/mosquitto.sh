#!/bin/sh
# Sees to it that the Mosquitto server and its clients are there, which the tests start private instances of.
# As root on Debian or Ubuntu it installs the packages, without letting them start their system-wide service;
# elsewhere it says in one line what to install. Does nothing when they are there. Run by `make test`.
set -eu

# /usr/sbin is not on every user's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/opt/homebrew/sbin
there() { command -v mosquitto >/dev/null && command -v mosquitto_pub >/dev/null &&
    command -v mosquitto_passwd >/dev/null; }

if there; then exit 0; fi

advice="Mosquitto is missing: apt-get install mosquitto mosquitto-clients (macOS: brew install mosquitto)"
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "$advice" >&2
    exit 1
fi

# A policy-rc.d that answers 101 ("not allowed") is how Debian's packages are told not to start a service.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
echo "installing Mosquitto"
if ! said=$(apt-get update -qq 2>&1 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
    --no-install-recommends mosquitto mosquitto-clients 2>&1 </dev/null); then
    printf '%s\n%s\n' "$said" "$advice" >&2
    exit 1
fi
# Nor at the next boot: the tests start their own.
if command -v systemctl >/dev/null; then systemctl --quiet disable mosquitto 2>/dev/null || true; fi
there || { echo "$advice" >&2; exit 1; }
