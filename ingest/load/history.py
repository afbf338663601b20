"""One record of a file -> one row of the hypertable, or why there is none. Pure.

Values are read by decode, names found by resolve, as a gateway's are. A record may name its greenhouse by
UUID or code, with or without the tenant, or leave it to a sensor that is registered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ingest.decode.payload import parse_payload
from ingest.decode.values import Fault, bad_time, parse_value, quoted
from ingest.model import Decoded, Reading, Rejection, Scope
from ingest.resolve.names import parse_uuid

if TYPE_CHECKING:
    from ingest.load.columns import Cells
    from ingest.load.moments import Times
    from ingest.model import Reason, Row
    from ingest.resolve import Catalog, Resolver
    from ingest.resolve.rows import Greenhouse, Tenant

TOLD_FIRST: Final[frozenset[Reason]] = frozenset(
    {
        "unknown_tenant",
        "unknown_greenhouse",
        "unknown_sensor_type",
        "unknown_unit",
        "ambiguous_greenhouse",
        "foreign_sensor",
        "type_mismatch",
        "unit_mismatch",
        "inactive",
    }
)
"""What is wrong with names, and so with every row that has them: told before the first row is written."""
MAX_PLACES: Final = 100_000
"""Remembered; past it they are found anew."""
_LONGEST_NAME: Final = 200
"""Characters, as decode has it for sensors."""


class Historian:
    """Looks at records one by one; what it remembers of places is bounded."""

    def __init__(self, resolver: Resolver, times: Times, *, max_depth: int) -> None:
        """Take what resolves names and reads times; *max_depth* bounds the nesting of metadata."""
        self._resolver = resolver
        self._times = times
        self._max_depth = max_depth
        self._scopes: dict[tuple[str | None, str], Scope | Rejection] = {}

    def look(self, cells: Cells) -> Row | Rejection | None:
        """Give the row that *cells* make, why they make none, or None for a value that is null."""
        value = parse_value(cells.value)
        if value is None:
            return None
        time_us = self._times.read(cells.time)
        if not isinstance(time_us, int):
            return bad_time("", time_us)
        names = [_text(cell) for cell in cells[2:7]]
        metadata = None if cells.metadata is None else self._metadata(cells.metadata)
        for read in (value, metadata, *names):
            if isinstance(read, Fault):
                return Rejection("", "bad_value", str(read))
        sensor, sensor_type, unit, greenhouse, tenant = (name or None for name in names)
        scope = self._scope(tenant, greenhouse, sensor)
        if isinstance(scope, Rejection):
            return scope
        reading = Reading("", sensor, sensor_type, unit, value, time_us, metadata)  # type: ignore[arg-type] # no Fault by now
        resolved = self._resolver.resolve(Decoded(scope, (reading,)))
        return resolved.rows[0] if resolved.rows else resolved.rejections[0]

    def _metadata(self, cell: object) -> dict[str, Any] | Fault | None:
        if isinstance(cell, str) and cell.lstrip().startswith("{"):
            cell = parse_payload(cell.encode(errors="surrogatepass"), self._max_depth)
            if isinstance(cell, Fault):
                return Fault(f"metadata: {cell}")
        # What is no object is kept under that name, as decode does.
        return (cell or None) if isinstance(cell, dict) else {"metadata": cell}

    def _scope(self, tenant: str | None, greenhouse: str | None, sensor: str | None) -> Scope | Rejection:
        if greenhouse is None:
            sensor_id = parse_uuid((sensor or "").strip())
            registered = None if sensor_id is None else self._resolver.catalog.sensors.get(sensor_id)
            if registered is None:
                detail = f"no greenhouse is named, and {_sensor_said(sensor)}"
                return Rejection("", "unknown_greenhouse", detail)
            greenhouse = str(registered.greenhouse_id)
        scope = self._scopes.get((tenant, greenhouse))
        if scope is None:
            if len(self._scopes) >= MAX_PLACES:
                self._scopes.clear()
            scope = self._scopes[tenant, greenhouse] = _placed(self._resolver.catalog, tenant, greenhouse)
        return scope


def _placed(catalog: Catalog, tenant: str | None, greenhouse: str) -> Scope | Rejection:
    """Find the *greenhouse* of the *tenant*; without one, resolve does, by what is unique over all."""
    if tenant is None:
        return Scope("reading", greenhouse=greenhouse.strip())
    owner = _tenant(catalog, tenant.strip())
    if owner is None:
        detail = f"no tenant has the topic prefix, name or id {quoted(tenant)}"
        return Rejection("", "unknown_tenant", detail)
    greenhouse_id = parse_uuid(greenhouse.strip())
    if greenhouse_id is not None:
        house = catalog.greenhouses.get(greenhouse_id)
        found: tuple[Greenhouse, ...] = (
            () if house is None or house.tenant_id != owner.tenant_id else (house,)
        )
    else:
        found = catalog.greenhouses_coded(greenhouse, owner.tenant_id)
    said = f"tenant {quoted(owner.prefix or owner.name)}"
    if not found:
        return Rejection("", "unknown_greenhouse", f"{said} has no greenhouse {quoted(greenhouse)}")
    if len(found) > 1:
        detail = f"{said} has {len(found)} greenhouses {quoted(greenhouse)}; give the UUID of one"
        return Rejection("", "ambiguous_greenhouse", detail)
    return Scope("reading", greenhouse=str(found[0].greenhouse_id))


def _tenant(catalog: Catalog, text: str) -> Tenant | None:
    tenant_id = parse_uuid(text)
    if tenant_id is not None:
        return catalog.tenants.get(tenant_id)
    named = [tenant for tenant in catalog.tenants.values() if tenant.name == text]
    return catalog.tenant_prefixed(text) or (named[0] if len(named) == 1 else None)


def _text(cell: object) -> str | Fault | None:
    """Give a name as text; some files number their devices."""
    if cell is None:
        return None
    if type(cell) is int:
        return str(cell)
    if not isinstance(cell, str):
        return Fault(f"{quoted(cell)} where a name is expected")
    return cell if len(cell) <= _LONGEST_NAME else Fault(f"a name of {len(cell)} characters")


def _sensor_said(sensor: str | None) -> str:
    return "no sensor" if sensor is None else f"{quoted(sensor)} is no registered sensor's id"
