"""A payload's times moved, and nothing else of it: not a value, not a space, not the order of its keys.

Touches the fields that `decode/readings` takes for a time: `timestamp` of a reading, of the readings of an
array or a batch, of the batch itself, of a flat map. Each keeps its spelling: seconds stay seconds, text
stays text, an offset stays. What the decoder cannot read as a time stays as it is, and so does a time of
1970, where a clock begins that was never set. Pure.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from ingest.decode.values import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.model import PayloadFormat

_KEY: Final = "timestamp"
_SECOND_US: Final = 1_000_000
_MINUTE_US: Final = 60 * _SECOND_US
_UNSET_BEFORE_US: Final = 31_536_000 * _SECOND_US
_ANY_TIME: Final = (-(2**80), 2**80)
_DEEPEST: Final = 3
"""Brackets around a time that is read: `{"readings": [{"timestamp"`."""
_UNITS: Final = ((Decimal(10**11), _SECOND_US), (Decimal(10**14), 1_000), (Decimal(10**17), 1))
"""Of an epoch number, by its magnitude (see decode/values): below this, so many µs."""

_STRING: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TOKEN = re.compile(rf'{_STRING}|[{{}}\[\],:"]|[^\s{{}}\[\],:"]+', re.DOTALL)
_ONLY = re.compile(rf'"{_KEY}"\s*:\s*({_STRING}|[^\s{{}}\[\],:"]+)')
_PLAIN_INTEGER = re.compile(r"-?[0-9]+")
_EXTENDED = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)(?P<gap>[Tt ])(?P<minute>\d\d:\d\d)(?P<second>:\d\d)?"
    r"(?P<rest>(?:[.,]\d+)?(?:[Zz]|[+-].*)?)"
)


def shifted(payload: bytes, payload_format: PayloadFormat, by_us: int) -> bytes:
    """Move the times of *payload* by *by_us*, a whole number of seconds: no spelling has to be refined.

    A time written without its seconds moves by whole minutes, rounded down.
    """
    if (b'"timestamp"' not in payload and b"\\" not in payload) or not by_us:
        return payload
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return payload
    pieces: list[str] = []
    done = 0
    for start, end in _spans(text, payload_format):
        token = text[start:end]
        moved = _moved_text(token, by_us) if token.startswith('"') else _moved_number(token, by_us)
        if moved is not None:
            pieces += (text[done:start], moved)
            done = end
    if not done:
        return payload
    return "".join([*pieces, text[done:]]).encode()


def _spans(text: str, payload_format: PayloadFormat) -> Iterator[tuple[int, int]]:
    """Find where times stand: a reading's are quick to find, what is nested is walked through."""
    if text.count("{") == 1 and "\\" not in text:
        for match in _ONLY.finditer(text):
            yield match.span(1)
        return
    yield from _walked(text, payload_format)


def _walked(text: str, payload_format: PayloadFormat) -> Iterator[tuple[int, int]]:
    """Go through the tokens of *text*, of which nothing has to be JSON, and find the times' values.

    *path* has for each open bracket the key, or "" in an array, under which it stands.
    """
    path: list[str] = []
    brackets: list[str] = []
    key = last = ""
    for match in _TOKEN.finditer(text):
        piece = match.group()
        if piece == '"':  # a string without an end: to look behind each of its quotes would be quadratic
            return
        if piece in "{[":
            path.append(key)
            brackets.append(piece)
            key = ""
        elif piece in "}]":
            if not brackets:
                return
            brackets.pop()
            key = path.pop()
        elif piece == ":":
            key = _unescaped(last)
        elif piece == ",":
            key = "" if brackets and brackets[-1] == "[" else key
        elif key == _KEY and last == ":" and _is_read(brackets, path, payload_format):
            yield match.span()
        last = piece


def _is_read(brackets: list[str], path: list[str], payload_format: PayloadFormat) -> bool:
    """Whether the decoder looks for a time in the object that stands here."""
    if len(brackets) > _DEEPEST:
        return False
    shape = "".join(brackets)
    if payload_format == "labels":
        return shape == "{"
    if shape in ("{", "[{"):
        return True
    return payload_format == "readings" and shape == "{[{" and path[1] == "readings"


def _unescaped(token: str) -> str:
    if "\\" not in token:
        return token.strip('"')
    try:
        return str(json.loads(token))
    except ValueError:  # no JSON, or a number longer than int() takes
        return token


def _moves(value: object) -> bool:
    time_us = parse_time(value, _ANY_TIME)
    return isinstance(time_us, int) and not 0 <= time_us < _UNSET_BEFORE_US


def _moved_number(token: str, by_us: int) -> str | None:
    """Move an epoch number; None for what is none (null, true, a number beyond all units)."""
    try:
        number = json.loads(token)
    except (ValueError, RecursionError):  # no JSON, or a number longer than int() takes
        return None
    if type(number) not in (int, float) or not _moves(number):
        return None
    return _moved_epoch(token, by_us)


def _moved_epoch(digits: str, by_us: int) -> str | None:
    exact = Decimal(digits)
    unit_us = next((us for below, us in _UNITS if abs(exact) < below), None)
    if unit_us is None:
        return None
    if _PLAIN_INTEGER.fullmatch(digits):
        return str(int(exact) + by_us // unit_us)  # digits may be too many for int(): zeros before a time
    return format(exact + by_us // unit_us, "f")


def _moved_text(token: str, by_us: int) -> str | None:
    text = _unescaped(token)
    if not _moves(text):
        return None
    bare = text.strip()
    before, _, after = text.partition(bare)
    try:
        moved = _moved_iso(bare, by_us) if ":" in bare or "T" in bare.upper() else _moved_epoch(bare, by_us)
    except OverflowError:  # past the year 9999
        return None
    return None if moved is None else f'"{before}{moved}{after}"' if "\\" not in token else json.dumps(moved)


def _moved_iso(text: str, by_us: int) -> str:
    """Move a time of day on a date; in a spelling other than the usual, it takes on the usual."""
    usual = _EXTENDED.fullmatch(text)
    if usual is None:
        return (datetime.fromisoformat(text.upper()) + timedelta(microseconds=by_us)).isoformat()
    date, gap, minute, second, rest = usual.groups()
    if second is None:
        by_us -= by_us % _MINUTE_US
    moment = datetime.fromisoformat(f"{date}T{minute}{second or ''}") + timedelta(microseconds=by_us)
    shape = "%H:%M" if second is None else "%H:%M:%S"
    return f"{moment:%Y-%m-%d}{gap}{moment.strftime(shape)}{rest}"
