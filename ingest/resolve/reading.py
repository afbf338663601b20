"""Reads what a refresh wants of the metadata database into a Draft, all in one snapshot of the database.

Units, types, aliases and tenants are read each time: a thousand rows. Greenhouses are read by id, a few at a
time with all their sensors, so that no answer is large and the event loop goes on in between.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from ingest.resolve.catalog import Draft
from ingest.resolve.missing import owners_of
from ingest.resolve.rows import Greenhouse, SensorType, Tenant, Unit
from ingest.resolve.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import asyncpg

    from ingest.resolve.catalog import Catalog

PAGE_GREENHOUSES: Final = 32
"""Greenhouses of one answer: 350 KB with a hundred sensors each, 0.5 ms of the event loop; each of them that
changed takes 0.5 ms more, by itself."""

UNITS_SQL = "select id, symbol from metadata.units"
SENSOR_TYPES_SQL = "select id, name, default_unit_id, min_value, max_value from metadata.sensor_types"
UNIT_ALIASES_SQL = "select alias, unit_id from metadata.unit_aliases"
SENSOR_TYPE_ALIASES_SQL = "select alias, sensor_type_id from metadata.sensor_type_aliases"
TENANTS_SQL = "select id, name, mqtt_topic_prefix, is_active from metadata.tenants"
NEXT_GREENHOUSES_SQL = """
    select id
    from metadata.greenhouses
    where $1::uuid is null or id > $1
    order by id
    limit $2
"""
OWNED_GREENHOUSES_SQL = """
    select id
    from metadata.greenhouses
    where id = any ($1::uuid[]) or tenant_id = any ($1::uuid[]) or greenhouse_code = any ($2::text[])
"""
GREENHOUSES_SQL = """
    select g.id, g.tenant_id, g.greenhouse_code, g.is_active,
           (
               select string_agg(
                          '\\x0063'::bytea || convert_to(s.sensor_code, 'UTF8')
                          || '\\x0064'::bytea || convert_to(coalesce(s.device_id, ''), 'UTF8')
                          || '\\x006c'::bytea || convert_to(coalesce(s.mqtt_field_name, ''), 'UTF8')
                          || '\\x0078'::bytea || convert_to(
                              replace(s.id::text, '-', '') || s.is_active::integer
                              || coalesce(s.expected_interval_s::text, ''),
                              'UTF8'
                          )
                          || '\\x0074'::bytea
                          || convert_to(coalesce(s.sensor_type_id::text, '=' || s.sensor_type, ''), 'UTF8')
                          || '\\x0075'::bytea
                          || convert_to(coalesce(s.unit_id::text, '=' || s.unit, ''), 'UTF8'),
                          ''::bytea
                          order by s.id
                      )
               from metadata.sensors s
               where s.greenhouse_id = g.id
           ) as sensors
    from metadata.greenhouses g
    where g.id = any ($1::uuid[])
"""
"""Sensors in the form of `roster`. The ids count; the names of a legacy writer only where they have no id."""
VOCABULARY_SQL = (UNITS_SQL, SENSOR_TYPES_SQL, UNIT_ALIASES_SQL, SENSOR_TYPE_ALIASES_SQL)
BEGIN_SQL = "begin transaction isolation level repeatable read read only"


@dataclass(slots=True)
class Wanted:
    """What a refresh is to read besides what it always reads."""

    everything: bool = False
    greenhouses: set[UUID] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    """Missing names (`missing`): the greenhouses in which they may be found by now."""
    page: bool = False
    """The next PAGE_GREENHOUSES, whether anything is known to have changed in them or not."""

    def add(self, other: Wanted) -> None:
        """Want what *other* does, too."""
        self.everything |= other.everything
        self.greenhouses |= other.greenhouses
        self.names |= other.names
        self.page |= other.page


class Reader:
    """Reads the database into newer Catalogs.

    Remembers the rows that are read each time, to see at once that they are the same, and the page it is at.
    """

    def __init__(self) -> None:
        """Begin with the first page."""
        self._rows: Sequence[Sequence[asyncpg.Record]] = ()
        self._page_after: UUID | None = None
        self._sorted_of: Mapping[UUID, Greenhouse] = {}
        self._sorted: Sequence[int] = ()
        """The ids of the greenhouses there, as numbers."""

    async def read(
        self, connection: asyncpg.Connection[asyncpg.Record], before: Catalog, wanted: Wanted
    ) -> Catalog:
        """Give the Catalog that follows *before*, the one that was given last; that one if nothing changed.

        Raises asyncpg's errors, and leaves the transaction open then. Without asyncpg's transaction object:
        its ROLLBACK would wait on a connection that has stopped answering; a failed read drops the
        connection, and with it the transaction.
        """
        draft = Draft(before)
        if before.greenhouses is not self._sorted_of:
            self._sorted_of, self._sorted = (
                before.greenhouses,
                sorted([each.int for each in before.greenhouses]),
            )
        known = self._sorted
        after = None if wanted.everything else self._page_after
        await connection.execute(BEGIN_SQL)
        rows = [await connection.fetch(sql) for sql in (*VOCABULARY_SQL, TENANTS_SQL)]
        if rows != self._rows:
            *names, tenants = rows
            draft.put_vocabulary(vocabulary_of(*names))
            draft.put_tenants(Tenant(_plain(row[0]), *row[1:]) for row in tenants)
        if wanted.page or wanted.everything:
            after = await _read_page(connection, draft, known, after)
        while wanted.everything and after is not None:
            after = await _read_page(connection, draft, known, after)
        if not wanted.everything:
            await self._read_some(connection, draft, wanted)
        await connection.execute("commit")
        self._rows, self._page_after = rows, after
        return draft.finished()

    @staticmethod
    async def _read_some(
        connection: asyncpg.Connection[asyncpg.Record], draft: Draft, wanted: Wanted
    ) -> None:
        """Read the greenhouses that are known to have changed, whether told or not, or to be missed."""
        ids = {*wanted.greenhouses, *draft.strays()}
        if wanted.names:
            owners, codes = owners_of(wanted.names)
            found = await connection.fetch(OWNED_GREENHOUSES_SQL, list(owners), list(codes))
            ids.update(_plain(row[0]) for row in found)
        pending = list(ids)
        for start in range(0, len(pending), PAGE_GREENHOUSES):
            await _read_greenhouses(connection, draft, pending[start : start + PAGE_GREENHOUSES])


async def _read_page(
    connection: asyncpg.Connection[asyncpg.Record], draft: Draft, known: Sequence[int], after: UUID | None
) -> UUID | None:
    """Read the greenhouses that follow *after*, and what of *known* should be among them; give the last.

    None: there are no more.
    """
    page = await connection.fetch(NEXT_GREENHOUSES_SQL, after, PAGE_GREENHOUSES)
    last = _plain(page[-1][0]) if len(page) == PAGE_GREENHOUSES else None
    start = 0 if after is None else bisect_right(known, after.int)
    stop = len(known) if last is None else bisect_right(known, last.int)
    ids = {_plain(row[0]) for row in page}
    ids.update(UUID(int=each) for each in known[start:stop])
    await _read_greenhouses(connection, draft, list(ids))
    return last


async def _read_greenhouses(
    connection: asyncpg.Connection[asyncpg.Record], draft: Draft, ids: Sequence[UUID]
) -> None:
    """Read the greenhouses of *ids* into *draft*, and drop those that are gone."""
    gone = set(ids)
    for greenhouse_id, tenant_id, code, is_active, sensors in await connection.fetch(GREENHOUSES_SQL, ids):
        known = _plain(greenhouse_id)
        draft.put_greenhouse(Greenhouse(known, _plain(tenant_id), code, is_active))
        gone.remove(known)
        if draft.put_sensors(known, sensors or b""):
            await asyncio.sleep(0)
    for greenhouse_id in gone:
        draft.drop_greenhouse(greenhouse_id)


def vocabulary_of(
    units: Iterable[asyncpg.Record],
    sensor_types: Iterable[asyncpg.Record],
    unit_aliases: Iterable[asyncpg.Record],
    sensor_type_aliases: Iterable[asyncpg.Record],
) -> Vocabulary:
    """Make a Vocabulary of the rows of VOCABULARY_SQL, their columns in that order."""
    return Vocabulary.of(
        [Unit(*row) for row in units],
        [
            SensorType(type_id, name, unit_id, _limit(low, -math.inf), _limit(high, math.inf))
            for type_id, name, unit_id, low, high in sensor_types
        ],
        [(alias, unit_id) for alias, unit_id in unit_aliases],
        [(alias, type_id) for alias, type_id in sensor_type_aliases],
    )


def _limit(value: Any, missing: float) -> float:  # noqa: ANN401 (numeric arrives as Decimal or None)
    return missing if value is None else float(value)


def _plain(value: UUID) -> UUID:
    """Turn asyncpg's own UUID class, which orjson refuses, into the standard library's."""
    return UUID(int=value.int)
