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
that lost or doubled one says so. Beside it, what the machine gives to two processes that do nothing but
decode: two virtual cores are seldom worth two.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
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

from rich.console import Console
from rich.table import Table

from bench.servers import broker as private_broker
from bench.servers import target
from ingest.decode import Decoder, Routes
from ingest.intake import Intake
from ingest.labels import LabelRules
from ingest.model import Delivery
from ingest.resolve import Catalog, Resolver
from ingest.settings import Settings
from tests.gateways import Message, publish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from bench.servers import Target
    from tests.servers import Mosquitto

_ROOT: Final = Path(__file__).parents[1]
_PATIENCE_S: Final = 150.0
_GATEWAYS: Final = 8
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
            self.alive(deadline_s, "connect")
            time.sleep(0.1)

    def alive(self, deadline_s: float, what: str) -> None:
        """Give up, with their log, when they have ended or the time for *what* they should do is over."""
        if time.monotonic() > deadline_s or self._process.poll() is not None:
            raise SystemExit(f"the workers do not {what}:\n{self._log.read_text()[-2000:]}")

    def began(self) -> datetime:
        """Give when the first of them was about to connect."""
        return min(datetime.fromisoformat(each["timestamp"]) for each in self.events("catalog_loaded"))

    def stop(self) -> None:
        """End them in order; the sessions stay."""
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


@contextlib.asynccontextmanager
async def running(folder: Path, broker: Mosquitto, dsn: str, count: int) -> AsyncIterator[Workers]:
    """Run *count* workers; they are stopped however it ends."""
    workers = Workers(folder, broker, dsn, count)
    try:
        yield workers
    finally:
        await asyncio.to_thread(workers.stop)


async def drained(database: Target, messages: list[Message], count: int) -> tuple[float, bool]:
    """Give the seconds that *count* workers take for *messages* that wait for them; whether all is there."""
    await database.clear()
    connection = database.connection
    with tempfile.TemporaryDirectory() as folder, private_broker() as broker:
        async with running(Path(folder), broker, database.dsn, count) as workers:
            await asyncio.to_thread(workers.wait_until_connected)
        await publish(broker.port, messages)  # the sessions have stayed, and get their shares of it
        async with running(Path(folder), broker, database.dsn, count) as workers:
            deadline_s = time.monotonic() + _PATIENCE_S
            committed = await connection.fetchrow(_COMMITTED)
            while committed is None or committed["messages"] < len(messages):
                workers.alive(deadline_s, "commit everything")
                await asyncio.sleep(0.05)
                committed = await connection.fetchrow(_COMMITTED)
            seconds = (committed["at"] - workers.began()).total_seconds()
    committed = await connection.fetchrow(_COMMITTED)
    rows = await connection.fetchval("select count(*) from iot.sensor_readings")
    exact = committed is not None and committed["messages"] == len(messages) and rows == 2 * len(messages)
    return seconds, exact


def decode(count: int) -> None:
    """Decode and resolve *count* messages, without broker and database; print the seconds."""
    settings = Settings()
    intake = Intake(
        Decoder(Routes(settings.route, settings.decode.ignore), settings.decode),
        Resolver(Catalog.build(), LabelRules(settings.label_rule), out_of_range="quarantine"),
        ignore_retained=True,
        max_batch_rows=count,
    )
    deliveries = [Delivery("GREENHOUSE/X/01", payload_of(number), 2, 1) for number in range(500)]
    started_s = time.perf_counter()
    for _ in range(count // len(deliveries)):
        intake.take_in(deliveries, time.time_ns() // 1000)
        intake.next_batch()
    print(time.perf_counter() - started_s)


def ceiling(count: int) -> float:
    """Give how many times as much two processes decode as one, each for itself."""

    def seconds(processes: int) -> float:
        command = [sys.executable, "-m", "bench.scale", "--decode", str(count)]
        running = [
            subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) for _ in range(processes)
        ]
        return max(float(each.communicate(timeout=_PATIENCE_S)[0]) for each in running)

    return round(2 * seconds(1) / seconds(2), 2)


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


async def measure(server: str | None, count: int, rounds: int) -> dict[str, object]:
    """Run one and two workers in each round, in turn, on a database of *server*'s; give the figures."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    ceilings: list[float] = []
    exact = True
    async with target(server) as database:
        topics = await make_greenhouses(database.connection)
        messages = [Message(topics[number % _GATEWAYS], payload_of(number)) for number in range(count)]
        for turn in range(rounds):
            for workers in (1, 2) if turn % 2 == 0 else (2, 1):
                seconds, whole = await drained(database, messages, workers)
                rates[workers].append(count / seconds)
                exact &= whole
            ceilings.append(await asyncio.to_thread(ceiling, count // 4))
        says = database.says
    one, two = statistics.median(rates[1]), statistics.median(rates[2])
    return {
        "target": says,
        "messages": count,
        "rounds": rounds,
        "cores": os.cpu_count(),
        "one_worker_messages_per_s": round(one),
        "two_workers_messages_per_s": round(two),
        "ratio": round(two / one, 2),
        "ceiling": statistics.median(ceilings),
        "exact": exact,
    }


def report(figures: dict[str, object]) -> None:
    """Print the table."""
    size = f"{figures['messages']:,} maps of 22 fields, {figures['rounds']} round(s)"
    table = Table(title=f"{size}, {figures['target']}, {figures['cores']} cores")
    for heading in ("workers", "messages/s", "to one"):
        table.add_column(heading, justify="right")
    table.add_row("1", f"{figures['one_worker_messages_per_s']:,}", "1.00")
    table.add_row("2", f"{figures['two_workers_messages_per_s']:,}", f"{figures['ratio']:.2f}")
    console = Console()
    console.print(table)
    console.print("each message once: " + ("yes" if figures["exact"] else "NO"))
    console.print(f"two processes that only decode: {figures['ceiling']:.2f} times one")


def main() -> int:
    """Parse the options, run, print; 1 when a message was lost or doubled."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description="One worker against two.")
    parser.add_argument("--quick", action="store_true", help="one round of 20 000 messages")
    parser.add_argument("--messages", type=int, help="messages a round")
    parser.add_argument("--rounds", type=int, help="rounds; the medians are shown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--decode", type=int, metavar="COUNT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.decode:
        decode(options.decode)
        return 0
    count = options.messages or (20_000 if options.quick else 60_000)
    rounds = options.rounds or (1 if options.quick else 3)
    figures = asyncio.run(measure(os.environ.get("INGEST_TEST_TIMESERIES_DSN"), count, rounds))
    report(figures)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if figures["exact"] else 1


if __name__ == "__main__":
    sys.exit(main())
