"""`ingest replay --direct` against plain COPY: a recording into the database, over one connection and two.

    python -m bench.direct               1 000 000 recorded messages, a round; three minutes
    python -m bench.direct --quick       100 000, kept nowhere
    python -m bench.direct --rounds 3    the medians of as many

Single readings of a thousand sensors, five days old: their chunks are new, as of a history. COPY gets the
same rows, packed already, in batches of the same size; the backfill reads the recording, decodes, resolves,
packs, COPYs, notes late hours and books. Beside it, a tenth of the messages once more, all duplicates, and
into chunks that are compressed and hold readings of the same sensors. Every round is counted: rows, and
the sum of their values.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from bench import record
from bench.fleet import label_rules
from bench.late import fill_day
from bench.servers import target
from bench.workloads import Workload, messages
from ingest.decode import Decoder, Routes
from ingest.load.direct import backfill
from ingest.load.direct_point import DirectPoint
from ingest.load.recording import Block, Recorded, Recording, read
from ingest.resolve import Resolver
from ingest.settings import Settings
from ingest.write.copy import copy_straight, pack, parts

if TYPE_CHECKING:
    from bench.servers import Target
    from ingest.load.direct import DirectReport
    from ingest.model import Row

HISTORY: Final = Workload(
    "history", "single readings of 1 000 sensors", "reading", 1_000_000, topics=20, sensors_a_topic=50,
    compressed=True,
)  # fmt: skip
LATE_SHARE: Final = 10
"""One in so many of the messages goes into compressed chunks, and comes once more."""
CONNECTIONS: Final = (1, 2)


def write_recording(path: Path, count: int, now_us: int) -> int:
    """Record *count* messages as they would have come; give the sum of their values in tenths."""
    tenths = 0
    first_us = HISTORY.first_us(now_us)
    with Recording(path) as recording:
        for number, message in enumerate(messages(HISTORY, count, now_us)):
            recording.write(Recorded(first_us + 10_000 * number + 1_000, message.topic, message.payload))
            tenths += message.tenths
    return tenths


def packed_rows(path: Path) -> list[bytes]:
    """Give the rows of the recording as COPY takes them."""
    settings = Settings()
    decoder = Decoder(Routes(settings.route, settings.decode.ignore), settings.decode)
    resolver = Resolver(HISTORY.fleet().catalog(), label_rules(), out_of_range="quarantine")
    packed: list[bytes] = []
    for block in read(path):
        if not isinstance(block, Block):
            raise SystemExit(str(block))
        rows: list[Row] = []
        for message in block.messages:
            decoded = decoder.decode(message.topic, message.payload, message.received_us)
            rows += resolver.resolve(decoded).rows  # type: ignore[arg-type]  # nothing of it is ignored
        packed += pack(rows)
    return packed


async def copied(dsn: str, packed: list[bytes], connections: int) -> float:
    """COPY *packed* over so many connections; give the seconds."""
    size = Settings().write.max_batch_rows
    starts = list(range(0, len(packed), size))
    opened = [await asyncpg.connect(dsn) for _ in range(connections)]

    async def each(connection: asyncpg.Connection) -> None:
        while starts:
            start = starts.pop(0)
            await copy_straight(connection, parts(packed[start : start + size]))

    started_s = time.perf_counter()
    await asyncio.gather(*map(each, opened))
    seconds = time.perf_counter() - started_s
    for connection in opened:
        await connection.close()
    return seconds


async def backfilled(dsn: str, path: Path, connections: int) -> DirectReport:
    """Backfill the recording; what the processes take to start is in the seconds."""
    settings = Settings(metadata_dsn=SecretStr(dsn), timeseries_dsn=SecretStr(dsn))
    return await backfill(
        settings, [path], connections=connections, point=DirectPoint(), keep_point=lambda _: None
    )


async def one_round(
    database: Target, path: Path, late: Path, packed: list[bytes], tenths: int
) -> dict[str, Any]:
    """Measure everything once; rates in messages a second."""
    rates: dict[str, float] = {}
    exact = True
    for connections in (1, 2):
        await database.clear()
        rates[f"copy_{connections}"] = len(packed) / await copied(database.dsn, packed, connections)
    for connections in CONNECTIONS:
        await database.clear()
        report = await backfilled(database.dsn, path, connections)
        rates[f"direct_{connections}"] = len(packed) / report.seconds
        exact &= report.clean and await database.stored() == (len(packed), tenths)
    again = await backfilled(database.dsn, late, 2)
    rates["again_2"] = again.account.messages / again.seconds
    exact &= again.account.duplicate == again.account.messages
    if database.timescale:
        await database.clear()
        await fill_day(database, replace(HISTORY, topics=20), time.time_ns() // 1000)
        before, _ = await database.stored()
        report = await backfilled(database.dsn, late, 2)
        rates["compressed_2"] = report.account.messages / report.seconds
        exact &= (await database.stored())[0] == before + report.account.written
        exact &= report.account.written == report.account.messages
    return {**rates, "ratio": rates["direct_2"] / rates["copy_1"], "exact": exact}


async def measure(server: str | None, count: int, rounds: int) -> tuple[dict[str, Any], str]:
    """Run the rounds on a database of *server*'s; give the figures, and what it is."""
    now_us = time.time_ns() // 1000
    with tempfile.TemporaryDirectory() as folder:
        path, late = Path(folder) / "history.jsonl.gz", Path(folder) / "late.jsonl.gz"
        tenths = write_recording(path, count, now_us)
        write_recording(late, count // LATE_SHARE, now_us)
        packed = packed_rows(path)
        async with target(server) as database:
            await database.register(HISTORY.fleet())
            found = [await one_round(database, path, late, packed, tenths) for _ in range(rounds)]
            says = database.says
        size = path.stat().st_size
    figures = {
        name: round(statistics.median(each[name] for each in found), 3 if name == "ratio" else None)
        for name in found[0]
        if name != "exact"
    }
    return {
        "messages": count,
        "rounds": rounds,
        "bytes_a_message": round(size / count, 1),
        **figures,
        "exact": all(each["exact"] for each in found),
    }, says


def report(figures: dict[str, Any], says: str) -> None:
    """Print the table."""
    table = Table(title=f"{figures['messages']:,} recorded messages, {says}")
    table.add_column("")
    for heading in ("messages/s", "to COPY"):
        table.add_column(heading, justify="right")
    for name, heading in ROWS.items():
        if name in figures:
            table.add_row(heading, f"{figures[name]:,.0f}", f"{figures[name] / figures['copy_1']:.2f}")
    console = Console()
    console.print(table)
    console.print("every reading once: " + ("yes" if figures["exact"] else "NO"))


ROWS: Final = {
    "copy_1": "plain COPY of the rows, packed before, one connection",
    "copy_2": "the same over two",
    "direct_1": "`--direct --connections 1`",
    "direct_2": "`--direct --connections 2`",
    "again_2": "once more, all of it stored already, two connections",
    "compressed_2": "into compressed chunks of the same sensors, two connections",
}
"""What each figure is."""


def main() -> int:
    """Parse the options, run, print, keep; 1 when a reading was lost or doubled."""
    parser = argparse.ArgumentParser(prog="python -m bench.direct", description="--direct against COPY.")
    parser.add_argument("--quick", action="store_true", help="100 000 messages, kept nowhere")
    parser.add_argument("--messages", type=int, help="recorded messages; kept nowhere")
    parser.add_argument("--rounds", type=int, default=1, help="rounds; the medians are shown")
    options = parser.parse_args()
    count = options.messages or (100_000 if options.quick else HISTORY.messages)
    figures, says = asyncio.run(measure(os.environ.get("INGEST_TEST_TIMESERIES_DSN"), count, options.rounds))
    report(figures, says)
    if count == HISTORY.messages and "compressed_2" in figures:
        record.keep({"target": says, "machine": record.machine(), "direct": figures})
    return 0 if figures["exact"] else 1


if __name__ == "__main__":
    sys.exit(main())
