"""What a replay or a simulation measures of itself while it runs, in bounded memory.

Totals once a second, then less often; latencies by two digits that count; of each sensor type some values of
each tenth of an hour. Owned by the event loop that publishes; read once at the end, as frozen values.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

M = TypeVar("M")
DAY_US: Final = 86_400_000_000
_MOST_TOTALS: Final = 2_000
_DAY_PARTS: Final = 144
"""Ten minutes of a day."""
_LEAST_PART_US: Final = 10_000_000
"""Every gateway reads once in so long."""
_OF_A_BIN: Final = 64
"""Values kept, the first that come: enough for a median, and 11 types of sensors are a megabyte."""
_EXACT_US: Final = 100


class Rate(NamedTuple):
    """Messages a second, in the time that ended *at_s* after the beginning."""

    at_s: float
    published: float
    acknowledged: float


class Latency(NamedTuple):
    """How long something took; *counts* by µs, to two digits."""

    name: str
    counts: Mapping[int, int]
    most_us: int

    def at_ms(self, share: float) -> float:
        """Give the milliseconds within which *share* of them were done."""
        if share < 1:
            rest = share * sum(self.counts.values())
            for taken_us in sorted(self.counts):
                rest -= self.counts[taken_us]
                if rest <= 0:
                    return min(taken_us, self.most_us) / 1_000
        return self.most_us / 1_000


class DayPart(NamedTuple):
    """What the sensors of a type read in one part of the day: µs since 1970; 10, 50, 90 % of the values."""

    at_us: int
    low: float
    middle: float
    high: float


class Day(NamedTuple):
    """One type of sensor over a day, or what there is of one."""

    sensor_type: str
    unit: str
    parts: Sequence[DayPart]


class Number(NamedTuple):
    """A line of the account."""

    name: str
    number: int
    amiss: bool = False
    """A line that should be 0."""


class Missing(NamedTuple):
    """What should be there and is not."""

    place: str
    topic: str
    field: str
    why: str


@dataclass(frozen=True, slots=True)
class Measured:
    """One run, for the report; what was not measured is empty."""

    title: str
    verdict: str
    ok: bool | None
    facts: tuple[tuple[str, object], ...] = ()
    rates: tuple[Rate, ...] = ()
    latencies: tuple[Latency, ...] = ()
    readings: tuple[tuple[str, int], ...] = ()
    """By sensor type."""
    readings_are: str = "readings"
    days: tuple[Day, ...] = ()
    account: tuple[Number, ...] = ()
    missing: tuple[Missing, ...] = ()
    missing_in_all: int = 0
    made: str = ""


@dataclass(slots=True)
class Meter:
    """Rates and the latency of PUBACKs."""

    _totals: list[tuple[float, int, int]] = field(default_factory=list)
    _every_s: float = 1.0
    _counts: Counter[int] = field(default_factory=Counter)
    _most_us: int = 0

    def total(self, at_s: float, published: int, acknowledged: int, *, last: bool = False) -> None:
        """Hear how many there are so far, as often as one likes; *at_s* by a clock that never goes back."""
        totals = self._totals
        if totals and at_s - totals[-1][0] < self._every_s and not last:
            return
        if totals and at_s <= totals[-1][0]:
            totals.pop()
        totals.append((at_s, published, acknowledged))
        if len(totals) > _MOST_TOTALS:
            del totals[1::2]
            self._every_s *= 2

    def took(self, sent_us: int, acknowledged_us: int) -> None:
        """Hear of a PUBACK."""
        taken_us = max(acknowledged_us - sent_us, 0)
        self._counts[rounded(taken_us)] += 1
        self._most_us = max(self._most_us, taken_us)

    def timing(self, then: Callable[[int, M, int, int], None]) -> Callable[[int, M, int, int], None]:
        """Give a callback for PUBACKs that times them and calls *then*."""

        def hear(gateway: int, message: M, sent_us: int, acknowledged_us: int) -> None:
            self.took(sent_us, acknowledged_us)
            then(gateway, message, sent_us, acknowledged_us)

        return hear

    @property
    def rates(self) -> tuple[Rate, ...]:
        """Give messages a second between one hearing and the next."""
        began_s = self._totals[0][0] if self._totals else 0.0
        return tuple(
            Rate(at_s - began_s, (published - p) / (at_s - before_s), (acknowledged - a) / (at_s - before_s))
            for (before_s, p, a), (at_s, published, acknowledged) in pairwise(self._totals)
        )

    def latency(self, name: str) -> tuple[Latency, ...]:
        """Give the latencies under *name*; nothing where there was none."""
        return (Latency(name, dict(self._counts), self._most_us),) if self._counts else ()

    def puback_ms(self) -> dict[str, float | None]:
        """Give what reports say of the PUBACKs, as exact as their page; None without any."""
        shares = {"puback_p50_ms": 0.5, "puback_p99_ms": 0.99}
        found = self.latency("")
        return {name: found[0].at_ms(share) if found else None for name, share in shares.items()}


def rounded(taken_us: int) -> int:
    """Round to two digits: 90 values a power of ten, so that hours take the memory of a minute."""
    if taken_us < _EXACT_US:
        return taken_us
    ten: int = 10 ** (len(str(taken_us)) - 2)
    return int(round(taken_us / ten) * ten)


def latency_of(name: str, seconds: Iterable[float]) -> tuple[Latency, ...]:
    """Give latencies in *seconds* as `Latency`; nothing where there was none."""
    taken_us = [round(each * 1e6) for each in seconds]
    return (Latency(name, Counter(map(rounded, taken_us)), max(taken_us)),) if taken_us else ()


def part_us(duration_us: int) -> int:
    """Give how long a part is of a day, or of the *duration_us* that there are of one."""
    return max(-(-min(duration_us, DAY_US) // _DAY_PARTS), _LEAST_PART_US)


class Days:
    """Counts readings by sensor type, and keeps some values of the first day from *start_us* on."""

    def __init__(self, start_us: int, duration_us: int) -> None:
        """Cut the first day, or the whole when that is less, into parts."""
        self._start_us = start_us
        self._width_us = part_us(duration_us)
        self._counts: Counter[str] = Counter()
        self._units: dict[str, str] = {}
        self._values: dict[tuple[str, int], list[float]] = {}

    def add(self, sensor_type: str, unit: str, time_us: int, value: float) -> None:
        """Hear of a reading."""
        self._counts[sensor_type] += 1
        place = (time_us - self._start_us) // self._width_us
        if 0 <= place < _DAY_PARTS:
            self._units.setdefault(sensor_type, unit)
            kept = self._values.setdefault((sensor_type, place), [])
            if len(kept) < _OF_A_BIN:
                kept.append(value)

    @property
    def readings(self) -> tuple[tuple[str, int], ...]:
        """Give how many there were of each sensor type, most first."""
        return tuple(sorted(self._counts.items(), key=lambda each: (-each[1], each[0])))

    @property
    def days(self) -> tuple[Day, ...]:
        """Give a day of each sensor type."""
        found: dict[str, list[DayPart]] = {}
        for (sensor_type, place), values in sorted(self._values.items()):
            at_us = self._start_us + place * self._width_us + self._width_us // 2
            ordered = sorted(values)
            found.setdefault(sensor_type, []).append(
                DayPart(at_us, *(ordered[int(share * (len(ordered) - 1) + 0.5)] for share in (0.1, 0.5, 0.9)))
            )
        return tuple(Day(name, self._units[name], tuple(parts)) for name, parts in found.items())
