"""Dead letters past a budget: counted in the batch's transaction, to the last reading."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import pytest

from ingest.intake import Intake
from ingest.model import Delivery, Gateway, Rejection
from ingest.operate.dead_letters import count_overflow
from ingest.operate.letter_filter import LetterFilter
from ingest.operate.reconcile import Question, reconcile
from ingest.operate.reconcile_judge import Verdict, judge
from ingest.resolve import Resolver
from ingest.settings import WriteSettings
from ingest.write import Batch, Counts
from tests.batches import NOW_US, WriterUnderTest, counters_of
from tests.proxy import Proxy
from tests.unit.catalog_examples import HORTAMED, SARA, SARA_01, default_rules, example_catalog
from tests.unit.examples import default_decoder

if TYPE_CHECKING:
    import asyncpg

    from ingest.model import Reason

HOUR_US = 3_600_000_000
THIS_HOUR_US = time.time_ns() // 1000 // HOUR_US * HOUR_US
"""What is past a month by the server's clock goes."""
GATEWAY = Gateway("GREENHOUSE/SARA", SARA)
SMALL = WriteSettings(dead_letters_per_topic_per_hour=3, retry_max_s=0.2, commit_timeout_s=2.0)


def bad(count: int, topic: str = "t", *, reasons: tuple[Reason, ...] = ("bad_value",)) -> Batch:
    """Make a batch of messages that lost a reading for each of *reasons*."""
    batch = Batch()
    for number in range(count):
        rejections = [Rejection(f"f{at}", reason, "d") for at, reason in enumerate(reasons)]
        delivery = Delivery(topic, b"%d" % number, 2, number + 1)
        batch.add(delivery, THIS_HOUR_US + number, (), rejections, SARA, gateway=GATEWAY)
    return batch


async def overflow_of(connection: asyncpg.Connection) -> dict[tuple[str, str], tuple[int, int]]:
    """Give (messages, readings) by topic and reason."""
    records = await connection.fetch("select * from iot.ingest_dead_letter_overflow")
    return {(each["topic"], each["reason"]): (each["messages"], each["readings"]) for each in records}


async def test_what_is_past_the_budget_is_counted(
    timeseries_dsn: str, connection: asyncpg.Connection
) -> None:
    async with WriterUnderTest(timeseries_dsn, SMALL) as writer:
        for _ in range(3):
            outcome = await writer.commit(bad(5, reasons=("bad_value", "bad_value", "out_of_range")))
            assert outcome.counts.rejected == 15
        await writer.commit(bad(4, "u\x00"))
    assert await overflow_of(connection) == {
        ("t", "bad_value"): (12, 24),
        ("t", "out_of_range"): (12, 12),
        ("u\ufffd", "bad_value"): (1, 1),
    }
    assert await connection.fetchval("select count(*) from iot.ingest_dead_letters") == 6
    assert await counters_of(connection) == {"committed": 19, "decoded": 49, "rejected": 49}
    kept = await connection.fetchval("select sum(rejected_count) from iot.ingest_dead_letters")
    assert kept + await count_overflow(timeseries_dsn, LetterFilter()) == 49
    assert await count_overflow(timeseries_dsn, LetterFilter(reasons=("out_of_range",))) == 12
    assert await count_overflow(timeseries_dsn, LetterFilter(topic="t")) == 36
    assert await count_overflow(timeseries_dsn, LetterFilter(topic="+/x")) == 0
    assert await count_overflow(timeseries_dsn, LetterFilter(tenant_id=SARA)) == 37
    assert await count_overflow(timeseries_dsn, LetterFilter(tenant_id=HORTAMED)) == 0
    hour = await connection.fetchval("select distinct hour from iot.ingest_dead_letter_overflow")
    assert hour.timestamp() * 1_000_000 == THIS_HOUR_US
    assert await count_overflow(timeseries_dsn, LetterFilter(since=hour, until=hour)) == 0
    assert await count_overflow(timeseries_dsn, LetterFilter(since=hour)) == 37


async def test_reconcile_adds_up_what_is_kept_and_what_is_counted(
    timeseries_dsn: str, connection: asyncpg.Connection
) -> None:
    async with WriterUnderTest(timeseries_dsn, SMALL) as writer:
        await writer.commit(bad(9), also=Counts(received=9))
    since = datetime.fromtimestamp(THIS_HOUR_US / 1_000_000, UTC)
    question = Question(since, since + timedelta(hours=1))

    async def judged() -> tuple[int, Verdict]:
        found = await reconcile(timeseries_dsn, None, question, since + timedelta(hours=1))
        return found.dead_letters[GATEWAY.name][1], judge(found, replaces=False)

    readings, verdict = await judged()
    assert (readings, verdict.faults) == (9, [])
    assert not any("not among the dead letters" in remark for remark in verdict.remarks)
    await connection.execute("update iot.ingest_dead_letter_overflow set readings = readings + 1")
    readings, verdict = await judged()
    assert (readings, len(verdict.faults)) == (10, 1)


async def test_what_is_past_a_month_goes(timeseries_dsn: str, connection: asyncpg.Connection) -> None:
    await connection.execute("""
        insert into iot.ingest_dead_letter_overflow
        values
            ('gone', date_trunc('hour', now()) - interval '31 days', 'g', null, 't', 'bad_value', 1, 1),
            ('gone', date_trunc('hour', now()) - interval '29 days', 'g', null, 't', 'bad_value', 1, 2)
    """)
    async with WriterUnderTest(timeseries_dsn, SMALL) as writer:
        await writer.commit(bad(3))
        assert await count_overflow(timeseries_dsn, LetterFilter()) == 3
        await writer.commit(bad(1))
    left = await connection.fetch(
        "select readings from iot.ingest_dead_letter_overflow where client_id = 'gone'"
    )
    assert [each["readings"] for each in left] == [2]


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("way", ["cut", "stall"])
async def test_an_attempt_that_fails_spends_nothing(
    way: Literal["cut", "stall"],
    forward: bool,  # noqa: FBT001 (whether COMMIT reaches the server)
    timeseries_dsn: str,
    connection: asyncpg.Connection,
) -> None:
    async with (
        Proxy(urlsplit(timeseries_dsn).port or 0) as proxy,
        WriterUnderTest(proxy.url(timeseries_dsn), SMALL) as writer,
    ):
        await writer.claim()
        proxy.set_trap(b"COMMIT", way, forward=forward)
        await writer.commit(bad(2))
        assert writer.faults
        await writer.commit(bad(2))
    assert await connection.fetchval("select count(*) from iot.ingest_dead_letters") == 3
    assert await overflow_of(connection) == {("t", "bad_value"): (1, 1)}


async def test_a_message_of_ten_thousand_rejections_is_one_short_letter(
    writer: WriterUnderTest, connection: asyncpg.Connection
) -> None:
    intake = Intake(
        default_decoder(),
        Resolver(example_catalog(), default_rules(), out_of_range="quarantine"),
        ignore_retained=True,
        max_batch_rows=20_000,
    )
    zeros = b"[" + b",".join([b"0"] * 5_000 + [b'"x"'] * 4_950 + [b"null"] * 50) + b"]"
    intake.take_in([Delivery(f"greenhouse/{SARA_01}/sensors/sensor", zeros, 2, 1)], NOW_US)
    batch = intake.next_batch()
    assert batch is not None
    outcome = await writer.commit(batch)
    assert (outcome.counts.written, outcome.counts.rejected, outcome.counts.null) == (1, 9_949, 50)
    letter = await connection.fetchrow("select * from iot.ingest_dead_letters")
    assert letter is not None
    assert letter["payload"] == zeros
    assert (letter["rejected_count"], letter["reasons"]) == (9_949, ["bad_value", "key_collision"])
    assert json.loads(letter["reason_counts"]) == {"bad_value": 4_950, "key_collision": 4_999}
    listed = json.loads(letter["rejected"])
    assert len(listed) == 100
    assert listed[0] == {"field": "[5000]", "reason": "bad_value", "detail": "'x' is no number"}
    summed = await connection.fetch("select * from iot.v_ingest_dead_letters_by_reason order by reason")
    assert [tuple(each)[:3] for each in summed] == [("bad_value", 4_950, 1), ("key_collision", 4_999, 1)]
