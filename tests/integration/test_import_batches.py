"""What an import commits at once, and a word to stop that comes before or after the last of it."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from ingest.commands.ending import ended
from ingest.commands.importing import show
from ingest.load.importing import MOST_BYTES, ImportPlan, import_files
from tests.histories import PROBE, counts, fetch, lines, objects, register, settings_for

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.operate.progress import Progress


@pytest.fixture
async def dsn(plain_dsn: str) -> str:
    await register(plain_dsn)
    return plain_dsn


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
async def test_long_records_make_a_batch_of_fewer(dsn: str, tmp_path: Path, suffix: str) -> None:
    note, number = "x" * 900_000, 30
    path = tmp_path / f"a.{suffix}"
    if suffix == "csv":
        cells = ",".join([note[:90_000]] * 10)
        lines(path, "time,value,a,b,c,d,e,f,g,h,i,j", *[f"2024-07-01T10:00:00Z,,{cells}"] * number)
    else:
        objects(path, *[{"time": "2024-07-01T10:00:00Z", "value": None, "note": note}] * number)
    done: list[int] = []

    def on_progress(step: Progress) -> None:
        if step.doing == "importing":
            done.append(step.done)

    report = await import_files(settings_for(dsn), ImportPlan([path]), on_progress=on_progress)
    assert counts(report) == (number, 0, 0, number, 0)
    assert done[0] == 0
    assert all(before < after <= before + MOST_BYTES // len(note) + 1 for before, after in pairwise(done))
    assert done[-1] > number - MOST_BYTES // len(note) - 1


@pytest.mark.parametrize("last", [False, True])
async def test_a_word_to_stop(dsn: str, tmp_path: Path, *, last: bool) -> None:
    records = [f"{1_720_000_000 + number},{number},{PROBE}" for number in range(4)]
    path = lines(tmp_path / "a.csv", "time,value,sensor", *records)
    stop = asyncio.Event()

    def on_progress(step: Progress) -> None:
        if step.doing == "importing" and step.done == (4 if last else 2):
            stop.set()

    settings = settings_for(dsn, write={"max_batch_rows": 2})
    report = await import_files(settings, ImportPlan([path]), stop=stop, on_progress=on_progress)
    assert stop.is_set()
    assert (report.interrupted, report.clean, report.written) == (not last, last, 4 if last else 2)
    (row,) = await fetch(dsn, "select status from metadata.bulk_operation_log")
    assert row["status"] == ("COMPLETED" if last else "CANCELLED")
    assert report.as_json()["records"] == 4


async def test_a_word_to_stop_while_the_files_are_looked_at(
    dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lines(tmp_path / "a.csv", "time,value,sensor", *[f"1720000000,1,{PROBE}"] * 2_500)
    stop = asyncio.Event()
    stop.set()
    report = await import_files(settings_for(dsn), ImportPlan([path]), stop=stop)
    assert report.as_json()["records"] is None, "of which 2 000 were looked at"
    assert ended(report, show, as_json=False) == 130
    told = capsys.readouterr()
    assert "stopped after a look at 2000 records, before all were looked at: nothing was written" in told.out
    assert "run it again to go on" in told.err
    assert not await fetch(dsn, "select from metadata.bulk_operation_log")
