"""`ingest export`: a range of the hypertable into one CSV, JSON Lines or Parquet file, in the order of time.

Reads in one snapshot through a cursor, chunk by chunk as the database has them, so that neither side holds
more than a page. Names come from the mirrored catalogs; the file is there under its name once it is whole.
What the database does not answer and what the file system does not take are told apart. Read by
`ingest import`, a file gives back the rows it was made of.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TypeAlias, cast

import orjson

from ingest.errors import ConfigurationError
from ingest.operate.progress import Progress
from ingest.operate.reading import reading_from

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path
    from types import ModuleType
    from uuid import UUID

    import asyncpg

    from ingest.load.whole_file import WholeFile
    from ingest.settings import Settings

ExportFormat: TypeAlias = Literal["csv", "jsonl", "parquet"]

COLUMNS: Final = (
    "time",
    "greenhouse_id",
    "tenant_id",
    "sensor_id",
    "sensor_type",
    "unit",
    "value",
    "metadata",
)
"""Of every format, in this order: those that `ingest import` finds by itself."""
PAGE_ROWS: Final = 20_000
"""Of one fetch, and of a row group in Parquet: 20 to 70 MB of this process, whatever the range."""

_TYPES: Final = "select id, name from iot.sensor_types"
_UNITS: Final = "select id, symbol from iot.units"
# The catalogs are joined here, not there: ordered by time alone, TimescaleDB reads one chunk after the other.
_READINGS: Final = """
select
    time,
    greenhouse_id,
    tenant_id,
    sensor_id,
    sensor_type_id,
    sensor_type,
    unit_id,
    unit,
    value,
    metadata
from iot.sensor_readings
where time >= $1
    and time < $2
    and ($3::uuid[] is null or greenhouse_id = any ($3))
    and ($4::uuid is null or tenant_id = $4)
    and ($5::uuid[] is null or sensor_id = any ($5))
    and ($6::smallint is null or sensor_type_id = $6 or (sensor_type_id is null and upper(sensor_type) = $7))
order by time, greenhouse_id, sensor_type_id, sensor_id
"""


class Wanted(NamedTuple):
    """Which readings: those of a range of times that fit each condition; None: any."""

    since: datetime
    until: datetime
    greenhouse_ids: Sequence[UUID] | None = None
    tenant_id: UUID | None = None
    sensor_ids: Sequence[UUID] | None = None
    sensor_type: str | None = None
    """By its name in the catalog."""


class Reading(NamedTuple):
    """One exported row; names are those of the catalog, of legacy rows what is written there."""

    time: datetime
    greenhouse_id: UUID
    tenant_id: UUID | None
    sensor_id: UUID | None
    sensor_type: str | None
    unit: str | None
    value: float | None
    metadata: str | None
    """JSON text."""


class Encoder(Protocol):
    """Writes pages of one format."""

    def write(self, page: Sequence[Reading]) -> None:
        """Append *page*."""

    def finish(self) -> None:
        """End what was begun; the file stays open."""


@dataclass(slots=True)
class ExportReport:
    """What was exported."""

    path: Path
    rows: int = 0
    first: datetime | None = None
    last: datetime | None = None
    interrupted: bool = False
    """Then there is no file."""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Give the report as JSON values."""
        return {
            "file": str(self.path),
            "rows": self.rows,
            "first": None if self.first is None else instant(self.first),
            "last": None if self.last is None else instant(self.last),
            "interrupted": self.interrupted,
            "seconds": round(self.seconds, 3),
        }


async def export(
    settings: Settings,
    wanted: Wanted,
    file: WholeFile,
    file_format: ExportFormat,
    *,
    stop: asyncio.Event | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> ExportReport:
    """Write what is *wanted* to *file*, and close it where that is all; where it ends early it is discarded.

    Raises ConfigurationError for a format that is not installed, CheckFailed for a file that cannot be
    written, and DatabaseFaults.
    """
    began_s = time.monotonic()
    stop = stop or asyncio.Event()
    report = ExportReport(file.path)
    with file:
        arrow = _arrow() if file_format == "parquet" else None
        with file.written():
            encoder = _encoder(file, file_format, arrow)
        async with contextlib.aclosing(_pages(settings, wanted)) as pages:
            await _write_each(pages, wanted, encoder, file, report, stop, on_progress)
        if not report.interrupted:
            with file.written():
                encoder.finish()
            file.close()
    report.seconds = time.monotonic() - began_s
    return report


async def _write_each(  # noqa: PLR0917 (private, called once above)
    pages: AsyncIterator[Sequence[Reading]],
    wanted: Wanted,
    encoder: Encoder,
    file: WholeFile,
    report: ExportReport,
    stop: asyncio.Event,
    on_progress: Callable[[Progress], None],
) -> None:
    seconds = int((wanted.until - wanted.since).total_seconds())
    async for page in pages:
        if stop.is_set():
            report.interrupted = True
            return
        with file.written():
            encoder.write(page)
        report.rows += len(page)
        report.first = report.first or page[0].time
        report.last = page[-1].time
        # How many rows there are, nobody knows without reading them: what moves is the time.
        done = int((page[-1].time - wanted.since).total_seconds())
        on_progress(Progress("exporting, seconds of the range", done, seconds))


async def _pages(settings: Settings, wanted: Wanted) -> AsyncGenerator[Sequence[Reading], None]:
    """Read what is *wanted* in one snapshot. Raises DatabaseFaults."""
    async with (
        reading_from(settings.dsn("timeseries"), "timeseries", "greenhouse_reader") as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        names = Names(
            {row[0]: row[1] for row in await connection.fetch(_TYPES)},
            {row[0]: row[1] for row in await connection.fetch(_UNITS)},
        )
        type_ids = [each for each, name in names.types.items() if name == wanted.sensor_type]
        type_id = (type_ids or [-1])[0] if wanted.sensor_type is not None else None
        cursor = await connection.cursor(_READINGS, *wanted[:5], type_id, wanted.sensor_type)
        while records := await cursor.fetch(PAGE_ROWS):
            yield [names.reading(record) for record in records]


class Names(NamedTuple):
    """What the ids of a row stand for."""

    types: Mapping[int, str]
    units: Mapping[int, str]

    def reading(self, record: asyncpg.Record) -> Reading:
        """Put the names in; text of a legacy row stays as it is."""
        moment, greenhouse, tenant, sensor, type_id, type_text, unit_id, unit_text, value, metadata = record
        return Reading(
            moment,
            greenhouse,
            tenant,
            sensor,
            type_text if type_text is not None else self.types.get(type_id),
            unit_text if unit_text is not None else self.units.get(unit_id),
            value,
            metadata,
        )


def instant(moment: datetime) -> str:
    """Give *moment*, which is in UTC, to the microsecond, always as long."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


class _LineFeeds:
    """Ends lines as Unix does. The writer ends them with both, or it left a text with a CR unquoted."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text

    def write(self, line: str) -> int:
        return self._text.write(f"{line[:-2]}\n")


class _Csv:
    def __init__(self, file: WholeFile) -> None:
        self._text = io.TextIOWrapper(file.stream, "utf-8", newline="")
        self._csv = csv.writer(_LineFeeds(self._text), lineterminator="\r\n")
        self._csv.writerow(COLUMNS)

    def write(self, page: Sequence[Reading]) -> None:
        self._csv.writerows([(instant(each[0]), *each[1:]) for each in page])

    def finish(self) -> None:
        self._text.flush()
        self._text.detach()


class _JsonLines:
    def __init__(self, file: WholeFile) -> None:
        self._stream = file.stream

    def write(self, page: Sequence[Reading]) -> None:
        self._stream.write(b"\n".join([orjson.dumps(_as_object(each)) for each in page]) + b"\n")

    def finish(self) -> None:
        pass


class _Parquet:
    def __init__(self, file: WholeFile, arrow: ModuleType) -> None:
        self._arrow = arrow
        text, names = arrow.string(), arrow.dictionary(arrow.int32(), arrow.string())
        self._schema = arrow.schema(
            list(
                zip(
                    COLUMNS,
                    (
                        arrow.timestamp("us", tz="UTC"),
                        *(text, text, text),
                        *(names, names),
                        arrow.float64(),
                        text,
                    ),
                    strict=True,
                )
            )
        )
        self._writer = arrow.parquet.ParquetWriter(file.stream, self._schema, compression="zstd")

    def write(self, page: Sequence[Reading]) -> None:
        columns = [
            [None if cell is None else str(cell) for cell in column] if 1 <= at <= 3 else column  # noqa: PLR2004 (the ids)
            for at, column in enumerate(zip(*page, strict=True))
        ]
        arrays = [
            self._arrow.array(column, type=field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_table(self._arrow.table(arrays, schema=self._schema))

    def finish(self) -> None:
        self._writer.close()


def _as_object(each: Reading) -> dict[str, Any]:
    value = each.value
    return {
        "time": instant(each.time),
        "greenhouse_id": str(each.greenhouse_id),
        "tenant_id": None if each.tenant_id is None else str(each.tenant_id),
        "sensor_id": None if each.sensor_id is None else str(each.sensor_id),
        "sensor_type": each.sensor_type,
        "unit": each.unit,
        # JSON has no NaN; the worker stores none, a legacy row may hold one.
        "value": value if value is None or math.isfinite(value) else str(value),
        "metadata": None if each.metadata is None else orjson.Fragment(each.metadata),
    }


def _encoder(file: WholeFile, file_format: ExportFormat, arrow: ModuleType | None) -> Encoder:
    if arrow is not None:
        return _Parquet(file, arrow)
    return _Csv(file) if file_format == "csv" else _JsonLines(file)


def _arrow() -> ModuleType:
    try:
        import pyarrow.parquet  # noqa: PLC0415 (an extra: only who wants Parquet has it)
    except ImportError as error:
        text = "Parquet needs pyarrow, which is not installed: pip install 'greenhouse-ingest[parquet]'"
        raise ConfigurationError([f"--format parquet: {text}"]) from error
    return cast("ModuleType", pyarrow)
