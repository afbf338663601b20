"""Whose clock is off: by the least lag of a window when it is behind, at once when it is ahead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.observe.skew import ClockSkews, Skew

LIMIT_S, WINDOW_S = 120.0, 900.0


@pytest.fixture
def skews() -> ClockSkews:
    return ClockSkews(LIMIT_S, WINDOW_S)


def test_nothing_is_known_at_first(skews: ClockSkews) -> None:
    assert (skews.worst_s(0.0), skews.off(0.0)) == (0.0, [])


def test_a_clock_that_is_ahead_is_told_at_once(skews: ClockSkews) -> None:
    skews.note("A", -200.0, 0, 10.0)
    skews.note("A", 0.5, 0, 11.0)  # a second device of the place, with a good clock
    assert skews.off(11.0) == [Skew("A", 200.0, 0)]
    assert skews.worst_s(11.0) == 200.0


def test_readings_that_waited_are_no_clock_that_is_behind(skews: ClockSkews) -> None:
    skews.note("A", 86_400.0, 0, 0.0)
    skews.note("A", 7_200.0, 0, 60.0)
    assert skews.off(60.0) == []
    skews.note("A", 0.8, 0, 120.0)  # the buffer is empty, readings are live again
    skews.note("A", 40_000.0, 0, 130.0)
    assert skews.off(WINDOW_S) == []
    assert skews.worst_s(WINDOW_S) == 0.8


def test_a_clock_that_is_behind_is_told_after_a_whole_window(skews: ClockSkews) -> None:
    for second in range(0, int(WINDOW_S), 10):
        skews.note("A", 300.0 + second % 7, 0, float(second))
        assert skews.off(float(second)) == []
    assert skews.off(WINDOW_S) == [Skew("A", -300.0, 0)]
    skews.note("A", 0.2, 0, WINDOW_S + 1)  # mended
    assert skews.off(WINDOW_S + 1) == []


def test_what_is_old_is_forgotten(skews: ClockSkews) -> None:
    skews.note("A", -200.0, 3, 0.0)
    assert skews.off(2 * WINDOW_S - 1) == [Skew("A", 200.0, 3)]
    assert skews.off(2 * WINDOW_S) == []
    assert skews.worst_s(2 * WINDOW_S) == 0.0
    skews.note("B", -200.0, 0, 100 * WINDOW_S)
    assert [each.gateway for each in skews.off(100 * WINDOW_S)] == ["B"]


def test_a_clock_that_was_never_set_has_no_skew_and_is_told(skews: ClockSkews) -> None:
    skews.note("A", None, 22, 0.0)
    skews.note("A", None, 22, WINDOW_S)
    assert skews.off(WINDOW_S) == [Skew("A", None, 44)]
    assert skews.worst_s(WINDOW_S) == 0.0


def test_each_is_told_once_in_a_while_and_few_at_a_time(skews: ClockSkews) -> None:
    for number in range(5):
        skews.note(f"G{number}", -200.0 - number, 0, 0.0)

    def told(now_s: float) -> list[str]:
        return [each.gateway for each in skews.to_tell(now_s, every_s=1_000.0, at_most=2)]

    assert [told(now_s) for now_s in (0.0, 10.0, 20.0, 30.0)] == [["G4", "G3"], ["G2", "G1"], ["G0"], []]
    skews.note("G0", -200.0, 0, 999.0)
    assert told(999.0) == []
    assert told(1_025.0) == ["G4", "G3"]


@given(st.lists(st.tuples(st.sampled_from("AB"), st.floats(-1e6, 1e6), st.floats(0, 500)), max_size=30))
def test_what_is_told_is_over_the_limit_and_the_worst_first(notes: list[tuple[str, float, float]]) -> None:
    skews, now_s = ClockSkews(LIMIT_S, WINDOW_S), 0.0
    for gateway, lag_s, after_s in notes:
        now_s += after_s
        skews.note(gateway, lag_s, 0, now_s)
        off = [abs(each.skew_s or 0.0) for each in skews.off(now_s)]
        assert all(skew_s > LIMIT_S for skew_s in off)
        assert off == sorted(off, reverse=True)
        assert skews.worst_s(now_s) >= max(off, default=0.0)
