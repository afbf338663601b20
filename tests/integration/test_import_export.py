"""What is exported and imported again is what it was: every row, every column, on TimescaleDB."""

from __future__ import annotations

import asyncio
import gzip
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import orjson
import pyarrow.parquet
import pytest

from ingest.errors import ConfigurationError
from ingest.load.choosing import choose
from ingest.load.exporting import COLUMNS, Wanted, export
from ingest.load.whole_file import WholeFile
from ingest.resolve.loader import read_catalog
from ingest.settings import ResolveSettings
from tests.histories import (
    HOUSE,
    OTHER_HOUSE,
    PROBE,
    STRANGER,
    TENANT,
    counts,
    exported,
    fetch,
    fill,
    imported,
    names_in,
    register,
    rows,
    settings_for,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.load.exporting import ExportFormat

LONG_AGO = datetime(2024, 3, 31, 0, 59, 59, 999_999, tzinfo=UTC)


@pytest.fixture
async def dsn(migrated_dsn: str) -> str:
    await register(migrated_dsn)
    return migrated_dsn


@pytest.mark.parametrize(
    ("name", "file_format"),
    [("h.csv", "csv"), ("h.jsonl", "jsonl"), ("h.csv.gz", "csv"), ("h.jsonl.gz", "jsonl")],
)
async def test_a_round_trip_is_the_identity(
    dsn: str, tmp_path: Path, name: str, file_format: ExportFormat
) -> None:
    filled = await fill(dsn, LONG_AGO)
    await fetch(dsn, "select compress_chunk(c) from show_chunks('iot.sensor_readings') as c limit 2")
    before = await rows(dsn)
    assert len(before) == filled > 100
    path = tmp_path / name
    report = await exported(dsn, path, file_format)
    assert (report.rows, report.first, report.last) == (filled, before[0]["time"], before[-1]["time"])
    assert names_in(tmp_path) == [name], "nothing unfinished is left"
    await fetch(dsn, "truncate iot.sensor_readings")
    assert counts(await imported(dsn, path)) == (filled, filled, 0, 0, 0)
    assert await rows(dsn) == before
    assert counts(await imported(dsn, path, batch=50)) == (filled, 0, filled, 0, 0), "twice is once"
    assert await rows(dsn) == before
    again = tmp_path / f"again-{name}"
    await exported(dsn, again, file_format)
    assert again.read_bytes() == path.read_bytes(), "the same rows are the same bytes"


async def test_what_an_export_says(dsn: str, tmp_path: Path) -> None:
    await fetch(
        dsn,
        "insert into iot.sensor_readings (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id,"
        " value, metadata) values ('2025-11-17T10:16:00+01', $1, $2, $3, 1, 1, 24.30, $4)",
        HOUSE, TENANT, PROBE, '{"label": "a, b"}',
    )  # fmt: skip
    await exported(dsn, tmp_path / "h.csv", "csv")
    assert (tmp_path / "h.csv").read_text() == (
        "time,greenhouse_id,tenant_id,sensor_id,sensor_type,unit,value,metadata\n"
        f"2025-11-17T09:16:00.000000Z,{HOUSE},{TENANT},{PROBE},TEMPERATURE,°C,24.3,"
        '"{""label"": ""a, b""}"\n'
    )
    await exported(dsn, tmp_path / "h.jsonl.gz", "jsonl")
    (line,) = gzip.decompress((tmp_path / "h.jsonl.gz").read_bytes()).splitlines()
    assert orjson.loads(line) == {
        "time": "2025-11-17T09:16:00.000000Z", "greenhouse_id": str(HOUSE), "tenant_id": str(TENANT),
        "sensor_id": str(PROBE), "sensor_type": "TEMPERATURE", "unit": "°C", "value": 24.3,
        "metadata": {"label": "a, b"},
    }  # fmt: skip


async def test_parquet_holds_the_same(dsn: str, tmp_path: Path) -> None:
    filled = await fill(dsn, LONG_AGO)
    await exported(dsn, tmp_path / "h.parquet", "parquet")
    table = pyarrow.parquet.read_table(tmp_path / "h.parquet")
    assert tuple(table.column_names) == COLUMNS
    types = {row["id"]: row["name"] for row in await fetch(dsn, "select id, name from iot.sensor_types")}
    units = {row["id"]: row["symbol"] for row in await fetch(dsn, "select id, symbol from iot.units")}
    expected = [
        (
            each["time"], str(each["greenhouse_id"]), str(each["tenant_id"]), str(each["sensor_id"]),
            types[each["sensor_type_id"]], units[each["unit_id"]], each["value"], each["metadata"],
        )
        for each in await rows(dsn)
    ]  # fmt: skip
    assert [tuple(each.values()) for each in table.to_pylist()] == expected
    assert len(expected) == filled


async def test_a_range_and_each_filter(dsn: str, tmp_path: Path) -> None:
    await fill(dsn, LONG_AGO)
    everything = await rows(dsn)
    catalog = await read_catalog(dsn, ResolveSettings())

    async def count(since: datetime = LONG_AGO, until: datetime | None = None, **names: str | None) -> int:
        chosen = choose(
            catalog, **{name: names.get(name) for name in ("tenant", "greenhouse", "sensor", "sensor_type")}
        )
        span = {} if until is None else {"until": until}
        return (await exported(dsn, tmp_path / "r.csv", "csv", since, **chosen._asdict(), **span)).rows

    assert await count() == len(everything)
    middle = everything[50]["time"]
    assert await count(until=middle) == sum(each["time"] < middle for each in everything)
    assert await count(since=middle) == sum(each["time"] >= middle for each in everything)
    assert await count(until=LONG_AGO + timedelta(microseconds=1)) == 1
    for greenhouse, house in (("01", HOUSE), ("02", OTHER_HOUSE), (str(OTHER_HOUSE), OTHER_HOUSE)):
        found = sum(each["greenhouse_id"] == house for each in everything)
        assert await count(greenhouse=greenhouse, tenant="HISTORY") == found > 0
    for sensor, sensor_id in (
        ("PROBE", PROBE),
        ("BOARD", PROBE),
        ("temp_01", PROBE),
        (str(STRANGER), STRANGER),
    ):
        assert await count(sensor=sensor) == sum(each["sensor_id"] == sensor_id for each in everything) > 0
    assert await count(sensor_type="consigna") == sum(each["sensor_type_id"] == 10 for each in everything) > 0
    assert await count(tenant=str(UUID(int=7))) == 0
    with pytest.raises(ConfigurationError) as caught:
        choose(catalog, tenant="NOBODY", greenhouse="03", sensor="PROPE", sensor_type="TEMPERATUR")
    assert [fault.split(":")[0] for fault in caught.value.faults] == [
        "--tenant", "--greenhouse", "--sensor", "--type",
    ]  # fmt: skip


async def test_stopped_it_leaves_no_file(dsn: str, tmp_path: Path) -> None:
    await fill(dsn, LONG_AGO)
    stop = asyncio.Event()
    stop.set()
    wanted = Wanted(LONG_AGO, datetime.now(UTC))
    report = await export(settings_for(dsn), wanted, WholeFile(tmp_path / "h.csv"), "csv", stop=stop)
    assert (report.interrupted, names_in(tmp_path)) == (True, [])


async def test_legacy_rows_go_out_with_what_is_written_there(dsn: str, tmp_path: Path) -> None:
    await fetch(
        dsn,
        "insert into iot.sensor_readings (time, greenhouse_id, tenant_id, sensor_type, unit, value) "
        "values ($1, $2, $3, 'Temperature', 'grados', 'NaN')",
        LONG_AGO, HOUSE, TENANT,
    )  # fmt: skip
    await exported(dsn, tmp_path / "h.jsonl", "jsonl", sensor_type="TEMPERATURE")
    told = orjson.loads((tmp_path / "h.jsonl").read_bytes())
    assert (told["sensor_id"], told["sensor_type"], told["unit"], told["value"]) == (
        None, "Temperature", "grados", "nan",
    )  # fmt: skip


async def test_a_file_that_cannot_be_written(dsn: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        await exported(dsn, tmp_path / "missing" / "h.csv", "csv")
    kept = tmp_path / "kept.csv"
    kept.write_text("as it was")
    file = WholeFile(kept)
    file.stream.write(b"half")
    file.discard()
    assert [kept.read_text(), *names_in(tmp_path)] == ["as it was", "kept.csv"]
