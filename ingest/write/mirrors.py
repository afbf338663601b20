"""What is mirrored beside the readings, so that their views and jobs need no other database.

`iot.units` and `iot.sensor_types` name what rows only number, `iot.sensor_intervals` says how often each
sensor should publish. The two databases may be on two servers, so the worker carries changes over. Ids
are never reused and no name is deleted: rows written under an id keep it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    import asyncpg

_UNITS = """
insert into iot.units as mirror (id, symbol)
select id, symbol
from unnest($1::smallint[], $2::text[]) as given (id, symbol)
on conflict (id) do update
    set symbol = excluded.symbol
    where mirror.symbol <> excluded.symbol
"""
_SENSOR_TYPES = """
insert into iot.sensor_types as mirror (id, name)
select id, name
from unnest($1::smallint[], $2::text[]) as given (id, name)
on conflict (id) do update
    set name = excluded.name
    where mirror.name <> excluded.name
"""
_INTERVALS = """
insert into iot.sensor_intervals as mirror (sensor_id, greenhouse_id, expected_interval_s)
select sensor_id, greenhouse_id, expected_interval_s
from unnest($1::uuid[], $2::uuid[], $3::integer[]) as given (sensor_id, greenhouse_id, expected_interval_s)
order by sensor_id
on conflict (sensor_id) do update
    set greenhouse_id = excluded.greenhouse_id, expected_interval_s = excluded.expected_interval_s
    where (mirror.greenhouse_id, mirror.expected_interval_s)
        <> (excluded.greenhouse_id, excluded.expected_interval_s)
"""
_FORGET_INTERVALS = """
delete from iot.sensor_intervals as mirror
where mirror.greenhouse_id = any ($1::uuid[])
    and not exists (
        select
        from unnest($2::uuid[]) as given (sensor_id)
        where given.sensor_id = mirror.sensor_id
    )
"""
_DIGESTS = """
select
    greenhouse_id,
    sha256(string_agg(uuid_send(sensor_id) || int4send(expected_interval_s), '' order by sensor_id))
from iot.sensor_intervals
where greenhouse_id = any ($1::uuid[])
group by greenhouse_id
"""
_FORGET_GREENHOUSES = """
delete from iot.sensor_intervals as mirror
where not exists (
    select
    from unnest($1::uuid[]) as given (greenhouse_id)
    where given.greenhouse_id = mirror.greenhouse_id
)
"""


class Mirrored(NamedTuple):
    """What the catalog says of what is mirrored, or a piece of it."""

    units: Mapping[int, str]
    """Symbols by id."""
    sensor_types: Mapping[int, str]
    """Names by id."""
    greenhouses: Sequence[UUID] = ()
    """Whose intervals these are: all that they have."""
    intervals: Sequence[tuple[UUID, UUID, int]] = ()
    """(sensor id, greenhouse id, seconds) of the active sensors whose interval is known."""
    all_greenhouses: Sequence[UUID] | None = None
    """Those there are: the intervals of any other are forgotten. None forgets none."""


async def store(connection: asyncpg.Connection, mirrored: Mirrored) -> None:
    """Bring the mirrors in step. Raises asyncpg's errors.

    Statements that may be repeated, and no transaction: asyncpg's ROLLBACK would wait on a silent server.
    """
    if mirrored.units:
        await connection.execute(_UNITS, list(mirrored.units), list(mirrored.units.values()))
    if mirrored.sensor_types:
        types = mirrored.sensor_types
        await connection.execute(_SENSOR_TYPES, list(types), list(types.values()))
    if mirrored.all_greenhouses is not None:
        await connection.execute(_FORGET_GREENHOUSES, mirrored.all_greenhouses)
    if mirrored.greenhouses:
        await _store_intervals(connection, mirrored)


async def _store_intervals(connection: asyncpg.Connection, mirrored: Mirrored) -> None:
    """Write the greenhouses that the mirror has otherwise: at a worker's start hardly any of thousands."""
    given: dict[UUID, list[tuple[UUID, UUID, int]]] = {each: [] for each in mirrored.greenhouses}
    for interval in mirrored.intervals:
        given[interval[1]].append(interval)
    rows = await connection.fetch(_DIGESTS, mirrored.greenhouses)
    there: dict[UUID, bytes] = {row[0]: row[1] for row in rows}
    others = [each for each, intervals in given.items() if there.get(each, _NOTHING) != _digest(intervals)]
    if not others:
        return
    intervals = [interval for each in others for interval in given[each]]
    sensors, greenhouses, seconds = zip(*intervals, strict=True) if intervals else ((), (), ())
    await connection.execute(_FORGET_INTERVALS, others, sensors)
    await connection.execute(_INTERVALS, sensors, greenhouses, seconds)


def _digest(intervals: Sequence[tuple[UUID, UUID, int]]) -> bytes:
    """Give what _DIGESTS gives for a greenhouse with these *intervals*."""
    parts = sorted(sensor_id.bytes + seconds.to_bytes(4, "big") for sensor_id, _, seconds in intervals)
    return hashlib.sha256(b"".join(parts)).digest()


_NOTHING: Final = _digest(())
