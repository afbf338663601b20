"""The worker against its peers and its limits, on one backlog, in one run.

    make bench                                        every workload, five rounds: 20 minutes
    make bench ARGS=--quick                           every workload, one short round: under three minutes
    make bench ARGS="--workload single_qos1"          one of them; may be given several times

Everything on loopback, on the TimescaleDB whose DSN is in INGEST_TEST_TIMESERIES_DSN, else on PostgreSQL
without the TimescaleDB statements; the table says which. The rows are counted after each drain: a contender
that lost or doubled some is marked, and the command fails if it was the worker. A run that is not quick puts
its figures into bench/results/latest.json, in place of those before of the same workloads;
`python -m bench.document` brings tables and pictures of docs/speed.md in step with that file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from bench import record, report
from bench.rounds import measure
from bench.servers import target
from bench.workloads import BY_NAME, WORKLOADS

_QUICK: int = 10
"""A quick round has a tenth of the messages."""


async def _run(options: argparse.Namespace) -> dict[str, Any]:
    async with target(os.environ.get("INGEST_TEST_TIMESERIES_DSN")) as database:
        done = {}
        for name in options.workload or BY_NAME:
            workload = BY_NAME[name]
            if workload.compressed and not database.timescale:
                _tell(f"{name}: left out, it needs a TimescaleDB")
                continue
            count = options.messages or workload.messages // (_QUICK if options.quick else 1)
            rounds = options.rounds or (1 if options.quick else 5)
            done[name] = await measure(database, workload, count, rounds, _tell)
            report.show(name, done[name], database.says)
        return {"target": database.says, "machine": record.machine(), "workloads": done}


def _tell(step: str) -> None:
    print(step, file=sys.stderr, flush=True)


def main() -> int:
    """Parse the options, run, print, keep; 1 when the worker lost or doubled rows."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="one round, a tenth of the messages; kept nowhere"
    )
    parser.add_argument(
        "--workload", action="append", choices=[each.name for each in WORKLOADS], help="only this one"
    )
    parser.add_argument("--messages", type=int, help="messages a round")
    parser.add_argument("--rounds", type=int, help="rounds; the medians are shown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, and nowhere else")
    options = parser.parse_args()
    done = asyncio.run(_run(options))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(done, indent=2) + "\n")
    elif not options.quick:
        record.keep(done)
    return 0 if all(each["exact"] for each in done["workloads"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
