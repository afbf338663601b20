"""A CSV file is read as it was written, whatever ends of lines stand in the texts of legacy rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ingest.load.tables import Table
from tests.histories import HOUSE, exported, fetch, register

if TYPE_CHECKING:
    from pathlib import Path

AT = datetime(2024, 3, 31, tzinfo=UTC)
UNITS = ["ppm\r", "ppm\n", "p\r\npm", "\r", 'p"pm', "ppm"]


async def test_ends_of_lines_in_texts(plain_dsn: str, tmp_path: Path) -> None:
    await register(plain_dsn)
    await fetch(
        plain_dsn,
        "insert into iot.sensor_readings (time, greenhouse_id, sensor_type, unit, value) "
        "select $1::timestamptz + number * interval '1 s', $2, 'CO2', unit, number "
        "from unnest($3::text[]) with ordinality as given (unit, number)",
        AT, HOUSE, UNITS,
    )  # fmt: skip
    path = tmp_path / "h.csv"
    assert (await exported(plain_dsn, path, "csv")).rows == len(UNITS)
    table = Table(path, file_format=None, delimiter=None, max_depth=16)
    found = [(each.content[table.header.index("unit")], each.fault) for each in table.records()]
    assert found == [(unit, None) for unit in UNITS]
    assert path.read_bytes().count(b"\r\n") == 1, "lines themselves end with a line feed alone"
