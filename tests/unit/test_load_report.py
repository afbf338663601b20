"""The report of a replay or a simulation: one file that needs nothing, with a table beside each chart."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from ingest.load.measured import (
    DAY_US,
    Days,
    Latency,
    Measured,
    Meter,
    latency_of,
    part_us,
    rounded,
)
from ingest.load.report import render
from tests.outline import Outline
from tests.unit.measured_example import measured


def test_the_page_needs_nothing_from_anywhere_and_runs_nothing() -> None:
    page = render(measured())
    outline = Outline(page)
    names = {name for _, attributes in outline.tags for name in attributes}
    assert not names & {"src", "href", "onload", "style", "srcset", "action"}
    assert not {tag for tag, _ in outline.tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "image",
        "use",
    }
    assert not re.search(r"url\(|@import|https?://", page)
    (policy,) = [a["content"] for _, a in outline.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_it_is_for_dark_and_light_telephones_paper_and_readers_of_screens() -> None:
    page = render(measured())
    outline = Outline(page)
    assert page.count("prefers-color-scheme: dark") == 2
    assert "@media print" in page
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in outline.tags
    assert ("html", {"lang": "en"}) in outline.tags
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) == 2 * outline.count("svg")
    assert outline.count("desc") == outline.count("svg") == outline.count("figure") == 5
    assert outline.count("table") == outline.count("caption") == 7, "one beside each, and the account's two"
    for begin, end in pairwise([*(found.start() for found in re.finditer("<figure>", page)), len(page)]):
        assert "<table" in page[begin:end]


def test_what_comes_from_outside_is_text() -> None:
    page = render(measured())
    assert "<script" not in page
    assert "\x1b" not in page
    assert Outline(page).text.count("<script>alert('x')</script>&\"\\x1b[31m") >= 7


def test_the_account_lists_what_is_missing() -> None:
    text = Outline(render(measured())).text
    assert "Missing: 2, the first 1" in text
    assert "f.jsonl.gz, 0, 7" in text
    assert "must be 0" in text


def test_the_latency_is_marked_at_p50_p99_and_the_longest() -> None:
    page = render(measured())
    assert [mark in page for mark in (">p50 2<", ">p99 9<", ">max 70<")] == [True] * 3
    assert "100 in all; p50 2 ms, p90 2 ms, p99 9 ms, p99.9 70 ms, max 70 ms." in page


def test_what_was_not_measured_has_no_section() -> None:
    bare = Measured(title="t", verdict="v", ok=None)
    assert Outline(render(bare)).count("section") == 0
    for field, heading in (
        ("rates", "Rate over time"),
        ("latencies", "Latency"),
        ("readings", "Readings by sensor type"),
        ("days", "A day of each sensor type"),
        ("account", "Account"),
    ):
        assert f"<h2>{heading}</h2>" in render(measured())
        assert f"<h2>{heading}</h2>" not in render(measured(**{field: ()}))


def test_a_table_over_time_has_two_dozen_rows_however_long_the_run() -> None:
    page = render(measured())
    begin = page.index("Messages a second, means</caption>")
    assert page[begin : page.index("</table>", begin)].count("<tr>") - 1 <= 24


def test_a_broken_probe_does_not_hide_the_others() -> None:
    days = Days(0, DAY_US)
    for minute in range(1_440):
        days.add("CO2", "ppm", minute * 60_000_000, 65_535.0 if 300 <= minute < 320 else 400 + minute / 100)
    page = render(measured(days=days.days))
    assert "cut off: from 400 to 65,535 ppm" in page
    assert ">60,000<" not in page, "no tick up there"


def test_totals_become_rates_in_bounded_memory() -> None:
    meter = Meter()
    for tenth in range(500_000):
        meter.total(100.0 + tenth / 10, tenth * 3, tenth * 2)
    assert 500 < len(meter.rates) <= 2_000
    assert {(round(published), round(acknowledged)) for _, published, acknowledged in meter.rates} == {
        (30, 20)
    }
    assert meter.rates[-1].at_s > 49_000
    meter.total(60_000.0, 1_500_000, 1_000_000, last=True)
    assert meter.rates[-1].at_s == pytest.approx(59_900)


def test_the_last_total_counts_however_soon_it_comes() -> None:
    meter = Meter()
    meter.total(5.0, 0, 0)
    meter.total(5.2, 10, 4)
    assert [*meter.rates] == []
    meter.total(5.5, 20, 20, last=True)
    assert [tuple(each) for each in meter.rates] == [(0.5, 40.0, 40.0)]
    page = render(measured(rates=meter.rates, days=()))
    assert (page.count("<circle"), page.count('<circle class="area s0"')) == (2, 1), "seen without a line"


def test_latencies_keep_two_digits_and_the_longest_whole() -> None:
    assert [rounded(us) for us in (0, 7, 99, 123, 128, 1_449, 99_700)] == [0, 7, 99, 120, 130, 1_400, 100_000]
    meter = Meter()
    told: list[tuple[int, str, int, int]] = []

    def then(gateway: int, message: str, sent_us: int, acknowledged_us: int) -> None:
        told.append((gateway, message, sent_us, acknowledged_us))

    hear = meter.timing(then)
    for taken_us in range(0, 1_000_000, 10):
        meter.took(5, 5 + taken_us)
    hear(3, "message", 10, 1_234_567)
    assert told == [(3, "message", 10, 1_234_567)]
    (latency,) = meter.latency("x")
    assert len(latency.counts) < 600
    assert latency.at_ms(0.5) == pytest.approx(500, rel=0.02)
    assert latency.at_ms(1.0) == 1_234.557
    assert Latency("x", {0: 1}, 0).at_ms(0.5) == 0
    assert latency_of("x", ()) == ()
    assert latency_of("x", [0.25, 0.5])[0].at_ms(0.5) == 250


def test_pubacks_are_told_below_the_millisecond() -> None:
    meter = Meter()
    assert meter.puback_ms() == {"puback_p50_ms": None, "puback_p99_ms": None}
    for taken_us in [608] * 98 + [12_345] * 2:
        meter.took(0, taken_us)
    assert meter.puback_ms() == {"puback_p50_ms": 0.61, "puback_p99_ms": 12.0}


def test_a_day_is_the_median_and_the_tenths_of_each_part() -> None:
    days = Days(0, 600_000_000)
    assert part_us(600_000_000) == 10_000_000, "no narrower than gateways are slow"
    assert part_us(10 * DAY_US) == 600_000_000
    for value in range(11):
        days.add("CO2", "ppm", 15_000_000 + value, float(value))
    days.add("CO2", "ppm", -1, 99.0)
    days.add("CO2", "ppm", DAY_US, 99.0)
    (day,) = days.days
    assert [tuple(part) for part in day.parts] == [(15_000_000, 1.0, 5.0, 9.0)]
    assert days.readings == (("CO2", 13),), "those of other days are counted"
