"""Charts: round ticks, lines that break where nothing is known, and pictures that say what they show."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.load.charts import (
    Axis,
    Band,
    Bar,
    Bin,
    Line,
    Mark,
    Title,
    alone,
    bar_chart,
    elapsed,
    histogram,
    line_chart,
    linear,
    logarithmic,
    text,
)
from tests.fuzzing import examples

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</text><script>alert(1)</script>\x1b[31m\x00"
X = linear([0, 10], "s", tight=True)


def parsed(chart: str) -> ET.Element:
    (picture,) = ET.fromstring(alone(chart)).findall(f"{SVG}svg")  # noqa: S314 (our own text)
    return picture


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0, 1043], ["0", "200", "400", "600", "800", "1,000", "1,200"]),
        ([3.2, 4.1], ["0", "1", "2", "3", "4", "5"]),
        ([0.0003], ["0.00000", "0.00005", "0.00010", "0.00015", "0.00020", "0.00025", "0.00030"]),
        ([-7, 5], ["-8", "-6", "-4", "-2", "0", "2", "4", "6"]),
        ([0, 0], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    ],
)
def test_ticks_are_round_and_hold_every_value(values: list[float], ticks: list[str]) -> None:
    axis = linear(values, "")
    assert [said for _, said in axis.ticks] == ticks
    assert all(axis.low <= value <= axis.high for value in values)


@given(values=st.lists(st.floats(-1e12, 1e12), min_size=1), from_zero=st.booleans(), tight=st.booleans())
@example(values=[5e-324], from_zero=True, tight=False)
@example(values=[-5e-324, 1e12], from_zero=False, tight=True)
@settings(max_examples=examples(200))
def test_no_values_break_an_axis(values: list[float], *, from_zero: bool, tight: bool) -> None:
    axis = linear(values, "", from_zero=from_zero, tight=tight)
    assert axis.low < axis.high
    assert len(axis.ticks) <= 9
    assert all(-1e-9 <= axis.place(value) <= 1 + 1e-9 for value in values)


def test_a_range_that_does_not_begin_at_0_is_not_drawn_from_there() -> None:
    axis = linear([20.2, 22.9], "°C", from_zero=False)
    assert (axis.low, axis.high) == (20.0, 23.0)
    flat = linear([21, 21], "°C", from_zero=False)
    assert flat.low < 21 < flat.high


def test_a_logarithmic_axis_has_ticks_at_tens_or_closer() -> None:
    assert [said for _, said in logarithmic(0.5, 20, "ms").ticks] == ["0.5", "1", "2", "5", "10", "20"]
    assert [said for _, said in logarithmic(0.1, 10_000, "ms").ticks] == [
        "0.1",
        "1",
        "10",
        "100",
        "1,000",
        "10,000",
    ]
    assert logarithmic(1, 100, "").place(10) == pytest.approx(0.5)
    assert logarithmic(3, 3, "").low < 3


def test_a_time_is_told_in_the_unit_that_is_read_best() -> None:
    assert [elapsed(seconds)[1] for seconds in (20, 900, 40_000, 900_000)] == [
        "seconds",
        "minutes",
        "hours",
        "days",
    ]


def test_a_line_is_interrupted_where_nothing_is_known() -> None:
    points: list[tuple[float, float | None]] = [(0, 1.0), (1, 2.0), (2, None), (3, 1.0), (4, None)]
    chart = line_chart(Title("a", "A", "B"), X, linear([0, 2], ""), [Line("one", points)])
    (path,) = [each for each in parsed(chart).iter(f"{SVG}path") if "key" not in each.attrib["class"]]
    assert path.attrib["d"].count("M") == 2
    assert path.attrib["d"].count("L") == 1
    (dot,) = parsed(chart).iter(f"{SVG}circle")
    assert path.attrib["d"].rpartition("M")[2].split("h")[0] == f"{dot.attrib['cx']},{dot.attrib['cy']}"


def test_a_value_beyond_the_axis_is_at_its_end() -> None:
    axis = Axis(0, 10, (), "")
    assert (axis.place(-5), axis.place(50), axis.place(math.inf)) == (0, 1, 1)


def test_every_picture_says_what_it_shows_and_escapes_what_came_from_outside() -> None:
    hostile = Title("t", HOSTILE, HOSTILE)
    y = linear([0, 3], HOSTILE)
    charts = [
        line_chart(
            hostile,
            linear([0, 9], HOSTILE),
            y,
            [Line(HOSTILE, [(0, 1.0)]), Line(HOSTILE, [(1, 1.0)], "s1")],
            band=Band(HOSTILE, [(0, 0, 1), (1, 0, 2)]),
            marks=[Mark(1, HOSTILE)],
        ),
        histogram(hostile, logarithmic(1, 10, HOSTILE), y, [Bin(1, 10, 3)], [Mark(2, HOSTILE)]),
        bar_chart(hostile, [(HOSTILE, [Bar(0.4, HOSTILE)])], legend=[("s0", HOSTILE)] * 2, mark=HOSTILE),
    ]
    for chart in charts:
        picture = parsed(chart)
        assert "<script" not in chart
        assert picture.attrib["role"] == "img"
        labels = picture.attrib["aria-labelledby"].split()
        said = {each.attrib["id"]: each.text for each in picture if "id" in each.attrib}
        assert [said[label] for label in labels] == [
            text(HOSTILE).replace("&lt;", "<").replace("&gt;", ">")
        ] * 2


def test_a_bar_is_as_long_as_its_share() -> None:
    chart = bar_chart(Title("b", "B", ""), [("half", [Bar(0.5, "5")]), ("all", [Bar(1.0, "10")])])
    half, full = (
        float(each.attrib["width"])
        for each in parsed(chart).iter(f"{SVG}rect")
        if "area" in each.attrib["class"]
    )
    assert full == pytest.approx(2 * half)


def test_charts_stand_one_under_the_other_in_a_file() -> None:
    one = bar_chart(Title("one", "One", ""), [("a", [Bar(0.5, "5")])])
    two = line_chart(Title("two", "Two", ""), X, linear([0, 2], ""), [Line("y", [(0, 1.0)])])
    page = ET.fromstring(alone(one, two))  # noqa: S314 (our own text)
    first, second = page.findall(f"{SVG}svg")
    assert (first.attrib["y"], second.attrib["y"]) == ("0", first.attrib["height"])
    assert page.attrib["viewBox"].split()[3] == str(
        int(first.attrib["height"]) + int(second.attrib["height"])
    )
    assert alone(one, two).count("<style>") == 1
