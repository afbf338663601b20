"""Spans of time as PostgreSQL keeps them: months, days and microseconds apart.

Pure. A month is no number of days: `timedelta` would lose what "3 months" means to a policy. Read from
what an operator writes ("90 minutes", "3 days", "2 months"), exchanged with the database as three
numbers, compared as PostgreSQL compares: a month is 30 days, a day 24 hours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Self

_SECOND = 1_000_000
_UNITS: dict[str, tuple[int, int, int]] = {
    "second": (0, 0, _SECOND),
    "minute": (0, 0, 60 * _SECOND),
    "hour": (0, 0, 3600 * _SECOND),
    "day": (0, 1, 0),
    "week": (0, 7, 0),
    "month": (1, 0, 0),
    "year": (12, 0, 0),
}
_DAY = 86_400 * _SECOND
_TERM = re.compile(rf"(\d{{1,6}}) *({'|'.join(_UNITS)})s? *")
_TERMS = re.compile(rf"({_TERM.pattern})+")


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """A span of time; equal and ordered as PostgreSQL's interval is."""

    months: int = 0
    days: int = 0
    microseconds: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "3 days" or "1 day 12 hours". Raises ValueError for what is none, or no time at all."""
        if _TERMS.fullmatch(text.strip().lower()) is None:
            units = ", ".join(f"{unit}s" for unit in _UNITS)
            raise ValueError(
                f"{text!r} is no span of time: write a number and a unit ({units}), as in '3 days'"
            )
        terms = [(int(count), _UNITS[unit]) for count, unit in _TERM.findall(text.lower())]
        parsed = cls(*(sum(count * unit[part] for count, unit in terms) for part in range(3)))
        if not parsed:
            raise ValueError(f"{text!r} is no time at all: it must be above 0")
        return parsed

    @property
    def reckoned(self) -> int:
        """Its length in microseconds, with months of 30 days."""
        return (self.months * 30 + self.days) * _DAY + self.microseconds

    def __bool__(self) -> bool:
        return self.reckoned != 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Interval) and self.reckoned == other.reckoned

    def __hash__(self) -> int:
        return hash(self.reckoned)

    def __lt__(self, other: Interval) -> bool:
        return self.reckoned < other.reckoned

    def __str__(self) -> str:
        """Say it in the words `parse` reads, each unit as large as it goes; "0 seconds" for none."""
        years, months = divmod(self.months, 12)
        hours, rest = divmod(self.microseconds, 3600 * _SECOND)
        minutes, seconds = divmod(rest, 60 * _SECOND)
        amounts = (
            (years, "year"),
            (months, "month"),
            (self.days, "day"),
            (hours, "hour"),
            (minutes, "minute"),
            (seconds / _SECOND, "second"),
        )
        words = [f"{count:g} {unit}{'' if count == 1 else 's'}" for count, unit in amounts if count]
        return " ".join(words) or "0 seconds"
