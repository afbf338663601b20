#!/bin/sh
# Makes the secrets docker-compose.yml mounts, in ./secrets (git-ignored), from /dev/urandom:
#
#   deploy/make-secrets.sh                  makes whatever is missing; never changes one that is there
#   deploy/make-secrets.sh gateway NAME     adds a gateway's broker login and prints its password, once
#
# For each database: <database>_password of its superuser, for the container alone; <database>_<login>_dsn of the
# logins migrator, worker and operator; <database>_reader_password, of the dashboards' login; <database>_logins, these
# four passwords hashed, as SQL that the container runs. grafana_admin_password is the password of Grafana's `admin`.
# For the broker: broker_password of the worker, and mosquitto_passwords, every login's hashed.
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
broker_logins=$secrets/mosquitto_passwords

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
' "$broker_logins"
    echo "made the login $1 in $broker_logins"
}

# set_database_login FILE DSN: the login of DSN gets its password, as PostgreSQL keeps it (SCRAM-SHA-256, RFC 5803,
# with its own number of rounds), so that the database's container never sees the password itself.
set_database_login() {
    printf '%s\n' "$2" | python3 -c '
import base64, hashlib, hmac, os, pathlib, sys, urllib.parse
file, dsn = pathlib.Path(sys.argv[1]), urllib.parse.urlsplit(sys.stdin.read().strip())
salt, rounds = os.urandom(16), 4096
salted = hashlib.pbkdf2_hmac("sha256", dsn.password.encode(), salt, rounds)
stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
server = hmac.digest(salted, b"Server Key", "sha256")
salt, stored, server = (base64.b64encode(part).decode() for part in (salt, stored, server))
begin = f"alter role {dsn.username} password "
kept = file.read_text().splitlines() if file.exists() else []
lines = [line for line in kept if not line.startswith(begin)]
new = file.with_name(".new")
new.write_text("\n".join([*lines, f"{begin}\x27SCRAM-SHA-256${rounds}:{salt}${stored}:{server}\x27;", ""]))
new.replace(file)
' "$1"
    echo "made a login in $1"
}

make_all() {
    for database in metadata timeseries; do
        if [ ! -s "$secrets/${database}_password" ]; then keep "${database}_password" "$(random)"; fi
        logins=$secrets/${database}_logins
        for login in migrator worker operator; do
            dsn=${database}_${login}_dsn
            if [ ! -s "$secrets/$dsn" ]; then
                made=postgresql://ingest_$login:$(random)@$database:5432/greenhouse_$database
                set_database_login "$logins" "$made"
                keep "$dsn" "$made"
            elif ! grep -q "^alter role ingest_$login " "$logins" 2>/dev/null; then
                set_database_login "$logins" "$(cat "$secrets/$dsn")"
            fi
        done
        reader=$secrets/${database}_reader_password
        if [ ! -s "$reader" ] || ! grep -q "^alter role ingest_reader " "$logins"; then
            [ -s "$reader" ] || keep "${database}_reader_password" "$(random)"
            set_database_login "$logins" "postgresql://ingest_reader:$(cat "$reader")@$database"
        fi
    done
    if [ ! -s "$secrets/grafana_admin_password" ]; then keep grafana_admin_password "$(random)"; fi
    if [ ! -s "$secrets/broker_password" ]; then keep broker_password "$(random)"; fi
    grep -q '^greenhouse-ingest:' "$broker_logins" 2>/dev/null ||
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
