"""`ingest catalog`: lists, adds and imports what the worker resolves names with."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

from ingest.commands.report import print_json, print_line, print_table, remark
from ingest.decode import IGNORED, Routes
from ingest.operate import catalog
from ingest.operate.catalog import CatalogKind
from ingest.operate.catalog_entries import DEFAULT_TIMEZONE, AliasKind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path
    from typing import Any, Unpack

    from ingest.commands.invocation import Invocation
    from ingest.operate.catalog import ImportReport, SensorFields
    from ingest.operate.catalog_entries import DataType
    from ingest.operate.catalog_rows import Registered
    from ingest.settings import Settings


def list_kind(invocation: Invocation, *, kind: str, as_json: bool) -> int:
    """Print every entry of one *kind*."""
    entries = asyncio.run(catalog.list_catalog(_dsn(invocation), CatalogKind(kind)))
    if as_json:
        print_json({kind: entries})
    else:
        columns = list(entries[0]) if entries else []
        print_table(columns, [list(entry.values()) for entry in entries], empty=f"there are no {kind}")
    return 0


def add_unit(
    invocation: Invocation, *, symbol: str, name: str, description: str | None, as_json: bool
) -> int:
    """Register a unit."""
    return _add(
        invocation,
        lambda dsn: catalog.add_unit(dsn, symbol=symbol, name=name, description=description),
        as_json=as_json,
    )


def add_sensor_type(
    invocation: Invocation,
    *,
    name: str,
    unit: str,
    minimum: float | None,
    maximum: float | None,
    data_type: DataType | None,
    as_json: bool,
) -> int:
    """Register a sensor type."""
    return _add(
        invocation,
        lambda dsn: catalog.add_sensor_type(
            dsn, name=name, unit=unit, minimum=minimum, maximum=maximum, data_type=data_type
        ),
        as_json=as_json,
    )


def add_tenant(
    invocation: Invocation, *, name: str, prefix: str, email: str | None, company: str | None, as_json: bool
) -> int:
    """Register a tenant; says so when its topics are ignored."""
    code = _add(
        invocation,
        lambda dsn: catalog.add_tenant(dsn, name=name, prefix=prefix, email=email, company=company),
        as_json=as_json,
    )
    if invocation.read is not None:
        _tell_of_ignored(invocation.read, prefix)
    return code


def add_greenhouse(
    invocation: Invocation, *, tenant: str, code: str, name: str | None, timezone: str | None, as_json: bool
) -> int:
    """Register a greenhouse of a tenant."""
    zone = DEFAULT_TIMEZONE if timezone is None else timezone
    return _add(
        invocation,
        lambda dsn: catalog.add_greenhouse(dsn, tenant=tenant, code=code, name=name, timezone=zone),
        as_json=as_json,
    )


def add_sensor(invocation: Invocation, *, as_json: bool, **fields: Unpack[SensorFields]) -> int:
    """Register a sensor under the id its readings already have."""
    return _add(invocation, lambda dsn: catalog.add_sensor(dsn, **fields), as_json=as_json)


def add_alias(invocation: Invocation, *, kind: str, alias: str, name: str, as_json: bool) -> int:
    """Make *alias* another name of a sensor type or unit."""
    return _add(
        invocation,
        lambda dsn: catalog.add_alias(dsn, kind=AliasKind(kind), alias=alias, name=name),
        as_json=as_json,
    )


def import_file(invocation: Invocation, *, file: Path, dry_run: bool, as_json: bool) -> int:
    """Write every entry of *file*, or none of them. Returns 1 when one is faulty."""
    report = asyncio.run(catalog.import_catalog(_dsn(invocation), file, dry_run=dry_run))
    if as_json:
        print_json(asdict(report))
    else:
        _print_import(report, dry_run=dry_run)
    return 1 if report.faults else 0


def _print_import(report: ImportReport, *, dry_run: bool) -> None:
    for fault in report.faults:
        print_line(fault)
    kinds = sorted(report.added | report.already_there)
    rows = [(kind, report.added[kind], report.already_there[kind]) for kind in kinds]
    if rows or not report.faults:  # what is wrong may be all that it holds
        print_table(("kind", "new", "already there"), rows, empty="the file holds no entries")
    if report.faults:
        faults = "1 fault" if len(report.faults) == 1 else f"{len(report.faults)} faults"
        print_line(f"{faults}: nothing was written")
    elif dry_run:
        print_line("dry run: nothing was written")


def _tell_of_ignored(settings: Settings, prefix: str) -> None:
    """Remark on topics of a tenant of that *prefix* whose messages are ignored by rule."""
    scopes = Routes(settings.route, settings.decode.ignore).scopes
    for route in settings.route:
        topic = "/".join(prefix if level == "{tenant}" else level for level in route.topic.split("/"))
        if topic != route.topic and scopes[topic] is IGNORED:
            remark(
                f"messages to {topic} are ignored (decode.ignore): take another prefix, or that filter out"
            )


def _dsn(invocation: Invocation) -> str:
    return invocation.settings("metadata").dsn("metadata")


def _add(
    invocation: Invocation, add: Callable[[str], Coroutine[Any, Any, Registered]], *, as_json: bool
) -> int:
    registered = asyncio.run(add(_dsn(invocation)))
    if as_json:
        print_json(asdict(registered))
    else:
        outcome = "added" if registered.added else "already there"
        print_line(f"{outcome}: {registered.kind} {registered.name} ({registered.id})")
    return 0
