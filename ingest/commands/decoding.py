"""`ingest decode`: what the worker would make of one message; nothing is written, nothing acknowledged.

Runs the worker's own decode and resolve stages. The catalog is read once when a metadata database is
configured; without it the readings are shown by name. Owns the exit code: 1 when anything was rejected, and
when the catalog that is configured could not be asked.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest.commands.moments import EPOCH, iso_us, moment
from ingest.commands.report import print_json, print_line, print_table, remark
from ingest.decode import IGNORED, Decoder, Routes
from ingest.errors import CheckFailed, IngestError
from ingest.labels import LabelRules
from ingest.resolve import Catalog, Resolver
from ingest.resolve.loader import CatalogLoader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.commands.invocation import Invocation
    from ingest.model import Reading, Rejection, Row
    from ingest.settings import Settings


def decode_message(
    invocation: Invocation,
    *,
    topic: str,
    file: str,
    received_at: str | None,
    use_catalog: bool,
    as_json: bool,
) -> int:
    """Print rows (or readings) and rejections of the payload in *file* ("-": stdin) published to *topic*.

    Times are judged as if it had been received at *received_at*, without it now. Returns 1 when
    anything was rejected, or could not be looked at.
    """
    now = datetime.now(UTC)
    received = now if received_at is None else moment(received_at, now, "--received-at")
    settings = invocation.settings()
    payload = _read(file)
    decoder = Decoder(Routes(settings.route, settings.decode.ignore), settings.decode)
    decoded = decoder.decode(topic, payload, (received - EPOCH) // timedelta(microseconds=1))
    if decoded is IGNORED:
        if as_json:
            print_json({"topic": topic, "ignored": True})
        else:
            print_line("ignored by rule: an empty payload, or a topic of decode.ignore")
        return 0
    asks_catalog = use_catalog and settings.metadata_dsn is not None
    if use_catalog and not asks_catalog:
        remark("no metadata database is configured: readings are shown by name (metadata_dsn)")
    catalog = asyncio.run(_catalog(settings)) if asks_catalog else None
    report: dict[str, Any] = {"topic": topic, "ignored": False, "nulls": decoded.nulls}
    rejections = list(decoded.rejections)
    if catalog is None:
        rows = [_reading_row(reading) for reading in decoded.readings]
    else:
        resolver = Resolver(
            catalog, LabelRules(settings.label_rule), out_of_range=settings.resolve.out_of_range
        )
        resolved = resolver.resolve(decoded)
        rejections += resolved.rejections
        rows = [_row(row, catalog) for row in resolved.rows]
    report |= {
        "catalog": None if catalog is None else {"version": catalog.version, **catalog.counts()},
        "readings" if catalog is None else "rows": rows,
        "rejections": [rejection._asdict() for rejection in rejections],
    }
    if as_json:
        print_json(report)
    else:
        _print(rows, rejections)
        noun = "readings" if catalog is None else "rows"
        print_line(f"{len(rows)} {noun}, {len(rejections)} rejected, {decoded.nulls} null")
    return 1 if rejections or (asks_catalog and catalog is None) else 0


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise CheckFailed(f"{file} cannot be read: {error.strerror}") from error


async def _catalog(settings: Settings) -> Catalog | None:
    loader = CatalogLoader(settings.dsn("metadata"), settings.resolve, lambda _: None)
    try:
        return await loader.load()
    except IngestError as error:
        remark(
            f"the catalog cannot be read: {error}\nreadings are shown by name, and what the catalog would "
            "refuse was not looked for; --no-catalog does without it"
        )
        return None
    finally:
        await loader.close()


def _row(row: Row, catalog: Catalog) -> dict[str, Any]:
    series = row.series
    greenhouse = catalog.greenhouses.get(series.greenhouse_id)
    return {
        "field": row.field,
        "time": iso_us(row.time_us),
        "greenhouse": None if greenhouse is None else greenhouse.code,
        "sensor_type": catalog.sensor_types[series.sensor_type_id].name,
        "value": row.value,
        "unit": catalog.units[series.unit_id].symbol,
        "sensor_id": str(series.sensor_id),
        "greenhouse_id": str(series.greenhouse_id),
        "tenant_id": str(series.tenant_id),
        "metadata": None if row.metadata is None else row.metadata.decode(),
    }


def _reading_row(reading: Reading) -> dict[str, Any]:
    return {
        "field": reading.field,
        "time": iso_us(reading.time_us),
        "sensor": reading.sensor,
        "sensor_type": reading.sensor_type,
        "value": reading.value,
        "unit": reading.unit,
        "metadata": reading.metadata,
    }


def _print(rows: Sequence[dict[str, Any]], rejections: Sequence[Rejection]) -> None:
    if rows:
        hidden = {"greenhouse_id", "tenant_id"}
        columns = [name for name in rows[0] if name not in hidden]
        print_table(columns, [[row[name] for name in columns] for row in rows], empty="no rows")
    if rejections:
        print_line("rejected:")
        print_table(("field", "reason", "detail"), rejections, empty="nothing")
