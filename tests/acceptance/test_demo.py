from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

ROOT = Path(__file__).parents[2]
DEMO = (sys.executable, "-m", "ingest", "demo", "--messages", "400")


async def start(directory: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *DEMO,
        *arguments,
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def last_line(stdout: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(stdout.decode().splitlines()[-1])
    return answer


async def test_every_published_reading_is_accounted_for(tmp_path: Path) -> None:
    process = await start(tmp_path)
    stdout, stderr = await process.communicate()

    assert process.returncode == 0, stdout.decode() + stderr.decode()
    answer = last_line(stdout)
    assert answer["ok"] is True
    assert (
        answer["readings_published"]
        == answer["rows_written"] + answer["duplicates"] + answer["dead_letters"] + answer["nulls"]
    )
    assert answer["dead_letters"] == answer["expected_dead_letters"] > 0
    assert answer["ignored"] == 3 + 12  # bad input, and a farewell from each gateway
    assert answer["normalized_pct"] == 100.0
    assert answer["compression_saved_pct"] > 0
    text = stdout.decode()
    for shown in ("Rows by sensor type", "Temperature on", "Dead letters by reason", "The ledgers"):
        assert shown in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_kept_running_it_can_be_asked_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    process = await start(tmp_path, "--json", "--keep")
    assert process.stdout is not None
    answer = last_line(await process.stdout.readline())
    connection = await asyncpg.connect(answer["timeseries_dsn"])
    rows = await connection.fetchval("select count(*) from iot.sensor_readings")
    await connection.close()
    process.send_signal(number)
    rest, stderr = await process.communicate()

    assert rows == answer["rows_written"]
    assert answer["broker_url"].startswith("mqtt://127.0.0.1:")
    assert (rest, stderr, process.returncode) == (b"", b"", 0)
