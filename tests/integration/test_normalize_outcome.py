"""What `ingest normalize` leaves of a live database of the system before: in one database, after two runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from ingest.migrate import Database, migrate, verify
from ingest.operate.normalize import normalize, recompute_noted_hours
from tests.integration.live_database import LACKING, Live, build_migrated, connected, counts, expected
from tests.live_v11 import STRANGE_GREENHOUSE, TENANT, LiveV11

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from ingest.operate.normalize_report import Report

CONTENT = "select count(*), sum(hashtextextended(r::text, 0)::numeric) from iot.sensor_readings as r"
COMPRESSION = """
    select c.is_compressed, s.segmentby
    from timescaledb_information.chunks as c
    left join timescaledb_information.chunk_columnstore_settings as s
        on s.chunk = format('%I.%I', c.chunk_schema, c.chunk_name)::regclass
    where c.hypertable_name = 'sensor_readings'
    order by c.range_start
"""


class Seen(NamedTuple):
    """What was in the tables at one moment."""

    rows: asyncpg.Record
    lacking: int
    chunks: list[asyncpg.Record]
    log: list[tuple[Any, ...]]


class Outcome(NamedTuple):
    """What each step reported and left, in their order."""

    content: LiveV11
    problems: list[str]
    migrated_again: list[object]
    as_migrated: Seen
    rehearsed: Report
    as_rehearsed: Seen
    report: Report
    as_run: Seen
    again: Report


async def see(live: Live) -> Seen:
    rows = await live.connection.fetchrow(CONTENT)
    assert rows is not None
    return Seen(rows, await live.count(LACKING), await live.connection.fetch(COMPRESSION), await live.log())


async def run(dsn: str) -> Outcome:
    content = await build_migrated(dsn)
    problems = [line for database in Database for line in await verify(dsn, database)]
    migrated_again = [file for database in Database for file in await migrate(dsn, database)]
    async with connected(dsn, content) as live:
        as_migrated = await see(live)
        rehearsed = await normalize(live.settings, dry_run=True)
        as_rehearsed = await see(live)
        report = await normalize(live.settings)
        as_run = await see(live)
        again = await normalize(live.settings)
    return Outcome(
        content,
        problems,
        list(migrated_again),
        as_migrated,
        rehearsed,
        as_rehearsed,
        report,
        as_run,
        again,
    )


@pytest.fixture(scope="module")
def outcome(module_timescale_dsn: str) -> Outcome:
    """Migrated, rehearsed, run, and run again."""
    return asyncio.run(run(module_timescale_dsn))


@pytest.fixture
async def live(module_timescale_dsn: str, outcome: Outcome) -> AsyncIterator[Live]:
    async with connected(module_timescale_dsn, outcome.content) as opened:
        yield opened


def unknown(report: Report) -> dict[tuple[str, str], int]:
    return {(one.reason, one.name): one.rows for one in report.most_rows_first()}


async def test_the_migrations_take_a_live_v11_as_it_is(live: Live, outcome: Outcome) -> None:
    assert outcome.problems == outcome.migrated_again == []
    assert outcome.as_migrated.rows["count"] == outcome.as_migrated.lacking == live.content.rows
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


def test_a_rehearsal_writes_nothing_and_says_exactly_what_a_run_does(outcome: Outcome) -> None:
    assert outcome.as_rehearsed == outcome.as_migrated
    assert outcome.as_rehearsed.log == []
    rehearsed, done = outcome.rehearsed, outcome.report
    assert counts(rehearsed) == counts(done) == expected(outcome.content)
    assert done.unknown == rehearsed.unknown
    assert done.examples == rehearsed.examples
    assert (rehearsed.clean, done.clean) == (False, False)


async def test_all_that_the_catalog_knows_is_mapped_and_nothing_else(live: Live, outcome: Outcome) -> None:
    report, content = outcome.report, live.content
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
    assert outcome.as_run.log == [
        ("PARTIAL", report.mapped + report.merged, report.unmapped + report.differing)
    ]


def test_chunks_that_were_compressed_are_again_by_ids(outcome: Outcome) -> None:
    before, after = outcome.as_migrated.chunks, outcome.as_run.chunks
    assert {row["segmentby"] for row in before if row["is_compressed"]} == {"greenhouse_id,sensor_type"}
    for old, new in zip(before, after, strict=True):
        assert new["is_compressed"] or not old["is_compressed"]
        if new["is_compressed"]:
            assert new["segmentby"] == "greenhouse_id,tenant_id,sensor_type_id"
    assert outcome.report.recompressed == sum(row["is_compressed"] for row in before) > 0


async def test_a_reading_that_differs_is_left_and_shown(live: Live, outcome: Outcome) -> None:
    report = outcome.report
    assert len(report.examples) == live.content.differing
    first = report.examples[0]
    assert (first.value, first.kept_value, first.sensor_type, first.unit) == (66.0, 6.0, "temperatura", "")
    left = await live.connection.fetch("""
        select value from iot.sensor_readings where sensor_type_id is null and sensor_type = 'temperatura'
    """)
    assert len(left) == live.content.differing
    again = outcome.again
    assert (again.mapped, again.differing, again.unmapped, again.recompressed) == (
        0,
        live.content.differing,
        live.content.unmapped,
        0,
    )


async def test_the_aggregates_learn_of_old_hours(live: Live, outcome: Outcome) -> None:
    assert outcome.report.hours_noted > 100
    done = await recompute_noted_hours(live.settings, stop=asyncio.Event())
    assert done == (outcome.report.hours_noted, 0)
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
