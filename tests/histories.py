"""A tenant with a greenhouse and some readings in an otherwise empty database, for import and export."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
from pydantic import SecretStr

from ingest.load.exporting import Wanted, export
from ingest.load.importing import ImportPlan, ImportReport, import_files
from ingest.load.whole_file import WholeFile
from ingest.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.load.exporting import ExportFormat, ExportReport

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TENANT = UUID("33333333-3333-4333-8333-333333333333")
HOUSE, OTHER_HOUSE = (UUID(f"11111111-1111-4111-8111-11111111111{n}") for n in (1, 2))
PROBE = UUID("22222222-2222-4222-8222-222222222222")
STRANGER = UUID("22222222-2222-4222-8222-22222222222f")
"""Registered nowhere."""
ALL_ROWS = "select * from iot.sensor_readings order by time, greenhouse_id, sensor_type_id, sensor_id"
NOTES = '{"note": "héllo, \\"1\\"", "deep": {"a": [1, 2.5, null]}, "big": 12345678901234567890}'
ODD_VALUES = (0.1 + 0.2, -0.0, 1e-5, 99.99999999999999, 5e-324, -49.5, 12.0, 1 / 3)


def settings_for(dsn: str, **tables: Any) -> Settings:  # noqa: ANN401 (what a settings table takes)
    return Settings(metadata_dsn=SecretStr(dsn), timeseries_dsn=SecretStr(dsn), **tables)


async def fetch(dsn: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()


async def rows(dsn: str) -> list[asyncpg.Record]:
    """Give every reading, all columns."""
    return await fetch(dsn, ALL_ROWS)


async def register(dsn: str) -> None:
    """Register the tenant HISTORY, its greenhouses 01 and 02, and a probe in the first."""
    await fetch(
        dsn,
        "insert into metadata.tenants (id, name, mqtt_topic_prefix) values ($1, 'History', 'HISTORY')",
        TENANT,
    )
    for house, code in ((HOUSE, "01"), (OTHER_HOUSE, "02")):
        await fetch(
            dsn,
            "insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code) values ($1, $2, $3, $3)",
            house,
            TENANT,
            code,
        )
    await fetch(
        dsn,
        """
        insert into metadata.sensors
            (id, greenhouse_id, tenant_id, sensor_code, device_id, sensor_type, unit, mqtt_field_name)
        values ($1, $2, $3, 'PROBE', 'BOARD', 'TEMPERATURE', '°C', 'TEMP 01')
        """,
        PROBE,
        HOUSE,
        TENANT,
    )


async def fill(dsn: str, since: datetime) -> int:
    """Write readings as the worker may have, half a year from *since* apart; give how many."""
    made = [
        (
            since + timedelta(days=90 * (number // 8 % 3), microseconds=number * 333_333),
            (HOUSE, OTHER_HOUSE)[number // 4 % 2],
            PROBE if type_id == 1 and number // 4 % 2 == 0 else STRANGER,
            type_id,
            unit_id,
            value,
            metadata,
        )
        for number, (type_id, unit_id, value, metadata) in enumerate(
            (type_id, unit_id, ODD_VALUES[(number + type_id) % 8], metadata)
            for number in range(24)
            for type_id, unit_id, metadata in (
                (1, 1, None),
                (1, 1, '{"label": "TEMP 01"}'),
                (1, 2, NOTES),
                (1, 1, None),
                (10, 11, None),
                (11, 10, '{"device_code": "X;1,\\n2"}'),
            )
        )
        if type_id != 1 or number % 2 == 0 or unit_id == 1
    ]
    columns = "(time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value, metadata)"
    connection = await asyncpg.connect(dsn)
    try:
        await connection.executemany(
            f"insert into iot.sensor_readings {columns} values ($1, $2, '{TENANT}', $3, $4, $5, $6, $7)",
            made,
        )
    finally:
        await connection.close()
    return len(made)


async def exported(
    dsn: str,
    path: Path,
    file_format: ExportFormat,
    since: datetime = EPOCH,
    **only: Any,  # noqa: ANN401
) -> ExportReport:
    until = only.pop("until", datetime.now(UTC))
    return await export(settings_for(dsn), Wanted(since, until, **only), WholeFile(path), file_format)


async def imported(
    dsn: str,
    *files: Path,
    rejected: Path | None = None,
    dry_run: bool = False,
    **plan: Any,  # noqa: ANN401
) -> ImportReport:
    reject_names = plan.pop("reject_names", False)
    batch = plan.pop("batch", 20_000)
    return await import_files(
        settings_for(dsn, write={"max_batch_rows": batch}),
        ImportPlan(files, **plan),
        dry_run=dry_run,
        reject_names=reject_names,
        rejected=rejected,
    )


def counts(report: ImportReport) -> tuple[int, int, int, int, int]:
    """Give read, written, duplicate, null and rejected, once they add up."""
    told = report.as_json()["readings"]
    assert told["read"] == told["written"] + told["duplicate"] + told["null"] + told["rejected"]
    return (told["read"], told["written"], told["duplicate"], told["null"], told["rejected"])


def lines(path: Path, *texts: str) -> Path:
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def objects(path: Path, *records: dict[str, Any]) -> Path:
    return lines(path, *(json.dumps(record) for record in records))


def hours_ago(hours: float) -> datetime:
    return datetime.fromtimestamp(time.time() // 3600 * 3600 - hours * 3600, UTC)


def names_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())
