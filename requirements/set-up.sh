#!/bin/sh
# Makes the virtual environment .venv: `set-up.sh embedded` for the demo, `set-up.sh dev` for tests and lint.
# Installs exactly what the hash-pinned lock of that name lists, then the package itself, editable.
# Quick when nothing changed: a stamp named after the checksum of the locks and pyproject.toml says so.
# An environment whose set-up was cut short is marked `.venv/.incomplete` and made anew the next time.
# Needs Python 3.11+ with venv (PYTHON=… chooses one) and pip's package index; writes only below .venv.
set -eu
cd "$(dirname "$0")/.."

environment=$1
venv=.venv
key=$(cat requirements/build.txt "requirements/$environment.txt" pyproject.toml | cksum | tr ' ' '-')
stamp="$venv/.ready-$environment-$key"

fail() { echo "$*" >&2; exit 1; }

# An environment knows its own path: one that was moved or copied here is no good either.
usable() {
    "$venv/bin/python" -c '' 2>/dev/null && [ ! -e "$venv/.incomplete" ] &&
        { [ ! -e "$venv/.made-in" ] || [ "$(cat "$venv/.made-in")" = "$(pwd)" ]; }
}

if usable && [ -e "$stamp" ]; then exit 0; fi

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or later is missing: apt-get install python3 (or name one: make PYTHON=/path/to/python3)"
}

if ! usable; then
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        # Debian and Ubuntu keep ensurepip in a package of its own.
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            echo "installing python3-venv"
            said=$(apt-get update -qq 2>&1 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
                --no-install-recommends python3-venv 2>&1 </dev/null) || echo "$said" >&2
        fi
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "python3-venv is missing: apt-get install python3-venv"
    fi
    echo "making $venv with $("$python" --version)"
    rm -rf "$venv"
    mkdir "$venv"
    touch "$venv/.incomplete"
    "$python" -m venv "$venv"
    pwd >"$venv/.made-in"
fi

touch "$venv/.incomplete"
echo "installing requirements/$environment.txt"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
"$venv/bin/python" -m pip install --quiet --require-hashes \
    -r requirements/build.txt -r "requirements/$environment.txt" ||
    fail "installing requirements/$environment.txt failed (pip's reason is above); run the same make target again"
"$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation --editable . ||
    fail "installing the package itself failed (pip's reason is above); run the same make target again"

rm -f "$venv/.ready-$environment"-*
touch "$stamp"
# What the tests need, the demo has too: the other stamp saves its set-up a second look.
if [ "$environment" = dev ]; then
    key=$(cat requirements/build.txt requirements/embedded.txt pyproject.toml | cksum | tr ' ' '-')
    rm -f "$venv"/.ready-embedded-*
    touch "$venv/.ready-embedded-$key"
fi
rm -f "$venv/.incomplete"
