"""Migration V16, both ways: what each role has to do works, and everything else is refused."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from ingest.errors import CheckFailed
from ingest.migrate import Database, migrate, status, verify
from ingest.operate.bulk_operations import BEGIN_SQL, END_SQL, recorded
from ingest.operate.catalog import (
    CatalogKind,
    add_alias,
    add_greenhouse,
    add_sensor,
    add_tenant,
    import_catalog,
    list_catalog,
)
from ingest.operate.catalog_entries import AliasKind
from ingest.resolve.loader import CatalogLoader
from ingest.settings import ResolveSettings
from tests.integration.metadata_rights import CATALOGS, ENTITIES, HISTORIES, MATRIX, VIEWS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

METADATA = Database.METADATA
GRANTED = """
    select c.relname, lower(p.privilege) as privilege,
           has_table_privilege($1, c.oid, p.privilege) as whole,
           array(
               select a.attname::text
               from pg_attribute as a
               where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                   and p.privilege in ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
                   and case when p.privilege in ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
                       then has_column_privilege($1, c.oid, a.attnum, p.privilege) end
               order by a.attnum
           ) as columns
    from pg_class as c
    cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])
        as p (privilege)
    where c.relnamespace = 'metadata'::regnamespace and c.relkind in ('r', 'v')
"""


def as_user(dsn: str, user: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.hostname}:{parts.port}"))


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def admin(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """The superuser, in a migrated database with one sensor and one alert."""
    await migrate(postgres_dsn, METADATA)
    await add_tenant(postgres_dsn, name="Sara", prefix="SARA")
    await add_greenhouse(postgres_dsn, tenant="SARA", code="01")
    await add_sensor(postgres_dsn, tenant="SARA", greenhouse="01", sensor_type="co2", code="C1")
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("""
        insert into metadata.alerts (tenant_id, greenhouse_id, alert_type, severity)
        select tenant_id, id, 'SENSOR_OFFLINE', 'ERROR' from metadata.greenhouses;
        insert into metadata.users (tenant_id, username, email, password_hash, role)
        select id, 'ana', 'ana@example.org', 'hash', 'ADMIN' from metadata.tenants;
    """)
    yield connection
    await connection.close()


@pytest.fixture
async def login(
    admin: asyncpg.Connection[asyncpg.Record], postgres_dsn: str
) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Makes a login in a group role and returns its DSN; dropped afterwards."""
    made: list[str] = []

    async def make(role: str) -> str:
        name = f"login_{uuid.uuid4().hex[:12]}"
        made.append(name)
        await admin.execute(f"create role {name} login in role {role}")
        return as_user(postgres_dsn, name)

    yield make
    for name in made:
        await admin.execute(f"drop owned by {name}")
        await admin.execute(f"drop role {name}")


@pytest.mark.parametrize("role", MATRIX)
async def test_the_matrix(admin: asyncpg.Connection[asyncpg.Record], role: str) -> None:
    found: dict[str, set[str]] = {}
    for table, privilege, whole, columns in await admin.fetch(GRANTED, role):
        if whole:
            found.setdefault(table, set()).add(privilege)
        elif columns:
            found.setdefault(table, set()).add(f"{privilege}({','.join(columns)})")
    wanted = {
        table: {_by_column(privilege) for privilege in privileges}
        for table, privileges in MATRIX[role].items()
    }
    assert {table: {_by_column(each) for each in privileges} for table, privileges in found.items()} == wanted


def _by_column(privilege: str) -> tuple[str, frozenset[str]]:
    name, _, columns = privilege.rstrip(")").partition("(")
    return name, frozenset(columns.split(","))


async def test_what_the_worker_does(login: Callable[[str], Awaitable[str]]) -> None:
    dsn = await login("greenhouse_worker")
    assert {each.state for each in await status(dsn, METADATA)} == {"applied"}
    loader = CatalogLoader(dsn, ResolveSettings.model_validate({}), lambda _: None)
    assert len((await loader.load()).sensors) == 1
    await loader.close()
    async with connected(dsn) as connection:
        async with recorded(connection, "NORMALIZE", "iot.sensor_readings") as tally:
            tally.successful = 5
        await connection.execute("""
            insert into metadata.data_quality_log (data_source, quality_issue_type, severity, description)
            values ('iot.sensor_readings', 'MISSING_DATA', 'LOW', 'a gap of two hours')
        """)


async def test_a_worker_ends_its_own_operations_only(
    admin: asyncpg.Connection[asyncpg.Record], login: Callable[[str], Awaitable[str]]
) -> None:
    dsns = [await login("greenhouse_worker") for _ in range(2)]
    async with connected(dsns[0]) as first, connected(dsns[1]) as second:
        operation = await first.fetchval(BEGIN_SQL, "NORMALIZE", "iot.sensor_readings", None)
        end = (operation, "COMPLETED", 1, 1, 0, 0, None)
        assert await second.execute(END_SQL, *end) == "UPDATE 0"
        assert await first.execute(END_SQL, *end) == "UPDATE 1"
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await first.execute("""
                insert into metadata.bulk_operation_log (operation_type, target_table, started_by)
                values ('IMPORT', 'catalog', 'somebody else')
            """)
    assert await admin.fetchval("select status from metadata.bulk_operation_log") == "COMPLETED"


REFUSED = [
    ("greenhouse_worker", "insert into metadata.units (symbol, name) values ('K', 'kelvin')"),
    ("greenhouse_worker", "insert into metadata.unit_aliases values ('K', 1)"),
    ("greenhouse_worker", "update metadata.sensors set last_seen = now()"),
    ("greenhouse_worker", "update metadata.tenants set is_active = false"),
    ("greenhouse_worker", "delete from metadata.sensors"),
    ("greenhouse_worker", "truncate metadata.unit_aliases"),
    ("greenhouse_worker", "select count(*) from metadata.users"),
    ("greenhouse_worker", "select count(*) from metadata.alerts"),
    ("greenhouse_worker", "select count(*) from metadata.actuators"),
    ("greenhouse_worker", "select count(*) from metadata.audit_log"),
    ("greenhouse_worker", "select detected_at from metadata.data_quality_log"),
    ("greenhouse_worker", "update metadata.data_quality_log set greenhouse_id = null"),
    ("greenhouse_worker", "update metadata.data_quality_log set detected_at = now()"),
    ("greenhouse_worker", "delete from metadata.data_quality_log"),
    ("greenhouse_worker", "select error_summary from metadata.bulk_operation_log"),
    ("greenhouse_worker", "update metadata.bulk_operation_log set started_by = 'x'"),
    ("greenhouse_worker", "delete from metadata.bulk_operation_log"),
    ("greenhouse_worker", "delete from metadata.schema_history"),
    ("greenhouse_worker", "create table metadata.own (id integer)"),
    ("greenhouse_worker", "drop table metadata.data_quality_log"),
    ("greenhouse_worker", "alter table metadata.sensors disable trigger all"),
    ("greenhouse_worker", "select metadata.map_names()"),
    ("greenhouse_worker", "select metadata.take_greenhouse_snapshot(id) from metadata.greenhouses"),
    ("greenhouse_operator", "delete from metadata.sensors"),
    ("greenhouse_operator", "delete from metadata.alerts"),
    ("greenhouse_operator", "update metadata.alerts set message = 'nothing happened'"),
    ("greenhouse_operator", "insert into metadata.alerts (tenant_id, greenhouse_id) values (null, null)"),
    ("greenhouse_operator", "delete from metadata.audit_log"),
    ("greenhouse_operator", "update metadata.audit_log set changed_by_username = 'x'"),
    (
        "greenhouse_operator",
        "insert into metadata.audit_log (table_name, record_id, operation) values ('x', 'x', 'DELETE')",
    ),
    ("greenhouse_operator", "truncate metadata.actuator_command_history"),
    ("greenhouse_operator", "delete from metadata.greenhouse_snapshot"),
    ("greenhouse_operator", "delete from metadata.bulk_operation_log"),
    ("greenhouse_operator", "delete from metadata.data_quality_log"),
    ("greenhouse_operator", "select password_hash from metadata.users"),
    ("greenhouse_operator", "update metadata.users set role = 'ADMIN'"),
    (
        "greenhouse_operator",
        "select metadata.write_greenhouse_snapshot(g, 'MANUAL', null) from metadata.greenhouses as g",
    ),
    ("greenhouse_operator", "alter table metadata.sensors disable trigger all"),
    ("greenhouse_operator", "create table metadata.own (id integer)"),
    ("greenhouse_reader", "select * from metadata.users"),
    ("greenhouse_reader", "select password_hash from metadata.users"),
    ("greenhouse_reader", "select count(*) from metadata.audit_log"),
    ("greenhouse_reader", "select metadata.take_greenhouse_snapshot(id) from metadata.greenhouses"),
    ("greenhouse_reader", "update metadata.sensors set name = 'x'"),
    ("greenhouse_reader", "insert into metadata.unit_aliases values ('K', 1)"),
    ("greenhouse_reader", "delete from metadata.tenants"),
    ("greenhouse_reader", "truncate metadata.alerts"),
    ("greenhouse_reader", "select nextval('metadata.units_id_seq')"),
    ("greenhouse_reader", "create table metadata.own (id integer)"),
]


async def test_what_is_refused(admin: asyncpg.Connection[asyncpg.Record]) -> None:
    let_through = []
    for role, statement in REFUSED:
        transaction = admin.transaction()
        await transaction.start()
        try:
            await admin.execute(f"set local role {role}")
            await admin.execute(statement)
        except asyncpg.InsufficientPrivilegeError:
            pass
        else:
            let_through.append((role, statement))
        finally:
            await transaction.rollback()
    assert let_through == []


async def test_what_the_operator_does(
    admin: asyncpg.Connection[asyncpg.Record], login: Callable[[str], Awaitable[str]], tmp_path: Path
) -> None:
    dsn = await login("greenhouse_operator")
    await add_tenant(dsn, name="Lia", prefix="LIA")
    await add_greenhouse(dsn, tenant="LIA", code="A1")
    await add_alias(dsn, kind=AliasKind.UNIT, alias="grads", name="°C")
    await add_sensor(
        dsn, tenant="LIA", greenhouse="A1", sensor_type="temperature", unit="grads", expected_interval_s=60
    )
    with pytest.raises(CheckFailed):
        await add_tenant(dsn, name="Other", prefix="LIA")
    path = tmp_path / "catalog.json"
    path.write_text('{"tenants": [{"name": "Zoe", "prefix": "ZOE", "greenhouses": [{"code": "Z1"}]}]}')
    assert (await import_catalog(dsn, path)).written
    for kind in CatalogKind:
        assert await list_catalog(dsn, kind)
    assert {each.state for each in await status(dsn, METADATA)} == {"applied"}
    assert await verify(dsn, METADATA) == []
    async with connected(dsn) as connection:
        for statement in (
            "insert into metadata.units (symbol, name) values ('kPa', 'kilopascal')",
            "insert into metadata.sensor_types values (default, 'PH', 10, 'DECIMAL')",
            "insert into metadata.actuator_types (name) values ('EXTRACTOR')",
            "update metadata.greenhouses set is_active = false where greenhouse_code = 'A1'",
            "update metadata.sensors set max_threshold = 30, calibration_data = '{}'",
            "update metadata.alerts set is_resolved = true, resolved_at = now(), updated_at = now()",
            "select metadata.map_names()",
            "select metadata.note_unmapped_names()",
            "update metadata.data_quality_log set status = 'IGNORED'",
            "select metadata.take_greenhouse_snapshot(id) from metadata.greenhouses",
            "select username, email, role from metadata.users",
            *(
                f"select * from metadata.{table}"
                for table in (*HISTORIES, *VIEWS, "audit_log", "data_quality_log")
            ),
        ):
            await connection.execute(statement)
    # Recorded under the login's name, though the record is written with the rights of its owner.
    user = urlsplit(dsn).username
    assert (
        await admin.fetchval(
            "select count(*) from metadata.audit_log"
            " where table_name = 'sensors' and changed_by_username = $1",
            user,
        )
        == 3
    )
    assert await admin.fetchval("select taken_by_username from metadata.greenhouse_snapshot limit 1") == user
    assert await admin.fetchval("select acted_by_username from metadata.alert_resolution_history") == user


async def test_what_the_reader_does(login: Callable[[str], Awaitable[str]]) -> None:
    async with connected(await login("greenhouse_reader")) as connection:
        for table in (
            *CATALOGS,
            *ENTITIES,
            *HISTORIES,
            *VIEWS,
            "alerts",
            "data_quality_log",
            "bulk_operation_log",
        ):
            await connection.fetch(f"select * from metadata.{table}")
        assert await connection.fetchval("select username from metadata.users") == "ana"


async def test_the_migrator_makes_objects_and_records_them(
    admin: asyncpg.Connection[asyncpg.Record], login: Callable[[str], Awaitable[str]]
) -> None:
    async with connected(await login("greenhouse_migrator")) as connection:
        for statement in (
            "create table metadata.later (id integer)",
            "insert into metadata.schema_history values ('99', 'later', '', now(), 'me', 0, 'migrate')",
            "select version from metadata.schema_history",
            "drop table metadata.later",
        ):
            await connection.execute(statement)
        for statement in (
            "alter table metadata.sensors add column colour text",
            "select * from metadata.users",
            "delete from metadata.schema_history",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    assert await admin.fetchval("select count(*) from metadata.schema_history where version = '99'") == 1


async def test_an_application_with_grants_of_its_own_goes_on(
    admin: asyncpg.Connection[asyncpg.Record], postgres_dsn: str
) -> None:
    """It may write sensors and nothing else; ids, audit and histories happen all the same."""
    name = f"legacy_{uuid.uuid4().hex[:12]}"
    await admin.execute(f"""
        create role {name} login;
        grant usage on schema metadata to {name};
        grant select, insert, update on metadata.sensors to {name};
    """)
    async with connected(as_user(postgres_dsn, name)) as connection:
        await connection.execute(
            "update metadata.sensors set sensor_type = 'Humedad', unit = '%', max_threshold = 9"
        )
        assert await connection.fetchval("select sensor_type_id from metadata.sensors") == 2
    await admin.execute(f"drop owned by {name}; drop role {name}")
    assert name == await admin.fetchval(
        "select changed_by_username from metadata.audit_log order by id desc limit 1"
    )
    assert await admin.fetchval("select count(*) from metadata.sensor_configuration_history") == 1
