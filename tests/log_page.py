"""docs/logs.md as data: the events and fields that its tables promise, its questions with their filters."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCUMENT = Path(__file__).parents[1] / "docs" / "logs.md"
TYPES: Final[dict[str, tuple[type, ...]]] = {
    "text": (str,),
    "number": (int, float),
    "list": (list,),
    "object": (dict,),
    "null": (type(None),),
    "true": (bool,),
    "false": (bool,),
}
HEAD: Final = ("event", "level", "timestamp")
"""What every line begins with."""
COMMAND = re.compile(r"^(.+)\n\n```sh\n(?:.*\| )?jq -(\w+) '(.+)'.*\n```$", re.MULTILINE)


class Promised(NamedTuple):
    levels: frozenset[str]
    fields: frozenset[str]


class Question(NamedTuple):
    asked: str
    options: frozenset[str]
    program: str


def table(heading: str, after: str = "") -> list[list[str]]:
    """Give the cells below the table's *heading*, of the first such one behind the line *after*."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(after)[2] if after else DOCUMENT.read_text("utf-8")
    lines = text.partition(f"\n{heading}\n")[2].partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@cache
def promised() -> dict[str, Promised]:
    """Give the events of both tables."""
    rows = table("| event | level | fields | what it means | what to do |")
    rows += table("| event | level | fields | what it means |")
    names = [quoted(row[0])[0] for row in rows]
    assert len(names) == len(set(names)), "an event has two rows"
    return {quoted(row[0])[0]: Promised(frozenset(quoted(row[1])), frozenset(quoted(row[2]))) for row in rows}


@cache
def types() -> dict[str, tuple[type, ...]]:
    """Give the types of each field."""
    rows = table("| field | type | unit, meaning |")
    return {quoted(row[0])[0]: sum((TYPES[name] for name in row[1].split(", ")), ()) for row in rows}


def questions() -> list[Question]:
    """Give what the page asks of lines, the filter that leaves nothing but lines first."""
    found = COMMAND.findall(DOCUMENT.read_text(encoding="utf-8"))
    return [Question(asked, frozenset(options), program) for asked, options, program in found]


def hold(line: Mapping[str, object]) -> None:
    """Expect a log line to be as the page says, its first keys in order; other libraries' are theirs."""
    if "logger" in line:
        return
    name = line["event"]
    assert isinstance(name, str), line
    assert tuple(line)[:3] == HEAD, line
    event = promised().get(name)
    assert event is not None, f"docs/logs.md has no event {name}"
    assert line["level"] in event.levels, f"docs/logs.md: {line}"
    for field, value in line.items():
        if field not in HEAD:
            assert field in event.fields or field == "worker", f"docs/logs.md has no {field} of {name}"
            assert isinstance(value, types()[field]), f"docs/logs.md: {field} of {name} is {value!r}"
            assert isinstance(value, bool) == (bool in types()[field]), f"docs/logs.md: {line}"
