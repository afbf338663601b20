"""The last conditions: by greenhouse and sensor type, what its sensors said last. Pure.

Read off the tracks that the survey keeps anyway, when somebody asks: costs a batch nothing.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ingest.model import Series
    from ingest.quality.track import Track

MAX_SHOWN: Final = 200
"""Pairs of greenhouse and sensor type that are named, in the order of their names; the others are counted."""
RECENT_US: Final = 900_000_000
"""A reading older than this is no condition of now: three times what slow gateways take between two."""

Names: TypeAlias = tuple[str, str, str, str]
"""Tenant, greenhouse code, sensor type, unit; in one installation no two pairs have the same."""


class Condition(NamedTuple):
    """The last values of a greenhouse's sensors of one type, in one unit."""

    tenant: str
    greenhouse: str
    sensor_type: str
    unit: str
    value: float
    """The mean of the sensors' last values."""
    least: float
    greatest: float
    sensors: int
    time_us: int
    """Of the newest of them, in µs since 1970 UTC."""


class Conditions(NamedTuple):
    """What is shown, and of how many."""

    shown: list[Condition]
    of: int

    @classmethod
    def parsed(cls, told: Sequence[object]) -> Conditions:
        """Read what was JSON."""
        shown, of = told
        assert isinstance(shown, list)  # noqa: S101 -- our own process wrote it
        assert isinstance(of, int)  # noqa: S101
        return cls([Condition(*each) for each in shown], of)


@dataclass(slots=True)
class _Pair:
    series: Series
    total: float = 0.0
    least: float = float("inf")
    greatest: float = float("-inf")
    sensors: int = 0
    time_us: int = 0


def last_conditions(
    tracks: Iterable[Track], now_us: int, named: Callable[[Series], Names | None]
) -> Conditions:
    """Give what *tracks* were like in the last minutes; *named* says None of what the catalog has no more.

    A sensor whose newest reading was refused, or out of range, is left out: its last value is not of now.
    """
    since_us = now_us - RECENT_US
    pairs: dict[tuple[int, int, int], _Pair] = {}
    for track in tracks:
        value, time_us = track.last_value, track.last_us
        if time_us < since_us or time_us <= track.refused_us or value != value:  # noqa: PLR0124 (not a number)
            continue
        series = track.series
        key = (series.greenhouse_id.int, series.sensor_type_id, series.unit_id)  # numbers hash faster
        pair = pairs.get(key)
        if pair is None:
            pair = pairs[key] = _Pair(series)
        pair.total += value
        pair.least = min(pair.least, value)
        pair.greatest = max(pair.greatest, value)
        pair.sensors += 1
        pair.time_us = max(pair.time_us, time_us)
    found = [(names, pair) for pair in pairs.values() if (names := named(pair.series)) is not None]
    first = heapq.nsmallest(MAX_SHOWN, found, key=lambda each: each[0])
    return Conditions([_condition(names, pair) for names, pair in first], len(found))


def merged_conditions(told: Sequence[Conditions]) -> Conditions:
    """Make one of what several workers of a group say: each hears a part of every series, the newest counts."""
    newest: dict[Names, Condition] = {}
    for conditions in told:
        for each in conditions.shown:
            names = each[:4]
            if names not in newest or newest[names].time_us < each.time_us:
                newest[names] = each
    first = heapq.nsmallest(MAX_SHOWN, newest.values())
    return Conditions(first, max((len(newest), *(each.of for each in told))))


def _condition(names: Names, pair: _Pair) -> Condition:
    mean = pair.total / pair.sensors
    return Condition(*names, mean, pair.least, pair.greatest, pair.sensors, pair.time_us)
