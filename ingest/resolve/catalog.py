"""The catalog: an immutable snapshot of who publishes what, with every lookup made once.

Built from plain rows by `Catalog.build`, never changed; a newer state of the database is another
Catalog. Reads nothing, knows no clock. Shared by the event loop and whoever prints a report.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

import orjson

from ingest.labels import normalise_label
from ingest.resolve.names import sensor_type_key, unit_key

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping
    from uuid import UUID

_Key = TypeVar("_Key", bound="Hashable")
_Value = TypeVar("_Value")


class Unit(NamedTuple):
    """A row of `metadata.units`."""

    unit_id: int
    symbol: str


class SensorType(NamedTuple):
    """A row of `metadata.sensor_types`; limits in the default unit, ±inf where there is none."""

    sensor_type_id: int
    name: str
    default_unit_id: int
    minimum: float
    maximum: float


class Tenant(NamedTuple):
    """A row of `metadata.tenants`; ``prefix`` is its `mqtt_topic_prefix`."""

    tenant_id: UUID
    name: str
    prefix: str | None
    is_active: bool


class Greenhouse(NamedTuple):
    """A row of `metadata.greenhouses`."""

    greenhouse_id: UUID
    tenant_id: UUID
    code: str
    is_active: bool


class Sensor(NamedTuple):
    """A row of `metadata.sensors`; type and unit by name: the catalog's, or as written if it lacks them."""

    sensor_id: UUID
    greenhouse_id: UUID
    code: str
    device_id: str | None
    label: str | None
    """`mqtt_field_name`: its label in flat maps."""
    sensor_type: str | None
    unit: str | None
    is_active: bool
    expected_interval_s: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Catalog:
    """One snapshot. Lookups take names as gateways write them; those that find nothing give None or ()."""

    version: str
    """16 hex digits of a hash over every row: equal versions hold equal rows, in any process."""
    units: Mapping[int, Unit]
    sensor_types: Mapping[int, SensorType]
    tenants: Mapping[UUID, Tenant]
    greenhouses: Mapping[UUID, Greenhouse]
    sensors: Mapping[UUID, Sensor]
    aliases: int
    """How many sensor type and unit aliases it holds."""
    _units_by_symbol: Mapping[str, Unit]
    _units_by_alias: Mapping[str, Unit]
    _types_by_key: Mapping[str, SensorType]
    _tenants_by_prefix: Mapping[str, Tenant]
    _greenhouses_by_code: Mapping[str, tuple[Greenhouse, ...]]
    _greenhouses_by_tenant: Mapping[UUID, tuple[Greenhouse, ...]]
    _sensors_by_code: Mapping[tuple[UUID, str], tuple[Sensor, ...]]
    _sensors_by_device: Mapping[tuple[UUID, str], tuple[Sensor, ...]]
    _sensors_by_label: Mapping[tuple[UUID, str], tuple[Sensor, ...]]

    @classmethod
    def build(
        cls,
        *,
        units: Iterable[Unit] = (),
        sensor_types: Iterable[SensorType] = (),
        unit_aliases: Iterable[tuple[str, int]] = (),
        sensor_type_aliases: Iterable[tuple[str, int]] = (),
        tenants: Iterable[Tenant] = (),
        greenhouses: Iterable[Greenhouse] = (),
        sensors: Iterable[Sensor] = (),
    ) -> Self:
        """Index the rows; their order does not matter. Aliases are (alias, id) pairs.

        Where an alias is also a name, the name wins; of two aliases alike but for accents and
        separators, the first in alphabetical order.
        """
        units, sensor_types = sorted(units), sorted(sensor_types)
        unit_aliases, sensor_type_aliases = sorted(unit_aliases), sorted(sensor_type_aliases)
        tenants = sorted(tenants, key=lambda tenant: tenant.tenant_id.int)
        greenhouses = sorted(greenhouses, key=lambda greenhouse: greenhouse.greenhouse_id.int)
        sensors = sorted(sensors, key=lambda sensor: sensor.sensor_id.int)
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
        tables = (units, sensor_types, unit_aliases, sensor_type_aliases, tenants, greenhouses, sensors)
        content = orjson.dumps([[tuple(row) for row in rows] for rows in tables])
        return cls(
            version=hashlib.blake2b(content, digest_size=8).hexdigest(),
            units=units_by_id,
            sensor_types=types_by_id,
            tenants={tenant.tenant_id: tenant for tenant in tenants},
            greenhouses={greenhouse.greenhouse_id: greenhouse for greenhouse in greenhouses},
            sensors={sensor.sensor_id: sensor for sensor in sensors},
            aliases=len(unit_aliases) + len(sensor_type_aliases),
            _units_by_symbol={unit.symbol: unit for unit in units},
            _units_by_alias=units_by_alias,
            _types_by_key=types_by_key,
            _tenants_by_prefix={tenant.prefix: tenant for tenant in tenants if tenant.prefix is not None},
            _greenhouses_by_code=_grouped(
                (greenhouse.code.strip().upper(), greenhouse) for greenhouse in greenhouses
            ),
            _greenhouses_by_tenant=_grouped((greenhouse.tenant_id, greenhouse) for greenhouse in greenhouses),
            _sensors_by_code=_grouped(((sensor.greenhouse_id, sensor.code), sensor) for sensor in sensors),
            _sensors_by_device=_grouped(
                ((sensor.greenhouse_id, sensor.device_id), sensor)
                for sensor in sensors
                if sensor.device_id is not None
            ),
            _sensors_by_label=_grouped(
                ((sensor.greenhouse_id, normalise_label(sensor.label)), sensor)
                for sensor in sensors
                if sensor.label is not None
            ),
        )

    def counts(self) -> dict[str, int]:
        """Give the sizes that a log line shows."""
        return {
            "tenants": len(self.tenants),
            "greenhouses": len(self.greenhouses),
            "sensors": len(self.sensors),
            "sensor_types": len(self.sensor_types),
            "units": len(self.units),
            "aliases": self.aliases,
        }

    def unit_named(self, name: str) -> Unit | None:
        """Find a unit by its exact symbol, else by alias (any case, trimmed)."""
        return self._units_by_symbol.get(name) or self._units_by_alias.get(unit_key(name))

    def sensor_type_named(self, name: str) -> SensorType | None:
        """Find a sensor type by name, else by alias; case, accents and separators do not count."""
        return self._types_by_key.get(sensor_type_key(name))

    def tenant_prefixed(self, prefix: str) -> Tenant | None:
        """Find the tenant with exactly this `mqtt_topic_prefix`."""
        return self._tenants_by_prefix.get(prefix)

    def greenhouses_coded(self, code: str, tenant_id: UUID | None = None) -> tuple[Greenhouse, ...]:
        """Find greenhouses by code, of one tenant or of all: the exact code, else trimmed and in any case."""
        alike = self._greenhouses_by_code.get(code.strip().upper(), ())
        if tenant_id is not None:
            alike = tuple(greenhouse for greenhouse in alike if greenhouse.tenant_id == tenant_id)
        return tuple(greenhouse for greenhouse in alike if greenhouse.code == code) or alike

    def greenhouses_numbered(self, number: str, tenant_id: UUID) -> tuple[Greenhouse, ...]:
        """Find a tenant's greenhouses by a label's number: the exact code, else without leading zeros."""
        exact = self.greenhouses_coded(number, tenant_id)
        if exact:
            return exact
        bare = number.lstrip("0")
        return tuple(
            greenhouse
            for greenhouse in self.greenhouses_of(tenant_id)
            if greenhouse.code.isdecimal() and greenhouse.code.lstrip("0") == bare
        )

    def greenhouses_of(self, tenant_id: UUID) -> tuple[Greenhouse, ...]:
        """Give a tenant's greenhouses, inactive ones included."""
        return self._greenhouses_by_tenant.get(tenant_id, ())

    def sensors_coded(self, greenhouse_id: UUID, code: str) -> tuple[Sensor, ...]:
        """Find by `sensor_code` (one at most), then by `device_id` (a board may carry several)."""
        key = (greenhouse_id, code)
        return self._sensors_by_code.get(key, ()) + self._sensors_by_device.get(key, ())

    def sensors_labelled(self, greenhouse_id: UUID, label: str) -> tuple[Sensor, ...]:
        """Find by `mqtt_field_name`: the exact label, else alike in case and separators."""
        alike = self._sensors_by_label.get((greenhouse_id, normalise_label(label)), ())
        return tuple(sensor for sensor in alike if sensor.label == label) or alike


def _grouped(pairs: Iterable[tuple[_Key, _Value]]) -> dict[_Key, tuple[_Value, ...]]:
    groups: dict[_Key, list[_Value]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return {key: tuple(values) for key, values in groups.items()}
