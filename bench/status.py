"""How long `ingest status` takes on a database of many chunks: `python -m bench.status --chunks 10000`.

Makes a database of its own on the native TimescaleDB of INGEST_TEST_TIMESERIES_DSN, a chunk a day with ten
readings, compresses all but the last days, looks three times, and drops it. Making 10 000 chunks takes about
ten minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
import uuid
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from pydantic import SecretStr

from ingest.migrate import Database, migrate
from ingest.operate.status import look
from ingest.settings import Settings

HOLD_JOBS = """
    select alter_job(job_id, scheduled => false)
    from timescaledb_information.jobs
    where job_id >= 1000
"""
ADD = """
    insert into iot.sensor_readings
        (time, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id, value)
    select
        date_trunc('day', now(), 'UTC') - d * interval '24 hours' + n * interval '1 minute',
        '11111111-1111-4111-8111-111111111111',
        '33333333-3333-4333-8333-333333333333',
        '00000000-0000-4000-8000-000000000001',
        1,
        1,
        n
    from generate_series($1::integer, $2::integer) as d
    cross join generate_series(0, 9) as n
"""
COMPRESS = """
    select count(compress_chunk(c))
    from (
        select format('%I.%I', chunk_schema, chunk_name)::regclass as c
        from timescaledb_information.chunks
        where hypertable_name = 'sensor_readings'
            and not is_compressed
            and range_end < now() - interval '3 days'
        order by range_start
        limit 20
    ) as due
"""
AT_ONCE = 20
"""Chunks in one transaction: a server has 6 400 locks by default."""


async def main() -> None:
    """Build, look, print, drop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=10_000)
    chunks = parser.parse_args().chunks
    server = os.environ["INGEST_TEST_TIMESERIES_DSN"]
    name = f"ingest_bench_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(server)
    await admin.execute(f"create database {name}")
    try:
        dsn = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        await build(dsn, chunks)
        settings = Settings(metadata_dsn=SecretStr(dsn), timeseries_dsn=SecretStr(dsn))
        for _ in range(3):
            began_s = time.monotonic()
            found = await look(settings, datetime.now(UTC))
            took_s = time.monotonic() - began_s
            readings, tables = found.readings, found.hypertables
            if found.faults or readings is None or tables is None:
                raise SystemExit(f"not looked at: {found.faults}")
            (table,) = [each for each in tables if each.name == "sensor_readings"]
            print(
                f"{table.chunks} chunks, {table.compressed} compressed: {took_s:.2f} s, of which "
                f"{settings.status.count_for_s:g} s may be counting ({readings.counted} chunks counted)"
            )
    finally:
        await admin.execute(f"drop database {name} with (force)")
        await admin.close()


async def build(dsn: str, chunks: int) -> None:
    """Migrate, and make the chunks."""
    for each in Database:
        await migrate(dsn, each)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(HOLD_JOBS)
        for first in range(0, chunks, AT_ONCE):
            await connection.execute(ADD, first, min(first + AT_ONCE, chunks) - 1)
        while await connection.fetchval(COMPRESS):
            pass
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
