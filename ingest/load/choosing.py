"""What an operator calls tenants, greenhouses, sensors and types, as the ids of an export. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ingest.errors import ConfigurationError
from ingest.resolve.names import parse_uuid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ingest.resolve import Catalog


class Chosen(NamedTuple):
    """None: any."""

    greenhouse_ids: Sequence[UUID] | None
    tenant_id: UUID | None
    sensor_ids: Sequence[UUID] | None
    sensor_type: str | None


def choose(
    catalog: Catalog,
    *,
    tenant: str | None,
    greenhouse: str | None,
    sensor: str | None,
    sensor_type: str | None,
) -> Chosen:
    """Find what is named, by id or by name; an id need not be registered.

    ConfigurationError lists every fault.
    """
    faults: list[str] = []
    tenant_id = None if tenant is None else parse_uuid(tenant)
    if tenant is not None and tenant_id is None:
        owner = catalog.tenant_prefixed(tenant)
        named = [each for each in catalog.tenants.values() if each.name == tenant]
        owner = owner or (named[0] if len(named) == 1 else None)
        tenant_id = None if owner is None else owner.tenant_id
        if owner is None:
            faults.append(f"--tenant: no tenant has the topic prefix or the name {tenant!r}")
    houses = None if greenhouse is None else _greenhouses(catalog, greenhouse, tenant_id)
    if greenhouse is not None and not houses:
        faults.append(f"--greenhouse: no greenhouse has the code {greenhouse!r}")
    sensors = None if sensor is None else _sensors(catalog, sensor, houses, tenant_id)
    if sensor is not None and not sensors:
        faults.append(f"--sensor: no sensor has the code, device id or label {sensor!r}")
    found = None if sensor_type is None else catalog.sensor_type_named(sensor_type)
    if sensor_type is not None and found is None:
        faults.append(f"--type: no sensor type or alias is called {sensor_type!r}")
    if faults:
        raise ConfigurationError(faults)
    return Chosen(houses, tenant_id, sensors, None if found is None else found.name)


def _greenhouses(catalog: Catalog, text: str, tenant_id: UUID | None) -> list[UUID]:
    greenhouse_id = parse_uuid(text)
    if greenhouse_id is not None:
        return [greenhouse_id]
    found = catalog.greenhouses_coded(text, tenant_id)
    if len(found) > 1:
        raise ConfigurationError(
            [f"--greenhouse: {len(found)} greenhouses have the code {text!r}; give --tenant too, or an id"]
        )
    return [greenhouse.greenhouse_id for greenhouse in found]


def _sensors(
    catalog: Catalog, text: str, houses: Sequence[UUID] | None, tenant_id: UUID | None
) -> list[UUID]:
    """Give every sensor that *text* may mean: a board carries several, a code is used in many greenhouses."""
    sensor_id = parse_uuid(text)
    if sensor_id is not None:
        return [sensor_id]
    if houses is None:
        houses = [
            each.greenhouse_id for each in catalog.greenhouses.values() if tenant_id in (None, each.tenant_id)
        ]
    return list(
        dict.fromkeys(
            sensor.sensor_id
            for house in houses
            for sensor in (*catalog.sensors_coded(house, text), *catalog.sensors_labelled(house, text))
        )
    )
