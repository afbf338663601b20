"""Rows that the server refuses: each is found, told with its SQLSTATE, and costs no other row its place.

On plain PostgreSQL and, compressed chunks included, on TimescaleDB.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import asyncpg
import pytest

from ingest.settings import WriteSettings
from ingest.write import Counts
from tests.batches import NOW_US, WriterUnderTest, batch_of, row, series_of, stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ingest.model import Row

Connection = asyncpg.Connection
Policy = Literal["dead_letter", "keep_first", "replace"]

LAST_US = 2**63 - 1 + 946_684_800_000_000
"""The last time that 64 bits hold, counted from 1970; timestamptz ends an hour earlier."""
NO_BEAST = "alter table iot.sensor_readings add constraint no_beast check (value <> 666)"
REFUSE = """
create function iot.refuse() returns trigger language plpgsql as $$
begin
    if new.value = 777 then raise exception 'no luck' using errcode = '{code}'; end if;
    return new;
end $$;
create trigger refuse before insert on iot.sensor_readings for each row execute function iot.refuse();
"""


@pytest.fixture(params=["timeseries_dsn", "migrated_dsn"], ids=["plain", "timescale"])
def dsn(request: pytest.FixtureRequest) -> str:
    """A database with schema iot."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
async def server(dsn: str) -> AsyncIterator[tuple[str, Connection]]:
    """DSN of and a connection to a database with schema iot."""
    opened = await asyncpg.connect(dsn)
    yield dsn, opened
    await opened.close()


async def compress(connection: Connection) -> None:
    """Compress every chunk, where there are chunks."""
    if await connection.fetchval("select to_regproc('compress_chunk')"):
        await connection.fetch("select compress_chunk(c) from show_chunks('iot.sensor_readings') as c")


@pytest.mark.parametrize("policy", ["dead_letter", "keep_first", "replace"])
async def test_refusals_duplicates_and_conflicts_in_one_batch(
    policy: Policy, server: tuple[str, Connection]
) -> None:
    dsn, connection = server
    series = series_of()
    async with WriterUnderTest(dsn, WriteSettings(conflicting_value=policy)) as writer:
        await writer.commit(batch_of([row(series, float(at), at) for at in range(100)]))
        await compress(connection)
        await connection.execute(NO_BEAST)
        outcome = await writer.commit(
            batch_of(
                [
                    row(series, 666.0, 150),  # refused
                    row(series, 5.0, 5),  # a duplicate
                    row(series, -7.0, 7),  # a conflict
                    row(series, 666.0, 200),  # refused
                    row(series, 200.0, 200),  # so that this one is the first of its key
                    row(series, 201.0, 200),  # a conflict with it
                    row(series, 300.0, 300),
                ]
            )
        )
        assert not writer.faults
    expected = {at: float(at) for at in range(100)} | {200: 200.0, 300: 300.0}
    if policy == "dead_letter":
        assert outcome.counts == Counts(committed=7, decoded=7, written=2, duplicate=1, rejected=4)
        assert [outcome.refused[at].reason for at in (0, 2, 3, 5)] == [
            "database_refused", "conflicting_value", "database_refused", "conflicting_value",
        ]  # fmt: skip
    elif policy == "keep_first":
        assert outcome.counts == Counts(committed=7, decoded=7, written=2, duplicate=3, rejected=2)
    else:
        assert outcome.counts == Counts(committed=7, decoded=7, written=4, duplicate=1, rejected=2)
        expected |= {7: -7.0, 200: 201.0}
    assert outcome.refused[0].detail.endswith("(SQLSTATE 23514)")
    assert dict(await stored(connection)) == expected


async def test_a_refused_row_whose_key_is_stored_counts_once(
    writer: WriterUnderTest, connection: Connection
) -> None:
    """On plain PostgreSQL: of a compressed chunk TimescaleDB sees the key before the constraint."""
    series = series_of()
    await writer.commit(batch_of([row(series, 1.0)]))
    await connection.execute(NO_BEAST)
    outcome = await writer.commit(batch_of([row(series, 666.0), row(series, 2.0)]))
    assert outcome.counts == Counts(committed=2, decoded=2, rejected=2)
    assert [rejection.reason for rejection in outcome.refused.values()] == [
        "database_refused",
        "conflicting_value",
    ]


async def test_thousands_of_refused_rows_fit_into_one_transaction(server: tuple[str, Connection]) -> None:
    dsn, connection = server
    series = [series_of() for _ in range(20)]
    values = [666.0 if at % 3 == 1 else -float(at) for at in range(9_000)]
    rows = [row(series[at % 20], value, at, field=str(at)) for at, value in enumerate(values)]
    async with WriterUnderTest(dsn) as writer:
        await writer.commit(batch_of([row(each, -1.0, -1) for each in series]))
        await compress(connection)
        await connection.execute(NO_BEAST)
        outcome = await writer.commit(batch_of(rows))
        assert not writer.faults
    assert outcome.counts == Counts(committed=9_000, decoded=9_000, written=6_000, rejected=3_000)
    assert sorted(outcome.refused) == list(range(1, 9_000, 3))
    assert all(rejection.field == str(at) for at, rejection in outcome.refused.items())
    assert await connection.fetchval("select count(*) from iot.sensor_readings") == 6_020
    assert await connection.fetchval("select sum(rejected_count) from iot.ingest_dead_letters") == 3_000


@pytest.mark.parametrize("code", ["22003", "23514", "44000", "54000", "P0001", "P0002"])
async def test_what_a_row_can_be_blamed_for(
    code: str, writer: WriterUnderTest, connection: Connection
) -> None:
    await connection.execute(REFUSE.format(code=code))
    series = series_of()
    for _ in range(2):  # the second finds the temporary objects of the first
        outcome = await writer.commit(batch_of([row(series, 777.0, 1, field="x"), row(series, 1.0, 2)]))
        assert outcome.refused[0].detail == f"no luck (SQLSTATE {code})"
    assert not writer.faults
    letter = await connection.fetchrow("select rejected, reasons from iot.ingest_dead_letters limit 1")
    assert letter is not None
    assert letter["reasons"] == ["database_refused"]
    assert json.loads(letter["rejected"]) == [
        {"field": "x", "reason": "database_refused", "detail": f"no luck (SQLSTATE {code})"}
    ]


@pytest.mark.parametrize("code", ["42P01", "42501", "53100", "40001", "XX000", "U0001"])
async def test_what_no_row_is_blamed_for(code: str, writer: WriterUnderTest, connection: Connection) -> None:
    series = series_of()
    await writer.commit(batch_of([row(series, 1.0)]))
    await connection.execute(NO_BEAST)
    await connection.execute(REFUSE.format(code=code))
    # The beast sends the batch row by row, where the trigger is met.
    committing = writer.committing(batch_of([row(series, 666.0, 1), row(series, 777.0, 2)]))
    await writer.faulted.wait()
    assert writer.faults[0].sqlstate == code
    assert [value for _, value in await stored(connection)] == [1.0]
    await connection.execute("drop trigger refuse on iot.sensor_readings")
    outcome = await committing
    assert list(outcome.refused) == [0]
    assert [value for _, value in await stored(connection)] == [1.0, 777.0]


def unstorable() -> list[tuple[Row, str]]:
    """Give rows that no decoder makes, each with the SQLSTATE it is refused with."""
    series = series_of()
    return [
        (row(series, 1.0, 1, metadata=rb'{"note": "\u0000"}'), "22P05"),
        (row(series, 1.0, 2, metadata=b'{"note": "\xff"}'), "22021"),
        (row(series, 1.0, 3, metadata=b"{"), "22P02"),
        (row(series, 1.0, 4, metadata=b""), "22P02"),
        (row(series, 1.0, LAST_US - NOW_US), "22008"),
        (row(series, 1.0, -(2**62)), "22008"),
    ]


async def test_what_the_columns_cannot_hold_costs_its_row(server: tuple[str, Connection]) -> None:
    dsn, connection = server
    bad = unstorable()
    good = row(bad[0][0].series, 2.0)
    async with WriterUnderTest(dsn) as writer:
        outcome = await writer.commit(batch_of([*(each for each, _ in bad), good]))
        assert not writer.faults
    codes = [outcome.refused[at].detail.rpartition("SQLSTATE ")[2].rstrip(")") for at in range(len(bad))]
    assert codes == [code for _, code in bad]
    assert await stored(connection) == [(0, 2.0)]


async def test_a_constraint_that_waits_for_commit_finds_its_row_too(
    writer: WriterUnderTest, connection: Connection
) -> None:
    """On plain PostgreSQL: a hypertable takes no constraint trigger."""
    await connection.execute(REFUSE.format(code="23514"))
    await connection.execute("""
        drop trigger refuse on iot.sensor_readings;
        create constraint trigger refuse after insert on iot.sensor_readings
            deferrable initially deferred for each row execute function iot.refuse()
    """)
    series = series_of()
    outcome = await writer.commit(batch_of([row(series, 1.0, 1), row(series, 777.0, 2), row(series, 3.0, 3)]))
    assert list(outcome.refused) == [1]
    assert [value for _, value in await stored(connection)] == [1.0, 3.0]
