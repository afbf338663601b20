"""One soak: its servers and worker, the simulated gateways, what is broken, the account and the verdict.

The gateways are those of `ingest simulate`, the account is that of `ingest replay --verify`, the faults are
those of `make chaos`: this wires them together. In chaos two things are forgiven, `chaos_account` says why: a
message that a broker killed with -9 had acknowledged after it last wrote its file, and rows without a time
that stand twice, where a gateway had to connect again or the broker crashed, for they were sent twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter, deque
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import asyncpg

from ingest.addresses import broker_address
from ingest.load.account import Accountant
from ingest.load.gateways import Fleet
from ingest.load.live import Published, publish
from ingest.load.measured import Meter
from ingest.load.pace import Pace
from ingest.load.replay import Outgoing
from ingest.load.resume import Position
from ingest.load.simulate.gateway import Plan, client_id, number_of
from ingest.load.simulate.installation import installation
from ingest.load.simulate.stream import catalog_of, messages
from ingest.settings import Settings
from ingest.write import Counts
from tests.acceptance import chaos_account
from tests.acceptance.chaos import SHORT_DEADLINES
from tests.acceptance.chaos_faults import BrokerFaults, DatabaseFaults, WorkerFaults, network
from tests.acceptance.command_line import CommandLine
from tests.acceptance.soak_ground import ground
from tests.acceptance.soak_samples import Sampler
from tests.acceptance.soak_verdict import growths, violations
from tests.acceptance.workers import WorkerProcess
from tests.gateways import Message
from tests.gateways import publish as publish_bare
from tests.proxy import Proxy
from tests.servers import shipped_broker
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ingest.load.account import Account
    from ingest.load.recording import Recorded
    from tests.acceptance.chaos_faults import Part
    from tests.acceptance.soak import Options

FILTERS: Final = ["greenhouse/+/sensors/+", "greenhouse/+/readings", "GREENHOUSE/#"]
SENTINEL: Final = -4_321.0
_REMEMBERED_S: Final = 900.0
"""PUBACKs, for the crashes of a broker: one of them is known as soon as the broker is up again."""
_LISTED: Final = 100


class Run:
    """See the module's header; entered with ``async with``."""

    def __init__(self, options: Options, directory: Path, say: Callable[[str], None]) -> None:
        self._options = options
        self._directory = directory
        self._files = directory / "work"
        """Of the servers, and the workers' logs."""
        self._files.mkdir()
        self._say = say
        self._stack = AsyncExitStack()
        self._acknowledged: deque[tuple[float, int]] = deque()
        self._forgotten: set[int] = set()
        self._crashes = 0
        """Of the broker, of which is known what they made it forget."""
        self._sent_again = False
        """Whether a gateway had to connect again, with messages that had no PUBACK."""
        self._number = 0
        self.faults: Counter[str] = Counter()
        self.violations: list[str] = []
        self.measured = Meter()
        self.marks: list[tuple[float, str]] = []

    @property
    def samples(self) -> list[dict[str, Any]]:
        return self._sampler.samples

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _start(self) -> None:
        """Start the servers, register what is simulated, and start the worker."""
        options, stack = self._options, self._stack
        self._ground = await stack.enter_async_context(ground(os.environ.get("INGEST_TEST_TIMESERIES_DSN")))
        self._broker = stack.enter_context(shipped_broker(self._files))
        duration_us = round(options.seconds * options.speed * 1e6)
        # Faster than time it begins in the past: both end together, and no reading is of the future.
        start_us = time.time_ns() // 1_000 - round(duration_us * (1 - 1 / options.speed))
        self._plan = Plan(options.seed, options.gateways, start_us, duration_us, options.interval_s)
        await asyncio.to_thread(self._register)
        self._links = [await stack.enter_async_context(Proxy(self._broker.port)) for _ in range(2)]
        port = urlsplit(self._ground.dsn).port or 5432
        self._links += [await stack.enter_async_context(Proxy(port)) for _ in range(2)]
        self._client_id = f"soak-{options.seed}"
        self._workers = WorkerFaults(self._worker, self.violations)
        settings = Settings.model_validate(
            {
                "broker_url": self._broker.url,
                "metadata_dsn": self._ground.dsn,
                "timeseries_dsn": self._ground.dsn,
            }
        )
        self._settings = settings
        self._accountant = await stack.enter_async_context(Accountant(settings, options.patience_s))
        self._published = Published(Pace(speed=options.speed))

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _register(self) -> None:
        ingest = CommandLine(self._files)
        catalog = self._files / "catalog.json"
        catalog.write_text(json.dumps(catalog_of(self._plan)))
        done = ingest(
            "catalog", "import", "catalog.json", environment={"INGEST_METADATA_DSN": self._ground.dsn}
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _worker(self) -> WorkerProcess:
        to_broker, _, to_database, to_catalog = self._links
        chaos = self._options.chaos
        settings: dict[str, dict[str, object]] = {"write": {"dead_letters_per_topic_per_hour": 1_000_000}}
        if chaos:
            settings["broker"] = SHORT_DEADLINES["broker"]
            settings["write"] |= SHORT_DEADLINES["write"]
        made = WorkerProcess(
            self._files,
            broker_url=to_broker.url(self._broker.url) if chaos else self._broker.url,
            dsn=to_database.url(self._ground.dsn) if chaos else self._ground.dsn,
            metadata_dsn=to_catalog.url(self._ground.dsn) if chaos else self._ground.dsn,
            filters=FILTERS,
            client_id=self._client_id,
            settings=settings,
        )
        self._stack.callback(made.__exit__)
        return made

    async def run(self, stop: asyncio.Event) -> dict[str, Any]:
        """Soak until the time is over or *stop*, then wait, count and judge; give the report."""
        workers, published = self._workers, self._published
        await workers.worker.ready()
        self._broker.save()  # a session that no file knows would be gone after a kill
        watch = asyncio.create_task(workers.watch())
        self._sampler = Sampler(
            self._directory / "samples.jsonl",
            self._ground.dsn,
            self._client_id,
            lambda: workers.worker,
            published=lambda: (published.messages, published.acknowledged),
            every_s=self._options.every_s,
        )
        async with self._sampler:
            await self._publish(stop)
            seconds = self._sampler.elapsed_s
            self._say(f"{seconds:7.1f} s  {published.acknowledged} messages acknowledged")
            drained = await self._drained()
            account = await self._accountant.settle(asyncio.Event(), lambda _done, _of: None)
            lag = (await self._sampler.take())["lag"] if drained else None
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await workers.finish()
        self._judge(account)
        ledgers = await self._ledgers()
        if lag is not None and self._options.chaos:
            lag = 0  # messages that a broker forgot or sent again are in the count; what came last is there
        self.violations += violations(self.samples, lag)
        return {
            "ok": not self.violations,
            "seed": self._options.seed,
            "chaos": self._options.chaos,
            "database": self._ground.says,
            "gateways": self._options.gateways,
            "seconds": round(seconds, 1),
            "samples": len(self.samples),
            "published": published.messages,
            "acknowledged": published.acknowledged,
            "account": self._counted(account),
            "missing": self._listed(account),
            "ledgers": ledgers,
            "growth": [each.said for each in growths(self.samples)],
            "lag": lag,
            "faults": dict(sorted(self.faults.items())),
            "marks": self.marks,
            "violations": self.violations,
        }

    async def _publish(self, stop: asyncio.Event) -> None:
        """Have the gateways publish, and break what is to be broken, until the plan or *stop* ends."""
        plan, published = self._plan, self._published
        url = self._links[1].url(self._broker.url) if self._options.chaos else self._broker.url
        fleet: Fleet[Recorded] = Fleet(
            broker_address(url),
            self._settings.broker.model_copy(update={"reconnect_min_s": 0.05, "reconnect_max_s": 1.0}),
            [client_id(plan.seed, number) for number in range(plan.gateways)],
            deadline_s=self._options.patience_s,
            on_acknowledged=self._on_acknowledged,
            on_refused=published.on_refused,
        )
        ended = asyncio.Event()
        async with fleet, asyncio.TaskGroup() as tasks:
            self.measured.total(time.monotonic(), 0, 0)
            for part in self._parts() if self._options.chaos else ():
                tasks.create_task(part.run(str(plan.seed), ended, self._tell))
            crashes = tasks.create_task(self._look_for_crashes())
            try:
                await publish(
                    messages(plan), fleet, published, gateway_of=number_of, stop=stop, tell=self._on_published
                )
            finally:
                ended.set()
                crashes.cancel()
        self._count_crashes()
        self._sent_again = fleet.connections > plan.gateways
        self.measured.total(time.monotonic(), published.messages, published.acknowledged, last=True)
        if published.refused:
            self.violations.append(f"the broker refused {published.refused}: {published.first_refusal}")

    def _on_published(self, _message: Recorded) -> None:
        self.measured.total(time.monotonic(), self._published.messages, self._published.acknowledged)

    def _on_acknowledged(self, gateway: int, message: Recorded, sent_us: int, acked_us: int) -> None:
        """Expect what *message* has to leave."""
        self._published.on_acknowledged(gateway, message, sent_us, acked_us)
        self.measured.took(sent_us, acked_us)
        self._number += 1
        if self._options.chaos:
            self._acknowledged.append((acked_us / 1e6, self._number))
            while self._acknowledged[0][0] < acked_us / 1e6 - _REMEMBERED_S:
                self._acknowledged.popleft()
        self._accountant.delivered(
            Outgoing(
                self._number,
                Position(0, self._number, 0),
                message.received_us,
                message.topic,
                message.payload,
                message.qos,
                message.retain,
                None,
            ),
            sent_us,
        )

    def _parts(self) -> list[Part]:
        """Give what is broken: seldom enough that between two faults of a part something can grow."""
        span_s = self._options.seconds
        rest_s = (min(20.0, span_s / 8), min(120.0, span_s / 3))
        self._broken_broker = BrokerFaults(self._broker)
        to_broker, of_gateways, to_database, to_catalog = self._links
        parts = [
            self._workers.part((span_s / 12, span_s / 4)),
            self._broken_broker.part(rest_s),
            network("link of the worker to the broker", to_broker, rest_s=rest_s),
            network("link of the worker to the database", to_database, rest_s=rest_s),
            network("link of the worker to the catalog", to_catalog, rest_s=rest_s),
            network("link of the gateways", of_gateways, rest_s=rest_s),
        ]
        if self._ground.server is not None:
            parts.append(DatabaseFaults(self._ground.server, self._ground.dsn).part(rest_s))
        return parts

    def _tell(self, part: str, fault: str) -> None:
        self.faults[f"{part}: {fault}"] += 1
        at_s = self._sampler.elapsed_s
        self.marks.append((round(at_s, 1), f"{part}: {fault}"))
        self._say(f"{at_s:7.1f} s  {part}: {fault}")

    async def _look_for_crashes(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._count_crashes()

    def _count_crashes(self) -> None:
        """Note which messages a crashed broker may have forgotten."""
        crashes = self._broken_broker.crashes if self._options.chaos else []
        for crash in crashes[self._crashes :]:
            self._forgotten |= {
                number for acked_s, number in self._acknowledged if crash.saved_s < acked_s < crash.up_s
            }
        self._crashes = len(crashes)

    # the end

    async def _drained(self) -> bool:
        """Wait until what is published last of all is in the table; the broker keeps the order."""
        house = installation(self._plan.seed, 0, self._plan.formats).houses[0]
        payload = json.dumps({"sensor_id": "sentinel", "value": SENTINEL, "timestamp": time.time()})
        topic = f"greenhouse/{house.greenhouse_id}/sensors/sensor"
        await publish_bare(self._broker.port, [Message(topic, payload.encode())])
        self._published.messages += 1
        self._published.acknowledged += 1

        async def there() -> bool:
            rows = await self._fetch("select 1 from iot.sensor_readings where value = $1 limit 1", SENTINEL)
            return bool(rows)

        try:
            await until(there, "the queue runs empty", patience_s=self._options.patience_s)
        except AssertionError:
            return False
        return True

    def _judge(self, account: Account) -> None:
        lost = [
            each for each in account.judgement.missing if each.message.position.offset not in self._forgotten
        ]
        if lost:
            where = ", ".join(sorted({each.message.letter[0] for each in lost})[:5])
            self.violations.append(f"{len(lost)} readings are missing, of {where}")
        if account.judgement.surplus and not (self._sent_again or self._crashes):
            self.violations.append(f"{account.judgement.surplus} rows more than were published")

    def _counted(self, account: Account) -> dict[str, int]:
        found = account.judgement
        forgiven = sum(each.message.position.offset in self._forgotten for each in found.missing)
        return {
            "messages acknowledged by the broker": account.messages,
            "ignored by rule": account.ignored,
            "readings in them": account.readings,
            "landed once": found.landed,
            "duplicates, absorbed": found.duplicate,
            "in dead letters": found.dead,
            "null": account.nulls,
            "rows more than published": found.surplus,
            "forgotten by a broker killed with -9": forgiven,
            "missing": found.missing_readings - forgiven,
        }

    def _listed(self, account: Account) -> list[list[str]]:
        return [
            [str(each.message.position.offset), each.message.letter[0], each.field, each.why]
            for each in account.judgement.missing
            if each.message.position.offset not in self._forgotten
        ][:_LISTED]

    async def _ledgers(self) -> dict[str, int]:
        """Hold both ledgers against themselves and the tables, and have the product's own account agree."""
        stored = await self._fetch(
            "select counter, value from iot.ingest_counters where client_id = $1", self._client_id
        )
        counters = Counts().as_dict() | {row["counter"]: row["value"] for row in stored}
        ((rows,),) = await self._fetch("select count(*) from iot.sensor_readings")
        ((rejections,),) = await self._fetch(
            "select coalesce(sum(rejected_count), 0)::bigint from iot.ingest_dead_letters"
        )
        sums = chaos_account.Account()
        sums.add_up(counters, rows=rows, rejections=rejections)
        self.violations += sums.violations
        dsns = {"INGEST_TIMESERIES_DSN": self._ground.dsn, "INGEST_METADATA_DSN": self._ground.dsn}
        ingest = CommandLine(self._files)
        done = await asyncio.to_thread(
            lambda: ingest("reconcile", "--since", "30d", "--json", environment=dsns)
        )
        if done.returncode != 0:
            self.violations.append(f"ingest reconcile: {done.stdout} {done.stderr}")
        return counters

    async def _fetch(self, query: str, *arguments: object) -> list[Any]:
        connection = await asyncpg.connect(self._ground.dsn)
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()
