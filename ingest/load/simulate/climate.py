"""One greenhouse from minute to minute: air, light, CO2, soil, and a controller that opens, heats, waters.

A balance for each: what comes in, what leaves, and how fast the greenhouse follows. Each is solved for its
equilibrium and approached exponentially, so that no step is too long. The grid is one minute whatever the
gateway's interval; what is read between is interpolated. Pure but for its own state; chance only chooses
how the greenhouse is built.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

from ingest.load.simulate.air import relative_humidity_pct, saturation_g_m3
from ingest.load.simulate.sun import LUMENS_PER_WATT
from ingest.load.simulate.weather import MINUTE_S

if TYPE_CHECKING:
    from random import Random

    from ingest.load.simulate.weather import Sky, Weather

QUANTITIES: Final = (
    "temperature",
    "humidity",
    "light",
    "co2",
    "soil",
    "radiation",
    "wind",
    "rain",
    "pressure",
    "heat_to",
    "vent_at",
    "sector_1",
    "sector_2",
    "sector_3",
    "sector_4",
    "extractor",
    "reserve",
)
"""What can be read of a greenhouse and the sky over it: °C, %, lux, ppm, % of volume, W/m², m/s, mm since
midnight, hPa; two set points in °C; valves in per cent, a fan 0 or 1, and an input nothing is wired to."""
SWITCHED_FROM: Final = QUANTITIES.index("heat_to")
"""From here on they change in steps and are not measured but told."""
_RAIN: Final = QUANTITIES.index("rain")
_Row: TypeAlias = tuple[tuple[float, ...], list[float]]
"""What is measured, and what is told."""

OUTSIDE_CO2_PPM: Final = 425.0
"""Global mean of 2025 (NOAA Global Monitoring Laboratory)."""

_HEIGHT_M: Final = 4.0
_COVER_RATIO: Final = 1.3
"""Mean height, and cover to ground area: a multi-span house."""
_COVER_W_M2_K: Final = (5.0, 7.5)
"""Glass 6.3, one film of polyethylene 6.8, newer covers less (ANSI/ASAE EP406.4)."""
_TRANSMITTANCE: Final = (0.60, 0.72)
"""Of a whole house, frame and dirt included (von Elsner et al., Journal of Agricultural Engineering Research
75, 2000)."""
_AIR_J_M3_K: Final = 1206.0
_CAPACITY_J_M2_K: Final = 50_000.0
"""Air, crop and top of the soil; with the cover's 8 W/m²K a closed house follows in an hour and a half."""
_LATENT_SHARE: Final = 0.4
"""Of the sun that is absorbed inside, so much goes into transpiration of a grown crop, and"""
_EVAPORATION_J_G: Final = 2450.0
_DRY_AIR_TAKES_G_M2_H: Final = 90.0
"""so much more into dry air, none into saturated: some 20 at night, as is measured of tomatoes. Light and the
dryness of the air drive it together (Stanghellini 1987); both numbers are chosen."""
_ABSORBED_SHARE: Final = 0.75

_LEAK_PER_H: Final = 0.5
_LEAK_BY_WIND: Final = 0.1
"""Infiltration of a house under film in good order is 0.5 to 1 air change an hour (ANSI/ASAE EP406.4)."""
_VENTS_PER_H: Final = 8.0
_VENTS_BY_WIND: Final = 5.0
"""Open windows: chosen for some 20 changes an hour in usual wind, to which the extractor adds"""
_EXTRACTOR_PER_H: Final = 30.0
"""half of the one change a minute that a fan-ventilated house is laid out for (the same)."""
_VENT_BAND_K: Final = 5.0
_VENT_SPEED: Final = 0.2
"""The windows' motor needs five minutes from shut to open."""
_HUMID_PCT: Final = 70.0
_HUMID_BAND_PCT: Final = 20.0
"""Above 70 % the windows open a little, whatever the temperature."""
_CONDENSING_PER_H: Final = 3.3
"""What the cover takes of the vapour above its own saturation: 2.8 mm/s at 5 K between air and cover
(Stanghellini and de Jong, Agricultural and Forest Meteorology 76, 1995), over the height."""
_EXTRACT_ABOVE_K: Final = 3.0
_HEATER_W_M2: Final = 120.0
_HEATER_BAND_K: Final = 3.0
"""The controller is a plain one: proportional within these bands, its numbers chosen."""
_DAYLIGHT_W_M2: Final = 5.0

_PPM_M3_G: Final = 546.0
"""1 g CO2 in 1 m³ at 20 °C: 24.06 l/mol over 44.01 g/mol."""
_UPTAKE_G_M2_H: Final = 5.0
_HALF_LIGHT_W_M2: Final = 200.0
_HALF_CO2_PPM: Final = 300.0
_COMPENSATION_PPM: Final = 60.0
"""Uptake of a canopy saturates with light and with CO2 and ends at the compensation point: 1.2 to 2.4
g/m²h in usual conditions (Blom et al., "Carbon Dioxide in Greenhouses", OMAFRA 00-077), as is"""
_INJECTED_G_M2_H: Final = 5.5
_RESPIRED_G_M2_H: Final = 0.5
"""Chosen for the 500 to 550 ppm that closed houses have at sunrise."""
_INJECT_WHEN_OPEN_LESS: Final = 0.25
_INJECT_BAND_PPM: Final = 50.0

_ROOTS_MM: Final = 250.0
"""Depth that the roots draw from; loam holds 36 % of its volume. Chosen, as are drip and sectors."""
_SECTORS: Final = 4
_SECTOR_MINUTES: Final = 15
_DRIP_MM_H: Final = 8.0
_FIELD_CAPACITY_PCT: Final = 36.0
_OPEN_PCT: Final = 100


class Greenhouse:
    """A greenhouse under a Weather; `at` moves it on."""

    __slots__ = (
        "_cover_w_m2_k",
        "_heater_w_m2",
        "_inject_to_ppm",
        "_injecting",
        "_minute",
        "_next",
        "_now",
        "_start_at_pct",
        "_state",
        "_transmittance",
        "_vent_c",
        "_vents",
        "_warm_c",
        "_watering",
        "_weather",
    )

    def __init__(self, weather: Weather, random: Random, start_us: int) -> None:
        """Build it as *random* has it, in balance with the weather at *start_us*."""
        self._weather = weather
        self._cover_w_m2_k = _COVER_RATIO * random.uniform(*_COVER_W_M2_K)
        self._transmittance = random.uniform(*_TRANSMITTANCE)
        self._warm_c = random.uniform(16.0, 19.0)
        self._vent_c = random.uniform(23.0, 26.0)
        self._heater_w_m2 = _HEATER_W_M2 if random.random() < 0.7 else 0.0  # noqa: PLR2004 (most have one)
        self._inject_to_ppm = random.choice((700.0, 800.0, 1000.0)) if random.random() < 0.6 else 0.0  # noqa: PLR2004
        self._start_at_pct = random.uniform(29.0, 32.0)
        self._injecting = False
        self._vents = 0.0
        self._watering = -1
        self._minute = start_us // (MINUTE_S * 1_000_000)
        sky = weather.at(self._minute)
        temperature = max(sky.temperature_c + 3, self._warm_c - 3 if self._heater_w_m2 else -40.0)
        self._state = (
            temperature,
            min(sky.vapour_g_m3 * 1.1, 0.9 * saturation_g_m3(temperature)),
            OUTSIDE_CO2_PPM,
            self._start_at_pct + random.uniform(0.0, 2.5),
        )
        self._now = self._row(sky, extracting=False)
        self._next = self._step()

    def at(self, time_us: int) -> list[float]:
        """Give each quantity of QUANTITIES at *time_us*, which never goes back."""
        minute, into_us = divmod(time_us, MINUTE_S * 1_000_000)
        while self._minute < minute:
            self._minute += 1
            self._now = self._next
            self._next = self._step()
        share = into_us / (MINUTE_S * 1_000_000)
        measured, told = self._now
        values = [
            before + (after - before) * share for before, after in zip(measured, self._next[0], strict=True)
        ]
        if self._next[0][_RAIN] < measured[_RAIN]:  # midnight: its counter begins anew
            values[_RAIN] = measured[_RAIN]
        return values + told

    def _step(self) -> _Row:
        """Move the state from `_minute` to the next; give the quantities there."""
        sky = self._weather.at(self._minute + 1)
        temperature, vapour, co2, soil = self._state
        inside_w = self._transmittance * sky.radiation_w_m2
        humidity = relative_humidity_pct(temperature, vapour)
        day = sky.radiation_w_m2 > _DAYLIGHT_W_M2

        heat_to = self._warm_c if day else self._warm_c - 3
        wanted = max(0.0, min(1.0, (temperature - self._vent_c) / _VENT_BAND_K))
        if humidity > _HUMID_PCT and temperature > heat_to - 1:
            wanted = max(wanted, (humidity - _HUMID_PCT) / _HUMID_BAND_PCT)
        self._vents += max(-_VENT_SPEED, min(_VENT_SPEED, wanted - self._vents))
        extracting = temperature > self._vent_c + _EXTRACT_ABOVE_K
        heating = self._heater_w_m2 * max(0.0, min(1.0, (heat_to - temperature) / _HEATER_BAND_K))
        changes_h = (
            _LEAK_PER_H
            + _LEAK_BY_WIND * sky.wind_m_s
            + self._vents * (_VENTS_PER_H + _VENTS_BY_WIND * sky.wind_m_s)
            + (_EXTRACTOR_PER_H if extracting else 0.0)
        )

        loss_w_m2_k = self._cover_w_m2_k + _AIR_J_M3_K * _HEIGHT_M * changes_h / 3600
        absorbed_w_m2 = inside_w * _ABSORBED_SHARE
        gain_w_m2 = absorbed_w_m2 * (1 - _LATENT_SHARE) + heating
        balance_c = sky.temperature_c + gain_w_m2 / loss_w_m2_k
        temperature += (balance_c - temperature) * -math.expm1(-MINUTE_S * loss_w_m2_k / _CAPACITY_J_M2_K)

        transpired_g_m2_h = (
            absorbed_w_m2 * _LATENT_SHARE * 3600 / _EVAPORATION_J_G
            + _DRY_AIR_TAKES_G_M2_H * max(0.0, 100 - humidity) / 100
        )
        dew_g_m3 = saturation_g_m3((temperature + sky.temperature_c) / 2)  # the cover is between the two
        cover_h = _CONDENSING_PER_H if vapour > dew_g_m3 else 0.0
        source_g_m3_h = transpired_g_m2_h / _HEIGHT_M + changes_h * sky.vapour_g_m3 + cover_h * dew_g_m3
        balance_g_m3 = source_g_m3_h / (changes_h + cover_h)
        vapour += (balance_g_m3 - vapour) * -math.expm1(-(changes_h + cover_h) / 60)
        vapour = min(vapour, saturation_g_m3(temperature))

        co2 = self._next_co2(co2, inside_w, changes_h, day=day)
        soil = self._next_soil(soil, transpired_g_m2_h)
        self._state = (temperature, vapour, co2, soil)
        return self._row(sky, extracting=extracting)

    def _next_co2(self, co2: float, inside_w: float, changes_h: float, *, day: bool) -> float:
        """Mix with the air outside, inject unless it is blown out again, and let the crop take its part."""
        closed = day and self._vents < _INJECT_WHEN_OPEN_LESS
        self._injecting = closed and co2 < self._inject_to_ppm + (
            _INJECT_BAND_PPM if self._injecting else -_INJECT_BAND_PPM
        )
        to_ppm_h = _PPM_M3_G / _HEIGHT_M
        taken_h = to_ppm_h * _UPTAKE_G_M2_H * inside_w / (inside_w + _HALF_LIGHT_W_M2) / (co2 + _HALF_CO2_PPM)
        given_ppm_h = to_ppm_h * (_RESPIRED_G_M2_H + (_INJECTED_G_M2_H if self._injecting else 0.0))
        out_h = changes_h + taken_h
        balance_ppm = (changes_h * OUTSIDE_CO2_PPM + taken_h * _COMPENSATION_PPM + given_ppm_h) / out_h
        return co2 + (balance_ppm - co2) * -math.expm1(-out_h / 60)

    def _next_soil(self, soil: float, transpired_g_m2_h: float) -> float:
        """Dry by what the crop transpires; at some point water sector after sector, the probe's first."""
        if self._watering < 0 and soil < self._start_at_pct:
            self._watering = 0
        elif self._watering >= 0:
            self._watering += 1
            if self._watering >= _SECTORS * _SECTOR_MINUTES:
                self._watering = -1
        drip_mm_h = _DRIP_MM_H if 0 <= self._watering < _SECTOR_MINUTES else 0.0
        soil += (drip_mm_h - transpired_g_m2_h / 1000) / 60 / _ROOTS_MM * 100
        return min(soil, _FIELD_CAPACITY_PCT)

    def _row(self, sky: Sky, *, extracting: bool) -> _Row:
        temperature, vapour, co2, soil = self._state
        watered = self._watering // _SECTOR_MINUTES if self._watering >= 0 else -1
        valves = [_OPEN_PCT if sector == watered else 0 for sector in range(_SECTORS)]
        day = sky.radiation_w_m2 > _DAYLIGHT_W_M2
        measured = (
            temperature,
            min(100.0, relative_humidity_pct(temperature, vapour)),
            self._transmittance * sky.radiation_w_m2 * LUMENS_PER_WATT,
            co2,
            soil,
            sky.radiation_w_m2,
            sky.wind_m_s,
            sky.rain_mm,
            sky.pressure_hpa,
        )
        heat_to = round(self._warm_c if day else self._warm_c - 3, 1)
        return measured, [heat_to, round(self._vent_c, 1), *valves, int(extracting), 0]
