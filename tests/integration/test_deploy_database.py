"""The logins of docker-compose.yml: from make-secrets.sh, through the script of the containers, to psql.

Done outside a container, on a PostgreSQL that asks for passwords as the images do; where things are is the
test's, and what is TimescaleDB's is left out.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import yaml

from tests.database_logins import LOGINS, PSQL, SCRIPT
from tests.integration.plain_postgres import without_timescale
from tests.servers import PostgresCluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DATABASES = ("metadata", "timeseries")
HBA = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"


class Installation:
    """A directory of secrets, and a server with the databases of both containers."""

    def __init__(self, secrets: Path, cluster: PostgresCluster) -> None:
        self.secrets = secrets
        self._cluster = cluster

    def make_secrets(self) -> str:
        environment = {"SECRETS_DIR": str(self.secrets), "PATH": os.environ["PATH"]}
        return subprocess.check_output([ROOT / "deploy" / "make-secrets.sh"], env=environment, text=True)

    def initialise(self, service: str) -> None:
        """Run what the container of *service* has among its initialisation scripts."""
        (script,) = [
            mount.split(":")[0]
            for mount in SERVICES[service]["volumes"]
            if ":/docker-entrypoint-initdb.d/" in mount
        ]
        assert os.access(ROOT / script, os.X_OK)
        sql = self.secrets / "prepare-database.sql"
        sql.write_text(without_timescale(SCRIPT.read_text(encoding="utf-8")))
        text = (ROOT / script).read_text().replace("/usr/local/share/prepare-database.sql", str(sql))
        given = SERVICES[service]["environment"]
        subprocess.run(
            ["sh", "-c", text],
            check=True,
            env={
                "PATH": f"{PSQL.parent}:{os.environ['PATH']}",
                "PGHOST": "127.0.0.1",
                "PGPORT": str(self._cluster.port),
                "POSTGRES_USER": "postgres",
                "POSTGRES_DB": given["POSTGRES_DB"],
                "GREENHOUSE_SCHEMA": given["GREENHOUSE_SCHEMA"],
                "GREENHOUSE_LOGINS_FILE": given["GREENHOUSE_LOGINS_FILE"].replace(
                    "/run/secrets", str(self.secrets)
                ),
            },
        )

    def dsn(self, service: str, login: str) -> str:
        """Return the DSN in the secret, with the server's place in place of the container's name."""
        text = (self.secrets / f"{service}_{login}_dsn").read_text().strip()
        parts = urlsplit(text)
        assert (parts.hostname, parts.port) == (service, 5432)
        assert parts.path == f"/{SERVICES[service]['environment']['POSTGRES_DB']}"
        place = f"{parts.username}:{parts.password}@127.0.0.1:{self._cluster.port}"
        return urlunsplit(parts._replace(netloc=place))


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    """A server that asks for passwords."""
    with PostgresCluster() as running:
        (running.data_directory / "pg_hba.conf").write_text(HBA)
        running.restart()
        yield running


@pytest.fixture
async def installation(tmp_path: Path, cluster: PostgresCluster) -> AsyncIterator[Installation]:
    """Both databases, and none of the roles that an earlier test made."""
    names = [SERVICES[service]["environment"]["POSTGRES_DB"] for service in DATABASES]
    for name in names:
        cluster.create_database(name)
    yield Installation(tmp_path / "secrets", cluster)
    for name in names:
        cluster.drop_database(name)
    connection = await asyncpg.connect(cluster.dsn())
    for (role,) in await connection.fetch(
        "select rolname from pg_roles where rolname <> 'postgres' and rolname not like 'pg\\_%'"
    ):
        await connection.execute(f"drop role {role}")
    await connection.close()


async def who(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        return str(await connection.fetchval("select session_user"))
    finally:
        await connection.close()


async def test_every_login_gets_in_with_its_password_and_with_no_other(installation: Installation) -> None:
    installation.make_secrets()
    for service in DATABASES:
        installation.initialise(service)
    # Both databases are on one server here, so that the passwords given last are the ones that count.
    for login in ("migrator", "worker", "operator"):
        dsn = installation.dsn("timeseries", login)
        assert await who(dsn) == f"ingest_{login}"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await who(dsn.replace("@", "0@"))
        with pytest.raises(asyncpg.InvalidPasswordError):
            await who(installation.dsn("metadata", login))


async def test_a_secret_taken_away_is_a_new_password(installation: Installation) -> None:
    installation.make_secrets()
    installation.initialise("metadata")
    before = {path.name: path.read_text() for path in installation.secrets.glob("*_dsn")}
    assert installation.make_secrets() == ""
    old = installation.dsn("metadata", "worker")
    (installation.secrets / "metadata_worker_dsn").unlink()
    installation.make_secrets()
    after = {path.name: path.read_text() for path in installation.secrets.glob("*_dsn")}
    assert [name for name in before if before[name] != after[name]] == ["metadata_worker_dsn"]
    installation.initialise("metadata")
    assert await who(installation.dsn("metadata", "worker")) == "ingest_worker"
    assert await who(installation.dsn("metadata", "operator")) == "ingest_operator"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await who(old)


async def test_every_secret_that_is_mounted_is_made(installation: Installation) -> None:
    installation.make_secrets()
    wanted = {secret["file"].removeprefix("./secrets/") for secret in COMPOSE["secrets"].values()}
    assert {path.name for path in installation.secrets.iterdir()} == wanted


async def test_the_database_is_told_no_password_of_its_logins(installation: Installation) -> None:
    installation.make_secrets()
    for service in DATABASES:
        told = (installation.secrets / f"{service}_logins").read_text()
        assert [line.split()[2] for line in told.splitlines()] == list(LOGINS)
        for login in ("migrator", "worker", "operator"):
            password = urlsplit((installation.secrets / f"{service}_{login}_dsn").read_text()).password
            assert password is not None
            assert len(password) == 48
            assert password not in told
    assert installation.secrets.stat().st_mode & 0o777 == 0o700
