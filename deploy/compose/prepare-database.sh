#!/bin/sh
# Makes the database of docker-compose.yml ready for its logins, with the passwords of deploy/make-secrets.sh.
# The image runs it when it has made a data directory. On one that was there before, and after new passwords:
#
#   docker compose exec metadata /docker-entrypoint-initdb.d/900-greenhouse.sh
#   docker compose exec timeseries /docker-entrypoint-initdb.d/900-greenhouse.sh
set -eu
exec psql --no-psqlrc --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set=ON_ERROR_STOP=on --set=schema="$GREENHOUSE_SCHEMA" \
    --file=/usr/local/share/prepare-database.sql --file="$GREENHOUSE_LOGINS_FILE"
