"""What is mirrored beside the readings, so that their views and jobs need no other database.

`iot.units` and `iot.sensor_types` name what rows only number, `iot.sensor_intervals` says how often each
sensor should publish. The two databases may be on two servers, so the worker carries changes over. Ids
are never reused and no name is deleted: rows written under an id keep it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
    units, sensor_types, of_greenhouses, intervals, all_greenhouses = mirrored
    if units:
        await connection.execute(_UNITS, list(units), list(units.values()))
    if sensor_types:
        await connection.execute(_SENSOR_TYPES, list(sensor_types), list(sensor_types.values()))
    if all_greenhouses is not None:
        await connection.execute(_FORGET_GREENHOUSES, all_greenhouses)
    if of_greenhouses:
        sensors, greenhouses, seconds = zip(*intervals, strict=True) if intervals else ((), (), ())
        await connection.execute(_FORGET_INTERVALS, of_greenhouses, sensors)
        await connection.execute(_INTERVALS, sensors, greenhouses, seconds)
