"""What a reading costs on disk and how fast dashboards read it: legacy form against this schema, in one run.

    make bench-storage                              1 million readings
    make bench-storage ARGS="--rows 10000000"       10 million: a year of one hundred sensors, every 315 s
    make bench-storage ARGS="--json FILE"           the figures as JSON, too

On the TimescaleDB whose DSN is in INGEST_TEST_TIMESERIES_DSN, in a database of its own that is dropped at the
end (10 million rows: 5 GB). Prints the tables of docs/storage.md. Fails when two forms do not give the same
answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import uuid
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bench.storage.measure import measure
from bench.storage.report import as_json, as_markdown
from ingest.migrate import Database, migrate

_DSN = "INGEST_TEST_TIMESERIES_DSN"


async def _run(server: str, options: argparse.Namespace) -> int:
    name = f"ingest_bench_{uuid.uuid4().hex[:8]}"
    await _execute(server, f"create database {name}")
    try:
        dsn = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        await migrate(dsn, Database.TIMESERIES)
        result = await measure(dsn, options.rows, options.interval_s, options.rounds, _tell)
    finally:
        await _execute(server, f"drop database {name} with (force)")
    print(as_markdown(result))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(as_json(result), indent=2) + "\n")
    wrong = [line for answers in result.answers.values() for line in answers.differences]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def _tell(step: str) -> None:
    print(step, file=sys.stderr, flush=True)


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


def main() -> int:
    """Parse the options, run, print; 1 when answers differ, 2 without a server."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.storage", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="readings (1 000 000)")
    parser.add_argument("--interval-s", type=float, default=315.36, help="between two of a sensor (315.36)")
    parser.add_argument("--rounds", type=int, default=9, help="times each query runs; medians are shown (9)")
    parser.add_argument("--quick", action="store_true", help="100 000 readings, three rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.rounds = 100_000, 3
    server = os.environ.get(_DSN)
    if not server:
        print(f"{_DSN} is not set: the DSN of a TimescaleDB server to make a database on", file=sys.stderr)
        return 2
    return asyncio.run(_run(server, options))


if __name__ == "__main__":
    sys.exit(main())
