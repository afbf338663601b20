"""The writer against real servers: what COMMIT does with a batch, and what it does when something breaks.

On plain PostgreSQL, where faults can be made; compressed chunks are in test_writer_compressed.py.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal
from uuid import uuid4

import asyncpg
import pytest

from ingest.errors import SessionTakenOver
from ingest.model import Delivery, Rejection
from ingest.receive import entry_of
from ingest.settings import WriteSettings
from ingest.write import Batch, Counts
from tests.batches import (
    MAX_PAYLOAD_BYTES,
    NOW_US,
    WriterUnderTest,
    batch_of,
    counters_of,
    row,
    series_of,
    stored,
)

Connection = asyncpg.Connection


# rows


async def test_a_row_arrives_as_it_was(writer: WriterUnderTest, connection: Connection) -> None:
    series = series_of(sensor_type_id=3, unit_id=4)
    batch = Batch()
    batch.add(
        Delivery("t", b"1", 2, 7),
        NOW_US,
        [row(series, -1.5, metadata=b'{"label": "\xc2\xb0"}'), row(series, 2.0, 1)],
    )
    outcome = await writer.commit(batch)
    assert outcome.counts == Counts(committed=1, decoded=2, written=2)
    first, second = await connection.fetch("select * from iot.sensor_readings order by time")
    assert first["greenhouse_id"] == series.greenhouse_id
    assert first["tenant_id"] == series.tenant_id
    assert first["sensor_id"] == series.sensor_id
    assert (first["sensor_type_id"], first["unit_id"], first["value"]) == (3, 4, -1.5)
    assert first["time"].timestamp() == NOW_US / 1e6
    assert json.loads(first["metadata"]) == {"label": "°"}
    assert second["metadata"] is None
    assert (first["sensor_type"], first["unit"]) == (None, None)


async def test_a_time_before_2000_is_packed_too(writer: WriterUnderTest, connection: Connection) -> None:
    batch = Batch()
    batch.add(Delivery("t", b"1", 0, 0), NOW_US, [row(series_of(), 1.0, -NOW_US - 1)])
    await writer.commit(batch)
    assert await stored(connection) == [(-NOW_US - 1, 1.0)]


async def test_many_rows_go_in_chunks(writer: WriterUnderTest, connection: Connection) -> None:
    series = series_of()
    rows = [row(series, float(at), at, metadata=b'{"note": "%s"}' % (b"x" * 100)) for at in range(12_000)]
    outcome = await writer.commit(batch_of(rows))
    assert outcome.counts.written == 12_000
    assert await stored(connection) == [(at, float(at)) for at in range(12_000)]


async def test_a_key_that_is_stored_with_its_value_is_a_duplicate(
    writer: WriterUnderTest, connection: Connection
) -> None:
    series = series_of()
    await writer.commit(batch_of([row(series, 1.0), row(series, 2.0, 1)]))
    outcome = await writer.commit(batch_of([row(series, 2.0, 1), row(series, 3.0, 2)]))
    assert outcome.counts == Counts(committed=2, decoded=2, written=1, duplicate=1)
    assert outcome.refused == {}
    assert await stored(connection) == [(0, 1.0), (1, 2.0), (2, 3.0)]


@pytest.mark.parametrize(
    ("policy", "counts", "value"),
    [
        ("dead_letter", Counts(committed=3, decoded=3, written=1, duplicate=1, rejected=1), 1.0),
        ("keep_first", Counts(committed=3, decoded=3, written=1, duplicate=2), 1.0),
        ("replace", Counts(committed=3, decoded=3, written=2, duplicate=1), 9.0),
    ],
)
async def test_a_key_that_is_stored_with_another_value(
    policy: Literal["dead_letter", "keep_first", "replace"],
    counts: Counts,
    value: float,
    timeseries_dsn: str,
    connection: Connection,
) -> None:
    series = series_of()
    async with WriterUnderTest(timeseries_dsn, WriteSettings(conflicting_value=policy)) as writer:
        await writer.commit(batch_of([row(series, 1.0), row(series, 2.0, 1)]))
        outcome = await writer.commit(
            batch_of([row(series, 9.0, field="late"), row(series, 2.0, 1), row(series, 3.0, 2)])
        )
    assert outcome.counts == counts
    assert await stored(connection) == [(0, value), (1, 2.0), (2, 3.0)]
    letters = await connection.fetch("select rejected from iot.ingest_dead_letters")
    if policy == "dead_letter":
        (rejected,) = json.loads(letters[0]["rejected"])
        assert (rejected["field"], rejected["reason"]) == ("late", "conflicting_value")
        assert "9.0" in rejected["detail"]
        assert "1.0" in rejected["detail"]
    else:
        assert letters == []


async def test_another_unit_is_another_value(writer: WriterUnderTest, connection: Connection) -> None:
    series = series_of(unit_id=1)
    same_in_fahrenheit = series_of(like=series, unit_id=2)
    await writer.commit(batch_of([row(series, 20.0)]))
    outcome = await writer.commit(batch_of([row(same_in_fahrenheit, 20.0)]))
    assert [rejection.reason for rejection in outcome.refused.values()] == ["conflicting_value"]
    assert await connection.fetchval("select unit_id from iot.sensor_readings") == 1


async def test_a_key_twice_in_one_batch(writer: WriterUnderTest, connection: Connection) -> None:
    series = series_of()
    outcome = await writer.commit(
        batch_of([row(series, 1.0), row(series, 1.0), row(series, 2.0), row(series, 3.0, 1)])
    )
    assert outcome.counts == Counts(committed=4, decoded=4, written=2, duplicate=1, rejected=1)
    assert list(outcome.refused) == [2]
    assert await stored(connection) == [(0, 1.0), (1, 3.0)]


# rows the server refuses


async def test_poison_rows_are_found_and_the_rest_lands(
    writer: WriterUnderTest, connection: Connection
) -> None:
    await connection.execute(
        """
        alter table iot.sensor_readings add constraint no_beast check (value <> 666);
        create function iot.refuse() returns trigger language plpgsql as $$
        begin
            if new.value = 777 then raise exception 'no luck'; end if;
            return new;
        end $$;
        create trigger refuse before insert on iot.sensor_readings
            for each row execute function iot.refuse();
        """
    )
    series = series_of()
    values = [float(at) if at not in {777, 666} else 0.0 for at in range(5_000)]
    values[17], values[2_500], values[4_999] = 666.0, 777.0, 666.0
    outcome = await writer.commit(
        batch_of([row(series, value, at, field=f"f{at}") for at, value in enumerate(values)])
    )
    assert outcome.counts == Counts(committed=5_000, decoded=5_000, written=4_997, rejected=3)
    assert sorted(outcome.refused) == [17, 2_500, 4_999]
    assert len(await stored(connection)) == 4_997
    letters = await connection.fetch(
        "select rejected, reasons, rejected_count from iot.ingest_dead_letters order by dead_letter_id"
    )
    told = [json.loads(letter["rejected"])[0] for letter in letters]
    assert [each["field"] for each in told] == ["f17", "f2500", "f4999"]
    assert {each["reason"] for each in told} == {"database_refused"}
    assert "23514" in told[0]["detail"]
    assert "P0001" in told[1]["detail"]
    assert all(letter["reasons"] == ["database_refused"] for letter in letters)


async def test_a_text_that_postgresql_cannot_hold_costs_one_row(
    writer: WriterUnderTest, connection: Connection
) -> None:
    series = series_of()
    rows = [row(series, 1.0, metadata=rb'{"note": "\u0000"}', field="bad"), row(series, 2.0, 1)]
    outcome = await writer.commit(batch_of(rows))
    assert "22P05" in outcome.refused[0].detail
    assert await stored(connection) == [(1, 2.0)]


async def test_a_batch_of_nothing_but_poison(writer: WriterUnderTest, connection: Connection) -> None:
    await connection.execute("alter table iot.sensor_readings add constraint none_at_all check (value < 0)")
    outcome = await writer.commit(batch_of([row(series_of(), 1.0), row(series_of(), 2.0)]))
    assert outcome.counts == Counts(committed=2, decoded=2, rejected=2)
    assert await connection.fetchval("select sum(rejected_count) from iot.ingest_dead_letters") == 2


# dead letters


async def test_a_payload_over_the_limit_is_kept_cut(writer: WriterUnderTest, connection: Connection) -> None:
    payload = bytes(range(256)) * 1025
    batch = Batch()
    batch.add(Delivery("GREENHOUSE/SARA", payload, 2, 1), NOW_US, (), [Rejection("", "too_large", "long")])
    await writer.commit(batch)
    letter = await connection.fetchrow("select * from iot.ingest_dead_letters")
    assert letter is not None
    assert letter["payload"] == payload[:4096]
    assert letter["payload_bytes"] == len(payload) > MAX_PAYLOAD_BYTES
    assert letter["payload_sha256"] == hashlib.sha256(payload).digest()


async def test_a_payload_at_the_limit_is_kept_whole(writer: WriterUnderTest, connection: Connection) -> None:
    payload = b"\x00" * MAX_PAYLOAD_BYTES
    batch = Batch()
    batch.add(Delivery("t", payload, 2, 1), NOW_US, (), [Rejection("", "bad_payload", "zeros")])
    await writer.commit(batch)
    letter = await connection.fetchrow("select payload, payload_sha256 from iot.ingest_dead_letters")
    assert letter is not None
    assert letter["payload"] == payload
    assert letter["payload_sha256"] is None


async def test_what_text_cannot_hold_is_replaced(writer: WriterUnderTest, connection: Connection) -> None:
    batch = Batch()
    batch.add(
        Delivery("topic\x00\udcff", b"\xff", 2, 1),
        NOW_US,
        (),
        [Rejection("field\x00", "bad_value", "lone \ud800, nul \x00, quote ' and \\")],
        (tenant_id := uuid4()),
    )
    await writer.commit(batch)
    letter = await connection.fetchrow("select * from iot.ingest_dead_letters")
    assert letter is not None
    assert letter["topic"] == "topic\ufffd\ufffd"
    assert letter["payload"] == b"\xff"
    assert letter["tenant_id"] == tenant_id
    assert letter["received_at"].timestamp() == NOW_US / 1e6
    assert json.loads(letter["rejected"]) == [
        {
            "field": "field\ufffd",
            "reason": "bad_value",
            "detail": "lone \ufffd, nul \ufffd, quote ' and \\",
        }
    ]


async def test_one_letter_a_message_whoever_refused_its_fields(
    writer: WriterUnderTest, connection: Connection
) -> None:
    series = series_of()
    await writer.commit(batch_of([row(series, 1.0)]))
    batch = Batch()
    batch.add(
        Delivery("t", b"{}", 2, 1),
        NOW_US,
        [row(series, 5.0, field="a"), row(series, 6.0, 1, field="b")],
        [Rejection("c", "bad_value", "text"), Rejection("d", "bad_value", "text")],
    )
    outcome = await writer.commit(batch)
    assert outcome.counts == Counts(committed=1, decoded=4, written=1, rejected=3)
    letter = await connection.fetchrow("select * from iot.ingest_dead_letters")
    assert letter is not None
    assert [each["field"] for each in json.loads(letter["rejected"])] == ["c", "d", "a"]
    assert letter["reasons"] == ["bad_value", "conflicting_value"]
    assert letter["rejected_count"] == 3


# the journal and the counters


async def test_the_journal_moves_with_the_commit(writer: WriterUnderTest, connection: Connection) -> None:
    batch = batch_of([row(series_of(), 1.0), row(series_of(), 2.0)])
    entries = [entry_of(delivery) for delivery in batch.deliveries]
    await writer.commit(batch, entries)
    session = await connection.fetchrow(
        "select * from iot.ingest_sessions where client_id = $1", writer.client_id
    )
    assert session is not None
    assert session["batch_id"] == batch.batch_id
    async with WriterUnderTest(writer.dsn, client_id=writer.client_id) as successor:
        claim = await successor.claim()
        assert claim.pending == entries
        assert claim.epoch == session["epoch"] + 1
        await successor.forget(entries[1:])
        await successor.store_filters(["a/+", "b"])
        claim = await successor.claim()
        assert claim.pending == entries[1:]
        assert claim.filters == ("a/+", "b")


async def test_a_writer_whose_session_was_claimed_stops_and_leaves_nothing(
    writer: WriterUnderTest, connection: Connection
) -> None:
    await writer.commit(batch_of([row(series_of(), 1.0)]))
    async with WriterUnderTest(writer.dsn, client_id=writer.client_id) as successor:
        await successor.claim()
        with pytest.raises(SessionTakenOver, match=writer.client_id):
            await writer.commit(batch_of([row(series_of(), 2.0)]))
        for late in (writer.forget(()), writer.store_filters(["x"]), writer.claim()):
            with pytest.raises(SessionTakenOver):
                await late
        await successor.commit(batch_of([row(series_of(), 3.0)]))
    assert [value for _, value in await stored(connection)] == [1.0, 3.0]
    assert (await counters_of(connection))["written"] == 2


async def test_forgetting_without_a_session_claims_none(
    writer: WriterUnderTest, connection: Connection
) -> None:
    await writer.forget(())
    assert await connection.fetchval("select count(*) from iot.ingest_sessions") == 0


async def test_the_counters_add_up_over_batches(writer: WriterUnderTest, connection: Connection) -> None:
    series = series_of()
    total = Counts()
    for turn in range(3):
        batch = batch_of([row(series, float(at), at) for at in range(turn + 2)])
        batch.add(Delivery("t", b'{"value": null}', 0, 0), NOW_US, nulls=1)
        batch.ignore(Delivery("t", b"", 0, 0), NOW_US)
        also = Counts(received=len(batch) + 2, skipped=2)
        outcome = await writer.commit(batch, also=also)
        total = total.plus(outcome.counts).plus(also)
    assert total.received == total.committed + total.skipped + total.ignored
    assert total.decoded == total.written + total.duplicate + total.rejected + total.null
    counters = await counters_of(connection)
    assert counters == {name: value for name, value in total.as_dict().items() if value}
