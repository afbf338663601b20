#!/bin/sh
# Makes the secrets docker-compose.yml mounts, in ./secrets (git-ignored), from /dev/urandom:
#
#   deploy/make-secrets.sh                  makes whatever is missing; never changes one that is there
#   deploy/make-secrets.sh gateway NAME     adds a gateway's broker login and prints its password, once
#
# NAME is the tenant's topic prefix (SARA) or the greenhouse as its topics name it (UUID or code): it decides
# what the login may publish, see config/mosquitto.acl. A NAME that has a login gets a new password.
# Afterwards: docker compose restart mosquitto. Needs python3. SECRETS_DIR=… writes elsewhere.
#
# Containers run as users of their own, so the files are readable by all and the directory by you alone.
set -eu
umask 022
cd "$(dirname "$0")/.."
secrets=${SECRETS_DIR:-secrets}
logins=$secrets/mosquitto_passwords

fail() { echo "$*" >&2; exit 1; }
command -v python3 >/dev/null || fail "python3 is missing: apt-get install python3"
mkdir -p "$secrets"
chmod 0700 "$secrets"

# 192 bits, in characters that need no escaping in a URL.
random() { python3 -c 'import secrets; print(secrets.token_hex(24))'; }

keep() { # keep FILE TEXT: written whole or not at all
    printf '%s\n' "$2" >"$secrets/.new"
    mv "$secrets/.new" "$secrets/$1"
    echo "made $secrets/$1"
}

# set_login NAME PASSWORD: in Mosquitto's $7$ format, PBKDF2-HMAC-SHA512, with mosquitto_passwd's own number of
# rounds: the broker hashes in its only thread at each connect, and 192 random bits need no slow hash.
set_login() {
    printf '%s\n%s\n' "$1" "$2" | python3 -c '
import base64, hashlib, os, pathlib, sys
file, name, password = pathlib.Path(sys.argv[1]), *sys.stdin.read().splitlines()
salt, rounds = os.urandom(12), 101
key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
encoded = [base64.b64encode(part).decode() for part in (salt, key)]
kept = file.read_text().splitlines() if file.exists() else []
lines = [line for line in kept if line.partition(":")[0] != name]
new = file.with_name(".new")
new.write_text("\n".join([*lines, f"{name}:$7${rounds}${encoded[0]}${encoded[1]}", ""]))
new.replace(file)
' "$logins"
    echo "made the login $1 in $logins"
}

make_all() {
    for database in metadata timeseries; do
        if [ ! -s "$secrets/${database}_password" ]; then keep "${database}_password" "$(random)"; fi
        if [ ! -s "$secrets/${database}_dsn" ]; then
            password=$(cat "$secrets/${database}_password")
            keep "${database}_dsn" "postgresql://greenhouse:$password@$database:5432/greenhouse_$database"
        fi
    done
    if [ ! -s "$secrets/broker_password" ]; then keep broker_password "$(random)"; fi
    grep -q '^greenhouse-ingest:' "$logins" 2>/dev/null ||
        set_login greenhouse-ingest "$(cat "$secrets/broker_password")"
}

case "$#:${1:-}" in
0:) make_all ;;
2:gateway)
    case $2 in
    '' | greenhouse-ingest | *[!A-Za-z0-9_-]*)
        fail "'$2' is no gateway's login: letters, digits, '_' and '-' (the tenant's prefix, or the greenhouse)"
        ;;
    esac
    make_all
    password=$(random)
    set_login "$2" "$password"
    echo "password of $2: $password"
    ;;
*) fail "usage: deploy/make-secrets.sh [gateway NAME]" ;;
esac
