"""What the names in legacy rows stand for, by the catalog; and what it does not know, with the reason. Pure.

Each name is taken as the worker would take it from a gateway: the catalog's name or an alias, in any case,
trimmed. A name nobody registered stands for nothing: it is never taken for the nearest one. Reads no table
(normalize_census.py counts the names), writes none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from ingest.resolve.series import unit_fits

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from ingest.resolve.catalog import Catalog
    from ingest.resolve.rows import Sensor, SensorType, Unit

Unknown: TypeAlias = Literal["unknown_type", "no_type", "unknown_unit", "unknown_greenhouse"]
"""Why an id stays NULL; what to do about each is in WHAT_TO_DO."""

WHAT_TO_DO: dict[Unknown, str] = {
    "unknown_type": "add it with `ingest catalog add alias` (or the type itself), then run again",
    "no_type": "register the sensor with its type, then run again; without a sensor id nothing tells",
    "unknown_unit": "add it with `ingest catalog add alias` (or the unit itself), then run again",
    "unknown_greenhouse": "register the greenhouse under this id, then run again",
}


class LegacyNames(NamedTuple):
    """What the rows of one group in the census have in common."""

    greenhouse_id: UUID
    tenant_id: UUID | None
    sensor_type_id: int | None
    unit_id: int | None
    sensor_type: str
    """As written, '' where NULL; the same for the unit."""
    unit: str
    sensor_id: UUID | None
    """Only where type or unit is blank, and the sensor's registration may tell; else None."""


class Counted(NamedTuple):
    """One group of the census: rows that lack an id and have these names."""

    names: LegacyNames
    rows: int
    no_sensor: int
    """How many of them have no sensor id."""
    first: datetime
    last: datetime


class Meaning(NamedTuple):
    """The ids that names stand for; what a row has already stays. None: not known, see ``unknown``."""

    tenant_id: UUID | None
    sensor_type_id: int | None
    unit_id: int | None
    unknown: tuple[tuple[Unknown, str], ...]
    """Each reason with the name (or greenhouse) it is about."""

    @property
    def complete(self) -> bool:
        """Whether a row of this meaning lacks no id any more."""
        return None not in {self.tenant_id, self.sensor_type_id, self.unit_id}

    def adds_to(self, names: LegacyNames) -> bool:
        """Whether rows with *names* get an id they lack."""
        return (
            (names.tenant_id is None and self.tenant_id is not None)
            or (names.sensor_type_id is None and self.sensor_type_id is not None)
            or (names.unit_id is None and self.unit_id is not None)
        )


def meaning(catalog: Catalog, names: LegacyNames) -> Meaning:
    """Tell what *names* stand for. A blank name is the registered sensor's, a blank unit else the type's."""
    unknown: list[tuple[Unknown, str]] = []
    registered = _registered(catalog, names)
    greenhouse = catalog.greenhouses.get(names.greenhouse_id)
    tenant_id = names.tenant_id or (greenhouse.tenant_id if greenhouse is not None else None)
    if tenant_id is None:
        unknown.append(("unknown_greenhouse", str(names.greenhouse_id)))
    sensor_type = _sensor_type(catalog, names, registered)
    if sensor_type is None:
        unknown.append(
            ("unknown_type", names.sensor_type) if names.sensor_type.strip() else ("no_type", "(blank)")
        )
    unit = _unit(catalog, names, registered, sensor_type)
    if unit is None and names.unit.strip():
        unknown.append(("unknown_unit", names.unit))
    return Meaning(
        tenant_id,
        None if sensor_type is None else sensor_type.sensor_type_id,
        None if unit is None else unit.unit_id,
        tuple(unknown),
    )


def _registered(catalog: Catalog, names: LegacyNames) -> Sensor | None:
    if names.sensor_id is None:
        return None
    registered = catalog.sensors.get(names.sensor_id)
    if registered is None or registered.greenhouse_id != names.greenhouse_id:
        return None
    return registered


def _sensor_type(catalog: Catalog, names: LegacyNames, registered: Sensor | None) -> SensorType | None:
    if names.sensor_type_id is not None:
        return catalog.sensor_types.get(names.sensor_type_id)
    if names.sensor_type.strip():
        return catalog.sensor_type_named(names.sensor_type)
    if registered is None or registered.sensor_type is None:
        return None
    return catalog.sensor_type_named(registered.sensor_type)


def _unit(
    catalog: Catalog, names: LegacyNames, registered: Sensor | None, sensor_type: SensorType | None
) -> Unit | None:
    if names.unit_id is not None:
        return catalog.units.get(names.unit_id)
    if names.unit.strip():
        return catalog.unit_named(names.unit)
    if sensor_type is None:
        return None
    own = catalog.unit_named(registered.unit) if registered is not None and registered.unit else None
    if own is not None and unit_fits(catalog, sensor_type, own):
        return own
    return catalog.units[sensor_type.default_unit_id]
