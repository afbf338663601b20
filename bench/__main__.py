"""The worker against two limits and the usual loop, on one backlog, in one run.

    make bench                       three rounds of 60 000 messages
    make bench ARGS=--quick          one round of 20 000
    make bench ARGS="--json FILE"    the figures as JSON, too

Single readings with a time, QoS 1, MQTT 5 for the worker, Mosquitto as shipped, the production schema with
its unique index. On the TimescaleDB whose DSN is in INGEST_TEST_TIMESERIES_DSN, else on PostgreSQL without
the TimescaleDB statements; the table says which. Everything on loopback; rows are counted after each drain,
and a contender that lost or doubled some is marked. Medians of the rounds; ratios first.
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
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from rich.console import Console
from rich.table import Table

from ingest.migrate import Database, migrate
from ingest.model import Row, Series
from ingest.write.copy import copy_straight, pack
from tests.integration.plain_postgres import create_timeseries_schema
from tests.servers import Mosquitto, PostgresCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[1]
_FILTER = "greenhouse/+/sensors/+"
_SENSORS = 100
_CONTENDERS = ("worker", "paho_executemany", "socket_drain", "raw_copy")
_LIMITS = ("socket_drain", "raw_copy")
_CLEAR = """
truncate iot.sensor_readings, iot.ingest_sessions, iot.ingest_counters, iot.ingest_dead_letters,
    iot.ingest_gateway_hours, iot.ingest_written_hours
"""


@dataclass
class Figures:
    """What the rounds gave for one contender."""

    rows_per_s: list[float] = field(default_factory=list)
    cpu_us_per_message: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    exact: bool = True


def publish(url: str, greenhouse: uuid.UUID, count: int) -> None:
    """Publish *count* readings at QoS 1, each with a time and value of its own."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="bench-publisher")
    client.max_inflight_messages_set(1000)
    parts = urlsplit(url)
    client.connect(parts.hostname or "", parts.port or 1883)
    client.loop_start()
    start = datetime.now(UTC) - timedelta(days=1)
    info = None
    for index in range(count):
        moment = start + timedelta(milliseconds=10 * index)
        payload = {
            "sensor_id": f"S-{index % _SENSORS}",
            "value": index % 1000 / 10,
            "unit": "°C",
            "timestamp": moment.isoformat(),
        }
        info = client.publish(f"greenhouse/{greenhouse}/sensors/temperature", json.dumps(payload), 1)
        if index % 5000 == 0:
            info.wait_for_publish(60)
    if info is not None:
        info.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def keep_session(url: str, client_id: str) -> None:
    """Make a persistent session that is subscribed and away, so that the backlog is queued for it."""
    parts = urlsplit(url)
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)

    def on_connect(*_: object) -> None:
        client.subscribe(_FILTER, 1)

    def on_subscribe(*_: object) -> None:
        client.disconnect()

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.connect(parts.hostname or "", parts.port or 1883)
    client.loop_forever()


def drain(*arguments: str) -> float:
    """Run one of `bench.drain`'s clients as a process; give its seconds."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.drain", *arguments],
        cwd=_ROOT, check=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return float(done.stdout)


async def work(
    url: str, client_id: str, dsn: str, count: int, connection: asyncpg.Connection
) -> tuple[float, float, float]:
    """Run the worker until all is committed: seconds since it began to connect, CPU µs a message, MiB."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        environment = os.environ | {
            "INGEST_BROKER_URL": url,
            "INGEST_BROKER__CLIENT_ID": client_id,
            "INGEST_BROKER__FILTERS": json.dumps([_FILTER]),
            "INGEST_METADATA_DSN": dsn,
            "INGEST_TIMESERIES_DSN": dsn,
            "INGEST_OBSERVE__HTTP_PORT": "off",
            "INGEST_OBSERVE__LOG_FORMAT": "json",
        }
        Path(folder, "ingest.toml").touch()
        command = [sys.executable, "-m", "ingest", "--config", f"{folder}/ingest.toml", "run"]
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=_ROOT, env=environment, stderr=output)
        try:
            deadline = time.monotonic() + 120
            committed = None
            while time.monotonic() < deadline and process.poll() is None:
                committed = await connection.fetchrow(
                    "select value, updated_at from iot.ingest_counters where counter = 'committed'"
                )
                if committed is not None and committed["value"] >= count:
                    break
                await asyncio.sleep(0.02)
            status = Path(f"/proc/{process.pid}/status").read_text()
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        finally:
            process.terminate()
            process.wait(60)
        if committed is None:
            raise SystemExit(f"the worker committed nothing:\n{log.read_text()[-2000:]}")
        events = [json.loads(line) for line in log.read_text().splitlines()]
        # Its last line before it connects; broker_connected comes with the SUBACK, behind the backlog.
        started = next(each["timestamp"] for each in events if each["event"] == "catalog_loaded")
        seconds = (committed["updated_at"] - datetime.fromisoformat(started)).total_seconds()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return seconds, cpu_s / count * 1e6, int(peak.split()[1]) / 1024


async def raw_copy(connection: asyncpg.Connection, count: int) -> float:
    """COPY *count* packed rows in batches of 10 000: the database's own limit."""
    tenant, greenhouse = uuid.uuid4(), uuid.uuid4()
    series = [
        Series(greenhouse, tenant, uuid.uuid4(), 1, 1, float("-inf"), float("inf")) for _ in range(_SENSORS)
    ]
    now_us = time.time_ns() // 1000
    packed = pack(
        [Row(series[index % _SENSORS], now_us + 10_000 * index, 20.0, None, "") for index in range(count)]
    )
    started = time.perf_counter()
    for start in range(0, count, 10_000):
        await copy_straight(connection, packed[start : start + 10_000])
    return time.perf_counter() - started


async def measure(url: str, dsn: str, count: int, rounds: int) -> dict[str, Figures]:
    """Run every contender in each round, on a backlog of its own that was published once for all."""
    figures = {name: Figures() for name in _CONTENDERS}
    connection = await asyncpg.connect(dsn)
    tenant_id, greenhouse = uuid.uuid4(), uuid.uuid4()
    await connection.execute(
        "insert into metadata.tenants (id, name, mqtt_topic_prefix) values ($1, 'bench', 'BENCH')", tenant_id
    )
    await connection.execute(
        "insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code) values ($1, $2, 'b', '01')",
        greenhouse,
        tenant_id,
    )
    for turn in range(rounds):
        sessions = {name: f"bench-{turn}-{name}" for name in _CONTENDERS if name != "raw_copy"}
        for client_id in sessions.values():
            await asyncio.to_thread(keep_session, url, client_id)
        await asyncio.to_thread(publish, url, greenhouse, count)
        for name, figure in figures.items():
            await connection.execute(_CLEAR)
            if name == "worker":
                seconds, cpu_us, rss_mb = await work(url, sessions[name], dsn, count, connection)
                figure.cpu_us_per_message.append(cpu_us)
                figure.rss_mb.append(rss_mb)
            elif name == "raw_copy":
                seconds = await raw_copy(connection, count)
            elif name == "socket_drain":
                seconds = await asyncio.to_thread(drain, "socket", url, sessions[name], str(count))
            else:
                seconds = await asyncio.to_thread(drain, "paho", url, sessions[name], str(count), dsn)
            figure.rows_per_s.append(count / seconds)
            stored = await connection.fetchval("select count(*) from iot.sensor_readings")
            figure.exact &= stored == (0 if name == "socket_drain" else count)
    await connection.close()
    return figures


def report(figures: dict[str, Figures], target: str, count: int, rounds: int) -> dict[str, object]:
    """Print the table; give the figures for JSON."""
    rate = {name: statistics.median(figure.rows_per_s) for name, figure in figures.items()}
    limit = min(rate[name] for name in _LIMITS)
    worker = figures["worker"]
    table = Table(title=f"{count:,} single readings, QoS 1, {rounds} round(s), {target}")
    for heading in ("contender", "worker / it", "rows/s", "exact"):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    for name in _CONTENDERS:
        exact = "yes" if figures[name].exact else "NO"
        table.add_row(name, f"{rate['worker'] / rate[name]:.2f}", f"{rate[name]:,.0f}", exact)
    console = Console()
    console.print(table)
    cpu_us = statistics.median(worker.cpu_us_per_message)
    rss_mb = statistics.median(worker.rss_mb)
    console.print(f"worker: {cpu_us:.1f} µs CPU a message with its start, {rss_mb:.0f} MiB at most")
    return {
        "target": target,
        "messages": count,
        "rounds": rounds,
        "workloads": {
            "single_readings_qos1": {
                "rows_per_s": {name: round(value) for name, value in rate.items()},
                "ratio_to_limit": round(rate["worker"] / limit, 3),
                "ratio_to_paho_executemany": round(rate["worker"] / rate["paho_executemany"], 3),
                "cpu_us_per_message": round(cpu_us, 2),
                "rss_mb": round(rss_mb),
                "exact": all(figure.exact for figure in figures.values()),
            }
        },
    }


@contextlib.contextmanager
def shipped_broker() -> Iterator[Mosquitto]:
    """Run a Mosquitto with config/mosquitto.conf, except that everybody may log in and do anything."""
    with tempfile.TemporaryDirectory() as folder:
        rights, logins = Path(folder, "rights"), Path(folder, "logins")
        rights.write_text("topic readwrite #\n")
        logins.touch()
        given: dict[str, str | int] = {
            "allow_anonymous": "true",
            "password_file": str(logins),
            "acl_file": str(rights),
        }
        Path(folder).chmod(0o755)
        with Mosquitto(_ROOT / "config" / "mosquitto.conf", given) as broker:
            yield broker


async def prepare(dsn: str, *, timescale: bool) -> None:
    """Make both schemas in the database of *dsn*."""
    await migrate(dsn, Database.METADATA)
    if timescale:
        await migrate(dsn, Database.TIMESERIES)
        return
    connection = await asyncpg.connect(dsn)
    await create_timeseries_schema(connection)
    await connection.close()


def main() -> int:
    """Parse the options, run, print; 1 when a contender lost or doubled rows."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="The worker against its limits.")
    parser.add_argument("--quick", action="store_true", help="one round of 20 000 messages")
    parser.add_argument("--messages", type=int, help="messages a round")
    parser.add_argument("--rounds", type=int, help="rounds; the medians are shown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args()
    count = options.messages or (20_000 if options.quick else 60_000)
    rounds = options.rounds or (1 if options.quick else 3)
    external = os.environ.get("INGEST_TEST_TIMESERIES_DSN")
    with shipped_broker() as broker, PostgresCluster() as cluster:
        if external:
            name = f"ingest_bench_{uuid.uuid4().hex[:8]}"
            asyncio.run(_execute(external, f"create database {name}"))
            dsn = urlunsplit(urlsplit(external)._replace(path=f"/{name}"))
        else:
            name = None
            dsn = cluster.create_database()
        try:
            asyncio.run(prepare(dsn, timescale=external is not None))
            figures = asyncio.run(measure(broker.url, dsn, count, rounds))
        finally:
            if name is not None:
                asyncio.run(_execute(external or "", f"drop database {name} with (force)"))
    result = report(figures, "TimescaleDB" if external else "PostgreSQL, no TimescaleDB", count, rounds)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(figure.exact for figure in figures.values()) else 1


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


if __name__ == "__main__":
    sys.exit(main())
