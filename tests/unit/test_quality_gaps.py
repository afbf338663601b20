"""A gap is a silence long for its sensor: found while it lasts, ended when it ends, never made up."""

from __future__ import annotations

import random
from uuid import UUID, uuid4

import pytest

from ingest.model import Row
from ingest.quality import Issue, OpenGap
from tests.batches import NOW_US
from tests.unit.quality_stream import (
    DAY_S,
    GREENHOUSE,
    SECOND_US,
    TEMPERATURE,
    Registration,
    Stream,
    out_of_range,
    series_of,
)

THERMOMETER = series_of()
EVERY_10_S = {THERMOMETER.sensor_id: Registration()}


def total(issues: list[Issue]) -> int:
    return sum(issue.count for issue in issues)


def test_a_sensor_that_falls_silent_is_one_issue_a_window_until_it_is_back() -> None:
    stream = Stream(registered=EVERY_10_S)
    stream.steady(THERMOMETER, 31)
    stream.wait(1_000)
    silent = list(stream.handed_out)
    assert [issue.subject.kind for issue in silent] == ["MISSING_DATA"] * 3
    assert {issue.subject for issue in silent} == {silent[0].subject}
    assert [issue.facts["silent"] for issue in silent] == [True] * 3
    assert "no reading since" in silent[0].description
    assert "DHT22-01" in silent[0].description
    stream.steady(THERMOMETER, 3)
    *_, back = stream.issues("MISSING_DATA")
    assert back.facts["silent"] is False
    assert "readings are back" in back.description
    last_us, back_us = NOW_US + 300 * SECOND_US, NOW_US + 1_310 * SECOND_US
    assert (back.first_us, back.last_us) == (last_us, back_us)
    assert total(stream.handed_out) == 100  # 1 010 s, one every 10 s, the one that ends it has come


def test_a_gap_is_found_when_the_next_reading_tells_of_it() -> None:
    stream = Stream(registered=EVERY_10_S)
    stream.steady(THERMOMETER, 5)
    stream.wait(100)
    stream.steady(THERMOMETER, 5)
    (issue,) = stream.issues()
    assert (issue.subject.kind, issue.count, issue.facts["silent"]) == ("MISSING_DATA", 10, False)
    assert (issue.severity, issue.subject.sensor_id) == ("LOW", THERMOMETER.sensor_id)
    assert issue.worst is not None
    assert issue.worst["seconds"] == 110


@pytest.mark.parametrize(("silence_s", "severity"), [(1_000, "LOW"), (5_000, "MEDIUM"), (90_000, "HIGH")])
def test_it_is_as_grave_as_it_is_long(silence_s: int, severity: str) -> None:
    stream = Stream(registered=EVERY_10_S)
    stream.steady(THERMOMETER, 5)
    stream.wait(silence_s)
    assert stream.issues()[-1].severity == severity


def test_a_pause_of_a_few_intervals_is_none() -> None:
    stream = Stream(registered={THERMOMETER.sensor_id: Registration(expected_interval_s=60)})
    for pause_s in (60, 290, 60, 60, 250):
        stream.send(THERMOMETER, 20.0, every_s=pause_s)
    stream.send(THERMOMETER, 20.0)
    assert stream.issues() == []


@pytest.mark.parametrize("every_s", [10, 60, 600, 3_600])
def test_the_interval_a_sensor_keeps_is_learned(every_s: int) -> None:
    stream = Stream()
    stream.steady(THERMOMETER, max(50, 1_200 // every_s), every_s=every_s)
    assert stream.issues() == []
    stream.wait(10 * every_s + 700)
    (first, *_) = stream.issues()
    assert first.subject.kind == "MISSING_DATA"
    assert first.facts["interval_s"] == pytest.approx(every_s, rel=0.1)


def test_an_irregular_sensor_is_left_alone() -> None:
    stream, doors = Stream(), random.Random(11)  # noqa: S311 (a door, not a secret)
    for _ in range(200):
        stream.send(THERMOMETER, 20.0, every_s=doors.uniform(60, 4 * 3_600))
    assert stream.issues() == []


def test_bursts_do_not_shorten_the_interval() -> None:
    """A gateway without a clock: what the broker kept for us arrives at once, timed by its receipt."""
    stream = Stream()
    stream.steady(THERMOMETER, 100, every_s=60)
    for _ in range(5):
        stream.batch(*(Row(THERMOMETER, stream.now_us + number, 20.0, None, "") for number in range(500)))
        stream.wait(60)
        stream.steady(THERMOMETER, 5, every_s=60)
    assert stream.issues() == []


def test_a_backlog_at_the_start_teaches_no_pace() -> None:
    stream = Stream()
    for _ in range(60):
        stream.batch(*(Row(THERMOMETER, stream.now_us + number, 20.0, None, "") for number in range(20)))
        stream.wait(2)
    stream.steady(THERMOMETER, 50, every_s=400)
    assert stream.issues() == []


def test_another_pace_is_learned_after_a_few_gaps() -> None:
    stream = Stream()
    stream.steady(THERMOMETER, 200, every_s=10)
    stream.steady(THERMOMETER, 20, every_s=120)
    stream.issues()
    stream.handed_out.clear()
    stream.steady(THERMOMETER, 50, every_s=120)
    assert stream.issues() == []


def test_what_the_worker_did_not_hear_is_nobodys_gap() -> None:
    stream = Stream(registered=EVERY_10_S)
    stream.steady(THERMOMETER, 50)
    stream.hears = False
    stream.wait(2_000)
    stream.hears = True
    stream.steady(THERMOMETER, 50)
    assert stream.issues() == []


def test_a_machine_that_slept_finds_no_gap() -> None:
    stream = Stream(registered=EVERY_10_S)
    stream.steady(THERMOMETER, 50)
    stream.now_us += DAY_S * SECOND_US
    stream.wait(10)
    stream.steady(THERMOMETER, 50)
    assert stream.issues() == []


def test_a_clock_set_back_ends_windows_all_the_same() -> None:
    stream = Stream(registered=EVERY_10_S)
    stream.now_us -= DAY_S * SECOND_US
    stream.survey.rejections([out_of_range(THERMOMETER, 6_484.0)])
    stream.wait(400)
    assert len(stream.handed_out) == 1


def test_a_shared_subscription_brings_no_gaps() -> None:
    stream = Stream(registered=EVERY_10_S, gaps=False)
    stream.steady(THERMOMETER, 5)
    stream.wait(1_000)
    stream.steady(THERMOMETER, 5)
    assert stream.issues() == []


def test_readings_held_back_by_their_gateway_end_the_gap() -> None:
    stream = Stream(registered=EVERY_10_S)
    stream.steady(THERMOMETER, 5)
    stream.wait(1_000)
    since_us = NOW_US + 40 * SECOND_US
    stream.batch(*(Row(THERMOMETER, since_us + n * 10 * SECOND_US, 20.0, None, "") for n in range(1, 100)))
    last = stream.issues()[-1]
    assert last.facts["silent"] is False
    assert last.count == 0  # those overdue before are counted


def test_a_probe_that_only_says_nonsense_is_not_silent() -> None:
    stream = Stream(registered=EVERY_10_S)
    stream.steady(THERMOMETER, 5)
    for _ in range(60):
        stream.survey.rejections([out_of_range(THERMOMETER, 6_484.0, stream.now_us)])
        stream.wait(10)
    stream.steady(THERMOMETER, 5)
    assert {issue.subject.kind for issue in stream.issues()} == {"OUT_OF_RANGE"}


def test_a_sensor_switched_off_is_missed_no_longer() -> None:
    stream = Stream(registered=EVERY_10_S)
    stream.steady(THERMOMETER, 5)
    stream.wait(700)
    stream.register({THERMOMETER.sensor_id: Registration(is_active=False)})
    stream.wait(1_000)
    missing = stream.issues("MISSING_DATA")
    assert [issue.facts["silent"] for issue in missing] == [True, True, False]
    assert "switched off" in missing[-1].description


def test_a_sensor_taken_out_or_a_closed_greenhouse_is_not_missed() -> None:
    for sensors, greenhouses in (({}, frozenset({GREENHOUSE})), (EVERY_10_S, frozenset[UUID]())):
        stream = Stream(registered=EVERY_10_S)
        stream.steady(THERMOMETER, 5)
        stream.register(sensors, greenhouses)
        stream.wait(1_000)
        assert stream.issues() == []


def test_an_unregistered_name_that_a_newer_catalog_may_have_taken_over_is_not_missed() -> None:
    stream = Stream()
    stream.steady(THERMOMETER, 60, every_s=20)
    stream.register({uuid4(): Registration()})
    stream.wait(2_000)
    assert stream.issues() == []


def test_a_gap_of_an_earlier_process_ends_with_the_first_reading() -> None:
    since_us = NOW_US - 3_600 * SECOND_US
    stream = Stream(registered=EVERY_10_S)
    stream.resume(OpenGap(GREENHOUSE, THERMOMETER.sensor_id, TEMPERATURE, since_us, 10 * SECOND_US, 300))
    stream.steady(THERMOMETER, 2)
    (issue,) = stream.issues()
    assert (issue.count, issue.facts["silent"]) == (59, False)  # 359 overdue, 300 of them told
    assert (issue.first_us, issue.last_us) == (since_us, NOW_US)


def test_a_gap_learned_of_after_the_first_reading_ends_there() -> None:
    since_us = NOW_US - 3_600 * SECOND_US
    stream = Stream(registered=EVERY_10_S)
    stream.steady(THERMOMETER, 20)
    stream.resume(OpenGap(GREENHOUSE, THERMOMETER.sensor_id, TEMPERATURE, since_us, 10 * SECOND_US, 0))
    (issue,) = stream.issues()
    assert (issue.last_us, issue.count) == (NOW_US, 359)


def test_a_sensor_never_heard_is_not_judged() -> None:
    stream = Stream(registered=EVERY_10_S)
    stream.wait(10_000)
    assert stream.issues() == []
