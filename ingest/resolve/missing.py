"""What the catalog lacked: names in the form a dead letter keeps, and whether a catalog has them by now.

`kind owner name`: of which kind, whose (the UUID of a tenant or greenhouse; `*`: anybody's), and the name
in the form in which names of its kind are compared, so that two spellings of one name are one text. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ingest.resolve.names import derived_sensor_id, parse_uuid, unstorable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from uuid import UUID

    from ingest.resolve.catalog import Catalog

Kind: TypeAlias = Literal[
    "tenant",  # a topic prefix
    "greenhouse",  # a code or an id, of the tenant `owner`; of anybody the code exactly as written
    "greenhouse_number",  # the number of a label, of the tenant `owner`
    "only_greenhouse",  # of the tenant `owner`, called `name`: one that is active, and no second one
    "sensor_type",
    "unit",
    "label",  # of a flat map, in the greenhouse or of the tenant `owner`
    "sensor",  # a device code or an id in the greenhouse `owner`, to be registered with its type
]

ANYBODY: Final = "*"
LONGEST_NAME: Final = 200
"""Characters: no name of the catalog has more than 100; folding an accent or a ligature may double them."""


def missing_name(kind: Kind, name: str, owner: UUID | None = None) -> str | None:
    """Give the text to keep; None for a name that no catalog can come to have."""
    if not name or len(name) > LONGEST_NAME or unstorable(name) is not None:
        return None
    return f"{kind} {ANYBODY if owner is None else owner} {name}"


def is_known(catalog: Catalog, missing: str) -> bool:
    """Tell whether *catalog* has what *missing* stands for: a message that lacked it is worth another look.

    False for a text that `missing_name` did not make.
    """
    kind, _, rest = missing.partition(" ")
    owner, _, name = rest.partition(" ")
    look_up = _LOOK_UPS.get(kind)
    return look_up is not None and look_up(catalog, name, parse_uuid(owner))


def owners_of(names: Iterable[str]) -> tuple[set[UUID], set[str]]:
    """Give where to look for missing *names*: tenants and greenhouses by id, greenhouses by code."""
    owners: set[UUID] = set()
    codes: set[str] = set()
    for missing in names:
        kind, _, rest = missing.partition(" ")
        owner, _, name = rest.partition(" ")
        owner_id = parse_uuid(owner) or (parse_uuid(name) if kind == "greenhouse" else None)
        if owner_id is not None:
            owners.add(owner_id)
        elif kind == "greenhouse":
            codes.add(name)
    return owners, codes


def _is_unit(catalog: Catalog, name: str, _: UUID | None) -> bool:
    return catalog.unit_named(name) is not None


def _is_sensor_type(catalog: Catalog, name: str, _: UUID | None) -> bool:
    return catalog.sensor_type_named(name) is not None


def _is_tenant(catalog: Catalog, prefix: str, _: UUID | None) -> bool:
    return catalog.tenant_prefixed(prefix) is not None


def _is_greenhouse(catalog: Catalog, name: str, tenant_id: UUID | None) -> bool:
    greenhouse_id = parse_uuid(name)
    if greenhouse_id is None:
        coded = catalog.greenhouses_coded(name, tenant_id)
        return any(tenant_id is not None or greenhouse.code == name for greenhouse in coded)
    greenhouse = catalog.greenhouses.get(greenhouse_id)
    if greenhouse is None or greenhouse.tenant_id not in catalog.tenants:
        return False
    return tenant_id in {None, greenhouse.tenant_id}


def _is_greenhouse_number(catalog: Catalog, number: str, tenant_id: UUID | None) -> bool:
    return tenant_id is not None and bool(catalog.greenhouses_numbered(number, tenant_id))


def _is_only_greenhouse(catalog: Catalog, _: str, tenant_id: UUID | None) -> bool:
    return tenant_id is not None and [h.is_active for h in catalog.greenhouses_of(tenant_id)].count(True) == 1


def _is_label(catalog: Catalog, label: str, owner: UUID | None) -> bool:
    if owner is None:
        return False
    houses = (
        [owner]
        if owner in catalog.greenhouses
        else [house.greenhouse_id for house in catalog.greenhouses_of(owner)]
    )
    return any(catalog.sensors_labelled(house, label) for house in houses)


def _is_typed_sensor(catalog: Catalog, name: str, greenhouse_id: UUID | None) -> bool:
    if greenhouse_id is None:
        return False
    ids = (parse_uuid(name), derived_sensor_id(greenhouse_id, name))
    registered = [catalog.sensors.get(sensor_id) for sensor_id in ids if sensor_id is not None]
    found = [*catalog.sensors_coded(greenhouse_id, name), *filter(None, registered)]
    types = [sensor.sensor_type for sensor in found if sensor.sensor_type is not None]
    return any(catalog.sensor_type_named(sensor_type) for sensor_type in types)


_LOOK_UPS: Mapping[str, Callable[[Catalog, str, UUID | None], bool]] = {
    "tenant": _is_tenant,
    "greenhouse": _is_greenhouse,
    "greenhouse_number": _is_greenhouse_number,
    "only_greenhouse": _is_only_greenhouse,
    "sensor_type": _is_sensor_type,
    "unit": _is_unit,
    "label": _is_label,
    "sensor": _is_typed_sensor,
}
