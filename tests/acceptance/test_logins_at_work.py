"""The three logins at their work: each does all that its commands do, with real processes, and nothing else.

The two databases are apart, and PUBLIC may not even connect. On plain PostgreSQL, and a native TimescaleDB.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from ingest.migrate import Database, migrate, schema_folder
from tests.acceptance.command_line import CommandLine, report
from tests.acceptance.workers import WorkerProcess
from tests.conftest import EXTERNAL_TIMESERIES
from tests.database_logins import Logins, databases
from tests.gateways import Message, publish
from tests.integration.hostile_ground import Ground
from tests.recordings import recorded, write
from tests.servers import PostgresCluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.servers import Mosquitto

HOUR_S = 3_600
CATALOG = {
    "tenants": [{
        "name": "Invernaderos Sara",
        "prefix": "SARA",
        "greenhouses": [{
            "code": "01",
            "name": "North house",
            "sensors": [
                {"code": "T1", "sensor_type": "TEMPERATURE", "unit": "°C", "expected_interval_s": 10}
            ],
        }],
    }],
}  # fmt: skip
TOPIC = "GREENHOUSE/SARA/01"
FAULTS = ("database_fault", "mirror_failed", "catalog_refresh_failed", "broker_unavailable")
TABLE_RIGHTS = """
    select lower(p.privilege) || ' on ' || n.nspname || '.' || c.relname
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    cross join unnest(
        array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']
    ) as p (privilege)
    where n.nspname in ('metadata', 'iot', 'public')
        and c.relkind in ('r', 'v', 'm', 'p')
        and has_schema_privilege(n.oid, 'usage')
        and has_table_privilege(c.oid, p.privilege)
        and c.relname not like 'pg\\_%'
"""
COLUMN_RIGHTS = """
    select lower(p.privilege) || ' on ' || n.nspname || '.' || c.relname || '.' || a.attname
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) as p (privilege)
    where n.nspname in ('metadata', 'iot')
        and c.relkind in ('r', 'v', 'm', 'p')
        and has_schema_privilege(n.oid, 'usage')
        and has_column_privilege(c.oid, a.attnum, p.privilege)
        and not has_table_privilege(c.oid, p.privilege)
"""
# Those that run with the rights of their owner.
ROUTINE_RIGHTS = """
    select format('execute on %s.%s(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
    from pg_proc as p
    join pg_namespace as n on n.oid = p.pronamespace
    where n.nspname in ('metadata', 'iot')
        and p.prosecdef
        and p.prorettype <> 'trigger'::regtype
        and has_schema_privilege(n.oid, 'usage')
        and has_function_privilege(p.oid, 'execute')
"""
DATABASE_RIGHTS = """
    select p.privilege
    from unnest(array['create', 'connect', 'temporary']) as p (privilege)
    where has_database_privilege(current_database(), p.privilege)
"""
MORE_THAN_IT_NEEDS = """
    select r.rolsuper or r.rolcreatedb or r.rolcreaterole or r.rolreplication or r.rolbypassrls
        or has_database_privilege(current_database(), 'create')
        or exists (
            select from pg_namespace as n
            where has_schema_privilege(n.oid, 'create') and n.oid <> pg_my_temp_schema()
        )
        or exists (select from pg_class as c where c.relowner = r.oid and c.relpersistence <> 't')
        or (select count(*) from pg_auth_members as m where m.member = r.oid) <> 1
    from pg_roles as r
    where r.rolname = current_user
"""


class Installation:
    """Both databases, migrated by the migrator's login; ``admin`` DSNs are the test's own eyes."""

    def __init__(self, admin: dict[Database, str], logins: Logins, *, plain: bool) -> None:
        self.admin = admin
        self.logins = logins
        self.plain = plain

    def dsn(self, database: Database, role: Any) -> str:  # noqa: ANN401 (one of three literals)
        return self.logins.dsn(self.admin[database], role)

    def environment(self, role: str) -> dict[str, str]:
        return {f"INGEST_{database.upper()}_DSN": self.dsn(database, role) for database in Database}

    async def fetch(self, database: Database, query: str, role: str = "") -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.dsn(database, role) if role else self.admin[database])
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()

    async def fetchval(self, query: str) -> Any:  # noqa: ANN401 (as asyncpg's)
        return (await self.fetch(Database.TIMESERIES, query))[0][0]


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    with PostgresCluster() as running:
        yield running


@pytest.fixture(params=["plain", pytest.param("timescale", marks=pytest.mark.native)])
async def installation(
    request: pytest.FixtureRequest, cluster: PostgresCluster, tmp_path: Path
) -> AsyncIterator[Installation]:
    plain = request.param == "plain"
    server = cluster.dsn() if plain else os.environ[EXTERNAL_TIMESERIES]
    logins = Logins(plain=plain)
    async with databases(server, logins, 2) as dsns:
        made = Installation(dict(zip(Database, dsns, strict=True)), logins, plain=plain)
        for database, dsn in made.admin.items():
            name = urlsplit(dsn).path[1:]
            await made.fetch(database, f"revoke all on database {name} from public")
            logins.prepare(dsn, database)
            ground = Ground(dsn, database, tmp_path, plain=plain)
            await migrate(made.dsn(database, "migrator"), database, folder=ground.folder)
        yield made


def granted_to(role: str, database: Database, *kinds: str) -> set[str]:
    """Return what the snapshot says is granted to a group role: on tables, or of the *kinds* given."""
    wanted = kinds or ("select", "insert", "update", "delete")
    snapshot = (schema_folder(database).parent / "verify" / f"{database}.txt").read_text(encoding="utf-8")
    begin = f"grant greenhouse_{role} "
    lines = {line.removeprefix(begin) for line in snapshot.splitlines() if line.startswith(begin)}
    return {line for line in lines if line.split()[0] in wanted}


def import_catalog(ingest: CommandLine, installation: Installation) -> None:
    """Register the tenant, as the operator."""
    (ingest.directory / "catalog.json").write_text(json.dumps(CATALOG))
    done = ingest("catalog", "import", "catalog.json", environment=installation.environment("operator"))
    assert done.returncode == 0, done.stderr


def flat_map(**fields: object) -> Message:
    return Message(TOPIC, json.dumps(fields).encode())


async def test_the_worker_does_all_its_work(
    installation: Installation, ingest: CommandLine, broker: Mosquitto, tmp_path: Path
) -> None:
    import_catalog(ingest, installation)
    now_s = int(time.time())
    late_s = now_s - 4 * 24 * HOUR_S
    worker = WorkerProcess(
        tmp_path,
        broker_url=broker.url,
        dsn=installation.dsn(Database.TIMESERIES, "worker"),
        metadata_dsn=installation.dsn(Database.METADATA, "worker"),
        filters=["GREENHOUSE/#"],
    )

    async def holds(query: str) -> bool:
        return bool(await installation.fetchval(query))

    async def counted(name: str, value: int) -> None:
        query = f"select coalesce(sum(value), 0) >= {value} from iot.ingest_counters where counter = '{name}'"
        await worker.until(lambda: holds(query), f"{value} {name}")

    with worker:
        await worker.ready()
        await worker.until(
            lambda: holds("select count(*) = 1 from iot.sensor_intervals"), "the interval is mirrored"
        )
        # Straight, on time and late; then refused, unknown, null.
        await publish(broker.port, [
            flat_map(timestamp=now_s, TEMP_01=20.5, TEMP_02=21.5),
            flat_map(timestamp=late_s, TEMP_01=19.5),
            flat_map(TEMP_01=6484.1, HUMEDAD_01=None),
            Message(TOPIC, b"{"),
            flat_map(BOMBA=1),
        ])  # fmt: skip
        await counted("received", 5)
        assert await installation.fetchval("select count(*) from iot.ingest_late_buckets") == 1
        if not installation.plain:
            await installation.fetchval(
                "select count(compress_chunk(c)) from show_chunks('iot.sensor_readings') as c"
            )
        # Staged: the same again, another value for a key, and a new row among those that are compressed.
        await publish(broker.port, [
            flat_map(timestamp=now_s, TEMP_01=20.5, TEMP_02=22.5),
            flat_map(timestamp=late_s, TEMP_01=19.5, TEMP_02=18.5),
        ])  # fmt: skip
        await counted("duplicate", 2)
        # A name that the operator adds while the worker runs: heard of by NOTIFY, mirrored, used.
        alias = ("catalog", "add", "alias", "sensor-type", "BOMBA", "SENSOR")
        done = ingest(*alias, environment=installation.environment("operator"))
        assert done.returncode == 0, done.stderr
        await installation.fetch(
            Database.METADATA,
            "insert into metadata.units (id, symbol, name) values (12, 'kPa', 'Kilopascal')",
            "operator",
        )
        await worker.until(
            lambda: holds("select count(*) = 1 from iot.units where symbol = 'kPa'"), "the unit is mirrored"
        )
        checked = ingest("check", "--json", environment={
            **installation.environment("worker"), "INGEST_BROKER_URL": broker.url})  # fmt: skip
        failed = [each["name"] for each in report(checked)["checks"] if not each["ok"]]
        lacking = ["timeseries server", "timeseries schema"]  # the extension, and files made for it
        assert failed == (lacking if installation.plain else [])
        await worker.stop()
        assert [fault for fault in FAULTS if worker.events(fault)] == [], worker.log_text
        worker.never_traced_back()

        # Killed and started again: another claim of the session, and the end of what the first one left open.
        worker.start()
        await worker.ready()
        worker.kill9()
        worker.start()
        await worker.ready()
        await publish(broker.port, [flat_map(timestamp=now_s + 1, TEMP_01=20.25)])
        await counted("written", 5)
        await worker.stop()
        assert [fault for fault in FAULTS if worker.events(fault)] == [], worker.log_text
    values = await installation.fetch(Database.TIMESERIES, "select value from iot.sensor_readings order by 1")
    assert [row[0] for row in values] == [18.5, 19.5, 20.25, 20.5, 21.5]
    reasons = await installation.fetch(
        Database.TIMESERIES, "select distinct unnest(reasons) from iot.ingest_dead_letters order by 1"
    )
    assert [row[0] for row in reasons] == [
        "bad_payload", "conflicting_value", "out_of_range", "unknown_sensor_type"
    ]  # fmt: skip


@pytest.mark.parametrize("role", ["worker", "operator"])
async def test_a_login_may_do_what_its_role_may_and_nothing_else(
    installation: Installation, role: str
) -> None:
    for database in Database:
        granted = granted_to(role, database)
        routines = {row[0] for row in await installation.fetch(database, ROUTINE_RIGHTS, role)}
        assert routines <= granted_to(role, database, "execute")
        if installation.plain:  # without the continuous aggregates and their views
            rows = await installation.fetch(
                database, "select schemaname || '.' || relname from pg_stat_user_tables union all"
                          " select schemaname || '.' || viewname from pg_views")  # fmt: skip
            there = {row[0] for row in rows}
            granted = {line for line in granted if ".".join(line.split()[2].split(".")[:2]) in there}
        rights = await installation.fetch(database, TABLE_RIGHTS, role)
        rights += await installation.fetch(database, COLUMN_RIGHTS, role)
        assert {row[0] for row in rights} == granted
        rights = await installation.fetch(database, DATABASE_RIGHTS, role)
        assert [row[0] for row in rights] == [
            "connect", *(["temporary"] if database is Database.TIMESERIES else [])
        ]  # fmt: skip
        assert [tuple(row) for row in await installation.fetch(database, MORE_THAN_IT_NEEDS, role)] == [
            (False,)
        ]


async def test_check_names_all_that_a_worker_lacks(
    installation: Installation, ingest: CommandLine, broker: Mosquitto
) -> None:
    await installation.fetch(
        Database.TIMESERIES, "revoke all on all tables in schema iot from greenhouse_worker"
    )
    environment = {**installation.environment("worker"), "INGEST_BROKER_URL": broker.url}
    checks = {
        each["name"]: each for each in report(ingest("check", "--json", environment=environment))["checks"]
    }
    privileges = checks["timeseries privileges"]
    assert not privileges["ok"]
    lacking = (
        privileges["detail"].removeprefix("this login lacks ").partition(": grant it greenhouse_worker")[0]
    )
    needed = granted_to("worker", Database.TIMESERIES) - {"select on iot.schema_history"}
    assert sorted(lacking.split(", ")) == sorted(needed)


async def test_the_operator_looks_after_catalog_and_dead_letters(
    installation: Installation, ingest: CommandLine
) -> None:
    import_catalog(ingest, installation)
    environment = installation.environment("operator")
    await installation.fetch(Database.TIMESERIES, f"""
        insert into iot.ingest_dead_letters
            (received_at, client_id, topic, payload, payload_bytes, rejected, reasons, rejected_count)
        select now(), 'w', '{TOPIC}', payload, octet_length(payload), rejected, '{{unknown_tenant}}', 1
        from (values
            (
                '{{"TEMP_01": 20.5}}'::bytea,
                '[{{"field": "TEMP_01", "reason": "unknown_tenant", "detail": ""}}]'::jsonb
            )
        ) as letter (payload, rejected)
    """)  # fmt: skip
    (ingest.directory / "h.csv").write_text(
        "time,value,sensor,greenhouse,tenant\n"
        "2024-07-01T10:00:00Z,7.25,T1,01,SARA\n2024-07-01T10:00:00Z,7.25,T1,01,SARA\n"
    )
    write(ingest.directory / "a.jsonl.gz", [recorded({"TEMP_01": 7.5}, 0, TOPIC)])
    for command in (
        ("catalog", "list", "sensors"),
        ("catalog", "add", "tenant", "--name", "Hortamed", "--prefix", "HORTAMED"),
        ("dead-letters", "list"),
        ("dead-letters", "show", "1"),
        ("dead-letters", "replay"),
        ("dead-letters", "purge", "--all", "--yes"),
        ("import", "h.csv"),
        ("replay", "a.jsonl.gz", "--direct", "--connections", "1"),
        ("reconcile",),
        ("schema", "status", "--database", "metadata"),
    ):
        done = ingest(*command, environment=environment)
        assert done.returncode == 0, (command, done.stderr, done.stdout)
    assert await installation.fetchval("select count(*) from iot.sensor_readings where value = 20.5") == 1
    export = ("export", "--since", "2024-01-01", "--tenant", "SARA", "--type", "temperature", "--json")
    done = ingest(*export, "--output", "h.jsonl", environment=installation.environment("reader"))
    assert (done.returncode, report(done)["rows"]) == (0, 3), done.stderr
    refused = ingest("schema", "undo", "--database", "metadata", environment=environment)
    assert refused.returncode == 1
    assert "docs/database-logins.md" in refused.stderr
