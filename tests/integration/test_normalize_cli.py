"""`ingest normalize` as an operator meets it: what it prints, and its exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.migrate import Database, migrate
from tests.live_v11 import build

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.live_v11 import LiveV11


@pytest.fixture
def ingest(timescale_dsn: str, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("INGEST_")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ingest", *arguments],
            cwd=tmp_path,
            env={
                **environment,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "INGEST_METADATA_DSN": timescale_dsn,
                "INGEST_TIMESERIES_DSN": timescale_dsn,
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


async def live_content(dsn: str) -> LiveV11:
    content = await build(dsn, rows=600)
    for database in Database:
        await migrate(dsn, database)
    return content


async def test_rows_that_remain_are_named_and_exit_1(
    timescale_dsn: str, ingest: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    content = await live_content(timescale_dsn)
    rehearsed = await asyncio.to_thread(ingest, "normalize", "--dry-run", "--json")
    assert rehearsed.returncode == 1, rehearsed.stderr
    report = json.loads(rehearsed.stdout)
    assert (report["dry_run"], report["found"], report["merged"]) == (True, content.rows, content.identical)
    assert report["unknown"][0] | {"first": "", "last": ""} == {
        "reason": "unknown_type",
        "name": "VIBRATION",
        "rows": content.unknown_type,
        "first": "",
        "last": "",
        "what_to_do": "add it with `ingest catalog add alias` (or the type itself), then run again",
    }
    done = await asyncio.to_thread(ingest, "normalize")
    assert done.returncode == 1, done.stderr
    for part in (
        f"{content.rows} legacy rows in {content.chunks} chunks",
        f"{content.identical} merged: the same reading in another spelling",
        f"{content.differing} left: another value at the same time, sensor and type",
        f"{content.unmapped} left: a name or greenhouse that the catalog does not know",
        "'VIBRATION'",
        "unknown_unit",
        "decide which is right",
    ):
        assert part in done.stdout
    assert "hours (each of a greenhouse and type) are noted" in done.stderr


async def test_all_mapped_is_exit_0_and_so_is_nothing_to_do(
    timescale_dsn: str, ingest: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    await live_content(timescale_dsn)
    connection = await asyncpg.connect(timescale_dsn)
    try:
        # What the catalog will not know, and the one of two readings that is wrong.
        await connection.execute("set timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
        await connection.execute("""
            delete from iot.sensor_readings
            where sensor_id = '00000000-0000-4000-8000-0000000000aa'
                or (value >= 66 and sensor_type = 'temperatura')
        """)
    finally:
        await connection.close()
    first = await asyncio.to_thread(ingest, "normalize", "--refresh", "--rate", "100000")
    assert (first.returncode, first.stderr) == (0, "")
    computed = re.search(
        r"^(\d+) hours \(each of a greenhouse and type\) computed again$", first.stdout, re.MULTILINE
    )
    assert computed is not None
    assert int(computed[1]) > 0
    second = await asyncio.to_thread(ingest, "normalize", "--json")
    assert second.returncode == 0
    assert json.loads(second.stdout)["found"] == 0
    await dropped_with_consent_only(timescale_dsn, ingest)


async def dropped_with_consent_only(
    dsn: str, ingest: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Drop the legacy columns of a database where no row needs them any more."""
    names = "select count(sensor_type), count(unit) from iot.sensor_readings"
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("drop materialized view iot.sensor_readings_hourly_v11")
        await connection.execute("drop materialized view iot.sensor_readings_daily_by_tenant_v11")
        before = await connection.fetchrow(names)
        assert before is not None
        refused = await asyncio.to_thread(ingest, "normalize", "--drop-legacy-columns")
        looked = await asyncio.to_thread(ingest, "normalize", "--drop-legacy-columns", "--dry-run")
        assert await connection.fetchrow(names) == before
    finally:
        await connection.close()
    told = (
        f"iot.sensor_readings.sensor_type (something in {before[0]} rows) and .unit "
        f"(in {before[1]} rows) would be dropped for good"
    )
    assert refused.returncode == 2
    assert f"{told}; nothing was dropped: add --yes" in refused.stderr
    assert (looked.returncode, looked.stdout) == (0, f"{told}\n")
    dropped = await asyncio.to_thread(ingest, "normalize", "--drop-legacy-columns", "--yes", "--json")
    assert (dropped.returncode, json.loads(dropped.stdout)["columns_dropped"]) == (0, 2)


async def test_what_is_not_migrated_says_so(
    timescale_dsn: str, ingest: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    await build(timescale_dsn, rows=600)
    refused = await asyncio.to_thread(ingest, "normalize")
    assert refused.returncode == 1
    assert "run `ingest schema migrate`" in refused.stderr


async def test_dropping_the_columns_takes_no_other_option_and_is_refused(
    timescale_dsn: str, ingest: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    await live_content(timescale_dsn)
    usage = await asyncio.to_thread(ingest, "normalize", "--drop-legacy-columns", "--refresh")
    assert usage.returncode == 2
    assert "takes --dry-run and --yes" in usage.stderr
    refused = await asyncio.to_thread(ingest, "normalize", "--drop-legacy-columns")
    assert refused.returncode == 1
    assert "sensor_readings_daily_by_tenant_v11" in refused.stderr or "hourly_v11" in refused.stderr
