"""`ingest catalog`: list, add and import units, sensor types, tenants, greenhouses, sensors and aliases.

Writes the metadata database, in one transaction a command; running workers hear of it by NOTIFY.
Nothing is ever overwritten: an entry that is there with other values is a fault, the same entry
again is not.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Required, TypedDict, Unpack

import asyncpg

from ingest.errors import CheckFailed
from ingest.operate.bulk_operations import recorded
from ingest.operate.catalog_entries import (
    DEFAULT_TIMEZONE,
    AliasEntry,
    AliasKind,
    Entry,
    GreenhouseEntry,
    SensorEntry,
    SensorTypeEntry,
    TenantEntry,
    UnitEntry,
    checked,
    read_entries,
)
from ingest.operate.catalog_rows import Registered, put, read_names
from ingest.resolve.loader import translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from uuid import UUID

    from ingest.operate.catalog_entries import DataType
    from ingest.resolve.catalog import Catalog

CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 60.0


class CatalogKind(StrEnum):
    """What `ingest catalog list` shows."""

    TENANTS = "tenants"
    GREENHOUSES = "greenhouses"
    SENSORS = "sensors"
    SENSOR_TYPES = "sensor-types"
    UNITS = "units"
    ALIASES = "aliases"


LIST_SQL: dict[CatalogKind, str] = {
    CatalogKind.TENANTS: """
        select id::text, name, mqtt_topic_prefix as prefix, email, company_name as company, is_active
        from metadata.tenants
        order by name
    """,
    CatalogKind.GREENHOUSES: """
        select g.id::text, coalesce(t.mqtt_topic_prefix, t.name) as tenant, g.greenhouse_code as code,
               g.name, g.timezone, g.is_active
        from metadata.greenhouses g
        join metadata.tenants t on t.id = g.tenant_id
        order by tenant, code
    """,
    CatalogKind.SENSORS: """
        select s.id::text, coalesce(t.mqtt_topic_prefix, t.name) as tenant, g.greenhouse_code as greenhouse,
               s.sensor_code as code, s.device_id, s.mqtt_field_name as label, s.name,
               coalesce(y.name, s.sensor_type) as sensor_type, coalesce(u.symbol, s.unit) as unit,
               s.expected_interval_s, s.is_active
        from metadata.sensors s
        left join metadata.sensor_types y on y.id = s.sensor_type_id
        left join metadata.units u on u.id = s.unit_id
        join metadata.greenhouses g on g.id = s.greenhouse_id
        join metadata.tenants t on t.id = g.tenant_id
        order by tenant, greenhouse, code
    """,
    CatalogKind.SENSOR_TYPES: """
        select y.id, y.name, u.symbol as unit, y.data_type,
               y.min_value::double precision as minimum, y.max_value::double precision as maximum
        from metadata.sensor_types y
        join metadata.units u on u.id = y.default_unit_id
        order by y.id
    """,
    CatalogKind.UNITS: "select id, symbol, name, description from metadata.units order by id",
    CatalogKind.ALIASES: """
        select 'sensor-type' as kind, a.alias, y.name
        from metadata.sensor_type_aliases a
        join metadata.sensor_types y on y.id = a.sensor_type_id
        union all
        select 'unit', a.alias, u.symbol
        from metadata.unit_aliases a
        join metadata.units u on u.id = a.unit_id
        order by 1, 3, 2
    """,
}


@dataclass(slots=True)
class ImportReport:
    """What an import did, or would do."""

    added: Counter[str] = field(default_factory=Counter)
    """How many of each kind are new."""
    already_there: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """One line each, its place first; with any, nothing was written."""
    written: bool = False


async def list_catalog(dsn: str, kind: CatalogKind) -> list[dict[str, Any]]:
    """Give every row of *kind*, in the order a person looks for it; values are JSON types."""
    async with _connected(dsn, f"list {kind.value}") as connection:
        return [dict(row) for row in await connection.fetch(LIST_SQL[kind])]


async def add_unit(dsn: str, *, symbol: str, name: str, description: str | None = None) -> Registered:
    """Add a unit; raises as `add_tenant`."""
    return await _add(dsn, checked(UnitEntry, {"symbol": symbol, "name": name, "description": description}))


async def add_sensor_type(
    dsn: str,
    *,
    name: str,
    unit: str,
    minimum: float | None = None,
    maximum: float | None = None,
    data_type: DataType | None = None,
) -> Registered:
    """Add a sensor type, its limits in *unit*; raises as `add_tenant`."""
    fields = {"name": name, "unit": unit, "minimum": minimum, "maximum": maximum, "data_type": data_type}
    return await _add(dsn, checked(SensorTypeEntry, fields))


async def add_tenant(
    dsn: str, *, name: str, prefix: str, email: str | None = None, company: str | None = None
) -> Registered:
    """Add a tenant. Raises ConfigurationError (a bad value) or CheckFailed (there, but different)."""
    return await _add(
        dsn, checked(TenantEntry, {"name": name, "prefix": prefix, "email": email, "company": company})
    )


async def add_greenhouse(
    dsn: str, *, tenant: str, code: str, name: str | None = None, timezone: str = DEFAULT_TIMEZONE
) -> Registered:
    """Add a greenhouse to the tenant with the prefix *tenant*; raises as `add_tenant`."""
    return await _add(
        dsn, checked(GreenhouseEntry, {"tenant": tenant, "code": code, "name": name, "timezone": timezone})
    )


class SensorFields(TypedDict, total=False):
    """What may be said of a new sensor; the first three have to be."""

    tenant: Required[str]
    greenhouse: Required[str]
    sensor_type: Required[str]
    unit: str | None
    code: str | None
    device_id: str | None
    label: str | None
    name: str | None
    sensor_id: UUID | None
    expected_interval_s: int | None


async def add_sensor(dsn: str, **fields: Unpack[SensorFields]) -> Registered:
    """Register a sensor under the id it already has in the table; raises as `add_tenant`.

    That is its `sensor_id`, else the one the worker derives from the label, code, device id or sensor
    type, whichever is given first in this order.
    """
    return await _add(dsn, checked(SensorEntry, dict(fields)))


async def add_alias(dsn: str, *, kind: AliasKind, alias: str, name: str) -> Registered:
    """Make *alias* another name of the sensor type or unit *name*; raises as `add_tenant`."""
    return await _add(dsn, checked(AliasEntry, {"kind": kind, "alias": alias, "name": name}))


async def import_catalog(dsn: str, path: Path, *, dry_run: bool = False) -> ImportReport:
    """Write every entry of a .json or .csv file in one transaction, or none of them.

    With *dry_run* the entries are written and rolled back, so that what only the database can tell
    is reported too. Raises ConfigurationError for a file that cannot be read as a whole.
    """
    entries, faults = read_entries(path)
    report = ImportReport(faults=faults)
    async with _connected(dsn, "import the catalog") as connection:
        if dry_run:
            await _put_all(connection, entries, report, dry_run=True)
            return report
        async with recorded(connection, "IMPORT", "catalog", source_file=str(path)) as tally:
            await _put_all(connection, entries, report, dry_run=False)
            tally.faults += report.faults
            tally.failed = len(report.faults)
            tally.skipped = report.already_there.total()
            if report.written:
                tally.successful = report.added.total()
    return report


async def _put_all(
    connection: asyncpg.Connection[asyncpg.Record],
    entries: list[tuple[str, Entry]],
    report: ImportReport,
    *,
    dry_run: bool,
) -> None:
    transaction = connection.transaction()
    await transaction.start()
    try:
        names: Catalog | None = None
        for place, entry in entries:
            if names is None and isinstance(entry, SensorEntry):
                names = await read_names(connection)  # after the aliases of this file
            try:
                registered = await put(connection, entry, names)
            except CheckFailed as fault:
                report.faults.append(f"{place}: {fault}")
            else:
                (report.added if registered.added else report.already_there)[registered.kind] += 1
    except BaseException:
        await transaction.rollback()
        raise
    if report.faults or dry_run:
        await transaction.rollback()
    else:
        await transaction.commit()
        report.written = True


@contextlib.asynccontextmanager
async def _connected(dsn: str, doing: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    async with translated(doing):
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={"application_name": "greenhouse-ingest catalog"},
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT_S)


async def _add(dsn: str, entry: Entry) -> Registered:
    async with _connected(dsn, "write the catalog") as connection, connection.transaction():
        return await put(connection, entry, None)
