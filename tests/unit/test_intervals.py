"""Spans of time: what an operator may write, and what PostgreSQL makes of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.intervals import Interval

HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("text", "parts", "words"),
    [
        ("3 days", (0, 3, 0), "3 days"),
        ("1 day", (0, 1, 0), "1 day"),
        ("1 Week", (0, 7, 0), "7 days"),
        ("90 minutes", (0, 0, 90 * 60_000_000), "1 hour 30 minutes"),
        ("24 hours", (0, 0, 24 * HOUR), "24 hours"),
        ("2 years", (24, 0, 0), "2 years"),
        ("14 months", (14, 0, 0), "1 year 2 months"),
        (" 1 day 12hours ", (0, 1, 12 * HOUR), "1 day 12 hours"),
        ("1 day 1 day", (0, 2, 0), "2 days"),
    ],
)
def test_what_is_written_and_shown(text: str, parts: tuple[int, int, int], words: str) -> None:
    parsed = Interval.parse(text)
    assert (parsed.months, parsed.days, parsed.microseconds) == parts
    assert str(parsed) == words


@pytest.mark.parametrize("text", ["", "3", "days", "3 dayz", "-1 day", "3 days x", "3.5 days", "1_0 days"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match="is no span of time: write a number and a unit"):
        Interval.parse(text)


def test_none_is_no_span_either() -> None:
    with pytest.raises(ValueError, match="'0 days' is no time at all"):
        Interval.parse("0 days")
    assert str(Interval()) == "0 seconds"


def test_it_compares_as_postgresql_does() -> None:
    assert Interval.parse("24 hours") == Interval.parse("1 day")
    assert Interval.parse("1 month") == Interval.parse("30 days")
    assert hash(Interval.parse("1 month")) == hash(Interval.parse("30 days"))
    assert Interval.parse("1 year") < Interval.parse("361 days")
    assert Interval.parse("1 day") > Interval.parse("23 hours")
    assert max(Interval.parse("4 weeks"), Interval.parse("1 month")) == Interval(months=1)
    assert Interval(days=1) != "1 day"


@given(
    st.builds(
        Interval, st.integers(0, 200), st.integers(0, 900), st.integers(1, 90_000).map(lambda s: s * 10**6)
    )
)
def test_its_words_are_read_back(interval: Interval) -> None:
    read = Interval.parse(str(interval))
    assert (read.months, read.days, read.microseconds) == (
        interval.months,
        interval.days,
        interval.microseconds,
    )
