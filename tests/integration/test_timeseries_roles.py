"""The group roles of schema iot, both ways: what each has to do works, everything else is refused."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest

from ingest.migrate import Database, schema_folder
from ingest.model import Rejection, Row, Series
from ingest.write import deadletters, journal, letters, overflow, sessions
from ingest.write.batch import DeadLetter
from ingest.write.budget import Budget
from ingest.write.copy import copy_straight, pack
from ingest.write.ledger import Booking, GatewayHour
from ingest.write.staged import insert_staged
from tests.integration.timeseries_rows import GREENHOUSE, TENANT, hold_jobs
from tests.letters import letter, replay_all, store, under

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.integration.timeseries_rows import Iot

SERIES = Series(GREENHOUSE, TENANT, uuid4(), 1, 1, -50.0, 100.0)
NOON_US = 1_763_373_600_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BOOKING = Booking(
    {(NOON_US, "greenhouse/A1"): GatewayHour(TENANT)}, Counter({(NOON_US, GREENHOUSE, TENANT): 1})
)
AGGREGATES = (
    "cagg_sensor_readings_hourly",
    "cagg_sensor_readings_daily",
    "cagg_sensor_readings_monthly",
    "cagg_greenhouse_conditions_realtime",
    "cagg_sensor_health_hourly",
    "v_sensor_readings_hourly",
    "v_sensor_readings_daily",
    "v_sensor_readings_monthly",
    "v_sensor_health_hourly",
    "v_latest_greenhouse_conditions",
    "v_sensors_needing_attention",
)
READABLE = (
    "sensor_readings",
    "v_sensor_readings_denormalized",
    "units",
    "sensor_types",
    "sensor_intervals",
    "sensor_readings_hourly",
    "sensor_readings_daily",
    "sensor_readings_monthly",
    "greenhouse_daily_summary",
    "sensor_performance_daily",
)
LEDGERS = ("ingest_gateway_hours", "ingest_written_hours", "ingest_late_buckets", "v_ingest_sessions")
"""Of the journal what `ingest status` shows to a reader too."""
JOURNAL = (
    "ingest_sessions",
    "ingest_counters",
    "ingest_gateway_hours",
    "ingest_written_hours",
    "ingest_dead_letters",
    "ingest_dead_letter_overflow",
    "ingest_late_buckets",
    "v_ingest_sessions",
    "v_ingest_dead_letters_by_reason",
    "v_ingest_missing_names",
)


@pytest.fixture(params=["plain", "timescale"])
def server(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The kind of a server and the DSN of a database with schema iot there."""
    kind = str(request.param)
    return kind, request.getfixturevalue("timeseries_dsn" if kind == "plain" else "migrated_dsn")


@pytest.fixture
async def iot(server: tuple[str, str]) -> AsyncIterator[Iot]:
    """Schema iot with one reading, once on plain PostgreSQL and once on TimescaleDB, there compressed."""
    kind, dsn = server
    connection = await asyncpg.connect(dsn)
    if kind == "timescale":
        await hold_jobs(connection)
    await copy_straight(connection, [pack([Row(SERIES, NOON_US, 20.0, None, "T")])])
    if kind == "timescale":
        await connection.execute("select compress_chunk(c) from show_chunks('iot.sensor_readings') as c")
    yield connection
    await connection.close()


NOT_THE_WORKERS = (
    "update iot.sensor_readings set value = 0",
    "delete from iot.sensor_readings",
    "truncate iot.sensor_readings",
    "update iot.ingest_dead_letters set topic = ''",
    "update iot.ingest_dead_letters set payload = ''",
    "update iot.ingest_dead_letters set received_at = now()",
    "truncate iot.ingest_dead_letters",
    "select * from iot.v_ingest_missing_names",
    "truncate iot.ingest_sessions",
    "delete from iot.ingest_counters",
    "delete from iot.ingest_gateway_hours",
    "delete from iot.ingest_written_hours",
    "select iot.fold_ledger_hours_before('infinity')",
    "delete from iot.ingest_late_buckets",
    "delete from iot.units",
    "delete from iot.sensor_types",
    "insert into iot.sensor_readings_hourly default values",
    "select count(*) from iot.sensor_readings_daily",
    "alter table iot.sensor_readings add column x int",
    "drop table iot.ingest_dead_letters",
    "create table iot.mine (id int)",
    "create schema mine",
)


def tables(names: Sequence[str]) -> list[str]:
    """Leave out the views, of which none can be written to by anybody."""
    return [name for name in names if not name.startswith("v_")]


async def nothing() -> None:
    """What the broker is asked, where there is none."""


async def refused(iot: Iot, statement: str) -> None:
    try:
        await iot.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return
    pytest.fail(f"not refused: {statement}")


on_servers_with_copy = pytest.mark.parametrize(
    "server", ["plain", pytest.param("timescale", marks=pytest.mark.native)], indirect=True
)
"""The embedded server reads a file behind each COPY, which takes a superuser there."""


@on_servers_with_copy
async def test_the_worker_does_its_work(iot: Iot) -> None:
    await iot.execute("set role greenhouse_worker")
    known = Row(SERIES, NOON_US, 20.0, None, "T")
    conflicting = Row(SERIES, NOON_US, 21.0, b'{"b": 1}', "T")
    claim = await journal.claim(iot, "w", uuid4(), epoch=None)
    async with iot.transaction():
        await copy_straight(iot, [pack([Row(SERIES, NOON_US + 1_000_000, 20.5, None, "T")])])
        letter = DeadLetter(NOON_US, "a/b", b"{}", TENANT, (Rejection("T", "bad_value", "x"),))
        await deadletters.store(iot, "w", [letter], max_payload_bytes=1000)
        await overflow.add(iot, "w", Budget(0).divide([letter]))
        await journal.record(iot, "w", claim.epoch, uuid4(), [1 << 32], {"received": 1}, BOOKING)
    async with iot.transaction():
        inserted = await insert_staged(iot, pack([known, conflicting]), "dead_letter")
        assert (inserted.written, len(inserted.duplicates), len(inserted.conflicts)) == (0, 1, 1)
        late = Row(SERIES, NOON_US + 500_000, 20.25, None, "T")
        assert (await insert_staged(iot, pack([late]), "dead_letter")).written == 1
        unstorable = Row(SERIES, NOON_US + 750_000, 20.3, rb'{"note": "\u0000"}', "T")
        assert list((await insert_staged(iot, pack([unstorable]), "dead_letter")).refused) == [0]
        await journal.record(iot, "w", claim.epoch, uuid4(), [1 << 32, 2 << 32], {"received": 1}, BOOKING)
    await journal.suspect(iot, "w", claim.epoch, bytes(32))
    await journal.store_filters(iot, "w", claim.epoch, ["a/#"])
    await journal.forget(iot, "w", claim.epoch, [])
    again = await journal.claim(iot, "w", uuid4(), epoch=claim.epoch)
    assert (again.filters, again.pending, again.poison) == (("a/#",), [], [bytes(32)])
    await journal.take_leave(iot, "w", uuid4())
    for _ in range(2):
        await iot.execute(
            """
            insert into iot.ingest_late_buckets as stored (bucket, greenhouse_id, sensor_type_id, rows)
            values ('2025-11-17T12:00Z', $1, 1, 3)
            on conflict (bucket, greenhouse_id, sensor_type_id) do update
                set rows = stored.rows + excluded.rows, noted_at = now()
            """,
            GREENHOUSE,
        )
        await iot.execute("""
            insert into iot.units (id, symbol) values (12, 'kPa')
            on conflict (id) do update set symbol = excluded.symbol
        """)
        await iot.execute("""
            insert into iot.sensor_types (id, name) values (12, 'PH')
            on conflict (id) do update set name = excluded.name
        """)
        await iot.execute(
            """
            insert into iot.sensor_intervals values ($1, $2, 60)
            on conflict (sensor_id) do update set expected_interval_s = excluded.expected_interval_s
            """,
            SERIES.sensor_id,
            GREENHOUSE,
        )
    await iot.execute("delete from iot.sensor_intervals where sensor_id <> all ($1::uuid[])", [])
    assert await sessions.try_lock(iot, "g")
    grouped = await journal.claim(iot, "g", uuid4(), epoch=None, group="group")
    async with iot.transaction():
        await sessions.end(iot, "g", grouped.epoch, nothing)
    await iot.execute("reset role")
    assert await iot.fetchval("select client_id from iot.ingest_sessions") == "w"
    assert await iot.fetchval("select count(*) from iot.sensor_readings") == 3
    assert await iot.fetchval("select value from iot.ingest_counters where counter = 'received'") == 2


@on_servers_with_copy
@pytest.mark.parametrize("role", ["greenhouse_worker", "greenhouse_operator"])
async def test_worker_and_operator_take_letters_up_again(iot: Iot, role: str) -> None:
    label = "label x"
    (first, *_) = await store(
        iot,
        letter({"SENSOR_01": 1}, ("SENSOR_01", "unknown_unit"), receipt_us=NOON_US, missing=[label]),
        letter(
            {"SENSOR_01": 1, "A": 2}, ("SENSOR_01", "inactive"), ("A", "inactive"), receipt_us=NOON_US + 1
        ),
    )
    await iot.execute(f"set role {role}")
    assert (await letters.missing_names(iot, EPOCH, 10))[0] == [label]
    assert await letters.lacking(iot, [label], 0, 10) == [first]
    late_us = NOON_US + 9 * 86_400_000_000
    rehearsed = await replay_all(iot, under(), keep=False, now_us=late_us)
    replayed = await replay_all(iot, under(), now_us=late_us)
    assert replayed == rehearsed
    assert (replayed.written, replayed.settled, replayed.hours_noted) == (2, 1, 1)
    assert (await iot.execute("delete from iot.ingest_dead_letters")) == "DELETE 1"


async def test_the_worker_does_nothing_else(iot: Iot) -> None:
    await iot.execute("set role greenhouse_worker")
    for statement in NOT_THE_WORKERS:
        await refused(iot, statement)


async def test_readers_see_what_was_measured_and_no_more(iot: Iot) -> None:
    views = AGGREGATES if await iot.fetchval("select to_regclass('iot.v_sensor_readings_daily')") else ()
    await iot.execute("set role greenhouse_reader")
    for name in (*READABLE, *LEDGERS, *views):
        await iot.fetch(f"select * from iot.{name}")
    for name in tables((*READABLE, *LEDGERS)):
        await refused(iot, f"delete from iot.{name}")
    for name in set(JOURNAL) - set(LEDGERS):
        await refused(iot, f"select * from iot.{name}")
    await iot.fetch("select received_at, reasons from iot.ingest_dead_letters")
    await iot.fetch("select hour, readings from iot.ingest_dead_letter_overflow")
    for column in ("payload", "topic", "rejected", "client_id"):
        await refused(iot, f"select {column} from iot.ingest_dead_letters")
    await refused(iot, "select topic from iot.ingest_dead_letter_overflow")
    await refused(iot, "insert into iot.units (id, symbol) values (13, 'x')")
    await refused(iot, "create table iot.mine (id int)")


async def test_operators_see_everything_and_change_nothing_measured(iot: Iot) -> None:
    timescale = await iot.fetchval("select to_regclass('iot.v_sensor_readings_daily')")
    await iot.execute("set role greenhouse_operator")
    for name in (*READABLE, *JOURNAL, *(AGGREGATES if timescale else ())):
        await iot.fetch(f"select * from iot.{name}")
    for name in {*tables((*READABLE, *JOURNAL))} - {"ingest_dead_letters"}:
        await refused(iot, f"delete from iot.{name}")
    await refused(iot, "update iot.ingest_sessions set epoch = 0")
    await refused(iot, "update iot.sensor_readings set value = 0")
    await refused(iot, "update iot.ingest_dead_letters set payload = ''")
    await refused(iot, "insert into iot.ingest_dead_letters default values")
    await refused(iot, "insert into iot.ingest_counters values ('w', 'written', 1)")
    await refused(iot, "insert into iot.ingest_gateway_hours default values")
    if timescale:
        assert await iot.fetchval("select iot.note_late_buckets('-infinity', 'infinity')") == 1
        await refused(iot, "select iot.roll_up_sensor_readings_hourly('-infinity', 'infinity')")
        await refused(iot, "call iot.recompute_late_buckets(0, '{}')")


async def test_the_migrator_makes_objects_and_records_them(iot: Iot) -> None:
    await iot.execute("set role greenhouse_migrator")
    await iot.execute("create table iot.mine (id int)")
    await iot.execute("drop table iot.mine")
    await refused(iot, "drop table iot.sensor_readings")
    await refused(iot, "select * from iot.ingest_dead_letters")


async def test_the_roles_cannot_log_in_and_repeating_the_file_is_harmless(iot: Iot) -> None:
    (path,) = schema_folder(Database.TIMESERIES).glob("V17__*.sql")
    if await iot.fetchval("select to_regclass('iot.v_sensor_readings_daily')"):
        await iot.execute(path.read_text(encoding="utf-8"))
    roles = await iot.fetch("""
        select rolcanlogin or rolsuper or rolcreatedb or rolcreaterole or rolbypassrls
        from pg_roles where rolname like 'greenhouse\\_%'
    """)
    assert [role[0] for role in roles] == [False] * 4


async def test_who_may_not_create_roles_is_told_what_to_do(postgres_dsn: str) -> None:
    """The roles may be there already, from another database: one of another name stands for a missing one."""
    (path,) = schema_folder(Database.TIMESERIES).glob("V17__*.sql")
    beginning = (
        path.read_text(encoding="utf-8").split("$$;")[0].replace("greenhouse_worker", "greenhouse_wanting")
    )
    connection = await asyncpg.connect(postgres_dsn)
    try:
        for role in ("greenhouse_migrator", "greenhouse_operator", "greenhouse_reader"):
            if not await connection.fetchval("select count(*) from pg_roles where rolname = $1", role):
                await connection.execute(f"create role {role} nologin")
        name = f"weak_{uuid4().hex[:8]}"
        await connection.execute(f"create role {name}; set role {name}")
        with pytest.raises(
            asyncpg.PostgresError, match=f"greenhouse_wanting is missing, and {name}"
        ) as caught:
            await connection.execute(beginning + "$$")
        assert "create role greenhouse_wanting nologin" in str(caught.value.hint)
        await connection.execute(f"reset role; drop role {name}")
    finally:
        await connection.close()
