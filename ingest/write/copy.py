"""Rows as PostgreSQL's binary COPY format, and the statements that take them.

Packing is pure; `Series` bytes are packed once and kept. The format is documented with COPY in the
PostgreSQL manual ("Binary Format"); the types' own formats are those of their `*send` functions:
timestamptz is µs since 2000-01-01 UTC, jsonb a version byte 1 and JSON text.

Two ways in. The straight one COPYs into the hypertable and fails whole on a key that exists. The
staged one COPYs into a temporary table and inserts from there what is new, which tells duplicates
from conflicting values; it is also the way to find a row that the server refuses.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import asyncpg

from ingest.errors import Poison
from ingest.model import Rejection
from ingest.write.retry import translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ingest.model import Row, Series

ConflictPolicy = Literal["dead_letter", "keep_first", "replace"]

COLUMNS: Final = (
    "time",
    "value",
    "greenhouse_id",
    "tenant_id",
    "sensor_id",
    "sensor_type_id",
    "unit_id",
    "metadata",
)
_FIELDS: Final = len(COLUMNS)
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_EPOCH_2000_US: Final = 946_684_800_000_000
_CHUNK_BYTES: Final = 524_288

_head = struct.Struct(">hiqid").pack
_ids = struct.Struct(">i16si16si16sihih").pack
_length = struct.Struct(">i").pack
_staged_head = struct.Struct(">hii").pack

# The order number is first, so that a staged row is a packed row with another head.
_CREATE_STAGED = """
create temporary table if not exists ingest_staged (
    ord integer not null,
    time timestamptz not null,
    value double precision,
    greenhouse_id uuid not null,
    tenant_id uuid not null,
    sensor_id uuid not null,
    sensor_type_id smallint not null,
    unit_id smallint not null,
    metadata jsonb
) on commit delete rows
"""
# Both give the order numbers of what was written: whose the others were is told by them.
_INSERT_STAGED = """
with chosen as materialized (
    select distinct on (greenhouse_id, sensor_type_id, time, sensor_id)
        ord, time, value, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, metadata
    from pg_temp.ingest_staged
    order by greenhouse_id, sensor_type_id, time, sensor_id, ord
), written as (
    insert into iot.sensor_readings
        (time, value, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, metadata)
    select time, value, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, metadata
    from chosen
    on conflict do nothing
    returning greenhouse_id, sensor_type_id, time, sensor_id
)
select chosen.ord
from chosen
join written using (greenhouse_id, sensor_type_id, time, sensor_id)
"""
_REPLACE_STAGED = """
with chosen as materialized (
    select distinct on (greenhouse_id, sensor_type_id, time, sensor_id)
        ord, time, value, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, metadata
    from pg_temp.ingest_staged
    order by greenhouse_id, sensor_type_id, time, sensor_id, ord desc
), written as (
    insert into iot.sensor_readings as stored
        (time, value, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, metadata)
    select time, value, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, metadata
    from chosen
    on conflict (greenhouse_id, sensor_type_id, time, sensor_id) do update
        set value = excluded.value, unit_id = excluded.unit_id, metadata = excluded.metadata
        where (stored.value, stored.unit_id) is distinct from (excluded.value, excluded.unit_id)
    returning greenhouse_id, sensor_type_id, time, sensor_id
)
select chosen.ord
from chosen
join written using (greenhouse_id, sensor_type_id, time, sensor_id)
"""
# The bounds keep chunks outside the batch out of the plan.
_FIND_CONFLICTS = """
select staged.ord, stored.value, stored.unit_id
from pg_temp.ingest_staged as staged
join iot.sensor_readings as stored
    on stored.greenhouse_id = staged.greenhouse_id
    and stored.sensor_type_id = staged.sensor_type_id
    and stored.time = staged.time
    and stored.sensor_id = staged.sensor_id
where stored.time between $1 and $2
    and (stored.value, stored.unit_id) is distinct from (staged.value, staged.unit_id)
"""
_STAGED_SPAN = "select min(time), max(time) from pg_temp.ingest_staged"


class Conflict(NamedTuple):
    """A staged row whose key is stored with another value."""

    row: int
    stored_value: float
    stored_unit_id: int


class Inserted(NamedTuple):
    """What became of staged rows: written + duplicates + conflicts = rows."""

    written: int
    duplicates: list[int]
    """By row number."""
    conflicts: list[Conflict]


def pack(rows: Sequence[Row]) -> list[bytes]:
    """Give each row as one COPY tuple, in COLUMNS order; the ids of a series are packed once."""
    packed = []
    for series, time_us, value, metadata, _ in rows:
        ids = series.packed or _pack_ids(series)
        head = _head(_FIELDS, 8, time_us - _EPOCH_2000_US, 8, value)
        if metadata is None:
            packed.append(head + ids + _NULL)
        else:
            packed.append(head + ids + _length(len(metadata) + 1) + b"\x01" + metadata)
    return packed


def _pack_ids(series: Series) -> bytes:
    series.packed = _ids(
        16,
        series.greenhouse_id.bytes,
        16,
        series.tenant_id.bytes,
        16,
        series.sensor_id.bytes,
        2,
        series.sensor_type_id,
        2,
        series.unit_id,
    )
    return series.packed


async def copy_straight(connection: asyncpg.Connection, packed: Sequence[bytes]) -> None:
    """COPY *packed* rows into the hypertable. Raises asyncpg's errors; 23505 on a key that exists."""
    await connection.copy_to_table(
        "sensor_readings",
        schema_name="iot",
        columns=list(COLUMNS),
        source=_stream(packed),
        format="binary",
    )


async def insert_staged(
    connection: asyncpg.Connection, packed: Sequence[bytes], policy: ConflictPolicy, *, first_row: int = 0
) -> Inserted:
    """Insert what is new of *packed* through a temporary table, inside the caller's transaction.

    Row numbers in the result count from *first_row*. Under "dead_letter" the first of a key stays
    and rows with another value are conflicts; under "keep_first" those count as duplicates; under
    "replace" the last of a key is stored (needs the UPDATE privilege on iot.sensor_readings).
    """
    await connection.execute(_CREATE_STAGED)
    await connection.execute("truncate pg_temp.ingest_staged")
    staged = [_staged_head(_FIELDS + 1, 4, first_row + index) + row[2:] for index, row in enumerate(packed)]
    await connection.copy_to_table(
        "ingest_staged",
        schema_name="pg_temp",
        columns=["ord", *COLUMNS],
        source=_stream(staged),
        format="binary",
    )
    written = await connection.fetch(_REPLACE_STAGED if policy == "replace" else _INSERT_STAGED)
    rest = set(range(first_row, first_row + len(packed))).difference(record[0] for record in written)
    conflicts: list[Conflict] = []
    if policy == "dead_letter" and rest:
        earliest, latest = await connection.fetchrow(_STAGED_SPAN) or (None, None)
        found = await connection.fetch(_FIND_CONFLICTS, earliest, latest)
        conflicts = [Conflict(*record) for record in found]
        rest.difference_update(conflict.row for conflict in conflicts)
    return Inserted(len(written), sorted(rest), conflicts)


async def insert_new(
    connection: asyncpg.Connection, rows: Sequence[Row], packed: Sequence[bytes], policy: ConflictPolicy
) -> tuple[Inserted, dict[int, Rejection]]:
    """Insert what is new of *rows*, given *packed* too, inside the caller's transaction.

    Gives what became of them and, by row number, the rejection of each that only the database could refuse.
    """
    inserted, faults = await insert_bisecting(connection, packed, policy)
    refused = {
        number: Rejection(rows[number].field, "database_refused", str(fault))
        for number, fault in faults.items()
    }
    for conflict in inserted.conflicts:
        row = rows[conflict.row]
        refused[conflict.row] = Rejection(
            row.field,
            "conflicting_value",
            f"{row.value!r} (unit {row.series.unit_id}) arrived where {conflict.stored_value!r} "
            f"(unit {conflict.stored_unit_id}) is stored",
        )
    return inserted, refused


async def insert_bisecting(
    connection: asyncpg.Connection, packed: Sequence[bytes], policy: ConflictPolicy, *, first_row: int = 0
) -> tuple[Inserted, dict[int, Poison]]:
    """Insert as `insert_staged` does, halving around rows that the server refuses.

    Gives what was inserted and, by row number, the fault of each refused row. Costs about
    2 log2(rows) statements a refused row, inside the caller's transaction.
    """
    # Not `async with`: on a deadline its ROLLBACK would wait, without one, on a server that is silent.
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        inserted = await insert_staged(connection, packed, policy, first_row=first_row)
        await savepoint.commit()
    except asyncpg.PostgresError as error:
        fault = translate(error)
        if not isinstance(fault, Poison):
            raise
        await savepoint.rollback()
        if len(packed) == 1:
            return Inserted(0, [], []), {first_row: fault}
    else:
        return inserted, {}
    half = len(packed) // 2
    left, left_refused = await insert_bisecting(connection, packed[:half], policy, first_row=first_row)
    right, right_refused = await insert_bisecting(
        connection, packed[half:], policy, first_row=first_row + half
    )
    both = Inserted(
        left.written + right.written, left.duplicates + right.duplicates, left.conflicts + right.conflicts
    )
    return both, left_refused | right_refused


async def _stream(packed: Sequence[bytes]) -> AsyncIterator[bytes]:
    """Give the COPY stream in chunks that keep neither side waiting for one huge write."""
    chunk = [_SIGNATURE]
    size = 0
    for row in packed:
        chunk.append(row)
        size += len(row)
        if size >= _CHUNK_BYTES:
            yield b"".join(chunk)
            chunk = []
            size = 0
    chunk.append(_TRAILER)
    yield b"".join(chunk)
