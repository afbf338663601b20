"""The demonstration from start to finish; see the package's header.

Owns the processes it starts and ends them, whatever happens. Progress goes to stderr, the report
and, as its last line, one JSON object to stdout.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ingest.demo import report
from ingest.demo.fleet import CATALOG, INACTIVE_SENSOR, Expected, Gateway, Message
from ingest.demo.publish import publish_all
from ingest.embedded.broker import EmbeddedBroker
from ingest.embedded.database import EmbeddedDatabase
from ingest.errors import EmbeddedError
from ingest.migrate import Database, migrate
from ingest.operate.catalog import import_catalog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_START_TIMEOUT_S: Final = 30.0
_STALL_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 40.0
_POLL_S: Final = 0.2


async def run_demo(*, keep: bool, gateways: int, seed: int, messages: int, as_json: bool) -> int:
    """Run the demonstration; 0 when every published reading is accounted for, else 1.

    *gateways* connections publish about *messages* messages in all, the same for the same *seed*. With
    *keep* everything goes on running after the last line, until a signal. With *as_json* nothing but that
    line is printed. Raises EmbeddedError when a part is missing or fails.
    """
    started_s = time.monotonic()
    console = Console(quiet=as_json, highlight=False)
    progress = Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True, quiet=as_json),
        disable=as_json or not sys.stderr.isatty(),
    )
    with tempfile.TemporaryDirectory(prefix="greenhouse-demo-") as folder:
        async with EmbeddedBroker() as broker, EmbeddedDatabase() as database:
            _say(console, "broker and TimescaleDB are up", started_s)
            greenhouses = await _prepare(database.dsn, Path(folder))
            _say(console, "schema migrated, tenants registered", started_s)
            fleet = [
                Gateway(number, seed, datetime.now(UTC) - timedelta(minutes=1), greenhouses)
                for number in range(gateways)
            ]
            share = max(messages // max(gateways, 1), 1)
            plans = [(gateway.name, gateway.messages(share)) for gateway in fleet]
            async with _worker(broker.url, database.dsn, Path(folder)) as port:
                _say(console, f"worker runs, {gateways} gateways publish", started_s)
                expected = Expected()
                with progress:
                    await _publish((broker.url, broker.url_v5), plans, expected, port, progress)
                async with _connected(database.dsn) as connection:
                    storage = await report.compress(connection)
                    account = await report.take_account(connection, expected)
                    await report.show(console, connection, account, storage, expected)
                result: dict[str, Any] = {
                    "published": expected.messages,
                    "readings_published": expected.readings,
                    "rows_written": account.rows,
                    "duplicates": account.counters.get("duplicate", 0),
                    "dead_letters": sum(account.reasons.values()),
                    "expected_dead_letters": expected.reasons.total(),
                    "ignored": account.counters.get("ignored", 0),
                    "nulls": account.counters.get("null", 0),
                    "normalized_pct": account.normalized_pct,
                    "compression_saved_pct": storage.saved_pct,
                    "seconds": round(time.monotonic() - started_s, 1),
                    "ok": not account.differences and account.normalized == account.rows,
                    "differences": account.differences,
                }
                if keep:
                    result |= {
                        "broker_url": broker.url,
                        "metadata_dsn": database.dsn,
                        "timeseries_dsn": database.dsn,
                    }
                print(json.dumps(result), flush=True)  # noqa: T201 - the command's answer
                if keep:
                    await _until_signal()
    return 0 if result["ok"] else 1


async def _prepare(dsn: str, folder: Path) -> dict[str, UUID]:
    """Migrate both schemas and register the tenants; give the greenhouses' ids by "PREFIX/code"."""
    for database in Database:
        await migrate(dsn, database)
    catalog = folder / "catalog.json"
    catalog.write_text(json.dumps(CATALOG), encoding="utf-8")
    await import_catalog(dsn, catalog, dry_run=False)
    async with _connected(dsn) as connection:
        await connection.execute(
            "update metadata.sensors set is_active = false where id = $1", INACTIVE_SENSOR
        )
        records = await connection.fetch(
            "select tenant.mqtt_topic_prefix || '/' || greenhouse.greenhouse_code as name, greenhouse.id "
            "from metadata.greenhouses as greenhouse "
            "join metadata.tenants as tenant on tenant.id = greenhouse.tenant_id"
        )
    return {record["name"]: UUID(str(record["id"])) for record in records}


@contextlib.asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def _worker(broker_url: str, dsn: str, folder: Path) -> AsyncIterator[int]:
    """Run the real worker as its own process; give the port of its /metrics."""
    settings = folder / "ingest.toml"
    settings.write_text("# the defaults\n", encoding="utf-8")
    log = folder / "worker.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INGEST_")} | {
        "INGEST_BROKER_URL": broker_url,
        "INGEST_METADATA_DSN": dsn,
        "INGEST_TIMESERIES_DSN": dsn,
        "INGEST_OBSERVE__HTTP_PORT": "0",
        "INGEST_OBSERVE__LOG_FORMAT": "json",
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ingest", "--config", str(settings), "run",
            env=environment, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield await _ready(process, log)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _ready(process: asyncio.subprocess.Process, log: Path) -> int:
    """Wait until the worker is subscribed; give its port. Raises EmbeddedError with its last line."""
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s and process.returncode is None:
        lines = _lines(log)
        events = [json.loads(line) for line in lines if line.startswith("{")]
        port = next((event["port"] for event in events if event["event"] == "http_listening"), None)
        if port is not None and any(event["event"] == "broker_connected" for event in events):
            return int(port)
        await asyncio.sleep(_POLL_S)
    raise EmbeddedError(f"the worker did not get ready: {(_lines(log) or ['it wrote nothing'])[-1]}")


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines()


async def _publish(
    urls: tuple[str, str],
    plans: list[tuple[str, list[Message]]],
    expected: Expected,
    port: int,
    progress: Progress,
) -> None:
    """Publish everything and wait until the worker has accounted for it, or stands still."""
    total = sum(len(messages) for _, messages in plans)
    published = progress.add_task("messages published", total=total)
    settled = progress.add_task("messages committed", total=total)
    written = progress.add_task("rows written", total=sum(m.written for _, ms in plans for m in ms))

    def on_published(message: Message) -> None:
        expected.add(message)
        progress.advance(published)

    publishing = asyncio.create_task(publish_all(urls, plans, on_published))
    try:
        moved_at_s, last = time.monotonic(), -1
        while time.monotonic() - moved_at_s < _STALL_TIMEOUT_S:
            messages, readings = await asyncio.to_thread(_ledgers, port)
            done = messages["committed"] + messages["ignored"] + messages["skipped"]
            progress.update(settled, completed=done)
            progress.update(written, completed=readings["written"])
            if publishing.done() and done >= expected.messages:
                break
            if done != last or not publishing.done():
                moved_at_s, last = time.monotonic(), done
            await asyncio.sleep(_POLL_S)
        await publishing
    finally:
        publishing.cancel()


def _ledgers(port: int) -> tuple[dict[str, int], dict[str, int]]:
    """Read both ledgers, by outcome, from the worker's /metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        page = response.read().decode()
    ledgers: dict[str, dict[str, int]] = {"ingest_messages": {}, "ingest_readings": {}}
    for family in text_string_to_metric_families(page):
        if family.name in ledgers:
            ledgers[family.name] = {each.labels["outcome"]: int(each.value) for each in family.samples}
    return ledgers["ingest_messages"], ledgers["ingest_readings"]


async def _until_signal() -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()


def _say(console: Console, text: str, started_s: float) -> None:
    console.print(f"[dim]{time.monotonic() - started_s:5.1f} s[/dim]  {text}")
