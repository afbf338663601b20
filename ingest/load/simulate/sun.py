"""The sun over a place: how high it stands, and what a clear or cloudy sky lets through. Pure.

Angles in degrees, times in seconds since 1970-01-01 UTC. Nothing here draws a random number.
"""

from __future__ import annotations

import math
import time
from calendar import isleap
from typing import Final

LUMENS_PER_WATT: Final = 107.0
"""Luminous efficacy of global daylight under a clear sky; 109 on average (Littlefair, Lighting Research &
Technology 20(4), 1988, a year's measurement)."""

_MINUTES_PER_DAY: Final = 1440.0
_MINUTES_PER_DEGREE: Final = 4.0


def elevation_deg(time_s: float, latitude_deg: float, longitude_deg: float = 0.0) -> float:
    """Give the sun's height over the horizon, negative at night; refraction is left out."""
    return math.degrees(math.asin(elevation_sine(time_s, latitude_deg, longitude_deg)))


def elevation_sine(time_s: float, latitude_deg: float, longitude_deg: float = 0.0) -> float:
    """Give the sine of the sun's height, which is the cosine of its zenith angle.

    NOAA Global Monitoring Laboratory, "General Solar Position Calculations": declination and equation of
    time as Fourier series of the fractional year (Spencer 1971), good to 0.6 degrees.
    """
    fraction = _fractional_year(time_s)
    latitude, declination = math.radians(latitude_deg), _declination(fraction)
    minutes = time_s / 60.0 % _MINUTES_PER_DAY
    solar_minutes = minutes + equation_of_time_min(fraction) + _MINUTES_PER_DEGREE * longitude_deg
    hour_angle = math.radians(solar_minutes / _MINUTES_PER_DEGREE - 180.0)
    sine = math.sin(latitude) * math.sin(declination) + math.cos(latitude) * math.cos(declination) * math.cos(
        hour_angle
    )
    return max(-1.0, min(1.0, sine))


def equation_of_time_min(fraction: float) -> float:
    """Give by how much a sundial is ahead of the clock at *fraction* of the year, in radians."""
    return 229.18 * (
        0.000075
        + 0.001868 * math.cos(fraction)
        - 0.032077 * math.sin(fraction)
        - 0.014615 * math.cos(2 * fraction)
        - 0.040849 * math.sin(2 * fraction)
    )


def clear_sky_w_m2(sine: float) -> float:
    """Give the global irradiance of a horizontal surface under a clear sky, 0 at night.

    Haurwitz (Journal of Meteorology 2, 1945), the best of the models that ask for nothing but the sun's
    height (Reno, Hansen and Stein, SAND2012-2389).
    """
    return 1098.0 * sine * math.exp(-0.059 / sine) if sine > 0 else 0.0


def cloud_transmittance(cloud: float) -> float:
    """Give the share of it that comes through when *cloud*, 0 to 1, of the sky is covered.

    Kasten and Czeplak (Solar Energy 24, 1980): ten years of Hamburg.
    """
    return float(1.0 - 0.75 * cloud**3.4)


def _fractional_year(time_s: float) -> float:
    moment = time.gmtime(math.floor(time_s))
    days = 366 if isleap(moment.tm_year) else 365
    return 2 * math.pi / days * (moment.tm_yday - 1 + (moment.tm_hour - 12) / 24)


def _declination(fraction: float) -> float:
    return (
        0.006918
        - 0.399912 * math.cos(fraction)
        + 0.070257 * math.sin(fraction)
        - 0.006758 * math.cos(2 * fraction)
        + 0.000907 * math.sin(2 * fraction)
        - 0.002697 * math.cos(3 * fraction)
        + 0.00148 * math.sin(3 * fraction)
    )
