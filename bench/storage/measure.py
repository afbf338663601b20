"""Fills a database with the same readings in every form, weighs each, and asks each what dashboards ask.

Works in a database made for it, with both forms side by side: schema `legacy`, and schema `iot` as the
migrations make it. Its jobs are switched off, so that none runs in between; what they would have done is done
here.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass, field
from string import Template
from typing import TYPE_CHECKING

import asyncpg

from bench.storage.queries import Question, differences, questions
from bench.storage.rows import copy_normalised, fill_legacy, last_full_hour

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.storage.rows import Readings

AGGREGATES = (
    "cagg_sensor_readings_hourly",
    "cagg_sensor_readings_daily",
    "cagg_sensor_readings_monthly",
    "cagg_greenhouse_conditions_realtime",
    "cagg_sensor_health_hourly",
)
ROLLUPS = ("sensor_readings_hourly", "sensor_readings_daily", "sensor_readings_monthly")
_NO_JOBS = (
    "select alter_job(job_id, scheduled => false) from timescaledb_information.jobs where job_id >= 1000"
)
_VERSIONS = """
    select
        split_part(current_setting('server_version'), ' ', 1) as postgresql,
        (select e.extversion from pg_extension as e where e.extname = 'timescaledb') as timescaledb
"""
# Up to the last full hour, as the policies do; what is later is read from the readings.
_REFRESH = Template("""
    call refresh_continuous_aggregate('iot.$name', null, date_trunc('hour', now()) - interval '1 hour')
""")
_SIZE = "select total_bytes, index_bytes from hypertable_detailed_size($1::text::regclass)"
# An aggregate is kept in a hypertable of its own.
_AGGREGATE_SIZE = """
    select hypertable_size(format(
        '%I.%I',
        a.materialization_hypertable_schema,
        a.materialization_hypertable_name
    )::regclass)
    from timescaledb_information.continuous_aggregates as a
    where a.view_name = $1
"""
# What the policy of V14 would have compressed by now: chunks that ended three days ago.
_COMPRESS = """
    select count(compress_chunk(c))
    from show_chunks($1::text::regclass, older_than => now() - interval '3 days') as c
"""
_COMPRESSED_SIZE = """
    select
        sum(d.total_bytes)::bigint as total_bytes,
        sum(d.index_bytes)::bigint as index_bytes,
        max(c.range_end) as before
    from chunks_detailed_size($1::text::regclass) as d
    join timescaledb_information.chunks as c using (chunk_schema, chunk_name)
    where c.is_compressed
"""
_TIMED = "explain (analyze, timing off, format json)"
# The settings of the system before, live until V14 replaces them.
_LEGACY_COLUMNSTORE = """
    alter table legacy.sensor_readings set (
        timescaledb.enable_columnstore,
        timescaledb.segmentby = 'greenhouse_id, sensor_type',
        timescaledb.orderby = 'time desc'
    )
"""


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes for so many readings: all of them, and of those the indexes' (None: not told apart)."""

    total_bytes: int
    index_bytes: int | None
    rows: int


@dataclass(slots=True)
class Answers:
    """What asking one question gave: milliseconds by form, rows, and how answers differ from the legacy's."""

    ms: dict[str, list[float]]
    rows: int = 0
    differences: list[str] = field(default_factory=list)

    def median_ms(self, form: str) -> float:
        """Return the median of *form*."""
        return statistics.median(self.ms[form])


@dataclass(slots=True)
class Result:
    """All that was measured, of readings each sensor's *interval_s* apart."""

    versions: dict[str, str]
    readings: Readings
    interval_s: float
    sizes: dict[str, Size] = field(default_factory=dict)
    answers: dict[str, Answers] = field(default_factory=dict)


async def measure(
    dsn: str, rows: int, interval_s: float, rounds: int, progress: Callable[[str], None]
) -> Result:
    """Measure in the migrated, otherwise empty database of *dsn*; *progress* is told each step's seconds."""
    # Compiling plans costs the legacy queries more than it saves them here: off for everybody.
    connection = await asyncpg.connect(dsn, command_timeout=3600, server_settings={"jit": "off"})
    try:
        return await _measure(connection, rows, interval_s, rounds, _Steps(progress))
    finally:
        await connection.close()


class _Steps:
    """Tells what was done, and how long it took."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._began = time.monotonic()

    def done(self, what: str) -> None:
        now = time.monotonic()
        self._progress(f"{what} ({now - self._began:.0f} s)")
        self._began = now


async def _measure(
    connection: asyncpg.Connection[asyncpg.Record], rows: int, interval_s: float, rounds: int, steps: _Steps
) -> Result:
    await connection.execute(_NO_JOBS)
    (versions,) = await connection.fetch(_VERSIONS)
    readings = await fill_legacy(connection, rows, interval_s, last_full_hour())
    steps.done(f"{readings.rows:,} legacy rows")
    result = Result(dict(versions), readings, interval_s)
    result.sizes["legacy"] = await _size(connection, "legacy.sensor_readings", readings.rows)
    await copy_normalised(connection, readings)
    steps.done("the same rows, normalised")
    result.sizes["normalised"] = await _size(connection, "iot.sensor_readings", readings.rows)
    for name in AGGREGATES:
        await connection.execute(_REFRESH.substitute(name=name))
        steps.done(name)
    first_month = readings.start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for name in ROLLUPS:
        await connection.execute(f"select iot.roll_up_{name}($1, 'infinity')", first_month)
        steps.done(name)
    await connection.fetchval(_COMPRESS, "iot.sensor_readings")
    steps.done("compressed")
    result.sizes["compressed"] = await _compressed_size(connection, "iot.sensor_readings")
    result.sizes["readings"] = await _size(connection, "iot.sensor_readings", readings.rows)
    of_aggregates = [await connection.fetchval(_AGGREGATE_SIZE, name) for name in AGGREGATES]
    result.sizes["aggregates"] = Size(sum(of_aggregates), None, readings.rows)
    of_rollups = [await _size(connection, f"iot.{name}", readings.rows) for name in ROLLUPS]
    result.sizes["rollups"] = Size(sum(size.total_bytes for size in of_rollups), None, readings.rows)
    parts = (result.sizes[part].total_bytes for part in ("readings", "aggregates", "rollups"))
    result.sizes["everything"] = Size(sum(parts), None, readings.rows)
    await connection.execute("vacuum analyze")
    steps.done("vacuumed and analysed")
    for question in questions(readings.until):
        result.answers[question.name] = await _ask(connection, question, readings, rounds)
        steps.done(question.name)
    await connection.execute(_LEGACY_COLUMNSTORE)
    await connection.fetchval(_COMPRESS, "legacy.sensor_readings")
    result.sizes["legacy_compressed"] = await _compressed_size(connection, "legacy.sensor_readings")
    steps.done("the legacy rows compressed as they are")
    return result


async def _size(connection: asyncpg.Connection[asyncpg.Record], table: str, rows: int) -> Size:
    (size,) = await connection.fetch(_SIZE, table)
    return Size(size["total_bytes"], size["index_bytes"], rows)


async def _compressed_size(connection: asyncpg.Connection[asyncpg.Record], table: str) -> Size:
    """Weigh the compressed chunks of *table*, and count what is in them."""
    (size,) = await connection.fetch(_COMPRESSED_SIZE, table)
    rows = await connection.fetchval(f"select count(*) from {table} where time < $1", size["before"])
    return Size(size["total_bytes"], size["index_bytes"], rows)


async def _ask(
    connection: asyncpg.Connection[asyncpg.Record], question: Question, readings: Readings, rounds: int
) -> Answers:
    """Ask each form once to warm up and compare, then in turn: what else the machine does hits all alike.

    Timed by the server, planning included: a client's wait for its turn would count against the fast ones.
    """
    values = (readings.greenhouse_id, *question.values)
    answers = Answers({form: [] for form in question.forms})
    expected = [tuple(row) for row in await connection.fetch(question.forms["legacy"], *values)]
    answers.rows = len(expected)
    for form, sql in question.forms.items():
        found = [tuple(row) for row in await connection.fetch(sql, *values)]
        answers.differences += [f"{form}: {line}" for line in differences(expected, found)]
    for _ in range(rounds):
        for form, sql in question.forms.items():
            plan = json.loads(await connection.fetchval(_TIMED + sql, *values))[0]
            answers.ms[form].append(plan["Planning Time"] + plan["Execution Time"])
    return answers
