#!/bin/sh
# Resolves pyproject.toml anew and writes the hash-pinned locks beside this file:
#   build.txt     what builds the package           runtime.txt   what production runs
#   embedded.txt  runtime + the extra `embedded`    dev.txt       embedded + the extra `parquet` and the group `dev`
#   bench.txt     the group `bench` alone, for on top of dev
# One lock serves Python 3.11 and later on every platform (markers, hashes of all wheels), and the five
# agree on every version, so that one environment can take any of them on top of another.
# Run by `make lock`, never by `make demo` or `make test`. UPGRADE=1 takes newer versions than are locked.
set -eu
cd "$(dirname "$0")/.."

command -v uv >/dev/null || { echo "uv is missing: python3 -m pip install uv" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { # compile NAME [uv options and sources]
    name=$1
    shift
    printf '# Written by `make lock` from pyproject.toml; edit that, not this.\n' >"$work/$name.txt"
    # The versions locked now are kept unless newer ones are asked for; no index address is written.
    if [ -z "${UPGRADE:-}" ] && [ -e "requirements/$name.txt" ]; then
        cp "requirements/$name.txt" "$work/lock"
    else
        rm -f "$work/lock"
    fi
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-annotate --no-emit-index-url --no-emit-find-links --output-file "$work/lock" "$@" >/dev/null
    cat "$work/lock" >>"$work/$name.txt"
}

python3 - >"$work/build.in" <<'PY'
import tomllib
with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["build-system"]["requires"], sep="\n")
PY

compile dev pyproject.toml --extra embedded --extra parquet --group dev
compile build "$work/build.in" --constraint "$work/dev.txt"
compile embedded pyproject.toml --extra embedded --constraint "$work/dev.txt"
compile runtime pyproject.toml --constraint "$work/dev.txt"
compile bench --group bench --constraint "$work/dev.txt"
for name in build runtime embedded dev bench; do
    mv "$work/$name.txt" "requirements/$name.txt"
done
