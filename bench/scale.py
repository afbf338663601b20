"""One worker against two, on a load that decoding bounds: what the second process is worth.

    python -m bench.scale                three rounds of 60 000 messages, a round each way
    python -m bench.scale --quick        one round of 20 000
    python -m bench.scale --json FILE    the figures as JSON, too

Flat maps of 22 fields as gateways send them, QoS 1, of which two are readings worth storing, ten are null and
ten come from disconnected probes: those are resolved, judged out of range and, past the budget of dead
letters, counted. So a message costs the worker as much as 22 readings, and the database as little as two
rows: with both cores taken by workers, broker and database must get by with what is left. `ingest run
--workers N` as an operator runs it, over shared subscriptions, on a backlog that waits for its sessions; the
time is from the first worker's connecting to the last COMMIT. Every message is counted afterwards; a round
that lost or doubled one says so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from rich.console import Console
from rich.table import Table

from bench.__main__ import prepare, shipped_broker
from tests.gateways import Message, publish
from tests.servers import PostgresCluster

if TYPE_CHECKING:
    from tests.servers import Mosquitto

_ROOT: Final = Path(__file__).parents[1]
_PATIENCE_S: Final = 150.0
_GATEWAYS: Final = 8
_CLEAR: Final = """
truncate iot.sensor_readings, iot.ingest_sessions, iot.ingest_counters, iot.ingest_dead_letters,
    iot.ingest_dead_letter_overflow, iot.ingest_gateway_hours, iot.ingest_written_hours
"""
_COMMITTED: Final = """
select coalesce(sum(value), 0) as messages, max(updated_at) as at
from iot.ingest_counters
where counter = 'committed'
"""


def payload_of(number: int) -> bytes:
    """Give message *number*: 22 fields, two of them worth a row."""
    good = {"TEMPERATURA INVERNADERO 01": 20 + number % 100 / 10, "HUMEDAD INVERNADERO 01": 50.5}
    null = {f"SENSOR_{field:02}": None for field in range(10)}
    broken = {f"TEMPERATURA {field:02}": 6484.1 for field in range(2, 12)}
    return json.dumps(good | null | broken).encode()


class Workers:
    """One `ingest run --workers N` in a group, started and stopped; its log is its own."""

    def __init__(self, folder: Path, broker: Mosquitto, dsn: str, count: int) -> None:
        """*folder* keeps configuration and log."""
        self._log = folder / "log"
        self._count = count
        config = folder / "ingest.toml"
        config.write_text(
            f'broker_url = "{broker.url}"\n'
            f'[broker]\nclient_id = "scale-{count}"\nfilters = ["GREENHOUSE/+/+"]\n'
            "[write]\ndead_letters_per_topic_per_hour = 10\n"
            '[observe]\nhttp_port = "off"\nlog_format = "json"\n'
        )
        environment = os.environ | {"INGEST_METADATA_DSN": dsn, "INGEST_TIMESERIES_DSN": dsn}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ingest", "--config", str(config), "run", "--workers", str(count)],
                cwd=_ROOT,
                env=environment,
                stderr=log,
            )

    def events(self, name: str) -> list[dict[str, str]]:
        """Give its log lines of one event."""
        lines = self._log.read_text().splitlines()
        found: list[dict[str, str]] = [json.loads(line) for line in lines if line.startswith("{")]
        return [each for each in found if each["event"] == name]

    def wait_until_connected(self) -> None:
        """Return once each worker is subscribed."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while len(self.events("broker_connected")) < self._count:
            if time.monotonic() > deadline_s or self._process.poll() is not None:
                raise SystemExit(f"the workers do not connect:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.1)

    def began(self) -> datetime:
        """Give when the first of them was about to connect."""
        return min(datetime.fromisoformat(each["timestamp"]) for each in self.events("catalog_loaded"))

    def stop(self) -> None:
        """End them in order; the sessions stay."""
        self._process.terminate()
        self._process.wait(60)


async def drained(
    connection: asyncpg.Connection, dsn: str, messages: list[Message], count: int
) -> tuple[float, bool]:
    """Give the seconds that *count* workers take for *messages* that wait for them; whether all is there."""
    await connection.execute(_CLEAR)
    with tempfile.TemporaryDirectory() as folder, shipped_broker() as broker:
        workers = Workers(Path(folder), broker, dsn, count)
        await asyncio.to_thread(workers.wait_until_connected)
        await asyncio.to_thread(workers.stop)  # the sessions stay, and get their shares of what is published
        await publish(broker.port, messages)
        workers = Workers(Path(folder), broker, dsn, count)
        try:
            deadline_s = time.monotonic() + _PATIENCE_S
            committed = await connection.fetchrow(_COMMITTED)
            while committed is None or committed["messages"] < len(messages):
                if time.monotonic() > deadline_s:
                    raise SystemExit("not everything is committed in time")
                await asyncio.sleep(0.05)
                committed = await connection.fetchrow(_COMMITTED)
            seconds = (committed["at"] - workers.began()).total_seconds()
        finally:
            await asyncio.to_thread(workers.stop)
    committed = await connection.fetchrow(_COMMITTED)
    rows = await connection.fetchval("select count(*) from iot.sensor_readings")
    exact = committed is not None and committed["messages"] == len(messages) and rows == 2 * len(messages)
    return seconds, exact


async def make_greenhouses(connection: asyncpg.Connection) -> list[str]:
    """Register a tenant with one greenhouse for each gateway; give where they publish."""
    topics = []
    for number in range(_GATEWAYS):
        tenant_id, prefix = uuid.uuid4(), f"SCALE{number}"
        await connection.execute(
            "insert into metadata.tenants (id, name, mqtt_topic_prefix) values ($1, $2, $2)",
            tenant_id,
            prefix,
        )
        await connection.execute(
            "insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code) values ($1, $2, $3, $3)",
            uuid.uuid4(),
            tenant_id,
            "01",
        )
        topics.append(f"GREENHOUSE/{prefix}/01")
    return topics


async def measure(dsn: str, count: int, rounds: int) -> dict[str, object]:
    """Run one and two workers in each round, in turn; give the figures."""
    connection = await asyncpg.connect(dsn)
    topics = await make_greenhouses(connection)
    messages = [Message(topics[number % _GATEWAYS], payload_of(number)) for number in range(count)]
    rates: dict[int, list[float]] = {1: [], 2: []}
    exact = True
    for turn in range(rounds):
        for workers in (1, 2) if turn % 2 == 0 else (2, 1):
            seconds, whole = await drained(connection, dsn, messages, workers)
            rates[workers].append(count / seconds)
            exact &= whole
    await connection.close()
    one, two = statistics.median(rates[1]), statistics.median(rates[2])
    return {
        "messages": count,
        "rounds": rounds,
        "cores": os.cpu_count(),
        "one_worker_messages_per_s": round(one),
        "two_workers_messages_per_s": round(two),
        "ratio": round(two / one, 2),
        "exact": exact,
    }


def report(figures: dict[str, object], target: str) -> None:
    """Print the table."""
    size = f"{figures['messages']:,} maps of 22 fields, {figures['rounds']} round(s)"
    table = Table(title=f"{size}, {target}, {figures['cores']} cores")
    for heading in ("workers", "messages/s", "to one"):
        table.add_column(heading, justify="right")
    table.add_row("1", f"{figures['one_worker_messages_per_s']:,}", "1.00")
    table.add_row("2", f"{figures['two_workers_messages_per_s']:,}", f"{figures['ratio']:.2f}")
    console = Console()
    console.print(table)
    console.print("each message once: " + ("yes" if figures["exact"] else "NO"))


def main() -> int:
    """Parse the options, run, print; 1 when a message was lost or doubled."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description="One worker against two.")
    parser.add_argument("--quick", action="store_true", help="one round of 20 000 messages")
    parser.add_argument("--messages", type=int, help="messages a round")
    parser.add_argument("--rounds", type=int, help="rounds; the medians are shown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args()
    count = options.messages or (20_000 if options.quick else 60_000)
    rounds = options.rounds or (1 if options.quick else 3)
    external = os.environ.get("INGEST_TEST_TIMESERIES_DSN")
    if external:
        name = f"ingest_bench_{uuid.uuid4().hex[:8]}"
        asyncio.run(_execute(external, f"create database {name}"))
        dsn = urlunsplit(urlsplit(external)._replace(path=f"/{name}"))
        try:
            figures = _prepared_and_measured(dsn, count, rounds, timescale=True)
        finally:
            asyncio.run(_execute(external, f"drop database {name} with (force)"))
    else:
        with PostgresCluster() as cluster:
            figures = _prepared_and_measured(cluster.create_database(), count, rounds, timescale=False)
    report(figures, "TimescaleDB" if external else "PostgreSQL, no TimescaleDB")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if figures["exact"] else 1


def _prepared_and_measured(dsn: str, count: int, rounds: int, *, timescale: bool) -> dict[str, object]:
    asyncio.run(prepare(dsn, timescale=timescale))
    return asyncio.run(measure(dsn, count, rounds))


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


if __name__ == "__main__":
    sys.exit(main())
