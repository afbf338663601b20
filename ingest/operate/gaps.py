"""Where readings lack: the pauses of each sensor, against how often it should publish.

A sensor's interval is the expected one it is registered with (iot.sensor_intervals), else the median of its
own pauses in the range, those of a second at least. A pause of more than GAP_FACTOR intervals is a gap, also
before the first reading of the range and after the last. What nobody registered an interval for and sent
nothing at all is not known here. `judged` is pure; times come as plain numbers, since sorting and subtracting
them here takes a quarter of what the window functions for it take on the server (measured: 0.3 and 1.3 s for
432 000 readings).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import sub
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from uuid import UUID

    import asyncpg

GAP_FACTOR: Final = 2.0
"""As in the job that fills iot.sensor_performance_daily."""
ON_ITS_WAY_S: Final = 60.0
"""What the newest reading may take to arrive, beyond that, before its sensor counts as silent."""
NAMED_GAPS: Final = 3
_BURST_US: Final = 1_000_000
_SLICE: Final = timedelta(days=1)
"""Of one greenhouse's readings: 25 sensors at one in 5 s are 432 000 a day, 14 MB while they are read."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_TYPES: Final = "select id, name from iot.sensor_types"
_REGISTERED: Final = """
    select
        sensor_id,
        greenhouse_id,
        expected_interval_s
    from iot.sensor_intervals
    where $1::uuid[] is null
        or greenhouse_id = any ($1)
"""
# One greenhouse at a time: its rows stand together in the index and in compressed chunks.
_TIMES: Final = """
    select
        sensor_id,
        sensor_type_id,
        array_agg((date_part('epoch', time) * 1000000)::bigint) as times_us
    from iot.sensor_readings
    where greenhouse_id = $1
        and time >= $2
        and time < $3
        and sensor_type_id is not null
        and sensor_id is not null
    group by sensor_id, sensor_type_id
"""


@dataclass(frozen=True, slots=True)
class Gap:
    """A pause that is too long."""

    began_at: datetime
    ended_at: datetime

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.ended_at - self.began_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Pauses:
    """What the times of one sensor in a range say."""

    interval_s: float | None
    """The expected interval, else the median of its own; None where fewer than two readings tell none."""
    readings: int
    expected: int | None
    gaps: int
    longest: tuple[Gap, ...]
    """The NAMED_GAPS longest, the longest first."""
    silent_since: datetime | None
    """Its last reading, where the pause after it is a gap; the start of the range where it has none."""

    @property
    def completeness_pct(self) -> float | None:
        """What it delivered of what was expected, at most 100."""
        if self.expected is None:
            return None
        return round(min(100.0, 100.0 * self.readings / max(self.expected, 1)), 2)


@dataclass(frozen=True, slots=True)
class Sensor:
    """One sensor, of one type, in the range."""

    sensor_id: UUID
    greenhouse_id: UUID
    sensor_type: str | None
    """None where it sent nothing."""
    registered: bool
    """Whether its interval is one somebody registered."""
    pauses: Pauses


def judged(
    times_us: Sequence[int], since: datetime, until: datetime, expected_s: float | None, *, grace_s: float = 0
) -> Pauses:
    """Find the gaps between *times_us* (µs since 1970 UTC, ascending), within *since* to *until*.

    *grace_s* is what the last pause may take beyond the others.
    """
    since_us, until_us = _microseconds(since), _microseconds(until)
    between_us = list(map(sub, times_us[1:], times_us))
    interval_s = expected_s
    # What comes within a second came in one burst, and tells no interval.
    if interval_s is None and (own_us := sorted(each for each in between_us if each >= _BURST_US)):
        interval_s = own_us[(len(own_us) - 1) // 2] / 1e6
    if interval_s is None:
        return Pauses(None, len(times_us), None, 0, (), None)
    limit_us = interval_s * GAP_FACTOR * 1e6
    edges_us = [since_us, *times_us, until_us]
    gaps = [
        (edges_us[number + 1] - began_us, began_us)
        for number, began_us in enumerate(edges_us[:-2])
        if edges_us[number + 1] - began_us > limit_us
    ]
    last_us = edges_us[-2]
    silent = until_us - last_us > limit_us + (grace_s * 1e6 if times_us else 0)
    if silent:
        gaps.append((until_us - last_us, last_us))
    longest = sorted(gaps, key=lambda gap: (-gap[0], gap[1]))[:NAMED_GAPS]
    return Pauses(
        interval_s,
        len(times_us),
        int((until_us - since_us) / 1e6 // interval_s),
        len(gaps),
        tuple(Gap(_time(began_us), _time(began_us + pause_us)) for pause_us, began_us in longest),
        _time(last_us) if silent else None,
    )


async def registered_greenhouses(connection: asyncpg.Connection) -> set[UUID]:
    """Give the greenhouses of sensors that are registered with an interval."""
    return {record["greenhouse_id"] for record in await connection.fetch(_REGISTERED, None)}


async def sensors_of(
    connection: asyncpg.Connection,
    greenhouses: Collection[UUID],
    since: datetime,
    until: datetime,
    *,
    grace_s: float,
) -> list[Sensor]:
    """Give the sensors of *greenhouses* that sent something or should have, by greenhouse.

    Holds the times of one greenhouse at once, 8 bytes a reading. For *grace_s* see `judged`.
    """
    types = {record["id"]: record["name"] for record in await connection.fetch(_TYPES)}
    intervals: dict[UUID, dict[UUID, float]] = {}
    for record in await connection.fetch(_REGISTERED, list(greenhouses)):
        intervals.setdefault(record["greenhouse_id"], {})[record["sensor_id"]] = record["expected_interval_s"]
    sensors = []
    for greenhouse_id in greenhouses:
        found = await _times(connection, greenhouse_id, since, until)
        registered = intervals.get(greenhouse_id, {})
        for sensor_id in registered.keys() - {sensor_id for sensor_id, _ in found}:
            found[sensor_id, None] = array("q")
        for (sensor_id, type_id), times_us in sorted(found.items(), key=lambda each: each[0][0]):
            expected_s = registered.get(sensor_id)
            pauses = judged(times_us, since, until, expected_s, grace_s=grace_s)
            type_name = None if type_id is None else types.get(type_id)
            sensors.append(Sensor(sensor_id, greenhouse_id, type_name, expected_s is not None, pauses))
    return sensors


async def _times(
    connection: asyncpg.Connection, greenhouse_id: UUID, since: datetime, until: datetime
) -> dict[tuple[UUID, int | None], array[int]]:
    """Read the times of each sensor and type, ascending, a slice after the other."""
    times: dict[tuple[UUID, int | None], array[int]] = {}
    start = since
    while start < until:
        end = min(start + _SLICE, until)
        for record in await connection.fetch(_TIMES, greenhouse_id, start, end):
            key = (record["sensor_id"], record["sensor_type_id"])
            times.setdefault(key, array("q")).extend(sorted(record["times_us"]))
        start = end
    return times


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _time(time_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_us)
