"""`ingest status` on the readings themselves: rows without ids, silent sensors, what no aggregate has yet.

Each question is asked of few chunks at a time. Counting every reading of a large table takes minutes, so it
goes on for as long as it may, from the newest chunk backwards and from the oldest forwards in turns: an old
writer adds to the one end, legacy rows lie at the other.
"""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ingest.operate import status_rows_sql as sql
from ingest.operate import status_sql
from ingest.operate.status_facts import Aggregate, LegacyName, ReadingsCoverage, SilentSensor
from ingest.policy_settings import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from ingest.settings import Settings

Span = tuple[datetime, datetime]

MOST_CHUNKS: Final = 200
"""Counted by one statement: they take a fifth of the locks that a server has by default (64 for each of
100)."""
NAMES_SHOWN: Final = 20
_UNHURRIED: Final = 0.1
"""A statement that took less than this part of the time may be followed by one over twice as many chunks."""
_LOOKED_AT_CHUNKS: Final = 3
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_SILENCE: Final = timedelta(days=7)
"""A sensor that is silent no sooner than that is not judged here."""
_CLOCKS_DIFFER: Final = timedelta(hours=1)
"""What this machine's clock may be ahead of the server's, whose intervals are reckoned there."""


async def chunks_of_readings(connection: asyncpg.Connection) -> list[Span]:
    """Give the time of each chunk of readings, the oldest first."""
    return [(each["range_start"], each["range_end"]) for each in await connection.fetch(status_sql.CHUNKS)]


async def count_lacking(
    connection: asyncpg.Connection, chunks: Sequence[Span], limit_s: float | None
) -> ReadingsCoverage:
    """Count rows without ids, of all *chunks* or of as many as take *limit_s*, one at either end at least."""
    found = ReadingsCoverage(len(chunks))
    columns = await connection.fetchrow(sql.ID_COLUMNS)
    if columns is None or not columns["nullable"]:
        found.enforced = True
        return found
    named = columns["names"] == 2  # noqa: PLR2004 (sensor_type and unit)
    names: dict[tuple[str | None, str | None], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    began_s = time.monotonic()
    low, high, size, turn = 0, len(chunks), 1, 0
    while low < high and (turn < 2 or limit_s is None or time.monotonic() - began_s < limit_s):  # noqa: PLR2004 (either end)
        size = min(size, high - low)
        if turn % 2:
            first, low = low, low + size
        else:
            first, high = high - size, high - size
        span = (chunks[first][0], chunks[first + size - 1][1])
        asked_s = time.monotonic()
        row = await connection.fetchrow(sql.READINGS, *span)
        assert row is not None, "count(*) gives a row"  # noqa: S101 (for the type checker)
        found.counted += size
        found.rows += row["rows"]
        found.lacking += row["lacking"]
        if row["lacking"] and named:
            for each in await connection.fetch(sql.READINGS_BY_NAME, *span):
                counts = (each["no_type"], each["no_unit"], each["no_tenant"], each["rows"])
                key = (each["sensor_type"], each["unit"])
                names[key] = [one + more for one, more in zip(names[key], counts, strict=True)]
        turn += 1
        if limit_s is None or time.monotonic() - asked_s < _UNHURRIED * limit_s:
            size = min(2 * size, MOST_CHUNKS)
    legacy = [LegacyName(*name, *counts) for name, counts in names.items()]
    found.names = sorted(legacy, key=lambda each: (-each.rows, str(each.sensor_type), str(each.unit)))[
        :NAMES_SHOWN
    ]
    return found


async def read_aggregates(connection: asyncpg.Connection, late_runs: float) -> list[Aggregate]:
    """Give each aggregate, and up to where it should be by now: its last *late_runs* runs may be missed."""
    buckets = [str(each) for each in BUCKETS.values()]
    records = await connection.fetch(status_sql.AGGREGATES, late_runs, list(BUCKETS), buckets)
    return [Aggregate(**dict(each)) for each in records]


async def is_stale(connection: asyncpg.Connection, aggregate: Aggregate, chunks: Sequence[Span]) -> bool:
    """Tell whether readings wait beyond what *aggregate* has, and before what it should have by now.

    Looks at the last chunks before that time; where these hold nothing for it, it has nothing to do.
    """
    if aggregate.watermark is not None and aggregate.watermark >= aggregate.wanted:
        return False
    spans = [span for span in chunks if span[0] < aggregate.wanted][-_LOOKED_AT_CHUNKS:]
    if not spans:
        return False
    since = max(spans[0][0], aggregate.watermark or _EPOCH)
    waits = await connection.fetchval(sql.UNMATERIALISED, since, aggregate.wanted, aggregate.name)
    return bool(waits)


async def silent_sensors(
    connection: asyncpg.Connection, settings: Settings, now: datetime
) -> tuple[int, list[SilentSensor]]:
    """Give how many sensors have an expected interval, and those that are silent, the longest first."""
    limits = settings.status
    known = await connection.fetchrow(sql.PATIENCE)
    if known is None or not known["sensors"]:
        return 0, []
    patience = timedelta(seconds=max(known["longest_s"] * limits.silent_intervals, limits.silent_least_s))
    earliest = now - min(patience, _LONGEST_SILENCE) - _CLOCKS_DIFFER
    of_late = now - timedelta(seconds=limits.silent_least_s)
    asked = (earliest, limits.silent_intervals, limits.silent_least_s, of_late)
    silent = await connection.fetch(sql.SILENT, *asked)
    return known["sensors"], [SilentSensor(**dict(each)) for each in silent]
