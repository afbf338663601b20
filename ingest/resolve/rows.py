"""The rows of the metadata database that a catalog is made of, one type a table. Values only."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from uuid import UUID


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
    """A row of `metadata.sensors`; type and unit by name: the catalog's, or as written if it lacks them.

    Made when it is asked for: a snapshot keeps bytes (`roster`). A blank device id or label is None.
    """

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
