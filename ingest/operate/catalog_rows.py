"""One catalog entry into its row, unless it is there: the writing half of `ingest catalog`.

Runs inside the caller's transaction and leaves it usable after a refusal. Nothing is overwritten:
an entry that is there with other values is refused, the same entry again is "already there".
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from ingest.errors import CheckFailed
from ingest.operate.catalog_entries import (
    AliasEntry,
    AliasKind,
    Entry,
    GreenhouseEntry,
    SensorEntry,
    SensorTypeEntry,
    TenantEntry,
    UnitEntry,
)
from ingest.resolve.catalog import EMPTY, Draft
from ingest.resolve.names import derived_sensor_id
from ingest.resolve.reading import VOCABULARY_SQL, vocabulary_of
from ingest.resolve.series import unit_fits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ingest.resolve.catalog import Catalog
    from ingest.resolve.rows import SensorType, Unit

UNIT_SQL = "select id, name, description from metadata.units where symbol = $1"
INSERT_UNIT_SQL = """
    insert into metadata.units (symbol, name, description)
    values ($1, $2, $3)
    returning id
"""
SENSOR_TYPE_SQL = """
    select t.id, u.symbol as unit, t.min_value as minimum, t.max_value as maximum, t.data_type
    from metadata.sensor_types as t
    join metadata.units as u on u.id = t.default_unit_id
    where t.name = $1
"""
INSERT_SENSOR_TYPE_SQL = """
    insert into metadata.sensor_types (name, default_unit_id, min_value, max_value, data_type)
    values ($1, $2, $3, $4, coalesce($5, 'DECIMAL'))
    returning id
"""
TENANT_SQL = """
    select id, name, email, company_name as company from metadata.tenants where mqtt_topic_prefix = $1
"""
INSERT_TENANT_SQL = """
    insert into metadata.tenants (name, mqtt_topic_prefix, email, company_name, id)
    values ($1, $2, $3, $4, coalesce($5, gen_random_uuid()))
    returning id
"""
GREENHOUSE_SQL = """
    select g.id, g.tenant_id, g.name, g.timezone
    from metadata.greenhouses g
    join metadata.tenants t on t.id = g.tenant_id
    where t.mqtt_topic_prefix = $1 and g.greenhouse_code = $2
"""
INSERT_GREENHOUSE_SQL = """
    insert into metadata.greenhouses (tenant_id, greenhouse_code, name, timezone, id)
    values ($1, $2, $3, $4, coalesce($5, gen_random_uuid()))
    returning id
"""
# One name for a tenant's topics and another's greenhouse would be one login to the broker's rights.
PREFIX_AS_CODE_SQL = """
    select t.name
    from metadata.greenhouses g
    join metadata.tenants t on t.id = g.tenant_id
    where upper(btrim(g.greenhouse_code)) = $1
    order by t.name
    limit 1
"""
CODE_AS_PREFIX_SQL = """
    select name
    from metadata.tenants
    where mqtt_topic_prefix = upper(btrim($1)) and id <> $2
"""
SENSOR_SQL = """
    select s.id, s.greenhouse_id, s.sensor_code as code, s.device_id, s.mqtt_field_name as label, s.name,
           coalesce(t.name, s.sensor_type) as sensor_type, coalesce(u.symbol, s.unit) as unit,
           s.expected_interval_s
    from metadata.sensors s
    left join metadata.sensor_types t on t.id = s.sensor_type_id
    left join metadata.units u on u.id = s.unit_id
    where s.id = $1 or ($4 and s.greenhouse_id = $2 and s.sensor_code = $3)
    order by s.id = $1 desc
    limit 1
"""
INSERT_SENSOR_SQL = """
    insert into metadata.sensors
        (id, greenhouse_id, tenant_id, sensor_code, device_id, mqtt_field_name, name,
         sensor_type, sensor_type_id, unit, unit_id, expected_interval_s)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
"""Names beside the ids, for applications that read the legacy columns."""
# The upper case of the database, whose check constraint compares with it.
INSERT_ALIAS_SQL: dict[AliasKind, str] = {
    AliasKind.SENSOR_TYPE: """
        insert into metadata.sensor_type_aliases (alias, sensor_type_id) values (upper(btrim($1)), $2)
    """,
    AliasKind.UNIT: "insert into metadata.unit_aliases (alias, unit_id) values (upper(btrim($1)), $2)",
}
# A new name may be what a legacy row was waiting for.
MAP_NAMES_SQL = "select metadata.map_names()"
NOTE_UNMAPPED_NAMES_SQL = "select metadata.note_unmapped_names()"


@dataclass(frozen=True, slots=True)
class Registered:
    """One entry that is in the catalog now."""

    kind: str
    name: str
    id: str
    """UUID of a tenant, greenhouse or sensor; SMALLINT of a unit or type, and of what an alias names."""
    added: bool
    """False: it was already there."""


async def put(
    connection: asyncpg.Connection[asyncpg.Record], entry: Entry, names: Catalog | None
) -> Registered:
    """Insert *entry* unless it is there; raise CheckFailed if it cannot be. The transaction stays usable."""
    match entry:
        case UnitEntry():
            return await _put_unit(connection, entry, names or await read_names(connection))
        case SensorTypeEntry():
            return await _put_sensor_type(connection, entry, names or await read_names(connection))
        case TenantEntry():
            return await _put_tenant(connection, entry)
        case GreenhouseEntry():
            return await _put_greenhouse(connection, entry)
        case AliasEntry():
            return await _put_alias(connection, entry, names or await read_names(connection))
        case SensorEntry():
            return await _put_sensor(connection, entry, names or await read_names(connection))


async def _put_unit(
    connection: asyncpg.Connection[asyncpg.Record], entry: UnitEntry, names: Catalog
) -> Registered:
    what = f"unit {entry.symbol}"
    there = await connection.fetchrow(UNIT_SQL, entry.symbol)
    if there is not None:
        _require_same(what, there, {"name": entry.name, "description": entry.description})
        return Registered("unit", entry.symbol, str(there["id"]), added=False)
    taken = names.unit_named(entry.symbol)
    if taken is not None:
        raise CheckFailed(f"{what}: already means {taken.symbol}")
    async with _constraints(connection, what):
        unit_id = await connection.fetchval(INSERT_UNIT_SQL, entry.symbol, entry.name, entry.description)
        await _map_names(connection)
    return Registered("unit", entry.symbol, str(unit_id), added=True)


async def _put_sensor_type(
    connection: asyncpg.Connection[asyncpg.Record], entry: SensorTypeEntry, names: Catalog
) -> Registered:
    what = f"sensor type {entry.name}"
    unit = names.unit_named(entry.unit)
    if unit is None:
        raise CheckFailed(f"{what}: there is no unit {entry.unit!r}; add it first")
    there = await connection.fetchrow(SENSOR_TYPE_SQL, entry.name)
    if there is not None:
        limits = {"minimum": entry.minimum, "maximum": entry.maximum}
        _require_same(what, there, {"unit": unit.symbol, **limits, "data_type": entry.data_type})
        return Registered("sensor-type", entry.name, str(there["id"]), added=False)
    taken = names.sensor_type_named(entry.name)
    if taken is not None:
        raise CheckFailed(f"{what}: already means {taken.name}")
    async with _constraints(connection, what):
        type_id = await connection.fetchval(
            INSERT_SENSOR_TYPE_SQL, entry.name, unit.unit_id, entry.minimum, entry.maximum, entry.data_type
        )
        await _map_names(connection)
    return Registered("sensor-type", entry.name, str(type_id), added=True)


async def _put_tenant(connection: asyncpg.Connection[asyncpg.Record], entry: TenantEntry) -> Registered:
    what = f"tenant {entry.prefix}"
    there = await connection.fetchrow(TENANT_SQL, entry.prefix)
    if there is not None:
        wanted = {"name": entry.name, "email": entry.email, "company": entry.company, "id": entry.tenant_id}
        _require_same(what, there, wanted)
        return Registered("tenant", entry.prefix, str(there["id"]), added=False)
    owner = await connection.fetchval(PREFIX_AS_CODE_SQL, entry.prefix)
    if owner is not None:
        raise CheckFailed(
            f"{what}: a greenhouse of tenant {owner!r} has this code, and a broker login of that name would "
            "be both; take another prefix"
        )
    async with _constraints(connection, what):
        tenant_id = await connection.fetchval(
            INSERT_TENANT_SQL, entry.name, entry.prefix, entry.email, entry.company, entry.tenant_id
        )
    return Registered("tenant", entry.prefix, str(tenant_id), added=True)


async def _put_greenhouse(
    connection: asyncpg.Connection[asyncpg.Record], entry: GreenhouseEntry
) -> Registered:
    what = f"greenhouse {entry.tenant}/{entry.code}"
    there = await connection.fetchrow(GREENHOUSE_SQL, entry.tenant, entry.code)
    if there is not None:
        wanted = {"name": entry.name, "timezone": entry.timezone, "id": entry.greenhouse_id}
        _require_same(what, there, wanted)
        return Registered("greenhouse", f"{entry.tenant}/{entry.code}", str(there["id"]), added=False)
    tenant = await connection.fetchrow(TENANT_SQL, entry.tenant)
    if tenant is None:
        raise CheckFailed(f"{what}: no tenant has the prefix {entry.tenant}; add the tenant first")
    other = await connection.fetchval(CODE_AS_PREFIX_SQL, entry.code, tenant["id"])
    if other is not None:
        raise CheckFailed(
            f"{what}: this code is the prefix of tenant {other!r}, and a broker login of that name would be "
            "both; take another code"
        )
    async with _constraints(connection, what):
        greenhouse_id = await connection.fetchval(
            INSERT_GREENHOUSE_SQL,
            tenant["id"],
            entry.code,
            entry.name or entry.code,
            entry.timezone,
            entry.greenhouse_id,
        )
    return Registered("greenhouse", f"{entry.tenant}/{entry.code}", str(greenhouse_id), added=True)


async def _put_alias(
    connection: asyncpg.Connection[asyncpg.Record], entry: AliasEntry, names: Catalog
) -> Registered:
    what = f"alias {entry.alias!r}"
    if entry.kind is AliasKind.SENSOR_TYPE:
        sensor_type, taken_type = names.sensor_type_named(entry.name), names.sensor_type_named(entry.alias)
        meant = None if sensor_type is None else (sensor_type.sensor_type_id, sensor_type.name)
        taken = None if taken_type is None else (taken_type.sensor_type_id, taken_type.name)
    else:
        unit, taken_unit = names.unit_named(entry.name), names.unit_named(entry.alias)
        meant = None if unit is None else (unit.unit_id, unit.symbol)
        taken = None if taken_unit is None else (taken_unit.unit_id, taken_unit.symbol)
    if meant is None:
        raise CheckFailed(f"{what}: there is no {entry.kind.value} {entry.name!r}")
    if taken is None:
        async with _constraints(connection, what):
            await connection.execute(INSERT_ALIAS_SQL[entry.kind], entry.alias, meant[0])
            await _map_names(connection)
    elif taken != meant:
        raise CheckFailed(f"{what}: already means {taken[1]}, not {meant[1]}")
    return Registered("alias", entry.alias, str(meant[0]), added=taken is None)


async def _put_sensor(
    connection: asyncpg.Connection[asyncpg.Record], entry: SensorEntry, names: Catalog
) -> Registered:
    house = await connection.fetchrow(GREENHOUSE_SQL, entry.tenant, entry.greenhouse)
    if house is None:
        raise CheckFailed(f"tenant {entry.tenant} has no greenhouse {entry.greenhouse}; add it first")
    sensor_type, unit = _type_and_unit(entry, names)
    known_as = entry.label or entry.code or entry.device_id or sensor_type.name
    sensor_id = entry.sensor_id or derived_sensor_id(UUID(int=house["id"].int), known_as)
    code = entry.code or (entry.device_id or entry.label or sensor_type.name)[:50]
    what = f"sensor {entry.tenant}/{entry.greenhouse}/{code}"
    there = await connection.fetchrow(SENSOR_SQL, sensor_id, house["id"], code, entry.sensor_id is None)
    if there is not None:
        own_type = names.sensor_type_named(there["sensor_type"] or "")
        own_unit = names.unit_named(there["unit"] or "")
        stored = {
            **there,
            "sensor_type": own_type.name if own_type else there["sensor_type"],
            "unit": own_unit.symbol if own_unit else there["unit"],
        }
        wanted = entry.model_dump(exclude={"tenant", "greenhouse", "sensor_id"}) | {
            "greenhouse_id": house["id"],
            "sensor_type": sensor_type.name,
            "unit": entry.unit and unit.symbol,
        }
        _require_same(f"{what} (id {there['id']})", stored, wanted)
        return Registered("sensor", what.removeprefix("sensor "), str(there["id"]), added=False)
    async with _constraints(connection, what):
        await connection.execute(
            INSERT_SENSOR_SQL,
            sensor_id,
            house["id"],
            house["tenant_id"],
            code,
            entry.device_id,
            entry.label,
            entry.name,
            sensor_type.name,
            sensor_type.sensor_type_id,
            unit.symbol,
            unit.unit_id,
            entry.expected_interval_s,
        )
    return Registered("sensor", what.removeprefix("sensor "), str(sensor_id), added=True)


async def _map_names(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.execute(MAP_NAMES_SQL)
    await connection.execute(NOTE_UNMAPPED_NAMES_SQL)


def _type_and_unit(entry: SensorEntry, names: Catalog) -> tuple[SensorType, Unit]:
    sensor_type = names.sensor_type_named(entry.sensor_type)
    if sensor_type is None:
        raise CheckFailed(
            f"there is no sensor type {entry.sensor_type!r}; see `ingest catalog list sensor-types`"
        )
    unit = names.units[sensor_type.default_unit_id] if entry.unit is None else names.unit_named(entry.unit)
    if unit is None:
        raise CheckFailed(f"there is no unit {entry.unit!r}; see `ingest catalog list units`")
    if not unit_fits(names, sensor_type, unit):
        raise CheckFailed(f"{unit.symbol} does not measure {sensor_type.name}")
    return sensor_type, unit


def _require_same(what: str, there: Any, wanted: dict[str, Any]) -> None:  # noqa: ANN401 (a record or a dict)
    """Raise CheckFailed for every value that is given and differs; what is not given does not count."""
    differences = [
        f"{name} is {_shown(there[name])}, not {_shown(value)}"
        for name, value in wanted.items()
        if value is not None and there[name] != value
    ]
    if differences:
        raise CheckFailed(f"{what} is already there and different: {'; '.join(differences)}")


def _shown(value: object) -> str:
    return str(value) if isinstance(value, Decimal) else repr(value)


@contextlib.asynccontextmanager
async def _constraints(connection: asyncpg.Connection[asyncpg.Record], what: str) -> AsyncIterator[None]:
    """Insert under a savepoint; turn what the database refuses into CheckFailed."""
    try:
        async with connection.transaction():
            yield
    except asyncpg.IntegrityConstraintViolationError as error:
        detail = error.detail or str(error)  # "Key (…)=(…) already exists."
        raise CheckFailed(f"{what}: {detail}") from error


async def read_names(connection: asyncpg.Connection[asyncpg.Record]) -> Catalog:
    """Read types, units and aliases only: a command needs no hundred thousand sensors."""
    draft = Draft(EMPTY)
    draft.put_vocabulary(vocabulary_of(*[await connection.fetch(sql) for sql in VOCABULARY_SQL]))
    return draft.finished()
