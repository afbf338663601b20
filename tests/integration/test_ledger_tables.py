"""The ledgers by gateway and hour as the writer stores them: exact, whatever becomes of a batch."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.errors import SessionTakenOver
from ingest.model import UNPLACED, ClockFault, Delivery, Gateway, Rejection
from ingest.write import Batch, Counts
from ingest.write.ledger import HOUR_US
from tests.batches import NOW_US, WriterUnderTest, counters_of, row, series_of
from tests.integration.timeseries_rows import hold_jobs, run_jobs
from tests.ledgers import LEDGER
from tests.letters import letter, replay_all, store, under
from tests.unit.catalog_examples import SARA_01

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.model import Row, Series

Connection = asyncpg.Connection
ONE, OTHER = series_of(), series_of()
GATEWAYS = [
    Gateway(name, each.tenant_id, each.greenhouse_id) for name, each in (("g/1", ONE), ("g/2", OTHER))
]
PLACES = "select gateway, received, tenant_id, greenhouse_id from iot.ingest_gateway_hours"
FOLD = "select iot.fold_ledger_hours_before(to_timestamp($1::bigint))"
WRITTEN = (
    "select extract(epoch from hour)::bigint * 1000000, greenhouse_id, rows from iot.ingest_written_hours"
)


def whole(series: Series, gateway: Gateway, values: Sequence[float], first_at: int = 0) -> Batch:
    """One message a value, all of one gateway; the values are µs and number the rows, too."""
    batch = Batch()
    add(batch, [row(series, value, first_at + at) for at, value in enumerate(values)], gateway)
    return batch


def add(batch: Batch, rows: Sequence[Row], gateway: Gateway) -> None:
    for each in rows:
        batch.add(Delivery("t", b"1", 2, len(batch) + 1), NOW_US + len(batch), [each], gateway=gateway)


async def commit(writer: WriterUnderTest, batch: Batch) -> None:
    """Commit as the worker does: with what was received and skipped."""
    skips = batch.skipped.total()
    await writer.commit(batch, also=Counts(received=len(batch) + skips, skipped=skips))


async def ledger(connection: Connection) -> dict[str, Counts]:
    found = await connection.fetch(LEDGER, None)
    return {record["gateway"]: Counts(*list(record)[1:]) for record in found}


async def adds_up(connection: Connection) -> None:
    """Both ledgers of every gateway, and all of them together against the session's totals."""
    total = Counts()
    for counts in (await ledger(connection)).values():
        assert counts.received == counts.committed + counts.skipped + counts.ignored
        assert counts.decoded == counts.written + counts.duplicate + counts.rejected + counts.null
        total = total.plus(counts)
    totals = await connection.fetch(
        "select counter, sum(value)::bigint from iot.ingest_counters group by counter"
    )
    assert {each[0]: each[1] for each in totals} == {
        name: value for name, value in total.as_dict().items() if value
    }
    differing = await connection.fetch("""
        select hour, greenhouse_id, h.rows, r.rows
        from (
            select hour, greenhouse_id, tenant_id, sum(rows) as rows
            from iot.ingest_written_hours
            group by 1, 2, 3
        ) as h
        full join (
            select date_trunc('hour', time, 'UTC') as hour, greenhouse_id, tenant_id, count(*) as rows
            from iot.sensor_readings
            group by 1, 2, 3
        ) as r using (hour, greenhouse_id, tenant_id)
        where h.rows is distinct from r.rows
    """)
    assert differing == []


async def test_each_gateway_has_its_own_and_batches_add_to_it(
    writer: WriterUnderTest, connection: Connection
) -> None:
    for turn in range(3):
        batch = whole(ONE, GATEWAYS[0], [1.0, 2.0], first_at=10 * turn)
        add(batch, [row(OTHER, 3.0, 10 * turn)], GATEWAYS[1])
        batch.ignore(Delivery("SYSTEM/x", b"", 0, 0), NOW_US + 3)
        batch.add(
            Delivery("t", b"?", 2, 9),
            NOW_US + 4,
            (),
            [Rejection("", "bad_payload", "?")],
            gateway=GATEWAYS[1],
        )
        batch.add(Delivery("t", b"null", 2, 10), NOW_US + 5, (), gateway=GATEWAYS[0], nulls=2)
        await commit(writer, batch)
    assert await ledger(connection) == {
        UNPLACED.name: Counts(received=3, ignored=3),
        "g/1": Counts(received=9, committed=9, decoded=12, written=6, null=6),
        "g/2": Counts(received=6, committed=6, decoded=6, written=3, rejected=3),
    }
    tenants = {record["gateway"]: record["tenant_id"] for record in await connection.fetch(PLACES)}
    assert tenants == {UNPLACED.name: None, "g/1": ONE.tenant_id, "g/2": OTHER.tenant_id}
    letters = await connection.fetch("select gateway from iot.ingest_dead_letters")
    assert [letter["gateway"] for letter in letters] == ["g/2"] * 3
    await adds_up(connection)


async def test_what_only_the_database_can_tell_counts_for_who_sent_it(
    writer: WriterUnderTest, connection: Connection
) -> None:
    await connection.execute("alter table iot.sensor_readings add constraint refuses check (value <> 13)")
    await commit(writer, whole(ONE, GATEWAYS[0], [1.0, 2.0, 3.0]))
    batch = whole(ONE, GATEWAYS[0], [1.0, 2.0, 9.0, 4.0])  # two duplicates, one conflict, one new
    add(batch, [row(OTHER, 1.0), row(OTHER, 13.0, 1), row(OTHER, 1.0), row(OTHER, 5.0, 2)], GATEWAYS[1])
    await commit(writer, batch)
    assert await ledger(connection) == {
        "g/1": Counts(received=7, committed=7, decoded=7, written=4, duplicate=2, rejected=1),
        "g/2": Counts(received=4, committed=4, decoded=4, written=2, duplicate=1, rejected=1),
    }
    await adds_up(connection)


@pytest.mark.parametrize("policy", ["keep_first", "dead_letter"])
async def test_a_batch_sent_twice_is_all_duplicates(
    policy: str, writer: WriterUnderTest, connection: Connection
) -> None:
    writer._settings = writer._settings.model_copy(update={"conflicting_value": policy})  # noqa: SLF001
    for _ in range(2):
        batch = whole(ONE, GATEWAYS[0], [1.0, 2.0, 3.0])
        add(batch, [row(OTHER, 1.0)], GATEWAYS[1])
        await commit(writer, batch)
    assert await ledger(connection) == {
        "g/1": Counts(received=6, committed=6, decoded=6, written=3, duplicate=3),
        "g/2": Counts(received=2, committed=2, decoded=2, written=1, duplicate=1),
    }
    await adds_up(connection)


async def test_rows_are_booked_for_the_hour_of_their_time(
    writer: WriterUnderTest, connection: Connection
) -> None:
    batch = whole(ONE, GATEWAYS[0], [1.0])
    add(
        batch,
        [row(ONE, 2.0, -HOUR_US), row(ONE, 3.0, -HOUR_US + 1), row(OTHER, 4.0, -40 * HOUR_US)],
        UNPLACED,
    )
    await commit(writer, batch)
    start_us = NOW_US - NOW_US % HOUR_US
    booked = [(each[0], each[1], each[2]) for each in await connection.fetch(WRITTEN)]
    assert sorted(booked) == [
        (start_us - 40 * HOUR_US, OTHER.greenhouse_id, 1),
        (start_us - HOUR_US, ONE.greenhouse_id, 2),
        (start_us, ONE.greenhouse_id, 1),
    ]
    await adds_up(connection)


async def test_the_least_lag_of_an_hour_stays_and_faults_add_up(
    writer: WriterUnderTest, connection: Connection
) -> None:
    ahead = Rejection("", "bad_timestamp", ClockFault("ahead", "future", NOW_US + 400_000_000))
    unset = Rejection("", "bad_timestamp", ClockFault("1970", "unset", 5))

    async def lag_after(after_us: int | None, *rejections: Rejection) -> float | None:
        batch = Batch()
        rows = [] if after_us is None else [row(ONE, 1.0, after_us)]
        batch.add(Delivery("t", b"1", 2, 1), NOW_US, rows, list(rejections), gateway=GATEWAYS[0])
        await commit(writer, batch)
        found: float | None = await connection.fetchval("select least_lag_s from iot.ingest_gateway_hours")
        return found

    assert await lag_after(0) is None  # without a time of its own
    assert await lag_after(-90_000_000) == 90.0
    assert await lag_after(-2_500_000) == 2.5
    assert await lag_after(-3_000_000, unset, unset) == 2.5
    assert await lag_after(None, ahead) == -400.0
    faults = await connection.fetchrow(
        "select clock_future, clock_ancient, clock_unset from iot.ingest_gateway_hours"
    )
    assert tuple(faults or ()) == (1, 0, 2)


async def test_what_was_skipped_is_stored_without_a_message(
    writer: WriterUnderTest, connection: Connection
) -> None:
    await commit(writer, whole(ONE, GATEWAYS[0], [1.0]))
    batch = Batch(skipped=Counter({(NOW_US, GATEWAYS[0]): 2, (NOW_US, GATEWAYS[1]): 1}))
    await commit(writer, batch)
    assert await ledger(connection) == {
        "g/1": Counts(received=3, committed=1, skipped=2, decoded=1, written=1),
        "g/2": Counts(received=1, skipped=1),
    }
    await adds_up(connection)


async def test_who_lost_the_session_books_nothing(
    writer: WriterUnderTest, connection: Connection, timeseries_dsn: str
) -> None:
    await commit(writer, whole(ONE, GATEWAYS[0], [1.0]))
    async with WriterUnderTest(timeseries_dsn, client_id=writer.client_id) as successor:
        await successor.claim()
        with pytest.raises(SessionTakenOver):
            await commit(writer, whole(ONE, GATEWAYS[0], [2.0], first_at=5))
        await commit(successor, whole(ONE, GATEWAYS[0], [3.0], first_at=9))
    assert (await ledger(connection))["g/1"] == Counts(received=2, committed=2, decoded=2, written=2)
    await adds_up(connection)


async def test_two_workers_at_once_do_not_wait_for_each_other(
    writer: WriterUnderTest, connection: Connection, timeseries_dsn: str
) -> None:
    gateways = [Gateway(f"g/{number}", ONE.tenant_id, ONE.greenhouse_id) for number in range(50)]

    async def work(each: WriterUnderTest, order: list[Gateway], first_at: int) -> None:
        for turn in range(10):
            batch = Batch()
            for at, gateway in enumerate(order):
                add(batch, [row(ONE, 1.0, first_at + 100 * turn + at)], gateway)
            await commit(each, batch)

    async with WriterUnderTest(timeseries_dsn) as other:
        await asyncio.gather(work(writer, gateways, 0), work(other, gateways[::-1], 10_000))
        assert (writer.faults, other.faults) == ([], [])
    assert await connection.fetchval("select sum(received) from iot.ingest_gateway_hours") == 1_000
    await adds_up(connection)


async def test_folded_hours_still_add_up(writer: WriterUnderTest, connection: Connection) -> None:
    for hours in (0, 1, 50):
        batch = Batch()
        receipt_us = NOW_US - hours * HOUR_US
        for gateway, series in zip(GATEWAYS, (ONE, OTHER), strict=True):
            rows = [row(series, 1.0, -hours * HOUR_US - 1_000_000)]
            batch.add(Delivery("t", b"1", 2, len(batch) + 1), receipt_us, rows, gateway=gateway)
        await commit(writer, batch)
    await adds_up(connection)
    for _ in range(2):
        await connection.execute(FOLD, (NOW_US - 10 * HOUR_US) // 1_000_000)
        kept = await connection.fetch("select isfinite(hour), received from iot.ingest_gateway_hours")
        assert Counter((each[0], each[1]) for each in kept) == {(True, 1): 4, (False, 1): 2}
        assert await connection.fetchval("select count(*) from iot.ingest_written_hours") == 4
    assert await connection.fetchval(FOLD, (NOW_US + HOUR_US) // 1_000_000) == 4
    assert {(each[0], each[1], each[2], each[3]) for each in await connection.fetch(PLACES)} == {
        ("g/1", 3, ONE.tenant_id, ONE.greenhouse_id),
        ("g/2", 3, OTHER.tenant_id, OTHER.greenhouse_id),
    }
    assert (await counters_of(connection))["received"] == 6


async def test_what_a_replay_writes_is_booked_once(connection: Connection) -> None:
    payload = {"SENSOR_01": 1, "SENSOR_02": 2}
    await store(connection, letter(payload, *((field, "unknown_sensor_type") for field in payload)))
    await replay_all(connection, under(), keep=False)
    assert await connection.fetchval("select count(*) from iot.ingest_written_hours") == 0
    assert (await replay_all(connection, under())).written == 2
    await store(connection, letter(payload, ("SENSOR_01", "unknown_sensor_type")))
    assert (await replay_all(connection, under())).duplicate == 1
    booked = await connection.fetch("select client_id, greenhouse_id, rows from iot.ingest_written_hours")
    assert [(each[0], each[1], each[2]) for each in booked] == [("(replay)", SARA_01, 2)]
    await adds_up(connection)


async def test_the_job_folds_what_is_older_than_it_keeps(migrated_dsn: str) -> None:
    connection = await asyncpg.connect(migrated_dsn)
    try:
        await hold_jobs(connection)
        await connection.execute("""
            insert into iot.ingest_gateway_hours (
                hour, client_id, gateway, received, committed, skipped, ignored, decoded, written, duplicate,
                rejected, nulls, clock_future, clock_ancient, clock_unset
            )
            select date_trunc('hour', now()) - age, 'w', 'g', 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0
            from unnest(array['1 day', '89 days', '91 days', '92 days']::interval[]) as ages (age)
        """)
        assert await run_jobs(connection, "fold_ledger_hours") == 1
        hours = "select isfinite(hour), received from iot.ingest_gateway_hours order by hour"
        kept = await connection.fetch(hours)
        assert [(each[0], each[1]) for each in kept] == [(False, 2), (True, 1), (True, 1)]
    finally:
        await connection.close()
