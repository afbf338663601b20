"""Which unit measures which quantity, and how limits move between units of one quantity. Data, pure.

A unit that is not listed measures a quantity of its own, so a unit an operator adds to the catalog
is accepted for the sensor types that have it as their default and refused for the others.
"""

from __future__ import annotations

from typing import NamedTuple


class Scale(NamedTuple):
    """A unit as `value * numerator / denominator + offset` of its quantity's base unit."""

    quantity: str
    numerator: float
    denominator: float
    offset: float


SCALES: dict[str, Scale] = {
    "°C": Scale("temperature", 1.0, 1.0, 0.0),
    "°F": Scale("temperature", 9.0, 5.0, 32.0),
}

ANY_UNIT_TYPES = frozenset({"SETPOINT", "SENSOR"})
"""A set value has the unit of what it controls, a plain sensor any: every known unit fits these."""


def quantity(symbol: str) -> str:
    """Give the quantity that the unit *symbol* measures; units of one quantity convert."""
    scale = SCALES.get(symbol)
    return symbol if scale is None else scale.quantity


def converted(value: float, symbol: str, to_symbol: str) -> float:
    """Convert *value* between two units of one quantity; 100 °C is 212 °F. ±inf stays what it is."""
    if symbol == to_symbol:
        return value
    old, new = SCALES[symbol], SCALES[to_symbol]
    base = (value - old.offset) * old.denominator / old.numerator
    return base * new.numerator / new.denominator + new.offset
