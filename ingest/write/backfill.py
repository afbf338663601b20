"""Rows that no session delivered: dead letters replayed, files imported, recordings backfilled.

What these three have in common, inside the caller's transaction: `land` inserts what is new and notes late
hours, `book` adds it to the ledger by the rows' own hours, under a name of its own in place of a client id.
The ledgers of receipt stay as they are: they tell what a worker did. Everything is by key, so that twice is
once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import asyncpg

from ingest.errors import Poison
from ingest.write import late
from ingest.write.copy import copy_straight, pack, parts
from ingest.write.ledger import columns_of, rows_by_hour
from ingest.write.retry import translate
from ingest.write.staged import Inserted, insert_new

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.model import Rejection, Row
    from ingest.write.staged import ConflictPolicy

Source: TypeAlias = Literal["(replay)", "(import)", "(direct)"]
"""The client id in `iot.ingest_written_hours`: of dead letters, `ingest import`, `ingest replay --direct`."""

# The last statement of its transaction, in the order of the key: those who book do not wait in a circle.
_BOOK: Final = """
insert into iot.ingest_written_hours as total (hour, greenhouse_id, tenant_id, client_id, rows)
select coalesce(hour, ($1::timestamptz[])[1]), greenhouse_id, tenant_id, $5, rows
from unnest($1::timestamptz[], $2::uuid[], $3::uuid[], $4::bigint[])
    as added (hour, greenhouse_id, tenant_id, rows)
order by 1, greenhouse_id, tenant_id
on conflict (hour, greenhouse_id, tenant_id, client_id) do update
    set rows = total.rows + excluded.rows
"""


class Landed(NamedTuple):
    """What became of rows: written + duplicate + refused = rows."""

    new: Sequence[Row] = ()
    """Those written."""
    duplicate: int = 0
    refused: dict[int, Rejection] = {}  # noqa: RUF012 (never changed)
    """By row number, what only the database could refuse."""
    hours_noted: int = 0
    """Late hours, each of a greenhouse and type, noted to be computed again."""
    straight: bool = False
    """Whether COPY took them as they were: none of them was there, none refused."""

    @property
    def written(self) -> int:
        """Count those written."""
        return len(self.new)


async def land(
    connection: asyncpg.Connection,
    rows: Sequence[Row],
    *,
    policy: ConflictPolicy,
    now_us: int,
    straight: bool = False,
) -> Landed:
    """Insert what is new of *rows*, and note its late hours; *now_us* tells which are late.

    *straight* tries COPY first, four times as fast where nothing of it is stored, and in vain where something
    is: for whoever knows that it is unlikely. Raises asyncpg's errors for what is not the rows' fault.
    """
    if not rows:
        return Landed()
    if straight and await _copied(connection, rows):
        return Landed(rows, hours_noted=await _note(connection, rows, now_us), straight=True)
    inserted, refused = await insert_new(connection, rows, policy)
    new = _new(rows, inserted, refused)
    return Landed(new, len(inserted.duplicates), refused, await _note(connection, new, now_us))


async def book(connection: asyncpg.Connection, new: Sequence[Row], source: Source) -> None:
    """Book *new* rows by their own hours, last before COMMIT. Raises asyncpg's errors."""
    if new:
        await connection.execute(_BOOK, *columns_of(rows_by_hour(new)), source)


async def _copied(connection: asyncpg.Connection, rows: Sequence[Row]) -> bool:
    """COPY into the hypertable; tell whether it took them. If not, nothing has happened."""
    savepoint = connection.transaction()  # not `async with`: see staged.py
    await savepoint.start()
    try:
        await copy_straight(connection, map(pack, parts(rows)))
        await savepoint.commit()
    except asyncpg.PostgresError as error:
        if not isinstance(translate(error), Poison):
            raise
        await savepoint.rollback()
        return False
    return True


def _new(rows: Sequence[Row], inserted: Inserted, refused: dict[int, Rejection]) -> Sequence[Row]:
    if not inserted.duplicates and not refused:
        return rows
    met = {*inserted.duplicates, *refused}
    return [row for number, row in enumerate(rows) if number not in met]


async def _note(connection: asyncpg.Connection, new: Sequence[Row], now_us: int) -> int:
    hours = late.late_hours(new, now_us)
    if hours:
        await late.note(connection, hours)
    return len(hours)
