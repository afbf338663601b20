"""Water in air: how much there can be at a temperature, and what a humidity probe makes of it. Pure."""

from __future__ import annotations

import math
from typing import Final

_GRAMS_PER_HPA_K: Final = 216.68
"""Vapour density of an ideal gas: 1 hPa over the gas constant of water vapour, 461.5 J/(kg K)."""
_FREEZING_K: Final = 273.15


def saturation_g_m3(temperature_c: float) -> float:
    """Give the most vapour that air can hold, by Magnus's formula as in WMO-No. 8, annex 4.B (over water)."""
    pressure_hpa = 6.112 * math.exp(17.62 * temperature_c / (243.12 + temperature_c))
    return _GRAMS_PER_HPA_K * pressure_hpa / (_FREEZING_K + temperature_c)


def relative_humidity_pct(temperature_c: float, vapour_g_m3: float) -> float:
    """Give the share of the most it could hold; warmer air with the same vapour is drier."""
    return 100.0 * vapour_g_m3 / saturation_g_m3(temperature_c)
