"""The weather outside, minute by minute: a function of seed, site, latitude and time, and of nothing before.

Days draw their cloud, warmth, wind and pressure, and run into each other; hours have showers, and clouds
pass in ten minutes. Gateways of one site share one Weather for speed only: what they see of it is the
same without the others. Pure but for what it remembers of the last days and minutes.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Final, NamedTuple

from ingest.load.simulate.air import saturation_g_m3
from ingest.load.simulate.randomness import chance
from ingest.load.simulate.sun import clear_sky_w_m2, cloud_transmittance, elevation_sine

MINUTE_S: Final = 60
_DAY_S: Final = 86_400
_HOURS: Final = 24
_PASSING_S: Final = 600
"""How long a cloud takes to pass."""
_REMEMBERED: Final = 64
"""Days, and minutes: more than neighbours are apart, little to hold."""

_MEAN_C: Final = 14.9
_POLEWARD_C: Final = -28.0
_SEASON_C: Final = 15.5
"""Zonal means of the air at sea level: 14.9 - 28.0 P2(sin latitude), with a season of 15.5 sin latitude
(North and Coakley, Journal of the Atmospheric Sciences 36, 1979)."""
_WARMEST_DAY: Final = 201.0
"""A month after the solstice (the same)."""
_WARMEST_HOUR: Final = 14.5
_LEAST_SWING_C: Final = 1.5
_CLEAR_SWING_C: Final = 5.5
"""Half the difference of day and night: the clearer, the larger (Hargreaves and Samani 1985; FAO-56, 50)."""
_WARM_SPELL_C: Final = 2.5
_DEW_BELOW_MINIMUM_C: Final = 1.0
"""At sunrise the air is nearly saturated, so the dew point is near the day's minimum (FAO-56, eq. 48)."""
_DRY_SPELL_C: Final = 1.5

_SEA_LEVEL_HPA: Final = 1013.25
_HIGHS_AND_LOWS_HPA: Final = 7.0
_TIDE_HPA: Final = 1.16
_TIDE_DEG: Final = 158.0
"""The pressure's tide, 1.16 cos³ latitude sin(2 t + 158°) hPa (Haurwitz 1956): highest at ten, morning and
evening."""

# What the days draw around is chosen: light winds, four tenths of cloud, rain on one day in eight.
_WIND_M_S: Final = 2.6
_CLOUD: Final = 0.38
_RAIN_FROM_CLOUD: Final = 0.7
_SHOWER_MM: Final = 1.6
"""What falls in an hour of rain, on average."""


class Sky(NamedTuple):
    """The weather of one minute."""

    temperature_c: float
    vapour_g_m3: float
    radiation_w_m2: float
    wind_m_s: float
    rain_mm: float
    """Since midnight, as a tipping bucket's counter has it."""
    pressure_hpa: float


class _Spell(NamedTuple):
    """What a day draws, as deviations from the normal."""

    warmth: float
    cloud: float
    wind: float
    pressure: float
    dryness: float


class _Day(NamedTuple):
    spell: _Spell
    hourly: tuple[float, ...]
    passing: tuple[float, ...]
    fallen_mm: tuple[float, ...]
    """By the full hour, 25 of them."""


class Weather:
    """The weather at one site."""

    def __init__(self, seed: int, site: str, latitude_deg: float) -> None:
        """Take what it depends on."""
        self._names = (seed, "weather", site)
        self._latitude_deg = latitude_deg
        sine = math.sin(math.radians(latitude_deg))
        self._mean_c = _MEAN_C + _POLEWARD_C * (3 * sine * sine - 1) / 2
        self._season_c = _SEASON_C * sine
        self._tide_hpa = _TIDE_HPA * math.cos(math.radians(latitude_deg)) ** 3
        self._days: dict[int, _Day] = {}
        self._minutes: dict[int, Sky] = {}

    def at(self, minute: int) -> Sky:
        """Give the sky of *minute*, counted from 1970-01-01 UTC."""
        sky = self._minutes.get(minute)
        if sky is None:
            if len(self._minutes) >= _REMEMBERED:
                self._minutes.clear()
            sky = self._minutes[minute] = self._sky(minute * MINUTE_S)
        return sky

    def _sky(self, time_s: int) -> Sky:
        day, second = divmod(time_s, _DAY_S)
        hour = second / 3600
        today = self._day(day)
        spell = self._spell(time_s)
        gloom = _CLOUD + 0.3 * spell.cloud
        passing = _between(today.passing, second / _PASSING_S)
        cloud = max(0.0, min(1.0, gloom + 0.2 * _between(today.hourly, hour) + 0.15 * passing))
        radiation = clear_sky_w_m2(elevation_sine(time_s, self._latitude_deg)) * cloud_transmittance(cloud)
        swing_c = _LEAST_SWING_C + _CLEAR_SWING_C * (1 - max(0.0, min(1.0, gloom)))
        season = math.cos(2 * math.pi * (time_s / _DAY_S % 365.2425 - _WARMEST_DAY) / 365.2425)
        mean_c = self._mean_c + self._season_c * season + _WARM_SPELL_C * spell.warmth
        temperature_c = mean_c + swing_c * math.cos(2 * math.pi * (hour - _WARMEST_HOUR) / 24)
        dew_c = mean_c - swing_c - _DEW_BELOW_MINIMUM_C - _DRY_SPELL_C * max(0.0, spell.dryness)
        tide_hpa = self._tide_hpa * math.sin(math.radians(2 * 15 * hour + _TIDE_DEG))
        rain_from, rain_to = today.fallen_mm[int(hour)], today.fallen_mm[int(hour) + 1]
        return Sky(
            temperature_c=temperature_c,
            vapour_g_m3=saturation_g_m3(min(dew_c, temperature_c)),
            radiation_w_m2=radiation,
            wind_m_s=_WIND_M_S * math.exp(0.4 * spell.wind + 0.25 * passing) * (0.8 + radiation / 1500),
            rain_mm=rain_from + (rain_to - rain_from) * (hour % 1),
            pressure_hpa=_SEA_LEVEL_HPA + _HIGHS_AND_LOWS_HPA * spell.pressure + tide_hpa,
        )

    def _spell(self, time_s: int) -> _Spell:
        """Blend the days on both sides of *time_s*, each at its noon."""
        day, into = divmod(time_s / _DAY_S - 0.5, 1)
        share = (1 - math.cos(math.pi * into)) / 2
        before, after = self._day(int(day)).spell, self._day(int(day) + 1).spell
        return _Spell(*(a + (b - a) * share for a, b in zip(before, after, strict=True)))

    def _day(self, day: int) -> _Day:
        known = self._days.get(day)
        if known is None:
            if len(self._days) >= _REMEMBERED:
                self._days.clear()
            known = self._days[day] = _drawn(*self._names, day)
        return known


def _drawn(seed: int, kind: str, site: str, day: int) -> _Day:
    random = chance(seed, kind, site, day)
    gauss = random.gauss
    lows = [chance(seed, kind, site, near, "spell").gauss(0, 1) for near in (day - 1, day, day + 1)]
    # A low lasts for days and brings cloud, wind and falling pressure together.
    low = (lows[0] + 2 * lows[1] + lows[2]) / math.sqrt(6)
    spell = _Spell(
        warmth=gauss(0, 0.8) - 0.4 * low,
        cloud=0.8 * low + gauss(0, 0.5),
        wind=0.6 * low + gauss(0, 0.6),
        pressure=-0.9 * low + gauss(0, 0.3),
        dryness=-0.7 * low + gauss(0, 0.6),
    )
    hourly = tuple(gauss(0, 1) for _ in range(_HOURS + 1))
    passing = tuple(gauss(0, 1) for _ in range(_DAY_S // _PASSING_S + 1))
    wetness = _CLOUD + 0.3 * spell.cloud - _RAIN_FROM_CLOUD
    showers = [random.expovariate(1 / _SHOWER_MM) * (random.random() < 4 * wetness) for _ in range(_HOURS)]
    return _Day(spell, hourly, passing, tuple(accumulate(showers, initial=0.0)))


def _between(points: tuple[float, ...], place: float) -> float:
    """Give what *points* make of a *place* between two of them."""
    low = int(place)
    return points[low] + (points[low + 1] - points[low]) * (place - low)
