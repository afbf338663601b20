"""Late rows: which hours got rows after the rollups had passed them, noted in the rows' transaction.

The refresh policies and rollup jobs look back three days. An hour that gets rows later would stay as it
was; a job takes these notes, computes the hours again and removes them.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

from ingest.write.ledger import HOUR_US

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import asyncpg

    from ingest.model import Row

Hour: TypeAlias = tuple[int, UUID, int]
"""Start of the hour in µs since 1970, greenhouse id, sensor type id."""

LATE_AFTER_US: Final = 2 * 86_400_000_000
"""A day less than the policies look back, so that a row is noted before they stop seeing its hour."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# In the order of the key: two writers that note the same hours do not deadlock.
_NOTE: Final = """
insert into iot.ingest_late_buckets as note (bucket, greenhouse_id, sensor_type_id, noted_at, rows)
select bucket, greenhouse_id, sensor_type_id, now(), rows
from unnest($1::timestamptz[], $2::uuid[], $3::smallint[], $4::bigint[])
    as late (bucket, greenhouse_id, sensor_type_id, rows)
order by bucket, greenhouse_id, sensor_type_id
on conflict (bucket, greenhouse_id, sensor_type_id) do update
    set noted_at = excluded.noted_at, rows = note.rows + excluded.rows
"""


def late_hours(rows: Sequence[Row], now_us: int) -> Counter[Hour]:
    """Count the rows of each hour that is late at *now_us* (µs since 1970). Pure."""
    limit_us = now_us - LATE_AFTER_US
    late: Counter[Hour] = Counter()
    for row in rows:
        if row.time_us < limit_us:
            series = row.series
            late[row.time_us - row.time_us % HOUR_US, series.greenhouse_id, series.sensor_type_id] += 1
    return late


async def note(connection: asyncpg.Connection, hours: Mapping[Hour, int]) -> None:
    """Add *hours* to the notes, inside the caller's transaction. Raises asyncpg's errors."""
    await connection.execute(
        _NOTE,
        [_EPOCH + timedelta(microseconds=hour_us) for hour_us, _, _ in hours],
        [greenhouse_id for _, greenhouse_id, _ in hours],
        [sensor_type_id for _, _, sensor_type_id in hours],
        list(hours.values()),
    )
