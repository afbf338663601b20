"""Migrating as a login that is in greenhouse_migrator and nothing else, on databases new and old.

deploy/prepare-database.sql makes the logins, run by psql as an administrator would. On plain PostgreSQL, and
on a native TimescaleDB: the embedded one has no logins.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from pydantic import SecretStr

from ingest.errors import MigrationError
from ingest.migrate import Database, migrate, verify
from ingest.migration_files import load_migrations
from ingest.operate.normalize import normalize
from ingest.settings import Settings
from ingest.undo import undo
from tests.conftest import EXTERNAL_TIMESERIES
from tests.database_logins import SCRIPT, Logins, databases, psql
from tests.integration.hostile_ground import Ground
from tests.live_v11 import build
from tests.servers import PostgresCluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

METADATA, TIMESERIES = Database.METADATA, Database.TIMESERIES
OWNERS = """
    select distinct c.relowner::regrole::text
    from pg_class as c
    where c.relnamespace = to_regnamespace($1)
    union
    select p.proowner::regrole::text
    from pg_proc as p
    where p.pronamespace = to_regnamespace($1)
"""
JOB_OWNERS = """
    select distinct j.owner::text
    from timescaledb_information.jobs as j
    left join timescaledb_information.continuous_aggregates as a
        on a.materialization_hypertable_schema = j.hypertable_schema
        and a.materialization_hypertable_name = j.hypertable_name
    where 'iot' in (j.hypertable_schema, j.proc_schema, a.view_schema)
"""
LATE_JOB = "from timescaledb_information.jobs where proc_name = 'recompute_late_buckets'"
READINGS = """
    insert into iot.sensor_readings
        (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
    select now() - n * interval '1 hour', '11111111-1111-4111-8111-111111111111',
        '33333333-3333-4333-8333-333333333333', '22222222-2222-4222-8222-222222222222', 1, 1, n
    from generate_series(0, 199) as n
"""
GROUNDS = [
    pytest.param((METADATA, "plain"), id="metadata"),
    pytest.param((TIMESERIES, "plain"), id="timeseries-plain"),
    pytest.param((TIMESERIES, "timescale"), id="timeseries", marks=pytest.mark.native),
]


class Prepared(Ground):
    """A ground, the logins of its server, and what each has to say."""

    def __init__(self, dsn: str, database: Database, scratch: Path, logins: Logins, *, plain: bool) -> None:
        super().__init__(dsn, database, scratch, plain=plain)
        self.logins = logins

    @property
    def migrators(self) -> str:
        return self.logins.dsn(self.dsn, "migrator")

    def prepare(self) -> str:
        return self.logins.prepare(self.dsn, self.database)

    async def migrate(self, dsn: str) -> list[str]:
        return [file.version for file in await migrate(dsn, self.database, folder=self.folder)]

    async def owners(self) -> set[str]:
        rows = await fetch(self.dsn, OWNERS, self.database.schema)
        if not self.plain:
            rows += await fetch(self.dsn, JOB_OWNERS)
        return {row[0] for row in rows}

    async def is_the_snapshot(self) -> None:
        if self.database is METADATA or not self.plain:
            assert await verify(self.migrators, self.database) == []


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    """A server without our roles."""
    with PostgresCluster() as running:
        yield running


@pytest.fixture(params=GROUNDS)
async def ground(
    request: pytest.FixtureRequest, cluster: PostgresCluster, tmp_path: Path
) -> AsyncIterator[Prepared]:
    database, server = request.param
    plain = server == "plain"
    logins = Logins(plain=plain)
    async with databases(cluster.dsn() if plain else os.environ[EXTERNAL_TIMESERIES], logins, 1) as (dsn,):
        yield Prepared(dsn, database, tmp_path, logins, plain=plain)


async def fetch(dsn: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()


@asynccontextmanager
async def role(dsn: str, name: str) -> AsyncIterator[None]:
    """Make a login of somebody else's; to be entered before the database, so that it owns none at the end."""
    await fetch(dsn, f"create role {name} login password 'secret'")
    try:
        yield
    finally:
        await fetch(dsn, f"drop role {name}")


def as_login(dsn: str, name: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{name}:secret@{parts.hostname}:{parts.port}"))


async def test_a_new_database_is_migrated_by_a_login_that_is_in_one_role_and_no_more(
    ground: Prepared,
) -> None:
    assert "WARNING" not in ground.prepare()
    files = [file.version for file in load_migrations(ground.folder)]
    assert await ground.migrate(ground.migrators) == files
    await ground.is_the_snapshot()
    assert await ground.owners() == {ground.logins.login("migrator")}
    assert await ground.migrate(ground.migrators) == []

    undone = await undo(ground.migrators, ground.database, "11", folder=ground.folder)
    assert [step.version for step in undone] == files[:0:-1]
    assert await ground.migrate(ground.migrators) == files[1:]
    await ground.is_the_snapshot()
    ((rights,),) = await fetch(ground.migrators, """
        select rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls
            or has_database_privilege(current_database(), 'create')
            or has_schema_privilege('public', 'create')
            or array(
                select roleid::regrole::text from pg_auth_members where member = current_user::regrole
            ) <> '{greenhouse_migrator}'
        from pg_roles
        where rolname = current_user
    """)  # fmt: skip
    assert not rights


async def test_without_a_schema_of_its_own_it_is_told_what_to_ask_for(ground: Prepared) -> None:
    ground.prepare()
    await fetch(ground.dsn, f"drop schema {ground.database.schema}")
    with pytest.raises(MigrationError, match=r"permission denied for database .*docs/database-logins\.md"):
        await ground.migrate(ground.migrators)


async def test_what_a_superuser_made_is_handed_over_with_its_rows_and_jobs(ground: Prepared) -> None:
    files = [file.version for file in load_migrations(ground.folder)]
    ground.prepare()
    await migrate(ground.dsn, ground.database, folder=ground.folder_before(files[-1]))
    with pytest.raises(MigrationError, match=r"SQLSTATE 42501.*docs/database-logins\.md"):
        await ground.migrate(ground.migrators)
    if ground.database is TIMESERIES:
        await fetch(ground.dsn, READINGS)
    if not ground.plain:
        await fetch(ground.dsn, "select compress_chunk(min(c)) from show_chunks('iot.sensor_readings') as c")
        await fetch(ground.dsn, f"select alter_job(job_id, scheduled => false) {LATE_JOB}")

    assert "WARNING" not in ground.prepare()
    assert await ground.owners() == {ground.logins.login("migrator")}
    assert await ground.migrate(ground.migrators) == files[-1:]
    assert await ground.migrate(ground.migrators) == []
    if ground.database is TIMESERIES:
        assert await ground.fetchval("select sum(value) from iot.sensor_readings") == sum(range(200))
    if not ground.plain:
        ((scheduled,),) = await fetch(ground.dsn, f"select scheduled {LATE_JOB}")
        assert not scheduled
        await fetch(ground.migrators, f"select alter_job(job_id, scheduled => true) {LATE_JOB}")
        for (job,) in await fetch(ground.dsn, "select job_id from timescaledb_information.jobs"
                                              " where job_id >= 1000 order by 1"):  # fmt: skip
            await fetch(ground.migrators, f"call run_job({job})")
        assert await ground.fetchval("select count(*) > 0 from iot.sensor_readings_daily")
    await ground.is_the_snapshot()


async def test_what_is_somebody_elses_stays_theirs_and_is_named(
    cluster: PostgresCluster, tmp_path: Path
) -> None:
    logins = Logins(plain=True)
    async with role(cluster.dsn(), "app"), databases(cluster.dsn(), logins, 1) as (dsn,):
        ground = Prepared(dsn, METADATA, tmp_path, logins, plain=True)
        app = as_login(dsn, "app")
        await fetch(dsn, "create schema metadata authorization app")
        await migrate(app, METADATA, folder=ground.folder_through("11"))
        warned = ground.prepare()
        assert "schema metadata belongs to app, and stays theirs" in warned
        assert "table metadata.sensors belongs to app" in warned
        assert f"grant app to {logins.login('migrator')};" in warned
        with pytest.raises(MigrationError, match=r"docs/database-logins\.md"):
            await ground.migrate(ground.migrators)

        await fetch(dsn, f"grant app to {logins.login('migrator')}")
        assert "WARNING" not in ground.prepare()
        await ground.migrate(ground.migrators)
        await ground.is_the_snapshot()
        await fetch(app, "insert into metadata.tenants (name, mqtt_topic_prefix) values ('Sara', 'SARA')")
        assert await ground.owners() == {"app", logins.login("migrator")}


@pytest.mark.native
async def test_a_live_database_of_somebody_elses_is_migrated_by_a_member_of_its_owner(
    timescale_server: str,
) -> None:
    logins = Logins(plain=False)
    name = logins.login("migrator").replace("ingest_migrator", "app")
    async with role(timescale_server, name), databases(timescale_server, logins, 1) as (dsn,):
        await fetch(dsn, f"alter database {urlsplit(dsn).path[1:]} owner to {name}")
        content = await build(as_login(dsn, name), rows=6_000)
        for database in Database:
            assert f"schema {database.schema} belongs to {name}" in logins.prepare(dsn, database)
        migrator = logins.dsn(dsn, "migrator")
        await fetch(dsn, f"grant {name} to {logins.login('migrator')}")
        for database in Database:
            await migrate(migrator, database)
            assert await verify(migrator, database) == []
        settings = Settings(metadata_dsn=SecretStr(migrator), timeseries_dsn=SecretStr(migrator))
        report = await normalize(settings)
        assert (report.unmapped, report.differing) == (content.unmapped, content.differing)
        rows = content.rows - content.identical
        assert (await fetch(as_login(dsn, name), "select count(*) from iot.sensor_readings"))[0][0] == rows


async def test_an_administrator_need_not_be_a_superuser() -> None:
    logins = Logins(plain=True)
    with PostgresCluster() as cluster:
        dsn = cluster.create_database("greenhouse")
        await fetch(dsn, "create role administrator login createrole")
        await fetch(dsn, "alter database greenhouse owner to administrator")
        assert "WARNING" not in logins.prepare(as_login(dsn, "administrator"), METADATA)
        await migrate(logins.dsn(dsn, "migrator"), METADATA)
        assert await verify(logins.dsn(dsn, "migrator"), METADATA) == []


def test_a_schema_that_is_none_of_ours_is_refused(cluster: PostgresCluster) -> None:
    assert psql(cluster.dsn(), f"--file={SCRIPT}").returncode != 0
    done = psql(cluster.dsn(), "--set=schema=public", f"--file={SCRIPT}")
    assert done.returncode != 0
    assert "schema is public: give --set=schema=metadata or --set=schema=iot" in done.stderr
