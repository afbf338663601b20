"""Structured logs on stderr: one line an event, JSON unless somebody watches on a terminal.

Owns how a line looks and what never gets into one: passwords, and control characters that would
forge a second line. The standard library's loggers (asyncpg, paho, asyncio, warnings) are led
through the same door from WARNING up. Writing a line never raises: a worker whose stderr is gone
goes on working. Runs in whichever task logs.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeAlias

import structlog

from ingest.addresses import without_passwords
from ingest.observe.terminal import json_line, printable, printable_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["auto", "json", "console"]

SECRET_KEYS = ("password", "passwd", "secret", "token", "authorization", "credentials")
"""A key that holds one of these words has its value masked, whatever it is."""

MAX_REPEAT_KEYS = 1024
"""Bound of `Repeats`: its keys are event names, of which the code has some dozens."""


def configure(level: LogLevel, log_format: LogFormat = "auto", *, stream: TextIO | None = None) -> None:
    """Send every log line from *level* up to *stream* (stderr); replaces an earlier configuration."""
    target = stream if stream is not None else sys.stderr
    console = log_format == "console" or (log_format == "auto" and target.isatty())
    renderer: list[structlog.typing.Processor] = (
        [_printable_values, structlog.dev.ConsoleRenderer(colors=target.isatty())] if console else [_json]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            mask_secrets,
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lines(target),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _Foreign)]:
        root.removeHandler(handler)
    root.addHandler(_Foreign(logging.WARNING))
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def mask_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace passwords: by key (see SECRET_KEYS), and inside any text that holds a URL with one."""
    for key, value in event.items():
        event[key] = _masked(key, value)
    return event


def _masked(key: str, value: object) -> object:
    if value is not None and any(word in key.lower() for word in SECRET_KEYS):
        return "***"
    if isinstance(value, str):
        return without_passwords(value)
    if isinstance(value, dict):
        return {inner: _masked(str(inner), each) for inner, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(key, each) for each in value]
    if isinstance(value, BaseException):
        return without_passwords(f"{type(value).__name__}: {value}")
    return value


class Repeats:
    """Lets one line of a kind through in *interval_s*, and says how many it held back.

    Pure: the caller brings the time. For events that a broken server repeats many times a second.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._seen: dict[str, tuple[float, int]] = {}

    def admit(self, key: str, now_s: float) -> int | None:
        """Return None to stay silent, else how many of *key* were held back since its last line."""
        last_s, held_back = self._seen.get(key, (None, 0))
        if last_s is not None and now_s - last_s < self._interval_s:
            self._seen[key] = (last_s, held_back + 1)
            return None
        if key not in self._seen and len(self._seen) >= MAX_REPEAT_KEYS:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = (now_s, 0)
        return held_back


class _Lines:
    """The end of the chain: one write a line, and no exception from it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        # OSError: the reader of the pipe is gone, or the disk is full. ValueError: the stream is closed.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = msg


class _Foreign(logging.Handler):
    """Hands a standard library record to structlog, under its logger's name."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            log = structlog.get_logger()
            method = "error" if record.levelno >= logging.ERROR else "warning"
            getattr(log, method)(record.getMessage(), logger=record.name, exc_info=record.exc_info or None)
        except Exception:  # noqa: BLE001 (a log call must not raise; logging's own policy)
            self.handleError(record)


def _json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    first = {
        "event": event.pop("event", ""),
        "level": event.pop("level", ""),
        "timestamp": event.pop("timestamp", ""),
    }
    return json_line(first | dict(event))


def _printable_values(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {
        printable(str(key)): value
        if isinstance(value, (int, float)) or value is None
        else (printable_lines if key == "exception" else printable)(str(value))
        for key, value in event.items()
    }
