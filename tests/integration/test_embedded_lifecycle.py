"""The embedded TimescaleDB as a whole: its jobs, its data directory, its end, where it listens."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.embedded import EmbeddedDatabase
from ingest.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterator
from tests.embedded_clients import COLUMNS, START, connected, drop_tables, new_hypertable, readings, unique
from tests.servers import listening_addresses


@pytest.fixture(scope="module")
def database(embedded_database: EmbeddedDatabase) -> Iterator[EmbeddedDatabase]:
    """The run's embedded database; what the tests of the module make in it is dropped."""
    yield embedded_database
    asyncio.run(drop_tables(embedded_database))


async def test_continuous_aggregates_compression_and_jobs(database: EmbeddedDatabase) -> None:
    async with connected(database) as connection:
        table = await new_hypertable(connection)
        view = unique("hourly")
        await connection.copy_records_to_table(table, records=readings(7200), columns=COLUMNS)
        await connection.execute(f"""
            create materialized view {view}
            with (timescaledb.continuous, timescaledb.materialized_only = false) as
            select time_bucket('1 hour', time) as bucket, sensor_type_id, avg(value) as avg_value,
                   percentile_cont(0.95) within group (order by value) as p95, count(*) as count_readings
            from {table} group by 1, 2 with no data
        """)
        await connection.execute(f"call refresh_continuous_aggregate('{view}', null, null)")
        job = await connection.fetchval(f"select add_compression_policy('{table}', interval '3 days')")
        await connection.execute(f"call run_job({job})")
        assert await connection.fetchval(f"select sum(count_readings) from {view}") == 7200
        compressed = await connection.fetchval(
            "select bool_and(is_compressed) from timescaledb_information.chunks where hypertable_name = $1",
            table,
        )
        assert compressed is True
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.copy_records_to_table(table, records=readings(1), columns=COLUMNS)


async def test_a_data_directory_opens_again_however_it_was_closed(tmp_path: Path) -> None:
    """Stopped, asked to end (SIGTERM) and killed, the latter two with a client connected."""

    async def ended(database: EmbeddedDatabase, number: signal.Signals, exit_code: int) -> None:
        os.kill(database.pid, number)
        with pytest.raises(EmbeddedError, match=f"ended by itself with exit code {exit_code}"):
            await asyncio.wait_for(database.wait_closed(), 30)

    async with EmbeddedDatabase(tmp_path / "data") as database, connected(database) as connection:
        table = await new_hypertable(connection)
        await connection.copy_records_to_table(table, records=readings(1000), columns=COLUMNS)
        await connection.execute(f"select compress_chunk(c) from show_chunks('{table}') c")
        await connection.copy_records_to_table(
            table, records=readings(10, START + timedelta(hours=2)), columns=COLUMNS
        )
        await ended(database, signal.SIGTERM, 0)
    async with EmbeddedDatabase(tmp_path / "data") as database, connected(database) as connection:
        assert await connection.fetchval(f"select count(*) from {table}") == 1010
        rows = readings(5, START + timedelta(hours=4))
        assert await connection.copy_records_to_table(table, records=rows, columns=COLUMNS) == "COPY 5"
        await connection.execute(f"select compress_chunk(c, true) from show_chunks('{table}') c")
        await connection.copy_records_to_table(
            table, records=readings(10, START + timedelta(hours=6)), columns=COLUMNS
        )
        await ended(database, signal.SIGKILL, -9)
    async with EmbeddedDatabase(tmp_path / "data") as database, connected(database) as connection:
        assert await connection.fetchval(f"select count(*) from {table}") == 1025
        rows = readings(5, START + timedelta(hours=8))
        assert await connection.copy_records_to_table(table, records=rows, columns=COLUMNS) == "COPY 5"


def test_it_ends_with_its_parent() -> None:
    program = """
import os, signal
from ingest.embedded import EmbeddedDatabase
database = EmbeddedDatabase()
database.start_blocking()
print(database.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    parent = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    orphan = Path(f"/proc/{int(parent.stdout)}/cmdline")
    deadline = time.monotonic() + 10
    while orphan.exists() and orphan.read_bytes():  # an exited process that nobody reaps has no command line
        assert time.monotonic() < deadline, "the database outlived its parent"
        time.sleep(0.05)


async def test_it_listens_on_the_loopback_interface_only(database: EmbeddedDatabase) -> None:
    assert listening_addresses(database.pid) == {f"0100007F:{database.port:04X}"}
