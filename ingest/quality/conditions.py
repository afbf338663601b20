"""The last conditions: by greenhouse and sensor type, what its sensors said last. Pure.

Read off the tracks that the survey keeps anyway, when somebody asks: costs a batch nothing.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from uuid import UUID

    from ingest.quality.findings import Directory
    from ingest.quality.track import Track

MAX_SHOWN: Final = 200
"""Pairs of greenhouse and sensor type that are named, in the order of their names; the others are counted."""
RECENT_US: Final = 900_000_000
"""A reading older than this is no condition of now: three times what slow gateways take between two."""


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


class Place(NamedTuple):
    """A greenhouse by its names."""

    tenant: str
    greenhouse: str


def last_conditions(
    tracks: Iterable[Track], now_us: int, directory: Directory, placed: Callable[[UUID], Place | None]
) -> Conditions:
    """Give what *tracks* were like in the last minutes; *placed* says None of greenhouses that are no more.

    A sensor whose newest reading was refused, or out of range, is left out: its last value is not of now.
    """
    since_us = now_us - RECENT_US
    pairs: dict[tuple[int, int, int], list[Track]] = {}
    for track in tracks:
        if track.last_us < since_us or track.last_us <= track.refused_us or math.isnan(track.last_value):
            continue
        series = track.series
        key = (series.greenhouse_id.int, series.sensor_type_id, series.unit_id)  # numbers hash faster
        members = pairs.get(key)
        if members is None:
            pairs[key] = [track]
        else:
            members.append(track)
    houses = {key[0]: members[0].series.greenhouse_id for key, members in pairs.items()}
    places = {house: place for house, each in houses.items() if (place := placed(each)) is not None}
    first = set(heapq.nsmallest(MAX_SHOWN, places, key=places.__getitem__))  # each has a pair at least
    names = (
        (*places[key[0]], directory.sensor_types[key[1]], directory.units[key[2]], key)
        for key in pairs
        if key[0] in first
    )
    shown = [_condition(each, pairs[each[-1]]) for each in heapq.nsmallest(MAX_SHOWN, names)]
    return Conditions(shown, sum(key[0] in places for key in pairs))


def merged_conditions(told: Sequence[Conditions]) -> Conditions:
    """Make one of what several workers say: each hears a part of every series, and the newest counts."""
    newest: dict[tuple[str, str, str, str], Condition] = {}
    for conditions in told:
        for each in conditions.shown:
            names = each[:4]
            if names not in newest or newest[names].time_us < each.time_us:
                newest[names] = each
    first = heapq.nsmallest(MAX_SHOWN, newest.values())
    return Conditions(first, max((len(newest), *(each.of for each in told))))


def _condition(named: tuple[str, str, str, str, object], members: Sequence[Track]) -> Condition:
    values = [track.last_value for track in members]
    least, greatest = min(values), max(values)
    return Condition(
        *named[:4],
        value=min(max(sum(value / len(values) for value in values), least), greatest),  # never past a float
        least=least,
        greatest=greatest,
        sensors=len(values),
        time_us=max(track.last_us for track in members),
    )
