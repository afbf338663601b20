"""The worker against its peers and its limits, on one backlog, in one run.

    make bench                                        every workload, five rounds, and the rest: 20 minutes
    make bench ARGS=--quick                           most of it, one short round each: under three minutes
    make bench ARGS="--only single_qos1"              one of them; may be given several times
    make bench ARGS="--only latency --only stages"    the other two parts
    make bench ARGS="--report FILE"                   all that is kept, and this run, as an HTML page

Everything on loopback, on the TimescaleDB whose DSN is in INGEST_TEST_TIMESERIES_DSN, else on PostgreSQL
without the TimescaleDB statements; the table says which. The rows are counted after each drain: a contender
that lost or doubled some is marked, and the command fails if it was the worker. A run that is not quick puts
its figures into bench/results/latest.json, in place of those before of the same workloads;
`python -m bench.document` brings docs/speed.md, its picture and docs/scaling.md in step with that file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench import document, latency, record, report, rounds, stages
from bench.figures import merged
from bench.servers import target
from bench.workloads import BY_NAME

_QUICK: Final = 10
"""A quick round has a tenth of the messages."""
_QUICK_RATES: Final = {100: 5, 1_000: 3}
_NOT_QUICK: Final = {"single_qos1_v311", "single_window20", "many_sensors"}
"""Left out of a quick run, unless asked for: their likes are there."""
_ROUNDS: Final = 5
_STAGES: Final = ("single_qos1", "flat_maps", "batches", "many_sensors")
_PARTS: Final = (*BY_NAME, "latency", "stages")


async def _run(options: argparse.Namespace) -> dict[str, Any]:
    """Run what is asked for; each part is kept as soon as it is measured. SIGTERM ends it in order."""
    running = asyncio.current_task()
    if running is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    async with target(os.environ.get("INGEST_TEST_TIMESERIES_DSN")) as database:
        heading = {"target": database.says, "machine": record.machine()}
        run = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        done: dict[str, Any] = heading
        for part in options.only or [each for each in _PARTS if not (options.quick and each in _NOT_QUICK)]:
            if part == "latency":
                rates = _QUICK_RATES if options.quick else latency.RATES
                measured = {"latency_ms": await latency.measure(database, rates, _tell)}
            elif part == "stages":
                measured = {
                    "stages_us": {name: stages.as_json(stages.measure(BY_NAME[name])) for name in _STAGES}
                }
            elif BY_NAME[part].compressed and not database.timescale:
                _tell(f"{part}: left out, it needs a TimescaleDB")
                continue
            else:
                workload = BY_NAME[part]
                count = options.messages or workload.messages // (_QUICK if options.quick else 1)
                turns = options.rounds or (1 if options.quick else _ROUNDS)
                figures = await rounds.measure(database, workload, count, turns, _tell)
                report.show(part, figures, database.says)
                measured = {"workloads": {part: figures | {"run": run}}}
            done = merged(done, heading | measured)
            if options.json is None and not options.quick:
                record.keep(heading | measured)
        return done


def _tell(step: str) -> None:
    print(step, file=sys.stderr, flush=True)


def main() -> int:
    """Parse the options, run, print, keep; 1 when the worker lost or doubled rows."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round of each; kept nowhere")
    parser.add_argument("--only", action="append", choices=_PARTS, help="this part; may be given again")
    parser.add_argument("--messages", type=int, help="messages a round")
    parser.add_argument("--rounds", type=int, help=f"rounds, of which the medians are shown ({_ROUNDS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, and nowhere else")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write an HTML page with plots")
    options = parser.parse_args()
    done = asyncio.run(_run(options))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(done, indent=2, ensure_ascii=False) + "\n")
    if options.report is not None:
        document.report(merged(record.read(), done), options.report)
    return 0 if all(each["exact"] for each in done.get("workloads", {}).values()) else 1


if __name__ == "__main__":
    sys.exit(main())
