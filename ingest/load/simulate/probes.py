"""Probes: what a real one makes of the truth, and how it fails. Pure but for its own chance and state.

Accuracy is a probe's constant error, repeatability its noise from reading to reading; both from data
sheets. Where faults are wanted, each probe breaks now and then in one of the known ways, and recovers.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from random import Random

FaultLevel: TypeAlias = Literal["none", "few", "many"]


class Silent(Enum):
    """The type of SILENT, so that `is` narrows it."""

    SILENT = "silent"


SILENT: Final = Silent.SILENT
"""There is no reading: the probe does not answer."""


class Model(NamedTuple):
    """A kind of probe, in the unit it measures."""

    accuracy: float
    repeatability: float
    decimals: int
    low: float
    high: float
    lost: float
    """What its gateway reads when the wire is off: a negative 16-bit number taken for a positive one."""
    drift_h: float
    """How fast it drifts once it does."""
    relative: bool = False
    """Accuracy and repeatability are shares of what is measured."""
    notch: float | None = None
    """It counts in such steps."""


MODELS: Final = {
    # Aosong AM2302: ±0.5 °C, ±0.2 °C, -40 to 80 °C; -69.5 °C of an open thermistor is 64841 tenths.
    "temperature": Model(0.5, 0.2, 1, -40.0, 80.0, 6484.1, 0.4),
    # The same: ±2 %, ±1 %, 0 to 99.9 %; -24.6 % is 65290 tenths.
    "humidity": Model(2.0, 1.0, 1, 0.0, 99.9, 6529.0, 1.5),
    # Vishay VEML7700: ±10 %, up to 140 klx.
    "light": Model(0.1, 0.005, 0, 0.0, 140_000.0, 655_350.0, 800.0, relative=True),
    # Sensirion SCD30: ±30 ppm, ±10 ppm; the catalog's 5 000 ppm are the range most controllers set.
    "co2": Model(30.0, 10.0, 0, 0.0, 5_000.0, 65_535.0, 40.0),
    # METER EC-5 with its general calibration: ±3 % of volume, resolution 0.1 %.
    "soil": Model(1.5, 0.1, 1, 0.0, 100.0, 6553.5, 0.5),
    # Apogee SP-110: ±5 %, up to 2 000 W/m², of which the catalog believes 1 500.
    "radiation": Model(0.05, 0.003, 0, 0.0, 1_500.0, 65_535.0, 15.0, relative=True),
    # Davis 6410: ±5 %, up to 89 m/s.
    "wind": Model(0.05, 0.05, 1, 0.0, 89.0, 6553.5, 0.3, relative=True),
    # A tipping bucket of 0.2 mm; it counts whole ones.
    "rain": Model(0.0, 0.0, 1, 0.0, 500.0, 6553.5, 0.0, notch=0.2),
    # Bosch BMP280: ±1 hPa, ±0.1 hPa, 300 to 1 100 hPa.
    "pressure": Model(1.0, 0.1, 1, 800.0, 1_100.0, 6553.5, 0.3),
}
"""By the quantity each measures; `low` and `high` are within the catalog's limits of its type."""

EVERY_S: Final[dict[FaultLevel, float]] = {"none": inf, "few": 86_400.0, "many": 3_600.0}
"""How often a probe fails, on average."""

_LASTS_S: Final = {"lost": 600.0, "stuck": 1_800.0, "drifting": 14_400.0, "gap": 300.0}
"""How long each failure goes on, on average."""
FAILURES: Final = tuple(_LASTS_S)


class Probe:
    """One probe, read in the order of time."""

    __slots__ = ("_bias", "_every_s", "_last", "_null", "_random", "_since_s", "_until_s", "failure", "model")

    def __init__(
        self, model: Model, random: Random, *, faults: FaultLevel, start_s: float, null: bool
    ) -> None:
        """Make one as *random* has it; with *null*, its gateway sends null in place of the lost value."""
        self.model = model
        self.failure: str | None = None
        """The failure it has at the moment, of FAILURES."""
        self._random = random
        self._bias = max(-1.0, min(1.0, random.gauss(0, 0.4))) * model.accuracy
        self._every_s = EVERY_S[faults]
        self._null = null
        self._last: float | None = None
        self._since_s = start_s
        self._until_s = inf if self._every_s == inf else start_s + random.expovariate(1 / self._every_s)

    def read(self, truth: float, time_s: float) -> float | Silent | None:
        """Give what it shows of *truth* at *time_s*: a number, None for null, or SILENT."""
        while time_s >= self._until_s:
            self._change()
        model = self.model
        if self.failure is None:
            value = self._measured(truth)
        elif self.failure == "lost":
            return None if self._null else model.lost
        elif self.failure == "gap":
            return SILENT
        elif self.failure == "stuck":
            value = self._measured(truth) if self._last is None else self._last
        else:
            hours = (time_s - self._since_s) / 3600
            value = self._measured(truth + hours * model.drift_h)
        self._last = value
        return value

    def _measured(self, truth: float) -> float:
        model = self.model
        error = self._bias + model.repeatability * (2 * self._random.random() - 1)
        value = truth + (truth * error if model.relative else error)
        if model.notch is not None:
            value = value // model.notch * model.notch
        if value < model.low:
            return model.low
        if value > model.high:
            return model.high
        return round(value, model.decimals) if model.decimals else round(value)

    def _change(self) -> None:
        """Fail, or recover."""
        random = self._random
        self._since_s = self._until_s
        if self.failure is None:
            self.failure = random.choice(FAILURES)
            self._until_s += random.expovariate(1 / _LASTS_S[self.failure])
        else:
            self.failure = None
            self._until_s += random.expovariate(1 / self._every_s)
