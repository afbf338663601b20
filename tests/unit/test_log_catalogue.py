"""docs/logs.md: equal to every log call in the source, its lines stable, its jq filters tried on a day.

The lines that real workers write are held to the page wherever an acceptance test reads them.
"""

from __future__ import annotations

import io
import json
import logging
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jq
import pytest
import structlog

from ingest import worker
from ingest.announcing import Announcer
from ingest.errors import BatchRefused, Misconfigured, Unavailable
from ingest.observe.logs import Repeats, configure
from ingest.observe.skew import ClockSkews
from ingest.workers import supervisor
from tests.log_calls import Source
from tests.log_page import DOCUMENT, Promised, hold, promised, questions, quoted, table, types

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = Path(__file__).with_name("log_day.txt")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")
SAMPLES: dict[type, Any] = {
    str: "text",
    int: 7,
    float: 0.5,
    bool: True,
    list: ["a"],
    dict: {"a": 1},
    type(None): None,
}


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where lines go, as JSON, from debug up."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    written = io.StringIO()
    configure("debug", "json", stream=written)
    yield written
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def answer_to(asked: str, lines: list[dict[str, Any]]) -> Any:  # noqa: ANN401 (any JSON)
    """Give what the filter under the question gives, all of it, with the options that it has on the page."""
    (question,) = [each for each in questions() if asked in each.asked]
    assert question.options <= set("rcs")
    program = jq.compile(question.program)
    if "s" in question.options:
        return program.input_value(lines).all()
    return [each for line in lines for each in program.input_value(line).all()]


@pytest.fixture(scope="module")
def day() -> list[dict[str, Any]]:
    """What is left of a day of two workers once the page's first filter has left out what is no line."""
    (question,) = [each for each in questions() if "R" in each.options]
    program = jq.compile(question.program)
    return [each for text in DAY.read_text("utf-8").splitlines() for each in program.input_value(text).all()]


def test_the_tables_are_what_the_source_logs() -> None:
    levels: defaultdict[str, set[str]] = defaultdict(set)
    fields: defaultdict[str, set[str]] = defaultdict(set)
    for each in Source().emissions():
        levels[each.event].add(each.level)
        fields[each.event] |= each.fields
    logged = {name: Promised(frozenset(levels[name]), frozenset(fields[name])) for name in levels}
    assert promised() == logged


def test_events_are_in_order_and_every_field_is_explained_once() -> None:
    for heading in ("| event | level | fields | what it means | what to do |", "| event | of one kind are |"):
        names = [row[0] for row in table(heading)]
        assert names == sorted(names)
    fields = [quoted(row[0])[0] for row in table("| field | type | unit, meaning |")]
    assert fields == sorted(set(fields))
    assert set(fields) == {"worker"}.union(*(each.fields for each in promised().values()))


def test_debug_events_have_a_table_of_their_own() -> None:
    below = {quoted(row[0])[0] for row in table("| event | level | fields | what it means |")}
    assert below == {name for name, each in promised().items() if "debug" in each.levels}


def test_what_is_held_back_is_said_of_each_event_that_counts_repeats() -> None:
    told = {quoted(row[0])[0] for row in table("| event | of one kind are |")}
    assert told == {name for name, each in promised().items() if "repeats" in each.fields}
    (seconds,) = re.findall(r"written once in (\d+) s", DOCUMENT.read_text("utf-8"))
    assert {worker._REPEAT_INTERVAL_S, supervisor._REPEAT_INTERVAL_S} == {float(seconds)}  # noqa: SLF001


@pytest.mark.parametrize("event", sorted(promised()))
def test_a_line_of_each_event_has_its_fields_in_their_types(event: str, stream: io.StringIO) -> None:
    """No field is masked as a secret, lost to a processor, or in the way of what every line has."""
    fields = sorted(promised()[event].fields)
    for level in sorted(promised()[event].levels):
        for number in range(max((len(types()[each]) for each in fields), default=1)):
            kinds = {each: types()[each][number % len(types()[each])] for each in fields}
            told = {each: SAMPLES[kind] for each, kind in kinds.items()}
            getattr(structlog.get_logger(), level)(event, **told)
            line = lines_of(stream.getvalue())[-1]
            assert list(line) == ["event", "level", "timestamp", *fields]
            assert line == {**line, "event": event, "level": level, **told}
            assert {each: type(line[each]) for each in fields} == kinds
            assert TIMESTAMP.fullmatch(line["timestamp"])
            hold(line)


def test_what_the_announcer_tells_is_as_the_page_has_it(stream: io.StringIO) -> None:
    tells = Announcer(Repeats(30))
    for _ in range(3):
        tells.fault("database_fault", Unavailable("down", "08006"), 0.12345, in_flight=3)
    tells.fault("mirror_failed", Misconfigured("no table", "42P01"), 30, in_flight=0)
    tells.refused(BatchRefused("ended", "57014"), 8)
    skews = ClockSkews(120)
    skews.note("greenhouse/A1", -3600.0, 0, time.monotonic())
    skews.note("greenhouse/A2", None, 2, time.monotonic())
    tells.skews(skews)
    tells.skews(skews)  # each once an hour
    lines = lines_of(stream.getvalue())
    for line in lines:
        hold(line)
    assert [(line["event"], line["level"]) for line in lines] == [
        ("database_fault", "warning"),
        ("mirror_failed", "error"),
        ("batch_refused", "error"),
        ("gateway_clock_skew", "warning"),
        ("gateway_clock_skew", "warning"),
    ]
    assert [line["skew_s"] for line in lines[3:]] == [3600.0, None]


def test_the_day_has_lines_as_the_page_has_them(day: list[dict[str, Any]]) -> None:
    text = DAY.read_text("utf-8")
    assert len(day) == text.count('{"event"') < len(text.splitlines())
    for line in day:
        hold(line)


def test_ten_questions_are_answered(day: list[dict[str, Any]]) -> None:
    assert len(questions()) == 11
    assert answer_to("Is it keeping up?", day) == [
        "2026-11-26T00:00\t20",
        "2026-11-26T09:00\t0",
        "2026-11-26T09:10\t0",
    ]
    assert answer_to("When was the database away", day) == ["2026-11-26T03:15:00\t2026-11-26T03:15:41\t41"]
    now = answer_to("What is wrong at the moment?", day)
    assert [line.split("\t")[:3] for line in now] == [
        ["ingest-a-0", "2026-11-26T11:00:00", "catalog_refresh_failed"],
        ["ingest-a-1", "2026-11-26T11:02:00", "database_fault"],
    ]
    assert answer_to("How many readings were rejected", day) == [{"bad_value": 3, "unknown_unit": 1}]
    # 60 to 100 of one process, 0 to 5 of another, 7 of that which took its place
    assert answer_to("How many were duplicates?", day) == [40 + 5 + 7]
    assert answer_to("Which restarts", day) == [
        "2026-11-26T09:10:00\tworker_process_ended\tingest-a-1\tSIGKILL",
        "2026-11-26T09:10:01\tworker_started\tingest-a-1\t",
        "2026-11-26T09:10:01\tcareful_start\tingest-a-1\t" + day_reason(day),
        "2026-11-26T11:05:00\tworker_stopped\tingest-a-0\t",
    ]
    assert answer_to("Which worker of several", day) == [
        "ingest-a-0\tbroker_unavailable\t1",
        "ingest-a-0\tcatalog_refresh_failed\t1",
        "ingest-a-0\tdatabase_fault\t11",
        "ingest-a-1\tFuture exception was never retrieved\t1",
        "ingest-a-1\tbroker_unavailable\t1",
        "ingest-a-1\tcareful_start\t1",
        "ingest-a-1\tdatabase_fault\t1",
        "ingest-a-1\tintake_paused\t1",
        "ingest-a-1\tworker_process_ended\t1",
    ]
    assert answer_to("Which catalogs", day) == [
        "2026-11-26T08:30:00\tingest-a-0\t1111111111111111\t12\t96",
        "2026-11-26T09:10:01\tingest-a-1\t2222222222222222\t12\t97",
    ]
    assert answer_to("How many connections", day) == ["2026-11-26T04\t2\t1", "2026-11-26T09\t1\t0"]
    assert answer_to("Which batches", day) == [
        "2026-11-26T00:00:14\t56.3\t100\t47",
        "2026-11-26T00:00:14\t37.5\t4\t1",
        "2026-11-26T00:00:14\t21.9\t159\t51",
    ]


def day_reason(day: list[dict[str, Any]]) -> str:
    (line,) = [each for each in day if each["event"] == "careful_start"]
    return str(line["reason"])
