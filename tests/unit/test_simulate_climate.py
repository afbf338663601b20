"""Sun, weather and greenhouse of the simulation: against almanacs, and against what every grower knows."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import correlation, mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.load.simulate.air import relative_humidity_pct, saturation_g_m3
from ingest.load.simulate.climate import OUTSIDE_CO2_PPM, QUANTITIES, Greenhouse
from ingest.load.simulate.randomness import chance
from ingest.load.simulate.sun import clear_sky_w_m2, cloud_transmittance, elevation_deg
from ingest.load.simulate.weather import Weather
from tests.fuzzing import examples

HORIZON_DEG = -0.833
"""Where the sun's centre is at sunrise and sunset: refraction and half its width."""
LONDON, SYDNEY, ALMERIA = (51.507, -0.128), (-33.87, 151.21), (36.84, -2.46)
MINUTE_US = 60_000_000
TEMPERATURE, HUMIDITY, LIGHT, CO2, SOIL, RADIATION, WIND, RAIN, PRESSURE = range(9)
SECTORS = slice(QUANTITIES.index("sector_1"), QUANTITIES.index("sector_4") + 1)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("place", "moment", "expected_deg"),
    [
        (LONDON, "2026-06-21T03:43", HORIZON_DEG),
        (LONDON, "2026-06-21T20:21", HORIZON_DEG),
        (LONDON, "2026-12-21T08:04", HORIZON_DEG),
        (LONDON, "2026-12-21T15:53", HORIZON_DEG),
        (SYDNEY, "2025-12-31T18:48", HORIZON_DEG),
        (SYDNEY, "2026-01-01T09:09", HORIZON_DEG),
        (LONDON, "2026-06-21T12:02", 90 - 51.507 + 23.44),
        (LONDON, "2026-12-21T11:59", 90 - 51.507 - 23.44),
        (ALMERIA, "2026-06-21T12:12", 90 - 36.84 + 23.44),
        ((0.0, 0.0), "2026-03-20T12:07", 90.0),  # the equinox, on the equator
        ((90.0, 0.0), "2026-12-21T12:00", -23.44),  # the night of the pole
    ],
)
def test_the_sun_stands_where_the_almanac_says(
    place: tuple[float, float], moment: str, expected_deg: float
) -> None:
    assert elevation_deg(seconds(moment), *place) == pytest.approx(expected_deg, abs=0.6)


@pytest.mark.parametrize(
    ("day", "transit"), [("2026-11-03", "11:43:35"), ("2026-02-11", "12:14:14"), ("2026-04-15", "12:00:05")]
)
def test_the_sundial_is_as_far_from_the_clock_as_the_almanac_says(day: str, transit: str) -> None:
    noon_s = seconds(f"{day}T{transit}")
    before, after = (elevation_deg(noon_s + hours * 3600, 51.48) for hours in (-2, 2))
    assert before == pytest.approx(after, abs=0.3)  # 20 s of time, and the declination's change in 4 hours


def test_the_sky_lets_through_what_is_measured() -> None:
    assert clear_sky_w_m2(0.0) == clear_sky_w_m2(-0.3) == 0.0
    assert clear_sky_w_m2(1.0) == pytest.approx(1035, abs=10)
    assert clear_sky_w_m2(0.5) == pytest.approx(488, abs=10)
    assert (cloud_transmittance(0.0), cloud_transmittance(1.0)) == (1.0, 0.25)


@pytest.mark.parametrize(("celsius", "grams"), [(0, 4.85), (10, 9.40), (20, 17.3), (30, 30.4)])
def test_air_holds_as_much_water_as_the_tables_say(celsius: float, grams: float) -> None:
    assert saturation_g_m3(celsius) == pytest.approx(grams, rel=0.01)


def test_the_same_air_is_drier_when_it_is_warmer() -> None:
    humidity = [relative_humidity_pct(celsius, 9.4) for celsius in (10, 15, 20, 30)]
    assert humidity == sorted(humidity, reverse=True)
    assert humidity[0] == pytest.approx(100, abs=1)


def day_of(latitude_deg: float, start: str, *, seed: int = 1, days: int = 1) -> list[list[float]]:
    """Give every tenth minute of some days, behind one in which the greenhouse finds its way."""
    start_us = round(seconds(start)) * 1_000_000
    house = Greenhouse(Weather(seed, "0", latitude_deg), chance(seed, "house"), start_us)
    return [house.at(start_us + minute * MINUTE_US) for minute in range(1440, 1440 * (1 + days), 10)]


def test_a_summer_day() -> None:
    rows = day_of(36.8, "2026-07-01", days=3)
    night = [row for row in rows if row[RADIATION] == 0]
    bright = [row for row in rows if row[RADIATION] > 500]
    assert len(night) > 3 * 40
    assert len(bright) > 3 * 20
    assert {row[LIGHT] for row in night} == {0.0}
    assert 20_000 < max(row[LIGHT] for row in rows) < 100_000
    assert mean(row[TEMPERATURE] for row in bright) > mean(row[TEMPERATURE] for row in night) + 4
    assert mean(row[HUMIDITY] for row in bright) < mean(row[HUMIDITY] for row in night) - 5
    warmth, humidity = ([row[index] for row in rows] for index in (TEMPERATURE, HUMIDITY))
    assert correlation(warmth, humidity) < -0.6
    assert {row[QUANTITIES.index("extractor")] for row in rows} == {0, 1}


def test_a_winter_day_is_drier_than_its_night_where_the_sun_warms_it() -> None:
    drier = 0
    for seed in range(6):
        rows = day_of(36.8, "2026-01-01", seed=seed)
        night = mean(row[HUMIDITY] for row in rows if row[RADIATION] == 0)
        assert 70 < night < 99
        drier += mean(row[HUMIDITY] for row in rows if row[RADIATION] > 100) < night
    assert drier >= 4  # the others have a dull day, and windows that stay shut


def test_the_soil_dries_and_is_watered() -> None:
    rows = day_of(36.8, "2026-07-01", days=4)
    soil = [row[SOIL] for row in rows]
    steps = [after - before for before, after in pairwise(soil)]
    assert min(steps) < 0
    assert max(steps) > 0.2
    assert 25 < min(soil) < max(soil) < 40
    for before, after in pairwise(rows):
        if after[SOIL] > before[SOIL] + 0.2:
            assert 100 in (before[SECTORS][0], after[SECTORS][0])
    assert {tuple(row[SECTORS]) for row in rows} >= {(0, 0, 0, 0), (100, 0, 0, 0), (0, 0, 0, 100)}


@pytest.mark.parametrize("start", ["2026-01-10", "2026-07-01"])
def test_at_night_the_crop_breathes_out(start: str) -> None:
    for seed in range(3):
        rows = day_of(36.8, start, seed=seed)
        assert all(row[CO2] >= OUTSIDE_CO2_PPM - 1 for row in rows[:18] if row[RADIATION] == 0)


def test_only_injection_takes_co2_far_above_what_the_night_leaves() -> None:
    highest = {seed: max(row[CO2] for row in day_of(52.0, "2026-03-01", seed=seed)) for seed in range(6)}
    assert any(ppm > 650 for ppm in highest.values())
    assert any(ppm < 620 for ppm in highest.values())
    assert max(highest.values()) < 1_200


def test_days_are_short_in_winter_and_the_south_has_its_seasons_the_other_way_round() -> None:
    def light_hours(latitude_deg: float, start: str) -> float:
        return sum(row[RADIATION] > 0 for row in day_of(latitude_deg, start)) / 6

    assert light_hours(52.0, "2026-12-20") == pytest.approx(7.7, abs=0.6)
    assert light_hours(52.0, "2026-06-20") == pytest.approx(16.6, abs=0.6)
    assert light_hours(-52.0, "2026-12-20") == pytest.approx(16.6, abs=0.6)

    def outside(latitude_deg: float, start: str) -> float:
        weather = Weather(1, "0", latitude_deg)
        first = round(seconds(start)) // 60
        return mean(weather.at(first + hour * 60).temperature_c for hour in range(24 * 20))

    assert outside(45.0, "2026-07-10") > outside(45.0, "2026-01-10") + 10
    assert outside(-45.0, "2026-07-10") < outside(-45.0, "2026-01-10") - 10


def test_it_rains_at_times_and_the_counter_begins_anew_at_midnight() -> None:
    weather = Weather(3, "0", 45.0)
    first = round(seconds("2026-01-01")) // 60
    hours = [weather.at(first + hour * 60) for hour in range(24 * 60)]
    daily = [hours[day * 24 + 23].rain_mm for day in range(60)]
    assert 5 < sum(millimetres > 0 for millimetres in daily) < 55
    assert all(hours[day * 24].rain_mm == 0 for day in range(60))
    for day in range(60):
        counter = [sky.rain_mm for sky in hours[day * 24 : day * 24 + 24]]
        assert counter == sorted(counter)


def test_weather_depends_on_nothing_that_was_asked_before() -> None:
    first = round(seconds("2026-05-01")) // 60
    forwards, backwards = Weather(1, "0", 36.8), Weather(1, "0", 36.8)
    minutes = range(first, first + 30 * 1440, 977)
    there = {minute: forwards.at(minute) for minute in minutes}
    assert {minute: backwards.at(minute) for minute in reversed(minutes)} == there
    assert Weather(1, "1", 36.8).at(first) != there[first] != Weather(2, "0", 36.8).at(first)


@settings(max_examples=examples(15))
@given(
    seed=st.integers(0, 2**31 - 1),
    latitude_deg=st.floats(-90, 90),
    day=st.integers(0, 36_500),
    step_s=st.sampled_from([7, 60, 293, 3600]),
)
def test_wherever_and_whenever_it_stays_within_what_can_be(
    seed: int, latitude_deg: float, day: int, step_s: int
) -> None:
    start_us = day * 86_400_000_000
    house = Greenhouse(Weather(seed, "0", latitude_deg), chance(seed), start_us)
    for step in range(min(300, 86_400 // step_s)):
        values = house.at(start_us + step * step_s * 1_000_000)
        assert len(values) == len(QUANTITIES)
        assert all(math.isfinite(value) for value in values)
        assert -45 < values[TEMPERATURE] < 60
        assert 0 < values[HUMIDITY] <= 100
        assert 0 <= values[LIGHT] < 140_000
        assert 60 < values[CO2] < 2_000
        assert 0 < values[SOIL] <= 36.1
        assert 0 <= values[RADIATION] < 1_100
        assert 0 <= values[WIND] < 60
        assert 0 <= values[RAIN] < 300
        assert 950 < values[PRESSURE] < 1_080


def test_between_two_minutes_it_goes_straight() -> None:
    start_us = round(seconds("2026-07-01T09:00")) * 1_000_000
    house = Greenhouse(Weather(1, "0", 36.8), chance(1), start_us)
    begin, middle, end = (house.at(start_us + part * MINUTE_US // 2) for part in range(3))
    assert middle[TEMPERATURE] == pytest.approx((begin[TEMPERATURE] + end[TEMPERATURE]) / 2)


def test_a_step_is_a_minute_however_seldom_it_is_looked_at() -> None:
    start_us = round(seconds("2026-07-01")) * 1_000_000
    often, seldom = (Greenhouse(Weather(1, "0", 36.8), chance(1), start_us) for _ in range(2))
    for minute in range(600):
        often.at(start_us + minute * MINUTE_US)
    end_us = start_us + timedelta(hours=10) // timedelta(microseconds=1)
    assert often.at(end_us) == seldom.at(end_us)
