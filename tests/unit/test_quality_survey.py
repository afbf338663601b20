"""What is rejected, late or repeated: of which kind, counted once, in bounded memory, merged and put back."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, get_args
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.model import REASONS, Reason, RejectedRow, Rejection, Row
from ingest.quality import KINDS, Issue, Kind, Rejected, Subject, issues, survey
from ingest.quality.issues import SEVERITIES, IssueBook, Severity
from tests.batches import NOW_US
from tests.unit.quality_stream import (
    DAY_S,
    GREENHOUSE,
    SECOND_US,
    TENANT,
    Stream,
    out_of_range,
    rejected,
    series_of,
)

if TYPE_CHECKING:
    from ingest.quality.track import Track

THERMOMETER = series_of()
GREENHOUSES = [None, *(UUID(int=number) for number in range(1, 4))]

rejections = st.builds(
    rejected,
    st.sampled_from(REASONS),
    st.text(max_size=3),
    greenhouse_id=st.sampled_from(GREENHOUSES),
)


def counts(found: list[Issue]) -> Counter[Kind]:
    total: Counter[Kind] = Counter()
    for issue in found:
        total[issue.subject.kind] += issue.count
    return total


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_an_issue_that_says_what_to_do(reason: Reason) -> None:
    stream = Stream()
    stream.survey.rejections([rejected(reason, "what was wrong")] * 3)
    (issue,) = stream.issues()
    assert issue.count == 3
    assert issue.data_source == "iot.ingest_dead_letters"
    assert issue.facts["reason"] == reason
    assert issue.first is not None
    assert issue.first["detail"] == "what was wrong"
    assert "ingest dead-letters" in issue.description or "ingest catalog add" in issue.description
    expected: dict[str, Kind] = {
        "bad_timestamp": "BAD_TIMESTAMP",
        "out_of_range": "OUT_OF_RANGE",
        "key_collision": "DUPLICATE",
        "conflicting_value": "CONFLICTING_VALUE",
    }
    kind = "UNMAPPED_NAME" if reason.startswith("unknown_") else expected.get(reason, "OTHER")
    assert issue.subject.kind == ("OTHER" if reason == "unknown_topic" else kind)


def test_names_are_told_one_by_one_and_other_faults_by_place() -> None:
    stream = Stream()
    stream.survey.rejections(
        [
            rejected("unknown_unit", "no unit or alias is called 'furlong'"),
            rejected("unknown_unit", "no unit or alias is called 'ell'"),
            rejected("unknown_unit", "no unit or alias is called 'ell'"),
            rejected("bad_value", "'warm' is no number"),
            rejected("bad_value", "'cold' is no number"),
            rejected("bad_value", "'cold' is no number", greenhouse_id=None),
        ]
    )
    assert sorted(issue.count for issue in stream.issues("UNMAPPED_NAME")) == [1, 2]
    assert sorted(issue.count for issue in stream.issues("OTHER")) == [1, 2]


def test_values_out_of_range_are_told_by_sensor_with_the_worst() -> None:
    stream = Stream()
    stream.steady(THERMOMETER, 57)
    stream.survey.rejections([out_of_range(THERMOMETER, value) for value in (101.0, 6_484.1, -51.0)])
    (issue,) = stream.issues()
    assert issue.subject == Subject("OUT_OF_RANGE", TENANT, GREENHOUSE, THERMOMETER.sensor_id, 1)
    assert (issue.count, issue.severity) == (3, "MEDIUM")  # 3 of the 30 of this window
    assert issue.worst is not None
    assert issue.worst["value"] == 6_484.1
    assert issue.worst_by == pytest.approx(6_384.1)


@pytest.mark.parametrize(
    ("good", "bad", "severity"), [(100, 1, "LOW"), (100, 20, "MEDIUM"), (10, 10, "HIGH"), (0, 1, "HIGH")]
)
def test_it_is_as_grave_as_the_share_of_readings(good: int, bad: int, severity: Severity) -> None:
    stream = Stream(window_s=86_400)
    if good:
        stream.steady(THERMOMETER, good)
    stream.survey.rejections([out_of_range(THERMOMETER, 6_484.1)] * bad)
    (issue,) = stream.issues()
    assert issue.severity == severity


def test_marked_values_are_found_among_the_rows() -> None:
    stream = Stream(flagged=True)
    stream.steady(THERMOMETER)
    stream.send(THERMOMETER, 6_484.1, 6_484.1, 20.0, 100.1, 99.9, 20.0)
    (issue,) = stream.issues("OUT_OF_RANGE")
    assert (issue.count, issue.data_source) == (3, "iot.sensor_readings")
    found = stream.issues("SPIKE")
    assert [each.first["value"] for each in found if each.first] == [99.9]


@given(st.lists(st.floats(-200, 200), max_size=60))
def test_each_marked_value_is_counted(values: list[float]) -> None:
    stream = Stream(flagged=True, window_s=86_400)
    stream.steady(THERMOMETER, 20)
    stream.send(THERMOMETER, *values)
    assert counts(stream.issues())["OUT_OF_RANGE"] == sum(not -50 <= value <= 100 for value in values)


def test_late_readings_are_counted_by_greenhouse() -> None:
    stream = Stream()
    stream.send(THERMOMETER, *[20.0] * 30, late_s=3 * DAY_S)
    stream.send(series_of(), *[20.0] * 5, late_s=3 * DAY_S)
    stream.send(series_of(), 20.0, late_s=DAY_S)
    late = stream.issues("LATE_DATA")
    assert {issue.subject for issue in late} == {Subject("LATE_DATA", TENANT, GREENHOUSE)}
    assert counts(late)["LATE_DATA"] == 35


@pytest.mark.parametrize(
    ("repeated", "total", "found"), [(9, 9, 0), (10, 100, 1), (10, 101, 0), (50, 100, 1)]
)
def test_readings_that_come_twice_are_an_issue_when_they_are_many(
    repeated: int, total: int, found: int
) -> None:
    stream = Stream()
    for number in range(total):
        stream.survey.repeats("greenhouse/A1", TENANT, GREENHOUSE, repeated=int(number < repeated), of=1)
        stream.survey.repeats("greenhouse/A2", TENANT, GREENHOUSE, repeated=0, of=50)
    duplicates = stream.issues("DUPLICATE")
    assert len(duplicates) == found
    assert all(issue.count == repeated for issue in duplicates)
    assert all(issue.facts["gateway"] == "greenhouse/A1" for issue in duplicates)


@settings(deadline=None)
@given(st.lists(st.lists(rejections, max_size=30), max_size=6), st.data())
def test_each_rejection_is_counted_in_one_issue_whatever_happens_to_the_writing(
    windows: list[list[Rejected]], data: st.DataObject
) -> None:
    stream = Stream()
    written: list[Issue] = []
    for window in windows:
        stream.survey.rejections(window)
        due = stream.survey.due(stream.now_us, last=True) or []
        if data.draw(st.booleans()):
            written += due
        else:
            stream.survey.put_back(due)
    written += stream.survey.due(stream.now_us, last=True) or []
    sent = [one.rejection.reason for window in windows for one in window]
    assert sum(counts(written).values()) == len(sent)
    named = sum(reason.startswith("unknown_") and reason != "unknown_topic" for reason in sent)
    assert counts(written)["UNMAPPED_NAME"] == named


def test_hostile_names_and_sensors_fill_neither_memory_nor_table() -> None:
    stream = Stream()
    told: set[Subject] = set()
    total = 0
    for turn in range(4):
        stream.survey.rejections(
            rejected("unknown_sensor_type", f"label 'X{turn}-{number}'") for number in range(3_000)
        )
        stream.survey.rejections(out_of_range(series_of(), 6_484.1) for _ in range(3_000))
        stream.batch(*(Row(series_of(), stream.now_us, 20.0, None, "") for _ in range(3_000)))
        due = stream.survey.due(stream.now_us, last=True) or []
        total += sum(issue.count for issue in due)
        told |= {issue.subject for issue in due}
    assert total == 4 * 6_000
    assert len(told) == issues.MAX_NAMES + issues.MAX_SUBJECTS + 2  # and what is merged, of each kind
    assert stream.survey.unjudged == 4 * 3_000 - survey.MAX_SERIES_OF_GREENHOUSE


def test_a_hostile_gateway_takes_nobody_elses_place() -> None:
    stream = Stream()
    stream.batch(*(Row(series_of(), stream.now_us, 20.0, None, "") for _ in range(5_000)))
    stream.survey.rejections(out_of_range(series_of(), 6_484.1) for _ in range(5_000))
    other = series_of(greenhouse_id=uuid4())
    stream.steady(other)
    stream.send(other, 85.0, 20.0)
    (issue,) = stream.issues("SPIKE")
    assert issue.subject.sensor_id == other.sensor_id


def test_a_series_not_heard_for_a_day_makes_room() -> None:
    stream = Stream()
    stream.batch(*(Row(series_of(), stream.now_us, 20.0, None, "") for _ in range(5_000)))
    stream.wait(DAY_S + 400)
    before = stream.survey.unjudged
    stream.batch(*(Row(series_of(), stream.now_us, 20.0, None, "") for _ in range(2_000)))
    assert stream.survey.unjudged == before


def test_subjects_beyond_the_bound_are_merged_by_greenhouse_and_then_by_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(issues, "MAX_ISSUES", 10)
    monkeypatch.setattr(issues, "MAX_MERGED", 5)
    book = IssueBook()
    for number in range(100):
        subject = Subject("SPIKE", None, UUID(int=number % 20 + 1), UUID(int=number + 1), 1)
        make = partial(Issue, subject, "iot.sensor_readings", "text", "LOW", number, number)
        book.of(subject, make).add(number, number)
    found = book.take()
    assert len(found) == 10 + 5 + 1
    assert sum(issue.count for issue in found) == 100
    assert [issue.count for issue in found if issue.subject.greenhouse_id is None] != []


def test_the_memory_of_a_series_and_of_an_issue_is_what_the_bounds_say() -> None:
    series = [series_of(greenhouse_id=UUID(int=number // 1_000 + 1)) for number in range(10_000)]
    stream = Stream()
    tracemalloc.start()
    try:
        stream.batch(*(Row(each, stream.now_us, 20.0, None, "") for each in series))
        per_series = tracemalloc.get_traced_memory()[0] / len(series)
        before = tracemalloc.get_traced_memory()[0]
        stream.survey.rejections(out_of_range(each, 6_484.1) for each in series)
        per_issue = (tracemalloc.get_traced_memory()[0] - before) / len(stream.survey)
    finally:
        tracemalloc.stop()
    assert per_series < 1_000
    assert per_issue < 4_000


def test_a_rejection_may_hold_what_gateways_send() -> None:
    stream = Stream()
    text = "\x00\ud800" + "x" * 100_000
    stream.survey.rejections(
        [
            Rejected(Rejection(text, "unknown_unit", text), text, NOW_US, None, None),
            Rejected(
                RejectedRow.of(Row(THERMOMETER, NOW_US, 5.0, None, text), "bad_value", text),
                text,
                NOW_US,
                None,
                None,
            ),
        ]
    )
    for issue in stream.issues():
        assert len(issue.subject.key) < 1_000
        assert len(str(issue.first)) < 2_000


def test_a_reading_like_the_one_before_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps the survey cheap: of many rows a second, one a second and series is looked at."""
    stream = Stream()
    stream.steady(THERMOMETER)
    looked_at: list[Row] = []
    look = survey.Survey._look  # noqa: SLF001 (counted, not replaced)

    def count(self: survey.Survey, track: Track, row: Row, heard_us: int) -> None:
        looked_at.append(row)
        look(self, track, row, heard_us)

    monkeypatch.setattr(survey.Survey, "_look", count)
    for _ in range(10):
        first_us = stream.now_us
        stream.batch(
            *(
                Row(THERMOMETER, first_us + number * 400, 20.0 + number % 2, None, "")
                for number in range(1_000)
            )
        )
        stream.now_us += 500_000
    assert 5 <= len(looked_at) <= 6


def test_kinds_and_severities_are_those_of_the_table() -> None:
    assert get_args(Kind) == KINDS
    assert SEVERITIES == ("LOW", "MEDIUM", "HIGH", "CRITICAL")


def test_a_window_is_handed_out_once_it_is_over() -> None:
    stream = Stream()
    stream.survey.rejections([rejected("bad_value")])
    assert stream.survey.due(NOW_US + 299 * SECOND_US) is None
    assert len(stream.survey) == 1
    due = stream.survey.due(NOW_US + 300 * SECOND_US)
    assert due is not None
    assert len(due) == 1
    assert stream.survey.due(NOW_US + 600 * SECOND_US) == []


def test_what_is_put_back_merges_with_what_came_meanwhile() -> None:
    stream = Stream()
    for value in (6_484.1, 200.0):
        stream.survey.rejections([out_of_range(THERMOMETER, value)])
        due = stream.survey.due(stream.now_us, last=True) or []
        stream.survey.put_back(due)
    (issue,) = stream.issues()
    assert issue.count == 2
    assert issue.first is not None
    assert issue.worst is not None
    assert issue.first["value"] == issue.worst["value"] == 6_484.1
