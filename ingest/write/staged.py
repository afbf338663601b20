"""The staged way in: rows go through a temporary table, which tells duplicates, conflicts and refusals apart.

The temporary table takes any bytes of a packed row: what the server may refuse in them (a time out of
range, text that jsonb cannot hold) is converted on the way out of it. First all rows in one statement; if
the server refuses one of them, row by row inside one call of a temporary function, each row in a
subtransaction of its own: 20 000 rows in about 2 s, of a compressed chunk in 4, however many are refused.
Runs inside the writer's transaction and makes nothing but temporary objects.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import asyncpg

from ingest.errors import Poison
from ingest.model import Rejection
from ingest.write.copy import COLUMNS, pack, parts, stream
from ingest.write.retry import translate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.model import Row

ConflictPolicy = Literal["dead_letter", "keep_first", "replace"]

# The order number, then the columns of a packed row: a staged row is a packed row with another head.
# Sent as one, so that they cost one round trip. Deferred constraints would refuse at COMMIT, where no row can
# be named.
_PREPARE = """
set constraints all immediate;
create temporary table if not exists ingest_staged (
    ord integer not null,
    time_us bigint not null,
    value double precision,
    greenhouse_id uuid not null,
    tenant_id uuid not null,
    sensor_id uuid not null,
    sensor_type_id smallint not null,
    unit_id smallint not null,
    metadata bytea
) on commit delete rows;
truncate pg_temp.ingest_staged
"""
# Both give the order numbers of what was written: whose the others were is told by them.
_INSERT_STAGED = """
with chosen as materialized (
    select distinct on (greenhouse_id, sensor_type_id, time_us, sensor_id)
        ord,
        timestamptz '2000-01-01T00:00Z' + time_us * interval '1 microsecond' as time,
        value,
        greenhouse_id,
        tenant_id,
        sensor_id,
        sensor_type_id,
        unit_id,
        convert_from(substr(metadata, 2), 'UTF8')::jsonb as metadata
    from pg_temp.ingest_staged
    order by greenhouse_id, sensor_type_id, time_us, sensor_id, ord
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
    select distinct on (greenhouse_id, sensor_type_id, time_us, sensor_id)
        ord,
        timestamptz '2000-01-01T00:00Z' + time_us * interval '1 microsecond' as time,
        value,
        greenhouse_id,
        tenant_id,
        sensor_id,
        sensor_type_id,
        unit_id,
        convert_from(substr(metadata, 2), 'UTF8')::jsonb as metadata
    from pg_temp.ingest_staged
    order by greenhouse_id, sensor_type_id, time_us, sensor_id, ord desc
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
# It catches what `retry` calls Poison; anything else ends the call, and the transaction with it.
_HAS_ROW_BY_ROW = "select to_regprocedure('pg_temp.ingest_row_by_row(boolean)') is not null"
_CREATE_ROW_BY_ROW = """
create function pg_temp.ingest_row_by_row(replacing boolean)
returns table (refused integer, code text, message text)
language plpgsql
as $$
declare
    v_row record;
    v_detail text;
begin
    for v_row in select * from pg_temp.ingest_staged as s order by s.ord loop
        begin
            if replacing then
                insert into iot.sensor_readings as stored
                    (time, value, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, metadata)
                values (
                    timestamptz '2000-01-01T00:00Z' + v_row.time_us * interval '1 microsecond',
                    v_row.value,
                    v_row.greenhouse_id,
                    v_row.tenant_id,
                    v_row.sensor_id,
                    v_row.sensor_type_id,
                    v_row.unit_id,
                    convert_from(substr(v_row.metadata, 2), 'UTF8')::jsonb
                )
                on conflict (greenhouse_id, sensor_type_id, time, sensor_id) do update
                    set value = excluded.value, unit_id = excluded.unit_id, metadata = excluded.metadata
                    where (stored.value, stored.unit_id) is distinct from (excluded.value, excluded.unit_id);
            else
                insert into iot.sensor_readings
                    (time, value, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, metadata)
                values (
                    timestamptz '2000-01-01T00:00Z' + v_row.time_us * interval '1 microsecond',
                    v_row.value,
                    v_row.greenhouse_id,
                    v_row.tenant_id,
                    v_row.sensor_id,
                    v_row.sensor_type_id,
                    v_row.unit_id,
                    convert_from(substr(v_row.metadata, 2), 'UTF8')::jsonb
                )
                on conflict do nothing;
            end if;
            if not found then -- a duplicate or a conflict: the key is stored
                refused := v_row.ord;
                code := null;
                return next;
            end if;
        exception
            when data_exception
                or integrity_constraint_violation
                or with_check_option_violation
                or program_limit_exceeded
                or plpgsql_error
            then
                get stacked diagnostics
                    code = returned_sqlstate,
                    message = message_text,
                    v_detail = pg_exception_detail;
                refused := v_row.ord;
                message := left(concat_ws(': ', message, nullif(v_detail, '')), 400);
                return next;
        end;
    end loop;
end
$$
"""
_ROW_BY_ROW = "select refused, code, message from pg_temp.ingest_row_by_row($1)"
# The bounds keep chunks outside the batch out of the plan.
_FIND_CONFLICTS = """
select staged.ord, stored.value, stored.unit_id
from pg_temp.ingest_staged as staged
join iot.sensor_readings as stored
    on stored.greenhouse_id = staged.greenhouse_id
    and stored.sensor_type_id = staged.sensor_type_id
    and stored.time = timestamptz '2000-01-01T00:00Z' + staged.time_us * interval '1 microsecond'
    and stored.sensor_id = staged.sensor_id
where staged.ord = any($1::integer[])
    and stored.time between $2 and $3
    and (stored.value, stored.unit_id) is distinct from (staged.value, staged.unit_id)
"""

_FIELDS: Final = len(COLUMNS) + 1
_head = struct.Struct(">hii").pack
_time_us = struct.Struct(">q").unpack_from
_TIME_AT: Final = 6
"""Where a packed row has its time: behind the number of fields and that field's length."""
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Conflict(NamedTuple):
    """A staged row whose key is stored with another value."""

    row: int
    stored_value: float
    stored_unit_id: int


class Inserted(NamedTuple):
    """What became of a batch's rows: written + duplicates + conflicts + refused = rows."""

    written: int
    duplicates: list[int]
    """By row number."""
    conflicts: list[Conflict]
    refused: dict[int, str]
    """By row number, why the server refuses it; the text ends with its SQLSTATE."""


async def insert_staged(
    connection: asyncpg.Connection, packed: Sequence[bytes], policy: ConflictPolicy
) -> Inserted:
    """Insert what is new of *packed* and not refused, inside the caller's transaction.

    Under "dead_letter" the first of a key stays and rows with another value are conflicts; under
    "keep_first" those count as duplicates; under "replace" the last of a key is stored (needs the UPDATE
    privilege on iot.sensor_readings). Raises asyncpg's errors for what is not the rows' fault.
    """
    await connection.execute(_PREPARE)
    staged = [_head(_FIELDS, 4, index) + row[2:] for index, row in enumerate(packed)]
    await connection.copy_to_table(
        "ingest_staged",
        schema_name="pg_temp",
        columns=["ord", "time_us", *COLUMNS[1:]],
        source=stream(parts(staged)),
        format="binary",
    )
    rest, refused = await _insert(connection, len(packed), policy)
    written = len(packed) - len(rest) - len(refused)
    conflicts: list[Conflict] = []
    if policy == "dead_letter" and rest:
        times = [_EPOCH + timedelta(microseconds=_time_us(packed[number], _TIME_AT)[0]) for number in rest]
        found = await connection.fetch(_FIND_CONFLICTS, list(rest), min(times), max(times))
        conflicts = [Conflict(*each) for each in found]
        rest.difference_update(conflict.row for conflict in conflicts)
    return Inserted(written, sorted(rest), conflicts, refused)


async def insert_new(
    connection: asyncpg.Connection, rows: Sequence[Row], policy: ConflictPolicy
) -> tuple[Inserted, dict[int, Rejection]]:
    """Insert what is new of *rows*, inside the caller's transaction.

    Gives what became of them and, by row number, the rejection of each that only the database could refuse.
    """
    inserted = await insert_staged(connection, pack(rows), policy)
    refused = {
        number: Rejection(rows[number].field, "database_refused", why)
        for number, why in inserted.refused.items()
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


async def _insert(
    connection: asyncpg.Connection, rows: int, policy: ConflictPolicy
) -> tuple[set[int], dict[int, str]]:
    """Insert what is staged; give the rows stored already and, by row number, why others are refused."""
    # Not `async with`: on a deadline its ROLLBACK would wait, without one, on a server that is silent.
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        written = await connection.fetch(_REPLACE_STAGED if policy == "replace" else _INSERT_STAGED)
        await savepoint.commit()
    except asyncpg.PostgresError as error:
        if not isinstance(translate(error), Poison):
            raise
        await savepoint.rollback()
    else:
        return set(range(rows)).difference(record[0] for record in written), {}
    if not await connection.fetchval(_HAS_ROW_BY_ROW):
        await connection.execute(_CREATE_ROW_BY_ROW)
    not_written = await connection.fetch(_ROW_BY_ROW, policy == "replace")
    refused = {row: f"{text} (SQLSTATE {code})" for row, code, text in not_written if code is not None}
    return {row for row, code, _ in not_written if code is None}, refused
