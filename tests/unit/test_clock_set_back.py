"""A clock that was ahead and is set back: receipt times follow it, and all that goes by them goes on."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from ingest.model import Delivery
from ingest.settings import Settings
from ingest.worker import Worker
from ingest.write.budget import Budget
from tests.batches import NOW_US
from tests.log_page import hold
from tests.unit.quality_stream import Registration, Stream, series_of
from tests.unit.test_budget import HOUR_US, kept, letter
from tests.unit.test_intake import TOPIC, batch_of, intake_of, sent

if TYPE_CHECKING:
    from ingest.intake import Intake

SECOND_US = 1_000_000
THERMOMETER = series_of()


def times_of(intake: Intake) -> list[int]:
    """Give the receipt times of what waits, less the present; each batch's increase."""
    times_us: list[int] = []
    while (batch := intake.next_batch()) is not None:
        assert all(before_us < after_us for before_us, after_us in pairwise(batch.receipts_us))
        times_us += (time_us - NOW_US for time_us in batch.receipts_us)
    return times_us


def test_receipt_times_follow_a_clock_that_is_set_back_by_more_than_a_second() -> None:
    told: list[float] = []
    intake = intake_of(on_set_back=told.append)
    ahead_us = 3_600 * SECOND_US
    intake.take_in(sent(2), NOW_US + ahead_us)
    assert intake.oldest_us == NOW_US + ahead_us
    for at_us in (0, 5, SECOND_US, SECOND_US, 600 * SECOND_US):
        intake.take_in(sent(1), NOW_US + at_us)
    assert intake.oldest_us == NOW_US
    assert times_of(intake) == [
        *(ahead_us, ahead_us + 1),
        *(0, 5, SECOND_US, SECOND_US + 1, 600 * SECOND_US),
    ]
    assert told == [3_600.0]


def test_within_a_second_they_count_on_and_steps_add_up() -> None:
    told: list[float] = []
    intake = intake_of(on_set_back=told.append)
    for at_us in (0, -600_000, -SECOND_US, -SECOND_US - 1, -SECOND_US):
        intake.take_in(sent(1), NOW_US + at_us)
    assert times_of(intake) == [0, 1, 2, -SECOND_US - 1, -SECOND_US]
    assert told == [1.000001]


def test_a_process_that_counts_ahead_of_the_clock_gives_no_time_twice() -> None:
    """One of a share group has every 16th µs, and may be sent more than that."""
    told: list[float] = []
    intake = intake_of(on_set_back=told.append, max_batch_rows=50_000)
    intake.share_clock(3, 16)
    many = sent(1) * 100_000
    for at_us in (0, 1, 2):
        intake.take_in(many, NOW_US + at_us)
    times_us = times_of(intake)
    assert times_us[-1] > 4 * SECOND_US
    assert len(set(times_us)) == len(times_us)
    assert told == []


@pytest.mark.parametrize("slot", [0, 5, 15])
def test_a_share_groups_slots_hold(slot: int) -> None:
    intake = intake_of()
    intake.share_clock(slot, 16)
    intake.take_in(sent(20), NOW_US + 60 * SECOND_US + 7)
    intake.take_in(sent(20), NOW_US + 3)
    times_us = times_of(intake)
    assert {(NOW_US + time_us) % 16 for time_us in times_us} == {slot}
    assert 0 <= times_us[20] - 3 < 16


def test_messages_held_back_follow_it_when_they_are_looked_at() -> None:
    told: list[float] = []
    intake = intake_of(on_set_back=told.append)
    for at_us in (60 * SECOND_US, 0):
        intake.hold(sent(1), NOW_US + at_us)
    assert intake.oldest_us == NOW_US
    intake.release(2)
    assert times_of(intake) == [60 * SECOND_US, 0]
    assert told == [60.0]


def test_a_clock_that_was_in_another_century_spoils_no_times_after_it() -> None:
    intake = intake_of()
    intake.take_in(sent(1), 4_300_000_000 * SECOND_US)
    batch_of(intake)
    now = datetime.fromtimestamp(NOW_US / SECOND_US, UTC).isoformat()
    timed = Delivery(TOPIC, b'{"value": 23, "timestamp": "%s"}' % now.encode(), 2, 1)
    intake.take_in([*sent(1), timed], NOW_US)
    batch = batch_of(intake)
    assert not batch.rejections
    assert [row.time_us for row in batch.rows] == [NOW_US, NOW_US]


def test_a_topic_has_the_budget_of_the_hour_that_the_clock_says() -> None:
    budget = Budget(5)
    assert kept(budget, [letter(after_us=1_000 * HOUR_US)] * 9) == 5
    assert kept(budget, [letter()] * 9) == 5
    assert kept(budget, [letter(after_us=HOUR_US)] * 9) == 5


def test_a_sensor_is_missed_though_it_was_heard_while_the_clock_was_ahead() -> None:
    stream = Stream(registered={THERMOMETER.sensor_id: Registration()})
    now_us = stream.now_us
    stream.now_us += 30 * 24 * HOUR_US
    stream.steady(THERMOMETER, 31)
    stream.now_us = now_us
    stream.steady(THERMOMETER, 31)
    assert stream.issues() == []
    stream.wait(1_000)
    silent = stream.issues("MISSING_DATA")
    assert silent
    assert {issue.first_us for issue in silent} == {now_us + 300 * SECOND_US}


def test_a_spike_is_seen_at_once_after_it() -> None:
    stream = Stream(registered={THERMOMETER.sensor_id: Registration()})
    now_us = stream.now_us
    stream.now_us += 30 * 24 * HOUR_US
    stream.steady(THERMOMETER, 100)
    stream.now_us = now_us
    stream.steady(THERMOMETER, 10)
    stream.send(THERMOMETER, 80.0)
    stream.steady(THERMOMETER, 10)
    assert [issue.count for issue in stream.issues("SPIKE")] == [1]


async def test_the_operator_is_told() -> None:
    dsn = SecretStr("postgresql://localhost/nowhere")
    worker = Worker(Settings(metadata_dsn=dsn, timeseries_dsn=dsn))
    intake = worker._intake  # noqa: SLF001
    with capture_logs() as lines:
        for at_us in (90 * SECOND_US, 0, 90 * SECOND_US, 0):
            intake.take_in(sent(1), NOW_US + at_us)
    (line,) = lines
    told = {"event": line.pop("event"), "level": line.pop("log_level"), "timestamp": "2026-01-01T00:00:00Z"}
    hold({**told, **line})
    assert (told["event"], line["set_back_s"], line["repeats"]) == ("clock_set_back", 90.0, 0)
