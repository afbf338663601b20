"""One series followed through the stream: its pace, its usual step, and what is far off both. Pure.

Built so that a reading like the one before costs five comparisons in `Survey.rows`: what needs no look is
kept as plain bounds (`gap_us`, `low`, `high`), made anew when a reading falls outside them, or once a second.

A gap is a silence of `gap_factor` times the sensor's own interval: the catalog's, else the one it keeps,
known after a while. A spike is a reading far off the one before it and the one after it: a step that stays
(a lamp, a window) is none. Far is `spike_factor` times the usual step, which is taken for 1 % of the type's
range at least: resolution and noise are no spikes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from uuid import UUID

    from ingest.model import Series

NEVER: Final = 1 << 62
"""µs; later than any time."""
LOOK_EVERY_US: Final = 1_000_000
"""How often a series that behaves is looked at, by receipt: bounds the cost of many rows a second."""
WARM_STEPS: Final = 16
"""Steps that have to be seen before one can be called unusual."""
SETTLED_INTERVALS: Final = 8
SETTLED_WINDOWS: Final = 3
"""What it takes to know a pace: intervals, in several windows, for a backlog has another pace."""
AWAY_READINGS: Final = 3
"""A step that more readings than these stay with is a new level; gateways may send one value twice."""
FLOOR_SHARE: Final = 0.01
"""Of the type's range: 1.5 °C, 50 ppm; with the default factor 10 a spike is a tenth of it at least."""
_STEP_MEMORY: Final = 32
_INTERVAL_MEMORY: Final = 8


class Limits(NamedTuple):
    """What is judged how; the options of [quality], in µs."""

    spike_factor: float
    gap_factor: float
    min_gap_us: int
    flagged: bool
    """Whether values out of range are stored, marked, and so come by as rows."""
    gaps: bool
    """False where a shared subscription gives this worker a part of each series only."""


class Spike(NamedTuple):
    """A reading far off its neighbours."""

    time_us: int
    value: float
    before: float
    after: float
    limit: float
    """The step that was thinkable."""


class Track:
    """See the module's header; one series of one sensor, type and unit."""

    __slots__ = (
        "_away",
        "_base",
        "_far",
        "_floor",
        "_limits",
        "_spiky",
        "_steps",
        "_usual_step",
        "expected_us",
        "first_us",
        "gap_us",
        "high",
        "interval_us",
        "intervals",
        "is_registered",
        "last_us",
        "last_value",
        "look_us",
        "low",
        "refused_us",
        "rows",
        "seen_us",
        "series",
        "silent",
        "version",
        "windows",
    )

    def __init__(self, series: Series, limits: Limits) -> None:
        """Begin without a reading; `adopt` has to follow."""
        self.series = series
        self._limits = limits
        self._spiky = False
        self._away: list[tuple[int, float]] = []
        """Readings far off `_base`, of which the next ones tell whether they are spikes."""
        self._base = math.nan
        self._steps = 0
        self._usual_step = 0.0
        self._floor = 0.0
        self._far = math.inf
        """A step from here on is unusual."""
        self.first_us = 0
        self.last_us = 0
        """Time of the latest reading; 0 before the first."""
        self.last_value = math.nan
        self.seen_us = 0
        """When it was last heard, by receipt; up to LOOK_EVERY_US old."""
        self.refused_us = 0
        """Time of the latest reading that was refused or out of range: `last_value` is older."""
        self.look_us = 0
        """From this receipt time on every reading is looked at."""
        self.low = math.inf
        self.high = -math.inf
        self.gap_us = NEVER
        self.expected_us = 0
        self.interval_us = 0
        self.intervals = 0
        self.windows = 0
        """Windows in which it was heard."""
        self.rows = 0
        """Readings in this window."""
        self.is_registered = False
        self.silent = False
        """Told to be silent, and not heard since."""
        self.version = 0
        """Of the directory it was last placed by."""

    def adopt(
        self, series: Series, *, expected_us: int, is_spiky: bool, is_registered: bool, version: int
    ) -> None:
        """Take what a newer catalog says of it; *expected_us* is 0 where it says nothing."""
        if (series.minimum, series.maximum) != (self.series.minimum, self.series.maximum):
            self.low, self.high = math.inf, -math.inf
        self.series = series
        self.is_registered = is_registered
        self.version = version
        span = series.maximum - series.minimum
        self._spiky = is_spiky and math.isfinite(span)
        self._floor = span * FLOOR_SHARE
        self._far = self._limits.spike_factor * max(self._usual_step, self._floor)
        if expected_us != self.expected_us:
            self.expected_us = expected_us
            self.intervals = self.interval_us = 0
        self._set_gap()

    @property
    def key(self) -> tuple[UUID, UUID, int]:
        """Whose readings they are: greenhouse, sensor and type."""
        return (self.series.greenhouse_id, self.series.sensor_id, self.series.sensor_type_id)

    @property
    def usual_interval_us(self) -> int:
        """The interval a gap is measured by; 0 while it is not known."""
        return self.expected_us or (self.interval_us if self.gap_us != NEVER else 0)

    @property
    def is_settled(self) -> bool:
        """Whether it can be left alone for LOOK_EVERY_US."""
        return not self._spiky or (self._steps >= WARM_STEPS and not self._away)

    def learn_interval(self, interval_us: int) -> None:
        """Take a time between two readings into account; bursts weigh nothing, for their readings are close.

        The longest, until the pace is known: better a gap not found than one made up.
        """
        if self.expected_us or not self._limits.gaps:
            return
        if self.gap_us == NEVER:
            self.intervals += 1
            self.interval_us = max(self.interval_us, interval_us)
        else:
            usual_us = self.interval_us
            capped_us = min(interval_us, self.gap_us)
            weight = 1.0 if capped_us > usual_us else capped_us / usual_us
            self.interval_us = max(1, int(usual_us + (capped_us - usual_us) * weight / _INTERVAL_MEMORY))
        self._set_gap()

    def set_back(self, now_us: int) -> None:
        """Let nothing have been heard after *now_us*: till then it would be neither judged nor missed."""
        if max(self.seen_us, self.last_us) > now_us:
            self.seen_us, self.last_us = min(self.seen_us, now_us), min(self.last_us, now_us)
            self.refused_us, self.look_us = min(self.refused_us, now_us), 0

    def value(self, time_us: int, value: float, *, is_adjacent: bool = True) -> list[Spike]:
        """Judge a value within the range; give the spikes that it shows the readings before it to be.

        Without *is_adjacent* there is a gap before it, and any step is as good as another.
        """
        spikes: list[Spike] = []
        before, self.last_value = self.last_value, value
        if not self._spiky or not is_adjacent or before != before:  # noqa: PLR0124 (not a number: the first one)
            self._away = []
            self._set_bounds(value)
            return spikes
        if self._away:
            return self._come_back(time_us, value)
        step = abs(value - before)
        if step > self._far and self._steps >= WARM_STEPS and not _is_switch(before, value):
            self._base, self._away = before, [(time_us, value)]
            self.low, self.high = math.inf, -math.inf
            return spikes
        self._learn_step(step)
        self._set_bounds(value)
        return spikes

    def _come_back(self, time_us: int, value: float) -> list[Spike]:
        """Tell, while readings are away from their level, whether this one is back or they stay."""
        base, limit = self._base, self._far
        distance = abs(self._away[0][1] - base)
        spikes: list[Spike] = []
        if abs(value - base) * 2 <= distance:
            spikes = [Spike(at_us, each, base, value, limit) for at_us, each in self._away]
        elif len(self._away) < AWAY_READINGS:
            self._away.append((time_us, value))
            return spikes
        else:
            self._learn_step(distance)
        self._away = []
        self._set_bounds(value)
        return spikes

    def _learn_step(self, step: float) -> None:
        self._steps += 1
        if self._steps > WARM_STEPS:  # one huge step must not hide the next
            step = min(step, self._far)
        self._usual_step += (step - self._usual_step) / min(self._steps, _STEP_MEMORY)
        self._far = self._limits.spike_factor * max(self._usual_step, self._floor)

    def _set_bounds(self, value: float) -> None:
        """Set what the next values may be without a look: none of two in there are a step too far."""
        if not self._spiky:
            self.low, self.high = -math.inf, math.inf
        elif self._steps < WARM_STEPS:
            self.low, self.high = math.inf, -math.inf
            return
        else:
            half = self._far / 2
            self.low, self.high = value - half, value + half
        if self._limits.flagged:
            self.low, self.high = max(self.low, self.series.minimum), min(self.high, self.series.maximum)

    def _set_gap(self) -> None:
        usual_us = self.expected_us
        if not usual_us and self.intervals >= SETTLED_INTERVALS and self.windows >= SETTLED_WINDOWS:
            usual_us = self.interval_us
        if not usual_us or not self._limits.gaps:
            self.gap_us = NEVER
        else:
            self.gap_us = max(int(usual_us * self._limits.gap_factor), self._limits.min_gap_us)


def _is_switch(before: float, value: float) -> bool:
    """Whether a step is one of something that is only on or off."""
    return before in {0.0, 1.0} and value in {0.0, 1.0}
