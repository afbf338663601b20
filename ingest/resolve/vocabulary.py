"""Units, sensor types and their other names: what a snapshot knows apart from who publishes. Pure.

A few hundred rows, indexed anew whenever one of them changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import orjson

from ingest.resolve.names import sensor_type_key, unit_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ingest.resolve.rows import SensorType, Unit


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The names that gateways may use for units and sensor types."""

    units: Mapping[int, Unit]
    sensor_types: Mapping[int, SensorType]
    aliases: int
    """How many sensor type and unit aliases it holds."""
    content: bytes
    """What it was made of, in one order: equal rows are equal bytes."""
    types_written: Mapping[str, str]
    """Names of types by what stands for them in a `roster`: `t` and the id."""
    units_written: Mapping[str, str]
    """Symbols of units likewise: `u` and the id."""
    _units_by_symbol: Mapping[str, Unit]
    _units_by_alias: Mapping[str, Unit]
    _types_by_key: Mapping[str, SensorType]

    @classmethod
    def of(
        cls,
        units: Iterable[Unit] = (),
        sensor_types: Iterable[SensorType] = (),
        unit_aliases: Iterable[tuple[str, int]] = (),
        sensor_type_aliases: Iterable[tuple[str, int]] = (),
    ) -> Self:
        """Index the rows; their order does not matter. Aliases are (alias, id) pairs.

        Where an alias is also a name, the name wins; of two aliases alike but for accents and
        separators, the first in alphabetical order.
        """
        units, sensor_types = sorted(units), sorted(sensor_types)
        unit_aliases, sensor_type_aliases = sorted(unit_aliases), sorted(sensor_type_aliases)
        units_by_id = {unit.unit_id: unit for unit in units}
        types_by_id = {sensor_type.sensor_type_id: sensor_type for sensor_type in sensor_types}
        types_by_key = {sensor_type_key(sensor_type.name): sensor_type for sensor_type in sensor_types}
        for alias, sensor_type_id in sensor_type_aliases:
            types_by_key.setdefault(sensor_type_key(alias), types_by_id[sensor_type_id])
        units_by_alias: dict[str, Unit] = {}
        for alias, unit_id in unit_aliases:
            units_by_alias.setdefault(unit_key(alias), units_by_id[unit_id])
        for unit in units:
            units_by_alias.setdefault(unit_key(unit.symbol), unit)
        tables = (units, sensor_types, unit_aliases, sensor_type_aliases)
        return cls(
            units=units_by_id,
            sensor_types=types_by_id,
            aliases=len(unit_aliases) + len(sensor_type_aliases),
            content=orjson.dumps([[tuple(row) for row in rows] for rows in tables]),
            types_written={f"t{each.sensor_type_id}": each.name for each in sensor_types},
            units_written={f"u{each.unit_id}": each.symbol for each in units},
            _units_by_symbol={unit.symbol: unit for unit in units},
            _units_by_alias=units_by_alias,
            _types_by_key=types_by_key,
        )

    def unit_named(self, name: str) -> Unit | None:
        """Find a unit by its exact symbol, else by alias (any case, trimmed)."""
        return self._units_by_symbol.get(name) or self._units_by_alias.get(unit_key(name))

    def sensor_type_named(self, name: str) -> SensorType | None:
        """Find a sensor type by name, else by alias; case, accents and separators do not count."""
        return self._types_by_key.get(sensor_type_key(name))
