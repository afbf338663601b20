"""The worker: the composition root, read from top to bottom.

    link      connect, resume the session, receive   -> intake (decode, resolve)
    commit    batch by batch into the database       -> PUBACKs in arrival order
    catalog   keep the snapshot fresh
    http      /metrics /healthz /readyz

All on one event loop; only connecting to the broker has a thread. Nothing is acknowledged before
its COMMIT; with the database away the worker stops reading, and the broker keeps the messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import structlog

from ingest.decode import Decoder, Routes
from ingest.errors import DatabaseFault, Unavailable
from ingest.intake import Intake
from ingest.labels import LabelRules
from ingest.link import Link
from ingest.observe.http import Health, HttpServer
from ingest.observe.logs import Repeats
from ingest.observe.metrics import BatchResult, Metrics
from ingest.receive import QOS, entry_of
from ingest.resolve import Catalog, Resolver
from ingest.resolve.loader import CatalogLoader
from ingest.write import Batch, Counts, Mirrored, Outcome, Writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.model import Delivery, Reason
    from ingest.settings import Settings

_PROGRESS_INTERVAL_S: Final = 10.0
_PROBE_INTERVAL_S: Final = 10.0
"""How often an idle worker asks whether the database is still there, for /readyz."""
_REPEAT_INTERVAL_S: Final = 30.0
_MIRROR_RETRY_S: Final = 30.0
_LAST_WORD_S: Final = 2.0
"""How long a leaving worker tries to empty the stored list, which only saves its successor a comparison."""

log = structlog.get_logger()


async def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; give the exit code.

    The first signal flushes, acknowledges and disconnects, keeping the session; a second exits at
    once. Raises ConfigurationError before it starts, SessionTakenOver when another process has claimed
    the client id.
    """
    worker = Worker(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop, number)
    try:
        await worker.run()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return 0


class Worker:
    """One MQTT session, one writer, one catalog; see the module's header."""

    def __init__(self, settings: Settings) -> None:
        """Wire the stages. Raises ConfigurationError when a DSN or a route is unusable."""
        self._settings = settings
        self._metrics = Metrics()
        self._repeats = Repeats(_REPEAT_INTERVAL_S)
        self._rules = LabelRules(settings.label_rule)
        self._loader = CatalogLoader(settings.dsn("metadata"), settings.resolve, self._on_catalog)
        self._intake = Intake(
            Decoder(Routes(settings.route, settings.decode.ignore), settings.decode),
            self._resolver_for(Catalog.build()),
            ignore_retained=settings.decode.ignore_retained,
            max_batch_rows=settings.write.max_batch_rows,
        )
        self._writer = Writer(
            settings.dsn("timeseries"),
            settings.write,
            settings.broker.client_id,
            max_payload_bytes=settings.decode.max_payload_bytes,
            on_retry=self._on_database_fault,
            on_recovery=self._on_database_recovery,
        )
        self._link = Link(settings, self._writer, self, self._repeats)
        self._totals = Counts()
        self._unrecorded_skips = 0
        self._committing: Batch | None = None
        self._waiting_since_s: float | None = None
        self._database_trouble: str | None = None
        self._catalog_loaded = asyncio.Event()
        self._catalog_changed = asyncio.Event()
        self._forget_wanted = False
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._stopping = asyncio.Event()

    # life

    async def run(self) -> None:
        """Start everything, wait for `stop`, leave in order. Raises what ends it otherwise."""
        http = await self._start_http()
        work = (
            self._loader.run(),
            self._receive(),
            self._commit_all(),
            self._mirror_catalog(),
            self._probe_database(),
            self._log_progress(),
        )
        tasks = [asyncio.create_task(each) for each in (self._stopping.wait(), *work)]
        log.info("worker_started", client_id=self._settings.broker.client_id, process_id=os.getpid())
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            # A task that ends now ends the leaving too, and its error is the worker's.
            tasks.append(leaving := asyncio.create_task(self._leave()))
            while not leaving.done():
                running = [task for task in tasks if not task.done()]
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._link.abort()
            await self._loader.close()
            await self._writer.close()
            if http is not None:
                await http.stop()
            log.info("worker_stopped", **self._totals.as_dict(), in_flight=self._in_flight)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask the worker to leave; asked twice, leave at once: the broker keeps what is not committed."""
        if self._stopping.is_set():
            os._exit(128 + number)
        log.info("worker_stopping", signal=signal.Signals(number).name, in_flight=self._in_flight)
        self._link.stop_intake()
        self._stopping.set()

    async def _receive(self) -> None:
        """Receive once the catalog is there: before, every name would be unknown."""
        await self._catalog_loaded.wait()
        await self._link.serve(self._drained)

    async def _leave(self) -> None:
        """Commit what was received, acknowledge it, let the broker prove it, disconnect."""
        try:
            async with asyncio.timeout(self._settings.write.drain_timeout_s):
                await self._drained.wait()
        except TimeoutError:
            log.warning(
                "left_to_the_broker",
                messages=self._in_flight,
                reason="the database took no COMMIT in time; the broker sends them again",
            )
            return
        await self._link.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S):
                await self._writer.forget(self._link.ledger.pending)

    async def _start_http(self) -> HttpServer | None:
        gauge = self._metrics.read_gauge
        gauge("ingest_in_flight_messages", lambda: self._in_flight)
        gauge("ingest_buffered_bytes", lambda: self._buffered_bytes)
        gauge("ingest_broker_connected", lambda: float(self._link.trouble is None))
        gauge("ingest_catalog_age_seconds", lambda: self._loader.age_s)
        gauge("ingest_catalog_sensors", lambda: self._intake.resolver.catalog.counts()["sensors"])
        observe = self._settings.observe
        if observe.http_port is None:
            return None
        http = HttpServer(observe.http_host, observe.http_port, self._metrics, self.health)
        await http.start()
        log.info("http_listening", host=observe.http_host, port=http.port)
        return http

    # receive: called by the link

    def take_in(self, deliveries: Sequence[Delivery]) -> None:
        """Decode and resolve *deliveries* into the batch being filled; wake the committer."""
        self._intake.take_in(deliveries, time.time_ns() // 1000)
        self._totals.received += len(deliveries)
        self._metrics.messages(received=len(deliveries))
        if self._waiting_since_s is None:
            self._waiting_since_s = time.monotonic()
        self._drained.clear()
        self._filled.set()
        if self._over_bound(1.0):
            self._link.pause()

    def unacknowledged(self) -> set[int]:
        """Give the packet ids of what waits for its COMMIT."""
        batches = [*([self._committing] if self._committing else []), *self._intake.waiting]
        return {each.packet_id for batch in batches for each in batch.deliveries if each.flags & QOS}

    def reconnected(self) -> None:
        """Count a connection after the first."""
        self._metrics.reconnected()

    def skipped(self, count: int) -> None:
        """Count deliveries that the journal knows as committed."""
        self._totals.received += count
        self._totals.skipped += count
        self._unrecorded_skips += count
        self._metrics.messages(received=count, skipped=count)

    def proved(self) -> None:
        """Empty the stored list while idle: a packet id used again must not look committed."""
        if self._drained.is_set():
            self._forget_wanted = True
            self._filled.set()

    # commit

    async def _commit_all(self) -> None:
        """Commit batch after batch, for ever. Raises SessionTakenOver."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while (batch := self._intake.next_batch()) is not None:
                self._committing = batch
                await self._commit(batch)
                self._committing = None
                self._waiting_since_s = time.monotonic() if self._intake.messages else None
                if not self._over_bound(0.5):
                    self._link.resume()
            if self._forget_wanted:
                self._forget_wanted = False
                await self._writer.forget(self._link.ledger.pending)
            if not self._intake.messages:
                self._drained.set()

    async def _commit(self, batch: Batch) -> None:
        if batch.curable:
            await self._loader.refresh_on_miss(frozenset().union(*batch.curable.values()))
            if self._intake.is_outdated(batch):  # by this refresh, or by a NOTIFY since it arrived
                batch = self._intake.look_again(batch)
        ledger = self._link.ledger
        entries = [entry_of(delivery) for delivery in batch.deliveries if delivery.flags & QOS]
        skips, self._unrecorded_skips = self._unrecorded_skips, 0
        started_s = time.perf_counter()
        outcome = await self._writer.commit(
            batch, ledger.extended_by(entries), Counts(received=len(batch) + skips, skipped=skips)
        )
        ledger.committed(entries)
        self._link.acknowledge([entry.packet_id for entry in entries])
        self._account(batch, outcome, time.perf_counter() - started_s)

    def _account(self, batch: Batch, outcome: Outcome, commit_s: float) -> None:
        counts = outcome.counts
        self._totals = self._totals.plus(counts)
        reasons: Counter[Reason] = Counter(
            rejection.reason for rejections in batch.rejections.values() for rejection in rejections
        )
        reasons.update(rejection.reason for rejection in outcome.refused.values())
        self._metrics.messages(committed=counts.committed, ignored=counts.ignored)
        self._metrics.readings(
            decoded=counts.decoded,
            written=counts.written,
            duplicate=counts.duplicate,
            rejected=counts.rejected,
            null=counts.null,
        )
        self._metrics.rejections(reasons)
        result: BatchResult = "staged" if outcome.staged else "straight"
        self._metrics.batch(result, rows=len(batch.rows), commit_s=commit_s, at_s=time.time())
        log.debug(
            "batch_committed",
            messages=len(batch),
            rows=len(batch.rows),
            commit_ms=round(commit_s * 1000, 1),
            rejected=dict(reasons),
        )

    # catalog

    def _resolver_for(self, catalog: Catalog) -> Resolver:
        return Resolver(catalog, self._rules, out_of_range=self._settings.resolve.out_of_range)

    def _on_catalog(self, catalog: Catalog) -> None:
        self._intake.resolver = self._resolver_for(catalog)
        self._catalog_changed.set()
        if catalog.counts()["sensor_types"]:
            self._catalog_loaded.set()
        else:
            log.error("catalog_empty", action="run `ingest schema migrate`: no sensor type is known")

    async def _mirror_catalog(self) -> None:
        """Carry names and publishing intervals over to the readings' database, for its views and jobs."""
        while True:
            await self._catalog_changed.wait()
            self._catalog_changed.clear()
            catalog = self._intake.resolver.catalog
            mirrored = Mirrored(
                {unit_id: unit.symbol for unit_id, unit in catalog.units.items()},
                {type_id: each.name for type_id, each in catalog.sensor_types.items()},
                [
                    (sensor.sensor_id, sensor.greenhouse_id, sensor.expected_interval_s)
                    for sensor in catalog.sensors.values()
                    if sensor.is_active and sensor.expected_interval_s is not None
                ],
            )
            try:
                await self._writer.mirror(mirrored)
            except DatabaseFault as fault:  # views lack a name meanwhile; readings flow
                self._tell_fault("mirror_failed", fault, _MIRROR_RETRY_S)
                await asyncio.sleep(_MIRROR_RETRY_S)
                self._catalog_changed.set()

    # what the operator sees

    def health(self) -> Health:
        """Tell whether the process works and, if it is not ready, why; asked by /readyz."""
        reasons = []
        if not self._catalog_loaded.is_set():
            reasons.append(f"catalog: {self._loader.last_error or 'not loaded yet'}")
        if self._link.trouble is not None:
            reasons.append(f"broker: {self._link.trouble}")
        if self._database_trouble is not None:
            reasons.append(f"database: {self._database_trouble}")
        if self._waiting_since_s is not None:
            waited_s = time.monotonic() - self._waiting_since_s
            if waited_s > self._settings.observe.stall_s:
                reasons.append(f"stalled: {self._in_flight} messages wait {waited_s:.0f} s for a COMMIT")
        return Health(live=True, reasons=reasons)

    @property
    def _in_flight(self) -> int:
        committing = 0 if self._committing is None else len(self._committing)
        return self._intake.messages + committing

    @property
    def _buffered_bytes(self) -> int:
        committing = 0 if self._committing is None else self._committing.payload_bytes
        return self._intake.payload_bytes + committing

    @property
    def _buffered_rows(self) -> int:
        return self._intake.readings + (0 if self._committing is None else self._committing.readings)

    def _over_bound(self, share: float) -> bool:
        write = self._settings.write
        return (
            self._in_flight >= write.max_buffered_messages * share
            or self._buffered_bytes >= write.max_buffered_bytes * share
            or self._buffered_rows >= write.max_buffered_rows * share
        )

    def _on_database_fault(self, fault: DatabaseFault, wait_s: float) -> None:
        self._database_trouble = str(fault)
        self._metrics.retry(fault.sqlstate)
        self._metrics.batch("retried")
        self._tell_fault("database_fault", fault, wait_s)

    def _tell_fault(self, event: str, fault: DatabaseFault, wait_s: float) -> None:
        if (held_back := self._repeats.admit(f"{event} {fault}", time.monotonic())) is not None:
            level = log.warning if isinstance(fault, Unavailable) else log.error
            level(
                event,
                error=str(fault),
                retry_in_s=round(wait_s, 2),
                in_flight=self._in_flight,
                repeats=held_back,
            )

    def _on_database_recovery(self) -> None:
        self._database_trouble = None
        log.info("database_recovered", in_flight=self._in_flight)

    async def _probe_database(self) -> None:
        """Notice a database that went away while there is nothing to write."""
        while True:
            await asyncio.sleep(_PROBE_INTERVAL_S)
            if self._drained.is_set():
                await self._writer.probe()

    async def _log_progress(self) -> None:
        """Write one line for each interval in which something happened."""
        last = Counts()
        while True:
            await asyncio.sleep(_PROGRESS_INTERVAL_S)
            if self._totals != last:
                last = self._totals.plus(Counts())
                log.info("progress", **last.as_dict(), in_flight=self._in_flight)
