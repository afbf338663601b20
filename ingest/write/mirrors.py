"""The small catalogs mirrored beside the readings, so that views can name what rows only number.

`iot.units` and `iot.sensor_types` hold what metadata's tables hold; the two databases may be on two
servers, so the worker carries changes over. Ids are never reused and nothing is deleted here: rows
written under an id keep their name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

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


async def store(
    connection: asyncpg.Connection, units: Mapping[int, str], sensor_types: Mapping[int, str]
) -> None:
    """Bring both mirrors in step: symbols and names by id. Raises asyncpg's errors."""
    async with connection.transaction():
        await connection.execute(_UNITS, list(units), list(units.values()))
        await connection.execute(_SENSOR_TYPES, list(sensor_types), list(sensor_types.values()))
