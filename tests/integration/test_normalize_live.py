"""`ingest normalize` on a live database of the system before: what it maps, merges, leaves and reports."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from pydantic import SecretStr

from ingest.errors import CheckFailed
from ingest.migrate import Database, migrate, verify
from ingest.operate.normalize import normalize, recompute_noted_hours
from ingest.operate.normalize_legacy import drop_legacy_columns
from ingest.settings import Settings
from tests.live_v11 import GREENHOUSE, STRANGE_GREENHOUSE, TENANT, build

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ingest.operate.normalize_report import Report
    from ingest.operate.progress import Progress
    from tests.live_v11 import LiveV11

ROWS = 3_000
LACKING = """
    select count(*)
    from iot.sensor_readings
    where tenant_id is null or sensor_type_id is null or unit_id is null
"""
CONTENT = "select count(*), sum(hashtextextended(r::text, 0)::numeric) from iot.sensor_readings as r"
COMPRESSION = """
    select c.is_compressed, s.segmentby
    from timescaledb_information.chunks as c
    left join timescaledb_information.chunk_columnstore_settings as s
        on s.chunk = format('%I.%I', c.chunk_schema, c.chunk_name)::regclass
    where c.hypertable_name = 'sensor_readings'
    order by c.range_start
"""


class Live:
    """A migrated database of the system before, and the settings that lead to it."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], dsn: str, content: LiveV11) -> None:
        self.connection = connection
        self.dsn = dsn
        self.content = content
        self.settings = Settings(metadata_dsn=SecretStr(dsn), timeseries_dsn=SecretStr(dsn))

    async def count(self, sql: str, *arguments: object) -> int:
        return int(await self.connection.fetchval(sql, *arguments))

    async def log(self) -> list[tuple[Any, ...]]:
        rows = await self.connection.fetch("""
            select status, successful_records, failed_records
            from metadata.bulk_operation_log
            where operation_type = 'NORMALIZE'
            order by id
        """)
        return [tuple(row) for row in rows]


@pytest.fixture
async def live(timescale_dsn: str) -> AsyncIterator[Live]:
    content = await build(timescale_dsn, rows=ROWS)
    for database in Database:
        await migrate(timescale_dsn, database)
    connection = await asyncpg.connect(timescale_dsn)
    yield Live(connection, timescale_dsn, content)
    await connection.close()


def counts(report: Report) -> dict[str, int]:
    return {
        "found": report.found,
        "mapped": report.mapped,
        "merged": report.merged,
        "differing": report.differing,
        "unmapped": report.unmapped,
        "pending": report.pending,
        "arrived": report.arrived,
        "no_sensor": report.no_sensor,
    }


def expected(content: LiveV11) -> dict[str, int]:
    return {
        "found": content.rows,
        "mapped": content.plain + 2 * content.no_sensor + content.identical + content.differing,
        "merged": content.identical,
        "differing": content.differing,
        "unmapped": content.unmapped,
        "pending": 0,
        "arrived": 0,
        "no_sensor": 2 * content.no_sensor,
    }


def unknown(report: Report) -> dict[tuple[str, str], int]:
    return {(one.reason, one.name): one.rows for one in report.most_rows_first()}


async def test_the_migrations_take_a_live_v11_as_it_is(live: Live) -> None:
    for database in Database:
        assert await verify(live.dsn, database) == []
        assert await migrate(live.dsn, database) == []
    assert await live.count("select count(*) from iot.sensor_readings") == live.content.rows
    assert await live.count(LACKING) == live.content.rows
    aside = await live.connection.fetch("""
        select view_name from timescaledb_information.continuous_aggregates where view_name like '%_v11'
        order by 1
    """)
    assert [row[0] for row in aside] == ["sensor_readings_daily_by_tenant_v11", "sensor_readings_hourly_v11"]
    without_key = await live.count("""
        select count(*)
        from show_chunks('iot.sensor_readings') as c
        where not exists (
            select
            from pg_index as i
            where i.indrelid = c
                and i.indisunique
                and i.indisvalid
        )
    """)
    assert without_key == 0
    ages = await live.connection.fetchval("""
        select array_agg(config ->> 'compress_after')
        from timescaledb_information.jobs
        where hypertable_name = 'sensor_readings' and proc_name = 'policy_compression'
    """)
    assert ages == ["3 days"]
    names = await live.connection.fetch("""
        select a.actuator_type, t.name
        from metadata.actuators as a
        left join metadata.actuator_types as t on t.id = a.actuator_type_id
        order by 1
    """)
    assert [tuple(row) for row in names] == [("EXTRACTOR", None), ("FAN", "FAN"), ("Valve", "VALVE")]
    assert await live.count("select count(*) from metadata.sensors where sensor_type_id is null") == 0


async def test_a_rehearsal_writes_nothing_and_says_exactly_what_a_run_does(live: Live) -> None:
    before = await live.connection.fetchrow(CONTENT)
    chunks = await live.connection.fetch(COMPRESSION)
    rehearsed = await normalize(live.settings, dry_run=True)
    assert await live.connection.fetchrow(CONTENT) == before
    assert await live.connection.fetch(COMPRESSION) == chunks
    assert await live.log() == []
    assert counts(rehearsed) == expected(live.content)
    done = await normalize(live.settings)
    assert counts(done) == expected(live.content)
    assert done.unknown == rehearsed.unknown
    assert done.examples == rehearsed.examples
    assert (rehearsed.clean, done.clean) == (False, False)


async def test_all_that_the_catalog_knows_is_mapped_and_nothing_else(live: Live) -> None:
    report = await normalize(live.settings)
    content = live.content
    assert unknown(report) == {
        ("unknown_type", "VIBRATION"): content.unknown_type,
        ("unknown_unit", "bananas"): content.unknown_unit,
        ("unknown_greenhouse", STRANGE_GREENHOUSE): content.unknown_greenhouse,
        ("no_type", "(blank)"): content.blank_type,
    }
    assert await live.count(LACKING) == content.unmapped + content.differing
    assert await live.count("select count(*) from iot.sensor_readings") == content.rows - content.identical
    pairs = await live.connection.fetch("""
        select distinct upper(btrim(r.sensor_type)) as written, t.name
        from iot.sensor_readings as r
        left join iot.sensor_types as t on t.id = r.sensor_type_id
        order by 1, 2
    """)
    assert [tuple(row) for row in pairs] == [
        ("", None),
        ("CO2", "CO2"),
        ("HUMEDAD", "HUMIDITY"),
        ("HUMIDITY", "HUMIDITY"),
        ("LIGHT", "LIGHT"),
        ("SOIL MOISTURE", "SOIL_MOISTURE"),
        ("SOIL-MOISTURE", "SOIL_MOISTURE"),
        ("SOIL_MOISTURE", "SOIL_MOISTURE"),
        ("TEMPERATURA", "TEMPERATURE"),
        ("TEMPERATURA", None),  # the readings that differ
        ("TEMPERATURE", "TEMPERATURE"),
        ("VIBRATION", None),
    ]
    units = await live.connection.fetch("""
        select r.sensor_id::text, array_agg(distinct u.symbol order by u.symbol)
        from iot.sensor_readings as r
        join iot.units as u on u.id = r.unit_id
        where r.sensor_id in (
            '00000000-0000-4000-8000-000000000003',
            '00000000-0000-4000-8000-000000000004',
            '00000000-0000-4000-8000-000000000006'
        )
        group by 1
        order by 1
    """)
    # Without a unit: the registered sensor's (°F), not its type's (°C).
    assert [row[1] for row in units] == [["lux"], ["%"], ["°F"]]
    tenants = await live.connection.fetch(
        "select distinct tenant_id::text from iot.sensor_readings order by 1"
    )
    assert [row[0] for row in tenants] == [TENANT, None]
    assert await live.log() == [
        ("PARTIAL", report.mapped + report.merged, report.unmapped + report.differing)
    ]


async def test_chunks_that_were_compressed_are_again_by_ids(live: Live) -> None:
    before = await live.connection.fetch(COMPRESSION)
    assert {row["segmentby"] for row in before if row["is_compressed"]} == {"greenhouse_id,sensor_type"}
    report = await normalize(live.settings)
    after = await live.connection.fetch(COMPRESSION)
    for old, new in zip(before, after, strict=True):
        assert new["is_compressed"] or not old["is_compressed"]
        if new["is_compressed"]:
            assert new["segmentby"] == "greenhouse_id,tenant_id,sensor_type_id"
    assert report.recompressed == sum(row["is_compressed"] for row in before) > 0


async def test_a_reading_that_differs_is_left_and_shown(live: Live) -> None:
    report = await normalize(live.settings)
    assert len(report.examples) == live.content.differing
    first = report.examples[0]
    assert (first.value, first.kept_value, first.sensor_type, first.unit) == (66.0, 6.0, "temperatura", "")
    left = await live.connection.fetch("""
        select value from iot.sensor_readings where sensor_type_id is null and sensor_type = 'temperatura'
    """)
    assert len(left) == live.content.differing
    again = await normalize(live.settings)
    assert (again.mapped, again.differing, again.unmapped, again.recompressed) == (
        0,
        live.content.differing,
        live.content.unmapped,
        0,
    )


async def test_an_alias_added_later_has_the_rest_mapped(live: Live) -> None:
    await normalize(live.settings)
    await live.connection.execute(f"""
        insert into metadata.sensor_type_aliases (alias, sensor_type_id) values ('VIBRATION', 11);
        insert into metadata.unit_aliases (alias, unit_id) values ('BANANAS', 3);
        insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code)
        values ('{STRANGE_GREENHOUSE}', '{TENANT}', 'found again', '99');
        insert into metadata.sensors (id, greenhouse_id, tenant_id, sensor_code, sensor_type)
        values ('00000000-0000-4000-8000-0000000000aa', '{GREENHOUSE}', '{TENANT}', 'U', 'HUMIDITY');
        delete from iot.sensor_readings where sensor_type_id is null and sensor_type = 'temperatura';
    """)
    report = await normalize(live.settings)
    # Rows without a type name take the type of the sensor that is registered now.
    assert (report.mapped, report.found, report.clean) == (
        live.content.unmapped,
        live.content.unmapped,
        True,
    )
    assert await live.count(LACKING) == 0
    assert (await live.log())[-1][0] == "COMPLETED"


async def test_what_was_interrupted_is_taken_up_by_the_next_run(live: Live) -> None:
    stop = asyncio.Event()

    def after_a_while(progress: Progress) -> None:
        if progress.doing != "survey" and progress.done > ROWS // 3:
            stop.set()

    first = await normalize(live.settings, stop=stop, on_progress=after_a_while)
    assert first.interrupted
    assert 0 < first.mapped < live.content.plain
    assert first.pending > 0
    assert first.found == live.content.rows
    second = await normalize(live.settings)
    assert first.mapped + second.mapped == expected(live.content)["mapped"]
    assert first.merged + second.merged == live.content.identical
    assert (second.differing, second.unmapped) == (live.content.differing, live.content.unmapped)
    assert [entry[0] for entry in await live.log()] == ["CANCELLED", "PARTIAL"]


async def test_a_run_that_was_killed_is_told_as_such(live: Live) -> None:
    await live.connection.execute("""
        insert into metadata.bulk_operation_log (operation_type, target_table)
        values ('NORMALIZE', 'iot.sensor_readings')
    """)
    await normalize(live.settings)
    assert [entry[0] for entry in await live.log()] == ["CANCELLED", "PARTIAL"]


async def test_one_run_at_a_time(live: Live) -> None:
    other = await asyncpg.connect(live.dsn)
    try:
        assert await other.fetchval("select pg_try_advisory_lock(5147260403)")
        with pytest.raises(CheckFailed, match="another `ingest normalize` is at work"):
            await normalize(live.settings)
    finally:
        await other.close()


async def test_rows_meet_those_that_the_worker_wrote(live: Live) -> None:
    await normalize(live.settings)
    await live.connection.execute(f"""
        insert into iot.sensor_readings
            (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
        select now() - n * interval '1 second', '{GREENHOUSE}', '{TENANT}',
            '00000000-0000-4000-8000-000000000001', 1, 1, n
        from generate_series(1, 4) as n;
        insert into iot.sensor_readings (time, greenhouse_id, sensor_id, sensor_type, unit, value, metadata)
        select time, greenhouse_id, sensor_id, ' Temperatura ', 'C', value + (value = 3)::int,
            case when value = 4 then '{{"a": 1}}'::jsonb end
        from iot.sensor_readings
        where time > now() - interval '10 seconds' and sensor_type_id = 1 and sensor_type is null;
    """)
    report = await normalize(live.settings)
    # Two are the same, one has another value, one says more than the worker's.
    assert (report.mapped, report.merged) == (0, 2)
    assert report.differing == live.content.differing + 2


async def test_the_aggregates_learn_of_old_hours(live: Live) -> None:
    report = await normalize(live.settings)
    assert report.hours_noted > 100
    left = await recompute_noted_hours(live.settings, stop=asyncio.Event())
    assert left == 0
    differing = await live.count("""
        with plain as (
            select date_trunc('hour', time, 'UTC') as bucket, greenhouse_id, tenant_id, sensor_type_id,
                unit_id, count(*) as readings, sum(value) as total
            from iot.sensor_readings
            where tenant_id is not null and sensor_type_id is not null and unit_id is not null
            group by 1, 2, 3, 4, 5
        )
        select count(*)
        from plain as p
        full join iot.cagg_sensor_readings_hourly as a
            using (bucket, greenhouse_id, tenant_id, sensor_type_id, unit_id)
        full join iot.sensor_readings_hourly as h
            using (bucket, greenhouse_id, tenant_id, sensor_type_id, unit_id)
        where bucket < date_trunc('hour', now() - interval '3 hours')
            and (
                p.readings is distinct from a.count_readings
                or p.readings is distinct from h.count_readings
                or abs(p.total - a.avg_value * a.count_readings) > 1e-6
            )
    """)
    assert differing == 0
    assert await live.count("select count(*) from iot.sensor_readings_hourly") > 100


async def test_the_legacy_columns_are_dropped_only_when_nobody_needs_them(live: Live) -> None:
    with pytest.raises(CheckFailed, match=r"materialized view iot\.sensor_readings_hourly_v11"):
        await drop_legacy_columns(live.settings)
    await live.connection.execute("drop materialized view iot.sensor_readings_hourly_v11")
    await live.connection.execute("drop materialized view iot.sensor_readings_daily_by_tenant_v11")
    await normalize(live.settings)
    remaining = live.content.unmapped + live.content.differing
    with pytest.raises(CheckFailed, match=f"{remaining} rows lack an id"):
        await drop_legacy_columns(live.settings)
    assert await live.count("select count(sensor_type) from iot.sensor_readings") > ROWS
    await live.connection.execute("""
        set timescaledb.max_tuples_decompressed_per_dml_transaction = 0;
        delete from iot.sensor_readings
        where tenant_id is null or sensor_type_id is null or unit_id is null;
    """)
    dropped = await drop_legacy_columns(live.settings)
    assert dropped.columns == 2
    assert await drop_legacy_columns(live.settings) == (0, 0)
    rows = live.content.rows - live.content.identical - remaining
    shown = await live.count("""
        select count(*)
        from iot.v_sensor_readings_denormalized
        where sensor_type is not null and unit is not null
    """)
    assert shown == rows
    insert = """
        insert into iot.sensor_readings
            (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
        values (now() - interval '9 days', $1::uuid, $2::uuid, $1::uuid, 1, $3, 1)
    """
    await live.connection.execute(insert, GREENHOUSE, TENANT, 1)
    with pytest.raises(asyncpg.NotNullViolationError):
        await live.connection.execute(insert, GREENHOUSE, TENANT, None)
    assert (await normalize(live.settings)).found == 0
    assert await verify(live.dsn, Database.TIMESERIES) == []
