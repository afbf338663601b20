"""`make chaos`: the delivery contract under fire, and then a count of every message.

Gateways publish messages of known content at QoS 1 while worker, broker, database and the network between
them are killed, restarted, frozen, stalled and cut at moments that a seed chooses. Then everything is mended,
the queue runs empty, and each message has to be where `chaos_account` says it must be. The same seed chooses
the same faults and messages; how they meet depends on the machine.

    python -m tests.acceptance.chaos --seconds 60 --seed 7

The last line is a JSON object; exit code 0 when nothing is amiss, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from tests.acceptance.chaos_account import Account, Stored
from tests.acceptance.chaos_faults import BrokerFaults, DatabaseFaults, WorkerFaults, network
from tests.acceptance.chaos_gateways import Gateway, Publications
from tests.acceptance.command_line import CommandLine
from tests.acceptance.conftest import Greenhouse
from tests.acceptance.workers import WorkerProcess
from tests.gateways import Message, publish
from tests.integration.plain_postgres import create_both_schemas
from tests.proxy import Proxy
from tests.servers import PostgresCluster, shipped_broker
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Mosquitto

STUBBORN, FORGETFUL = 4, 2
"""Gateways of either kind; together some 400 messages a second."""
DRAIN_S: Final = 180.0
"""For the queue to run empty once everything is mended."""
MOST_RSS_BYTES: Final = 200_000_000
SENTINEL: Final = -1.0
SHORT_DEADLINES: Final[dict[str, dict[str, object]]] = {
    "broker": {"keepalive_s": 5, "connect_timeout_s": 3.0},
    "write": {"connect_timeout_s": 3.0, "commit_timeout_s": 3.0, "drain_timeout_s": 3.0},
}
"""So that a stall of seconds is long enough to be noticed."""


class Run:
    """One run and its servers; entered with ``async with``, files in *directory*."""

    def __init__(self, seed: int, directory: Path, say: Callable[[str], None]) -> None:
        self._seed = seed
        self._directory = directory
        self._say = say
        self._started_s = time.monotonic()
        self._stack = AsyncExitStack()
        self.account = Account()
        self.faults: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_context
        enter_async = self._stack.enter_async_context
        self._server = enter(PostgresCluster())
        self._dsn = self._server.create_database()
        await create_both_schemas(self._dsn)
        self._greenhouse = await Greenhouse.registered(self._dsn)
        self._broker: Mosquitto = enter(shipped_broker(self._directory))
        port = urlsplit(self._dsn).port or 0
        self._broker_link = await enter_async(Proxy(self._broker.port))
        self._gateway_link = await enter_async(Proxy(self._broker.port))
        self._database_link = await enter_async(Proxy(port))
        self._catalog_link = await enter_async(Proxy(port))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def run(self, seconds: float) -> dict[str, Any]:
        """Publish and break for *seconds*, mend, count; give the report."""
        workers = WorkerFaults(self._worker_maker(), self.account.violations)
        broker = BrokerFaults(self._broker)
        database = DatabaseFaults(self._server, self._dsn)
        publications = Publications(
            {"id": str(self._greenhouse.greenhouse_id), "prefix": self._greenhouse.prefix}
        )
        await workers.worker.ready()
        self._broker.save()  # a session that no file knows would be gone after a kill
        watch = asyncio.create_task(workers.watch())
        ended = asyncio.Event()
        parts = [
            workers.part((2.0, 8.0)),
            broker.part((4.0, 14.0)),
            database.part((4.0, 14.0)),
            network("link of the worker to the broker", self._broker_link, rest_s=(3.0, 12.0)),
            network("link of the worker to the database", self._database_link, rest_s=(3.0, 12.0)),
            network("link of the worker to the catalog", self._catalog_link, rest_s=(4.0, 16.0)),
            network("link of the gateways", self._gateway_link, rest_s=(5.0, 20.0)),
        ]
        self._started_s = time.monotonic()
        asyncio.get_running_loop().call_later(seconds, ended.set)
        async with asyncio.TaskGroup() as tasks:
            for part in parts:
                tasks.create_task(part.run(str(self._seed), ended, self._tell))
            for gateway in self._gateways(publications):
                tasks.create_task(gateway.run(ended))
        self._say(f"{self._elapsed_s:7.1f} s  everything is mended")
        await self._drain()
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await workers.finish()
        counters = await self._count(publications, broker)
        if workers.rss_bytes > MOST_RSS_BYTES:
            self.account.violations.append(f"a worker took {workers.rss_bytes} bytes of memory")
        return {
            "ok": not self.account.violations,
            "seed": self._seed,
            "seconds": seconds,
            "faults": dict(sorted(self.faults.items())),
            "account": dict(self.account.numbers),
            "ledgers": counters,
            "logged": dict(sorted(workers.logged.items())),
            "rss_bytes": workers.rss_bytes,
            "violations": self.account.violations,
        }

    def _worker_maker(self) -> Callable[[], WorkerProcess]:
        seeded = random.Random(f"{self._seed} settings")  # noqa: S311 (of a test)
        broker, write = SHORT_DEADLINES["broker"], SHORT_DEADLINES["write"]
        settings = {
            "broker": broker | {"protocol": seeded.choice(["5", "3.1.1"])},
            "write": write
            | {
                "max_batch_rows": seeded.choice([50, 500, 20_000]),
                "max_buffered_messages": seeded.choice([500, 40_000]),
                "dead_letters_per_topic_per_hour": 1_000_000,  # each is looked for: none may be only counted
            },
        }
        self._say(f"settings {json.dumps(settings)}")
        self._client_id = f"chaos-{self._seed}"

        def make() -> WorkerProcess:
            made = WorkerProcess(
                self._directory,
                broker_url=self._broker_link.url(self._broker.url),
                dsn=self._database_link.url(self._dsn),
                metadata_dsn=self._catalog_link.url(self._dsn),
                filters=self._greenhouse.filters,
                client_id=self._client_id,
                settings=settings,
            )
            self._stack.callback(made.__exit__)
            return made

        return make

    def _gateways(self, publications: Publications) -> list[Gateway]:
        return [
            Gateway(
                f"gateway-{number}",
                self._gateway_link.port,
                publications,
                stubborn=number < STUBBORN,
                seeded=random.Random(f"{self._seed} gateway {number}"),  # noqa: S311 (of a test)
            )
            for number in range(STUBBORN + FORGETFUL)
        ]

    async def _drain(self) -> None:
        """Wait until the worker has committed what was published last; the broker keeps the order."""
        payload = json.dumps({"sensor_id": "sentinel", "value": SENTINEL, "timestamp": time.time()})
        await publish(self._broker.port, [Message(self._greenhouse.topic, payload.encode())])
        query = "select count(*) from iot.sensor_readings where value = $1"

        async def drained() -> bool:
            return bool(await self._greenhouse.fetchval(query, SENTINEL))

        try:
            await until(drained, "the queue runs empty", patience_s=DRAIN_S)
        except AssertionError as error:
            self.account.violations.append(str(error))

    async def _count(self, publications: Publications, broker: BrokerFaults) -> dict[str, int]:
        stored: dict[int, Stored] = defaultdict(lambda: Stored([], []))
        rows = await self._greenhouse.fetch(
            "select value, extract(epoch from time)::double precision as at_s from iot.sensor_readings"
        )
        for value, at_s in rows:
            if value != SENTINEL:
                stored[int(value)].rows.append(at_s)
        letters = await self._greenhouse.fetch(
            "select payload, extract(epoch from received_at)::double precision as at_s, rejected_count "
            "from iot.ingest_dead_letters"
        )
        for payload, at_s, _ in letters:
            stored[publications.numbers[payload]].letters.append(at_s)
        self.account.take(publications.all, stored, broker.crashes)
        counters = await self._greenhouse.counters(self._client_id)
        rejections = sum(letter["rejected_count"] for letter in letters)
        self.account.add_up(counters, rows=len(rows), rejections=rejections)
        await self._reconcile()
        return counters

    async def _reconcile(self) -> None:
        """Have the product's own account, by gateway and hour, find nothing either."""
        ingest = CommandLine(self._directory)
        dsns = {"INGEST_TIMESERIES_DSN": self._dsn, "INGEST_METADATA_DSN": self._dsn}
        asked = ("reconcile", "--since", "2d", "--json")
        done = await asyncio.to_thread(lambda: ingest(*asked, environment=dsns))
        if done.returncode != 0:
            self.account.violations.append(f"ingest reconcile: {done.stdout} {done.stderr}")

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def _tell(self, part: str, fault: str) -> None:
        self.faults[f"{part}: {fault}"] += 1
        self._say(f"{self._elapsed_s:7.1f} s  {part}: {fault}")


async def run(seed: int, seconds: float, directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Run with *seed* for *seconds*, telling *say* each fault and the account; give the report."""
    say(f"seed {seed}")
    async with Run(seed, directory, say) as made:
        report = await made.run(seconds)
    for table in (report["faults"], report["account"], report["ledgers"]):
        say("")
        for name, number in table.items():
            say(f"{number:>9}  {name}")
    say("")
    for violation in report["violations"]:
        say(f"VIOLATION {violation}")
    return report


def main() -> int:
    """Read the arguments, run, and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long things break (60)")
    parser.add_argument("--seed", type=int, default=None, help="chooses faults and messages; else a new one")
    given = parser.parse_args()
    seed = secrets.randbelow(2**31) if given.seed is None else given.seed

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    directory = Path(tempfile.mkdtemp(prefix="greenhouse-chaos-"))
    report = asyncio.run(run(seed, given.seconds, directory, say))
    if report["ok"]:
        for file in directory.iterdir():
            file.unlink()
        directory.rmdir()
    else:
        say(f"the workers' logs are in {directory}")
    say(json.dumps(report))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
