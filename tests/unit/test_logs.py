"""Log lines: one line each, valid JSON, no secret, nothing a payload could forge; and `Repeats`."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any, Literal

import pytest
import structlog
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest.observe.logs import MAX_REPEAT_KEYS, Repeats, configure
from ingest.observe.terminal import json_line, printable, printable_lines
from tests.fuzzing import examples

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines_of(log_format: Literal["json", "console"], level: Literal["debug", "info"] = "info") -> io.StringIO:
    stream = io.StringIO()
    configure(level, log_format, stream=stream)
    return stream


def test_a_line_is_json_with_the_event_first_and_utc_time() -> None:
    stream = lines_of("json")
    structlog.get_logger().info("batch_committed", rows=3)
    structlog.get_logger().debug("unseen")
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert list(event) == ["event", "level", "timestamp", "rows"]
    assert event["timestamp"].endswith("Z")


def test_auto_is_json_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    configure("info", "auto", stream=stream)
    structlog.get_logger().warning("x")
    assert json.loads(stream.getvalue())["level"] == "warning"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_are_masked(log_format: Literal["json", "console"]) -> None:
    stream = lines_of(log_format)
    log = structlog.get_logger()
    error = OSError("cannot reach postgresql://u:s3cr3t@h/x")
    log.info("a", password="s3cr3t", broker={"api_token": "s3cr3t", "url": "mqtt://u:s3cr3t@h"})  # noqa: S106 (to be masked)
    log.info("connect to postgresql://u:s3cr3t@h/x", dsn="postgresql://h/x?password=s3cr3t", error=error)
    try:
        raise error
    except OSError:
        log.exception("failed")
    assert "s3cr3t" not in stream.getvalue()
    assert "u:***@h" in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(
    "text", ["a\nb", "a\rb", "\x1b[2J", "\x9b2J", "\u2028", "\u202e", "\x7f", "\ud800", "\0"]
)
def test_no_value_forges_a_line_or_reaches_the_terminal(
    log_format: Literal["json", "console"], text: str
) -> None:
    stream = lines_of(log_format)
    structlog.get_logger().info(f"e{text}", topic=text, nested=[{text: text}], **{f"k{text}": 1})
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    if log_format == "json":
        assert json.loads(line)["topic"] == text


def test_a_traceback_keeps_its_lines_and_nothing_else_on_a_console() -> None:
    stream = lines_of("console")
    try:
        int("\x1b[1m")
    except ValueError:
        structlog.get_logger().exception("\x1b[1m")
    assert "Traceback" in stream.getvalue()
    assert stream.getvalue().replace("\n", "").isprintable()


def test_the_standard_librarys_loggers_come_through_from_warning_up() -> None:
    stream = lines_of("json")
    logging.getLogger("asyncpg").warning("pool %s", "exhausted")
    logging.getLogger("asyncio").error("x", exc_info=ValueError("y"))
    logging.getLogger("paho").info("unseen")
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(each["event"], each["level"], each["logger"]) for each in events] == [
        ("pool exhausted", "warning", "asyncpg"),
        ("x", "error", "asyncio"),
    ]
    assert "ValueError: y" in events[1]["exception"]


def test_configuring_twice_does_not_double_lines() -> None:
    lines_of("json")
    stream = lines_of("json")
    logging.getLogger("asyncpg").warning("once")
    assert len(stream.getvalue().splitlines()) == 1


def test_a_closed_stream_does_not_end_the_worker() -> None:
    stream = lines_of("json")
    stream.close()
    structlog.get_logger().info("nobody reads this")


Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(tree=Json)
@hypothesis_settings(max_examples=examples(100), deadline=None)
def test_json_lines_are_printable_and_read_back_equal(tree: Any) -> None:  # noqa: ANN401 (any JSON)
    line = json_line(tree)
    assert line.isprintable()
    assert json.loads(line) == tree


def test_what_json_has_no_word_for_is_described() -> None:
    assert json.loads(json_line({1: {2}, "e": ValueError("x")})) == {"1": [2], "e": "ValueError('x')"}


@given(text=st.text())
@hypothesis_settings(max_examples=examples(100), deadline=None)
def test_printable_text_prints(text: str) -> None:
    assert printable(text).isprintable()
    assert printable_lines(text).replace("\n", "").isprintable()
    if text.isprintable():
        assert printable(text) == text


def test_repeats_admits_one_line_an_interval_and_counts_the_rest() -> None:
    repeats = Repeats(10)
    assert [repeats.admit("a", now_s) for now_s in (0.0, 1.0, 9.9, 10.0, 11.0, 30.0)] == [
        0,
        None,
        None,
        2,
        None,
        1,
    ]
    assert repeats.admit("b", 11.0) == 0


def test_repeats_is_bounded() -> None:
    repeats = Repeats(10)
    for number in range(3 * MAX_REPEAT_KEYS):
        assert repeats.admit(str(number), 0.0) == 0
    assert repeats.admit(str(3 * MAX_REPEAT_KEYS - 1), 1.0) is None
    assert repeats.admit("0", 1.0) == 0
