"""`make soak HOURS=n`: hours of simulated greenhouses through broker, worker and database, then a verdict.

Private servers on the loopback: Mosquitto as shipped, and a database of its own on the TimescaleDB whose DSN
is in INGEST_TEST_TIMESERIES_DSN, else a PostgreSQL. Memory, file handles, lag, queue, rows, chunks and disk
are sampled every few seconds into samples.jsonl. It is good when nothing is missing by the account that
`ingest replay --verify` takes, both ledgers add up, memory and handles do not grow (`soak_verdict`), and the
lag is back to 0. With --chaos all that `make chaos` breaks is broken meanwhile, more seldom.

    python -m tests.acceptance.soak --hours 0.02 --seed 7 --output soak

Ctrl-C ends it early, with a verdict on what was; again, without one. The last line is a JSON object; exit
code 0 when it is good, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ingest.observe.logs import configure
from tests.acceptance.soak_page import render
from tests.acceptance.soak_run import Run

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for."""

    seconds: float
    seed: int
    chaos: bool = False
    gateways: int = 20
    interval_s: float | None = None
    speed: float = 1.0
    every_s: float = 5.0
    patience_s: float = 180.0
    """For the queue to run empty, and for a broker or database that is broken to be whole again."""


_SAMPLES_AT_LEAST: Final = 40


async def soak(options: Options, directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Soak as *options* say, with all files in *directory*; give the report.

    SIGTERM ends it early, a second one without a verdict.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    soaking = asyncio.current_task()
    assert soaking is not None

    def end() -> None:
        if stop.is_set():
            soaking.cancel()
        stop.set()

    loop.add_signal_handler(signal.SIGTERM, end)
    try:
        async with Run(options, directory, say) as run:
            report = await run.run(stop)
            samples, measured = run.samples, run.measured
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
    made = f"tests.acceptance.soak, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    (directory / "report.html").write_text(render(report, samples, measured, made))
    return report


def _beside_the_terminal() -> int:
    """Run in a session of its own: Ctrl-C would reach the servers and the worker, too."""
    soaking = subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.soak", "--inside", *sys.argv[1:]], start_new_session=True
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: soaking.terminate())
    return soaking.wait()


def main() -> int:
    """Read the arguments, soak, and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="how long gateways publish; 0.02 for a try")
    parser.add_argument("--seed", type=int, help="chooses greenhouses and faults; else a new one")
    parser.add_argument("--chaos", action="store_true", help="break worker, broker, database and network")
    parser.add_argument("--gateways", type=int, default=20, help="how many are simulated (20)")
    parser.add_argument("--interval", type=float, help="seconds between their readings; else 3, 5 or 10")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds in a second (1)")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples (5)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=Path("soak"), help="folder for the files (soak)")
    given = parser.parse_args()
    if not given.inside:
        return _beside_the_terminal()
    seconds = given.hours * 3_600
    options = Options(
        seconds=seconds,
        seed=secrets.randbelow(2**31) if given.seed is None else given.seed,
        chaos=given.chaos,
        gateways=given.gateways,
        interval_s=given.interval,
        speed=given.speed,
        every_s=min(given.every, seconds / _SAMPLES_AT_LEAST),
    )

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    directory = given.output.absolute() / time.strftime(f"%Y%m%d-%H%M%S-seed-{options.seed}")
    directory.mkdir(parents=True)
    configure("error", "console")
    say(f"seed {options.seed}, {seconds:.0f} s, files in {directory}")
    report = asyncio.run(soak(options, directory, say))
    for violation in report["violations"]:
        say(f"VIOLATION {violation}")
    say(f"report: {directory / 'report.html'}")
    say(json.dumps(report))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
