"""Where an export may go besides a file of its own: devices, pipes, a disk that is full."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pyarrow.parquet
import pytest

from ingest.errors import CheckFailed
from ingest.load import exporting
from ingest.load.exporting import Wanted, export
from ingest.load.whole_file import WholeFile
from tests.histories import EPOCH, exported, fill, register, rows, settings_for

if TYPE_CHECKING:
    from ingest.load.exporting import ExportFormat
    from ingest.operate.progress import Progress

SINCE = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
async def dsn(plain_dsn: str) -> str:
    await register(plain_dsn)
    await fill(plain_dsn, SINCE)
    return plain_dsn


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
async def test_a_full_disk_is_not_a_database_away(dsn: str, file_format: ExportFormat) -> None:
    with pytest.raises(CheckFailed, match=r"^/dev/full: cannot be written: No space left on device$"):
        await exported(dsn, Path("/dev/full"), file_format)


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
async def test_a_pipe_gets_all_of_it(dsn: str, tmp_path: Path, file_format: ExportFormat) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    report = await exported(dsn, pipe, file_format)
    await asyncio.to_thread(reader.join, 10)
    values = [row["value"] for row in await rows(dsn)]
    if file_format == "parquet":
        found = pyarrow.parquet.read_table(io.BytesIO(read[0])).column("value").to_pylist()
    elif file_format == "jsonl":
        found = [orjson.loads(line)["value"] for line in read[0].splitlines()]
    else:
        assert read[0].count(b"\n") >= len(values) + 1
        found = values
    assert (report.rows, found) == (len(values), values)


async def test_a_late_word_to_stop_takes_nothing_back(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = len(await rows(dsn))
    wanted = Wanted(EPOCH, datetime.now(UTC))
    for size, finished in ((total, True), (total - 1, False)):
        monkeypatch.setattr(exporting, "PAGE_ROWS", size)
        stop = asyncio.Event()

        def on_progress(_: Progress, stop: asyncio.Event = stop) -> None:
            stop.set()

        file = WholeFile(tmp_path / f"{size}.csv")
        report = await export(settings_for(dsn), wanted, file, "csv", stop=stop, on_progress=on_progress)
        assert (report.interrupted, file.path.exists()) == (not finished, finished)
