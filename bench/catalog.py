"""The worker with a catalog of a million sensors: start, memory, the event loop while the catalog changes.

    python -m bench.catalog                          1 000 tenants, 10 000 greenhouses, 1 000 000 sensors
    python -m bench.catalog --greenhouses 100        of a hundred sensors each; ten greenhouses a tenant
    python -m bench.catalog --each 22                220 000 sensors
    python -m bench.catalog --json FILE              the figures as JSON, too

The worker of `ingest run` with a probe in its event loop (`bench.probed_worker`), while readings of random
sensors flow into the production schema. On the TimescaleDB of INGEST_TEST_TIMESERIES_DSN, else on PostgreSQL
without the TimescaleDB statements. Each sensor has a code, a device, a label, a type, a unit and an interval.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from rich.console import Console
from rich.table import Table

from ingest.migrate import Database, migrate
from tests.gateways import Message, publish
from tests.integration.plain_postgres import create_both_schemas
from tests.servers import PostgresCluster, shipped_broker
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT: Final = Path(__file__).parents[1]
_RATE: Final = 2_000
"""Readings a second."""
_EVERY_S: Final = 0.02
"""How often some come: each arrival is a pause of its own, whatever the catalog does."""
_PHASE_S: Final = 10.0
_PATIENCE_S: Final = 300.0
_COLUMNS: Final = (
    ("s", "seconds"),
    ("longest pause ms", "longest_pause_ms"),
    ("99.9 % ms", "p999_pause_ms"),
    ("longest CPU ms", "longest_cpu_ms"),
    ("longest gc ms", "longest_collection_ms"),
    ("RSS MiB", "rss_mb"),
    ("peak MiB", "peak_mb"),
    ("CPU s", "cpu_s"),
)
"""Heading and key of each figure of a phase."""

_TENANTS = """
insert into metadata.tenants (name, mqtt_topic_prefix)
select 'Tenant ' || n, 'T' || n
from generate_series(1, $1::integer / 10 + 1) as n
"""
_GREENHOUSES = """
insert into metadata.greenhouses (tenant_id, name, greenhouse_code)
select t.id, 'House ' || n, lpad((n % 10 + 1)::text, 2, '0')
from generate_series(0, $1::integer - 1) as n
join metadata.tenants as t on t.name = 'Tenant ' || n / 10 + 1
"""
_SENSORS = """
insert into metadata.sensors (
    greenhouse_id,
    tenant_id,
    sensor_code,
    device_id,
    mqtt_field_name,
    sensor_type_id,
    unit_id,
    expected_interval_s
)
select
    g.id,
    g.tenant_id,
    'DHT22-' || g.greenhouse_code || '-' || lpad(n::text, 3, '0'),
    'ESP32-' || left(g.id::text, 8) || '-' || n / 4,
    'TEMPERATURA INVERNADERO ' || g.greenhouse_code || ' ' || lpad(n::text, 3, '0'),
    1,
    1,
    10
from metadata.greenhouses as g
cross join generate_series(0, $1::integer - 1) as n
"""
_SAMPLE = """
select id, greenhouse_id::text, sensor_code
from metadata.sensors
order by random()
limit 20000
"""
_RENAME = "update metadata.sensors set device_id = $2 where id = $1"
_CUT_OFF = """
select pg_terminate_backend(pid)
from pg_stat_activity
where application_name = 'greenhouse-ingest catalog'
"""


async def fill(connection: asyncpg.Connection[asyncpg.Record], greenhouses: int, each: int) -> None:
    """Register *greenhouses* of *each* so many sensors; no trigger runs for each of a million rows."""
    await connection.execute("set session_replication_role = replica")
    await connection.execute(_TENANTS, greenhouses)
    await connection.execute(_GREENHOUSES, greenhouses)
    await connection.execute(_SENSORS, each, timeout=_PATIENCE_S)
    await connection.execute("reset session_replication_role")
    await connection.execute("vacuum analyze metadata.sensors")


class Probed:
    """A probed worker as a process: its log, and the figures of its phases."""

    def __init__(self, folder: Path, url: str, dsn: str) -> None:
        """Start it."""
        config = folder / "ingest.toml"
        config.touch()
        self._log = folder / "log"
        environment = os.environ | {
            "INGEST_BROKER_URL": url,
            "INGEST_BROKER__CLIENT_ID": "bench-catalog",
            "INGEST_BROKER__FILTERS": json.dumps(["greenhouse/+/readings"]),
            "INGEST_METADATA_DSN": dsn,
            "INGEST_TIMESERIES_DSN": dsn,
            "INGEST_OBSERVE__HTTP_PORT": "off",
        }
        self.started_s = time.time()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.probed_worker", str(config)],
                cwd=_ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip

    def loaded_s(self) -> list[float]:
        """Give when it took a catalog into use, each time."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        loaded = [line for line in lines if line["event"] == "catalog_loaded"]
        return [datetime.fromisoformat(line["timestamp"]).timestamp() for line in loaded]

    async def loads(self, count: int) -> float:
        """Wait for the *count*-th catalog; give when it came."""
        await until(lambda: len(self.loaded_s()) >= count, patience_s=_PATIENCE_S)
        return self.loaded_s()[count - 1]

    async def phase(self) -> dict[str, Any]:
        """End a phase; give its figures."""
        return await asyncio.to_thread(self._phase)

    def stop(self) -> None:
        """Have it leave in order."""
        self._process.communicate(timeout=60)

    def _phase(self) -> dict[str, Any]:
        asking, answering = self._process.stdin, self._process.stdout
        if asking is None or answering is None:
            raise SystemExit("the worker has no pipes")
        asking.write(b"\n")
        asking.flush()
        figures: dict[str, Any] = json.loads(answering.readline())
        return figures


async def flow(port: int, sensors: list[tuple[str, str]]) -> None:
    """Publish readings of random *sensors*, (greenhouse, code) each, for ever."""
    chance = random.Random(1)  # noqa: S311 (a sample, not a secret)
    while True:
        began_s = time.monotonic()
        some = chance.choices(sensors, k=int(_RATE * _EVERY_S))
        await publish(
            port,
            [
                Message(
                    f"greenhouse/{greenhouse}/readings",
                    b'[{"sensor_id": "%b", "value": 20.5}]' % code.encode(),
                )
                for greenhouse, code in some
            ],
        )
        await asyncio.sleep(max(0.0, began_s + _EVERY_S - time.monotonic()))


async def measure(dsn: str, port: int, folder: Path, greenhouses: int, each: int) -> dict[str, Any]:
    """Run the phases; give their figures."""
    connection = await asyncpg.connect(dsn)
    await fill(connection, greenhouses, each)
    rows = await connection.fetch(_SAMPLE)
    ids = [row[0] for row in rows]
    figures: dict[str, Any] = {"sensors": greenhouses * each}
    worker = Probed(folder, f"mqtt://127.0.0.1:{port}", dsn)
    flowing: asyncio.Task[None] | None = None
    try:
        loaded_s = await worker.loads(1)
        figures["start"] = await worker.phase() | {"seconds": round(loaded_s - worker.started_s, 1)}
        flowing = asyncio.create_task(flow(port, [(row[1], row[2]) for row in rows]))
        began_s = time.monotonic()
        all_of_them = f"select count(*) = {figures['sensors']} from iot.sensor_intervals"
        await until(lambda: _holds(connection, all_of_them), patience_s=_PATIENCE_S)
        figures["mirror"] = await worker.phase() | {"seconds": round(time.monotonic() - began_s, 1)}
        await asyncio.sleep(_PHASE_S)
        figures["flow"] = await worker.phase()
        count, delays_s = 1, []
        for number in range(int(_PHASE_S)):
            await connection.execute(_RENAME, ids[number], f"new {number}")
            changed_s = time.time()
            count += 1
            delays_s.append(await worker.loads(count) - changed_s)
            await asyncio.sleep(0.5)
        figures["one changed"] = await worker.phase() | {"seconds": round(max(delays_s), 2)}
        await connection.executemany(_RENAME, [(each, "many") for each in ids[:1000]])
        changed_s = time.time()
        count += 1
        figures["1 000 changed"] = {"seconds": round(await worker.loads(count) - changed_s, 2)}
        await asyncio.sleep(1.0)
        figures["1 000 changed"] |= await worker.phase()
        await connection.execute("set session_replication_role = replica")
        await connection.execute(_RENAME, ids[0], "in silence")
        await connection.execute(_CUT_OFF)
        cut_s = time.time()
        last_s = await worker.loads(len(worker.loaded_s()) + 1)
        figures["all read again"] = await worker.phase() | {"seconds": round(last_s - cut_s, 1)}
    finally:
        if flowing is not None:
            flowing.cancel()
            await asyncio.gather(flowing, return_exceptions=True)
        worker.stop()
        await connection.close()
    return figures


async def _holds(connection: asyncpg.Connection[asyncpg.Record], sql: str) -> bool:
    return bool(await connection.fetchval(sql))


def report(figures: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(title=f"{figures['sensors']:,} sensors, {_RATE:,} readings/s; longest ms, MiB")
    for heading, _ in (("phase", ""), *_COLUMNS):
        table.add_column(heading, justify="left" if heading == "phase" else "right")
    for phase, of_phase in figures.items():
        if isinstance(of_phase, dict):
            table.add_row(phase, *(str(of_phase.get(key, "")) for _, key in _COLUMNS))
    Console().print(table)


@contextlib.contextmanager
def database() -> Iterator[str]:
    """Give the DSN of a database of one's own, with both schemas."""
    external = os.environ.get("INGEST_TEST_TIMESERIES_DSN")
    if external is None:
        with PostgresCluster() as cluster:
            dsn = cluster.create_database()
            asyncio.run(create_both_schemas(dsn))
            yield dsn
        return
    name = f"ingest_bench_{uuid.uuid4().hex[:8]}"
    asyncio.run(_execute(external, f"create database {name}"))
    try:
        dsn = urlunsplit(urlsplit(external)._replace(path=f"/{name}"))
        for each in Database:
            asyncio.run(migrate(dsn, each))
        yield dsn
    finally:
        asyncio.run(_execute(external, f"drop database {name} with (force)"))


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


def main() -> int:
    """Parse the options, run, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.catalog", description="A large catalog.")
    parser.add_argument("--greenhouses", type=int, default=10_000, help="so many (10 000)")
    parser.add_argument("--each", type=int, default=100, help="sensors of each greenhouse (100)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, shipped_broker(Path(name)) as broker, database() as dsn:
        figures = asyncio.run(measure(dsn, broker.port, Path(name), options.greenhouses, options.each))
    report(figures)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
