"""Which sensor a reading belongs to, of which type, in which unit, within which limits. Pure.

Called once for each new (topic, sensor, type, unit); `resolver` remembers the answer. For any text
a gateway may send the answer is a Series, or `Refused` is raised; nothing else.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ingest.labels import normalise_label
from ingest.model import Series
from ingest.resolve.missing import missing_name
from ingest.resolve.names import (
    derived_sensor_id,
    parse_uuid,
    quoted,
    sensor_type_key,
    unit_key,
    unstorable,
)
from ingest.resolve.places import Refused, greenhouse_of_label, greenhouse_of_place, require_active
from ingest.resolve.units import ANY_UNIT_TYPES, converted, quantity

if TYPE_CHECKING:
    from uuid import UUID

    from ingest.labels import LabelRules
    from ingest.model import Scope
    from ingest.resolve.catalog import Catalog
    from ingest.resolve.places import Place
    from ingest.resolve.rows import Greenhouse, Sensor, SensorType, Unit
    from ingest.settings import LabelRule


class Identity(NamedTuple):
    """Whose reading it is: a registered sensor, or the id derived from what the gateway calls it."""

    greenhouse: Greenhouse
    sensor_id: UUID
    registered: Sensor | None
    origin: dict[str, str] | None = None


def series_of_label(catalog: Catalog, rules: LabelRules, place: Place, label: str) -> Series:
    """Place a flat map's *label*: the sensor registered for it, else the first label rule that matches."""
    registered = _labelled(catalog, place, label)
    if registered is not None:
        greenhouse = catalog.greenhouses[registered.greenhouse_id]
        return _series(catalog, Identity(greenhouse, registered.sensor_id, registered))
    rule = rules.match(label)
    if rule is None:
        detail = f"label {quoted(label)} is not registered and no label rule matches it"
        raise Refused("unknown_sensor_type", detail, _missing_label(place, label))
    named = catalog.sensor_type_named(rule.sensor_type)
    if named is None:
        detail = f"the label rule of {quoted(label)} names {quoted(rule.sensor_type)}, no known sensor type"
        raise Refused("unknown_sensor_type", detail, _missing_type(rule.sensor_type))
    greenhouse = greenhouse_of_label(catalog, place, label)
    identity = _derived(catalog, greenhouse, label, {"label": label})
    if identity.registered is not None:  # registered under this id without its label: what it says, holds
        return _series(catalog, identity)
    return _series(catalog, identity, named, rule.unit, rule)


def series_of_reading(  # noqa: PLR0917 (the last three are a reading's names, in its own order)
    catalog: Catalog,
    scope: Scope,
    place: Place,
    sensor: str | None,
    sensor_type: str | None,
    unit: str | None,
) -> Series:
    """Place a reading that may name a *sensor* (UUID or device code), a *sensor_type* and a *unit*."""
    greenhouse = greenhouse_of_place(catalog, place)
    named = _named_type(catalog, scope.sensor_type, sensor_type)
    identity = _identity(catalog, greenhouse, (sensor or "").strip(), named)
    return _series(catalog, identity, named, unit)


def _labelled(catalog: Catalog, place: Place, label: str) -> Sensor | None:
    """Find the sensor registered for *label*: in the topic's greenhouse, or the tenant's if it names none."""
    if place.greenhouse is not None:
        houses: tuple[Greenhouse, ...] = (place.greenhouse,)
    else:
        houses = () if place.tenant is None else catalog.greenhouses_of(place.tenant.tenant_id)
    found = [sensor for house in houses for sensor in catalog.sensors_labelled(house.greenhouse_id, label)]
    active = [
        sensor for sensor in found if sensor.is_active and catalog.greenhouses[sensor.greenhouse_id].is_active
    ]
    if len(active) > 1:
        detail = f"label {quoted(label)} is registered {len(active)} times; name the greenhouse in the topic"
        raise Refused("ambiguous_greenhouse", detail)
    # With all of them switched off it does not matter which: the answer is `inactive`.
    return next(iter(active or found), None)


def _named_type(catalog: Catalog, topic_name: str | None, own_name: str | None) -> SensorType | None:
    """Find the type that topic and payload name, None when neither does; they must agree."""
    types: list[SensorType] = []
    for name in (topic_name, own_name):
        if name is None or not name.strip():
            continue
        sensor_type = catalog.sensor_type_named(name)
        if sensor_type is None:
            detail = f"no sensor type or alias is called {quoted(name)}"
            raise Refused("unknown_sensor_type", detail, _missing_type(name))
        types.append(sensor_type)
    if types and types[0] != types[-1]:
        detail = f"the payload says {quoted(own_name or '')}, its topic {quoted(topic_name or '')}"
        raise Refused("type_mismatch", detail)
    return types[0] if types else None


def _identity(catalog: Catalog, greenhouse: Greenhouse, name: str, named: SensorType | None) -> Identity:
    """Tell whose reading it is by the *name* it gives its sensor: a UUID, a device code or nothing."""
    if not name:
        if named is None:
            raise Refused("unknown_sensor_type", "neither topic nor payload names a sensor type or a sensor")
        return _derived(catalog, greenhouse, named.name, None)
    sensor_id = parse_uuid(name)
    if sensor_id is not None:
        return Identity(greenhouse, sensor_id, _registered_here(catalog, greenhouse, sensor_id))
    coded = _coded(catalog, greenhouse, name, named)
    if coded is not None:
        return Identity(greenhouse, coded.sensor_id, coded)
    return _derived(catalog, greenhouse, name, {"device_code": name})


def _derived(catalog: Catalog, greenhouse: Greenhouse, name: str, origin: dict[str, str] | None) -> Identity:
    """Give the id that *name* has here; if a sensor is registered under it, the registration counts."""
    fault = unstorable(name)
    if fault is not None:
        raise Refused("bad_value", f"the sensor name {quoted(name)} cannot be stored: it holds {fault}")
    sensor_id = derived_sensor_id(greenhouse.greenhouse_id, name)
    registered = _registered_here(catalog, greenhouse, sensor_id)
    return Identity(greenhouse, sensor_id, registered, origin if registered is None else None)


def _registered_here(catalog: Catalog, greenhouse: Greenhouse, sensor_id: UUID) -> Sensor | None:
    registered = catalog.sensors.get(sensor_id)
    if registered is not None and registered.greenhouse_id != greenhouse.greenhouse_id:
        detail = f"sensor {sensor_id} is registered in another greenhouse than {quoted(greenhouse.code)}"
        raise Refused("foreign_sensor", detail)
    return registered


def _coded(catalog: Catalog, greenhouse: Greenhouse, code: str, named: SensorType | None) -> Sensor | None:
    """Find the registered sensor that a device code and the reading's type mean, None for its derived id.

    A board with several active sensors of one type does not say which of them a reading is from.
    """
    found = catalog.sensors_coded(greenhouse.greenhouse_id, code)
    if named is not None and found:
        fitting = [sensor for sensor in found if _registered_type(catalog, sensor) == named] or [
            sensor for sensor in found if _registered_type(catalog, sensor) is None
        ]
        if not fitting:
            raise _other_type(found[0], named)
        if fitting[0].code == code:
            return fitting[0]
        found = tuple(fitting)
    active = {sensor.sensor_id: sensor for sensor in found if sensor.is_active}
    if len(active) > 1:
        if named is not None:
            return None
        detail = f"device code {quoted(code)} has {len(active)} sensors and the reading names no type"
        raise Refused("unknown_sensor_type", detail)
    return next(iter([*active.values(), *found]), None)


def _series(
    catalog: Catalog,
    identity: Identity,
    named: SensorType | None = None,
    unit_name: str | None = None,
    rule: LabelRule | None = None,
) -> Series:
    """Settle type, unit and limits once it is known whose reading it is."""
    registered = identity.registered
    greenhouse = require_active(identity.greenhouse)
    if registered is not None and not registered.is_active:
        raise Refused("inactive", f"sensor {quoted(registered.code)} is switched off in the catalog")
    sensor_type = _settled_type(catalog, identity, named)
    unit = _settled_unit(catalog, registered, sensor_type, unit_name)
    minimum, maximum = _limits(catalog, sensor_type, unit, rule)
    return Series(
        greenhouse_id=greenhouse.greenhouse_id,
        tenant_id=greenhouse.tenant_id,
        sensor_id=identity.sensor_id,
        sensor_type_id=sensor_type.sensor_type_id,
        unit_id=unit.unit_id,
        minimum=minimum,
        maximum=maximum,
        origin=identity.origin,
    )


def _settled_type(catalog: Catalog, identity: Identity, named: SensorType | None) -> SensorType:
    """Take the registered type, which the reading's must equal; else the reading's."""
    registered = identity.registered
    if registered is None or not (registered.sensor_type or "").strip():
        if named is None:
            detail = "neither topic nor payload names a sensor type"
            raise Refused("unknown_sensor_type", detail, _missing_sensor(identity))
        return named
    own = _registered_type(catalog, registered)
    if own is None:
        written = quoted(registered.sensor_type or "")
        detail = f"sensor {quoted(registered.code)} is registered as {written}, no known sensor type"
        raise Refused("unknown_sensor_type", detail, _missing_type(registered.sensor_type or ""))
    if named is not None and named != own:
        raise _other_type(registered, named)
    return own


def _settled_unit(
    catalog: Catalog, registered: Sensor | None, sensor_type: SensorType, unit_name: str | None
) -> Unit:
    """Take the reading's unit, else the registered sensor's, else the type's default; it must fit."""
    default = catalog.units[sensor_type.default_unit_id]
    own_name = None if registered is None else registered.unit
    name = next((name for name in (unit_name, own_name) if name is not None and name.strip()), None)
    if name is None:
        return default
    unit = catalog.unit_named(name)
    if unit is None:
        missing = missing_name("unit", unit_key(name))
        raise Refused("unknown_unit", f"no unit or alias is called {quoted(name)}", missing)
    if not unit_fits(catalog, sensor_type, unit):
        detail = f"{quoted(name)} does not measure {sensor_type.name}, whose unit is {default.symbol}"
        raise Refused("unit_mismatch", detail)
    return unit


def unit_fits(catalog: Catalog, sensor_type: SensorType, unit: Unit) -> bool:
    """Tell whether readings of *sensor_type* may come in *unit*."""
    default = catalog.units[sensor_type.default_unit_id]
    return sensor_type.name in ANY_UNIT_TYPES or quantity(unit.symbol) == quantity(default.symbol)


def _limits(
    catalog: Catalog, sensor_type: SensorType, unit: Unit, rule: LabelRule | None
) -> tuple[float, float]:
    """Give the believable range in *unit*: the type's, narrowed by the label rule's."""
    minimum, maximum = -math.inf, math.inf
    default = catalog.units[sensor_type.default_unit_id]
    if quantity(unit.symbol) == quantity(default.symbol):  # else limits of another quantity say nothing
        minimum = converted(sensor_type.minimum, default.symbol, unit.symbol)
        maximum = converted(sensor_type.maximum, default.symbol, unit.symbol)
    if rule is not None and rule.minimum is not None:
        minimum = max(minimum, rule.minimum)
    if rule is not None and rule.maximum is not None:
        maximum = min(maximum, rule.maximum)
    return minimum, maximum


def _registered_type(catalog: Catalog, sensor: Sensor) -> SensorType | None:
    return None if sensor.sensor_type is None else catalog.sensor_type_named(sensor.sensor_type)


def _other_type(registered: Sensor, named: SensorType) -> Refused:
    own = quoted(registered.sensor_type or "")
    return Refused(
        "type_mismatch", f"sensor {quoted(registered.code)} is registered as {own}, not {named.name}"
    )


def _missing_type(name: str) -> str | None:
    return missing_name("sensor_type", sensor_type_key(name))


def _missing_label(place: Place, label: str) -> str | None:
    if place.greenhouse is not None:
        return missing_name("label", normalise_label(label), place.greenhouse.greenhouse_id)
    return (
        None
        if place.tenant is None
        else missing_name("label", normalise_label(label), place.tenant.tenant_id)
    )


def _missing_sensor(identity: Identity) -> str | None:
    """Name a sensor whose type nobody says: registered with one, its readings have it."""
    name = (identity.origin or {}).get("device_code", str(identity.sensor_id))
    return missing_name("sensor", name, identity.greenhouse.greenhouse_id)
