"""Pauses of a sensor: what is a gap, what is expected, and who is silent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median_low

from hypothesis import given
from hypothesis import strategies as st

from ingest.operate.gaps import GAP_FACTOR, Gap, Pauses, judged

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
UNTIL = SINCE + timedelta(hours=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def at(second: float) -> datetime:
    return SINCE + timedelta(seconds=second)


def us(second: float) -> int:
    return (at(second) - EPOCH) // timedelta(microseconds=1)


def pauses(*seconds: float, expected_s: float | None = 10.0, grace_s: float = 0.0) -> Pauses:
    return judged([us(second) for second in seconds], SINCE, UNTIL, expected_s, grace_s=grace_s)


def every(step: int, start: int = 0, end: int = 3600) -> list[float]:
    return [float(second) for second in range(start, end, step)]


def test_a_sensor_that_keeps_its_interval_lacks_nothing() -> None:
    found = pauses(*every(10))
    assert (found.readings, found.expected, found.completeness_pct) == (360, 360, 100.0)
    assert (found.gaps, found.longest, found.silent_since) == (0, (), None)


def test_one_reading_missing_is_no_gap_and_two_are() -> None:
    def without(*missing: int) -> list[float]:
        return [second for second in every(10) if second not in missing]

    assert pauses(*without(100)).gaps == 0
    assert pauses(*without(100)).completeness_pct == 99.72
    found = pauses(*without(100, 110))
    assert found.longest == (Gap(at(90), at(120)),)
    assert found.longest[0].seconds == 30


def test_the_longest_are_named_first() -> None:
    gone = {*range(100, 200), *range(500, 550), *range(900, 1400), *range(2000, 2040)}
    found = pauses(*(second for second in every(10) if second not in gone))
    assert found.gaps == 4
    assert [gap.seconds for gap in found.longest] == [510, 110, 60]
    assert found.longest[0] == Gap(at(890), at(1400))


def test_a_pause_before_the_first_reading_and_after_the_last_is_one_too() -> None:
    found = pauses(*every(10, 600, 3000))
    assert {(gap.began_at, gap.ended_at) for gap in found.longest} == {(SINCE, at(600)), (at(2990), UNTIL)}
    assert found.silent_since == at(2990)


def test_a_reading_on_its_way_is_not_missing() -> None:
    assert pauses(*every(10, 0, 3560), grace_s=60.0).silent_since is None
    assert pauses(*every(10, 0, 3530), grace_s=60.0).silent_since is None
    assert pauses(*every(10, 0, 3520), grace_s=60.0).silent_since == at(3510)
    assert pauses(*every(10, 0, 3560)).silent_since == at(3550)


def test_without_an_expected_interval_it_is_judged_by_its_own() -> None:
    found = pauses(*every(30, 0, 1800), *every(30, 2400), expected_s=None)
    assert found.interval_s == 30
    assert (found.gaps, found.expected) == (1, 120)


def test_what_was_expected_and_sent_nothing_is_one_gap() -> None:
    found = pauses()
    assert found == Pauses(10.0, 0, 360, 1, (Gap(SINCE, UNTIL),), SINCE)
    assert found.completeness_pct == 0.0
    assert pauses(grace_s=60.0) == found


def test_one_reading_alone_tells_no_interval() -> None:
    assert pauses(5.0, expected_s=None) == Pauses(None, 1, None, 0, (), None)
    assert pauses(5.0, expected_s=None).completeness_pct is None
    assert pauses(5.0, 5.0, 5.0, expected_s=None).interval_s is None


def test_a_burst_tells_no_interval() -> None:
    assert pauses(5.0, 5.000001, 5.000002, expected_s=None).interval_s is None
    bursts = [second + part for second in every(60) for part in (0.0, 0.000001, 0.5)]
    found = pauses(*bursts, expected_s=None)
    assert (found.interval_s, found.gaps) == (59.5, 0)


@given(
    st.lists(st.integers(0, 3_600_000_000), min_size=0, max_size=60),
    st.none() | st.integers(1, 4000),
)
def test_gaps_are_the_pauses_beyond_the_limit(after_us: list[int], expected_s: int | None) -> None:
    times_us = sorted(us(0) + each for each in after_us)
    found = judged(times_us, SINCE, UNTIL, expected_s)
    between_us = [later - earlier for earlier, later in pairwise(times_us)]
    own_us = [each for each in between_us if each >= 1_000_000]
    interval_s = expected_s or (median_low(own_us) / 1e6 if own_us else None)
    if not interval_s:
        assert found.gaps == 0
        return
    edges_us = [us(0), *times_us, us(3600)]
    everything = [later - earlier for earlier, later in pairwise(edges_us)]
    beyond = sorted((each for each in everything if each > GAP_FACTOR * interval_s * 1e6), reverse=True)
    assert found.gaps == len(beyond)
    assert [round(gap.seconds * 1e6) for gap in found.longest] == beyond[:3]
    assert (found.silent_since is not None) == (everything[-1] > GAP_FACTOR * interval_s * 1e6)
