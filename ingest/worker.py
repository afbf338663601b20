"""The worker: the composition root, read from top to bottom.

    link      connect, resume the session, receive   -> intake (decode, resolve)
    commits   batch by batch into the database       -> PUBACKs in arrival order
    catalog   keep the snapshot fresh
    healing   replay dead letters that lacked a name the catalog knows by now
    quality   note what is wrong with the data, for people
    http      /metrics /healthz /readyz, and the page

All on one event loop; only connecting to the broker has a thread. Nothing is acknowledged before
its COMMIT; with the database away the worker stops reading, and the broker keeps the messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
import traceback
from typing import TYPE_CHECKING, Final

import structlog

from ingest.commits import Committer
from ingest.decode import Decoder, Routes
from ingest.errors import DatabaseFault, SessionTakenOver
from ingest.healing import Healer
from ingest.intake import Intake
from ingest.labels import LabelRules
from ingest.mirroring import Mirroring
from ingest.observe.http import Health, serve
from ingest.observe.logs import Repeats
from ingest.observe.merged import reported
from ingest.observe.metrics import Metrics
from ingest.observe.watchdog import watch
from ingest.quality_watch import QualityWatch
from ingest.resolve import Catalog, Resolver
from ingest.resolve.loader import CatalogLoader
from ingest.workers.line import Report
from ingest.workers.order import EXIT_UNENDED

if TYPE_CHECKING:
    from ingest.settings import Settings
    from ingest.workers.line import Line

_REPEAT_INTERVAL_S: Final = 30.0
_LAST_WORD_S: Final = 2.0
"""How long a leaving worker tries to empty the stored list, and to take leave: both spare its successor."""

_LAST_ISSUES_S: Final = 3.0
"""How long it tries to write what it found wrong with the data since the last window."""

_YOUNG_OBJECTS: Final = 100_000
"""Made between two looks for garbage: a message makes three, none of them ever part of a cycle. With
CPython's 700 the looking took 1.3 of 11 µs a message."""

log = structlog.get_logger()


async def run(settings: Settings, line: Line | None = None, *, ending: bool = False) -> int:
    """Run until SIGTERM or SIGINT; give the exit code.

    The first signal flushes, acknowledges and disconnects, keeping the session; a second exits at
    once. With a *line* to a supervisor, that asks in place of a signal, and nothing is done at once. With
    *ending*, the session is emptied and ended, and that is all; stopped before, it gives EXIT_UNENDED. Raises
    ConfigurationError before it starts, SessionTakenOver when another process has claimed the client id.
    """
    worker = Worker(settings, ending=ending, supervised=line is not None)
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop, number)
    telling = None
    if line is not None:
        telling = asyncio.create_task(line.serve(lambda looks: worker.report(watched=looks), worker.stop))
    try:
        await worker.run()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        if line is not None and telling is not None:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await line.close(worker.report())
    return 0 if worker.has_ended or not ending else EXIT_UNENDED


class Worker:
    """One MQTT session, one writer, one catalog; see the module's header."""

    def __init__(self, settings: Settings, *, ending: bool = False, supervised: bool = False) -> None:
        """Wire the stages. Raises ConfigurationError when a DSN or a route is unusable."""
        self._settings = settings
        self._supervised = supervised
        self._metrics = Metrics()
        self._repeats = Repeats(_REPEAT_INTERVAL_S)
        self._rules = LabelRules(settings.label_rule)
        self._loader = CatalogLoader(settings.dsn("metadata"), settings.resolve, self._on_catalog)
        decoder = Decoder(Routes(settings.route, settings.decode.ignore), settings.decode)
        self._intake = Intake(
            decoder,
            self._resolver_for(Catalog.build()),
            ignore_retained=settings.decode.ignore_retained,
            max_batch_rows=settings.write.max_batch_rows,
            on_fault=self._on_worker_fault,
            on_set_back=self._on_set_back,
        )
        self._healer = Healer(
            settings,
            decoder,
            lambda: self._resolver_for(self._intake.resolver.catalog),
            in_trouble=lambda: bool(self._commits.troubles()),
            on_healed=self._metrics.healed,
            on_fault=lambda fault, wait_s: self._commits.tell_fault("healing_failed", fault, wait_s),
        )
        self._quality = QualityWatch(settings, metrics=self._metrics, repeats=self._repeats)
        self._commits = Committer(
            settings,
            self._intake,
            metrics=self._metrics,
            repeats=self._repeats,
            look_up=self._loader.refresh_on_miss,
            on_committed=self._quality.on_committed,
            meanwhile=self._quality.catch_up,
            on_outdated=self._healer.look,
            ending=ending,
        )
        self._mirroring = Mirroring(
            self._commits.writer,
            lambda fault, wait_s: self._commits.tell_fault("mirror_failed", fault, wait_s),
        )
        self._catalog_trouble: str | None = None
        self._catalog_loaded = asyncio.Event()
        self._stopping = asyncio.Event()

    # life

    async def run(self) -> None:
        """Start everything, wait for `stop`, leave in order. Raises what ends it otherwise."""
        self._show_gauges()
        http = await serve(
            self._settings.observe, self._metrics.registry, self.health, lambda: self._quality.conditions
        )
        work = (
            self._loader.run(),
            self._receive(),
            self._commits.run(),
            self._mirroring.run(),
            self._healer.run(),
            self._commits.probe(),
            self._commits.log_progress(),
            self._quality.run(self._hears, lambda: self._commits.in_flight),
            watch(self._settings.observe.hang_s),
        )
        tasks = [asyncio.create_task(each) for each in (self._stopping.wait(), *work)]
        log.info("worker_started", client_id=self._settings.broker.client_id, process_id=os.getpid())
        in_order = False
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
            in_order = True
        except SessionTakenOver:
            in_order = True
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._commits.link.abort()
            await self._quality.leave(_LAST_ISSUES_S)
            await self._loader.close()
            if in_order:
                await self._take_leave()
            await self._commits.writer.close()
            if http is not None:
                await http.stop()
            log.info("worker_stopped", **self._commits.totals.as_dict(), in_flight=self._commits.in_flight)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask the worker to leave; asked twice, leave at once: the broker keeps what is not committed.

        Under a supervisor it may well be asked twice, by that and by the system.
        """
        if self._stopping.is_set():
            if self._supervised:
                return
            os._exit(128 + number)
        log.info("worker_stopping", signal=signal.Signals(number).name, in_flight=self._commits.in_flight)
        self._commits.link.stop_intake()
        self._stopping.set()

    async def _receive(self) -> None:
        """Receive once the catalog is there: before, every name would be unknown."""
        await self._catalog_loaded.wait()
        await self._commits.link.serve(self._commits.drained)

    async def _leave(self) -> None:
        """Commit what was received, acknowledge it, let the broker prove it, disconnect."""
        try:
            async with asyncio.timeout(self._settings.write.drain_timeout_s):
                await self._commits.drained.wait()
        except TimeoutError:
            log.warning(
                "left_to_the_broker",
                messages=self._commits.in_flight,
                reason="the database took no COMMIT in time; the broker sends them again",
            )
            return
        await self._commits.link.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S):
                await self._commits.settle()

    async def _take_leave(self) -> None:
        """Have the journal know that no message ended this process."""
        with contextlib.suppress(TimeoutError, DatabaseFault):
            async with asyncio.timeout(_LAST_WORD_S):
                await self._commits.writer.take_leave()

    def _show_gauges(self) -> None:
        gauge = self._metrics.read_gauge
        gauge("ingest_in_flight_messages", lambda: self._commits.in_flight)
        gauge("ingest_buffered_bytes", lambda: self._commits.buffered_bytes)
        gauge("ingest_lag_seconds", lambda: self._commits.lag_s(time.time_ns() // 1000))
        gauge("ingest_ready", lambda: float(not self.health().reasons))
        gauge("ingest_broker_connected", lambda: float(self._commits.link.trouble is None))
        gauge("ingest_catalog_age_seconds", lambda: self._loader.age_s)
        gauge("ingest_clock_skew_seconds", lambda: self._commits.skews.worst_s(time.monotonic()))
        gauge("ingest_skewed_gateways", lambda: len(self._commits.skews.off(time.monotonic())))
        gauge("ingest_quality_waiting_issues", lambda: self._quality.waiting)
        gauge("ingest_catalog_sensors", lambda: self._intake.resolver.catalog.counts()["sensors"])

    @property
    def has_ended(self) -> bool:
        """Whether the session was ended, at the broker and in the journal."""
        return self._commits.link.ended

    # catalog

    def _resolver_for(self, catalog: Catalog) -> Resolver:
        return Resolver(catalog, self._rules, out_of_range=self._settings.resolve.out_of_range)

    def _on_catalog(self, catalog: Catalog) -> None:
        """Use *catalog*, unless somebody emptied it: under that, every message would be a dead letter."""
        counts, known = catalog.counts(), self._intake.resolver.catalog.counts()
        empty = [name for name in ("sensor_types", "units") if not counts[name]]
        if known["tenants"] and not counts["tenants"]:
            empty.append("tenants")
        if empty:
            self._catalog_trouble = f"metadata.{', metadata.'.join(empty)}: empty, the catalog before stays"
            log.error("catalog_empty", tables=empty, action="run `ingest schema migrate`, or restore them")
            return
        self._catalog_trouble = None
        self._intake.resolver.follow(catalog)
        self._quality.on_catalog(catalog)
        self._mirroring.on_catalog(catalog)
        if not self._catalog_loaded.is_set():
            # What is there by now stays, and is left out of garbage collections: with ten thousand
            # greenhouses a full one takes 150 ms. What a later catalog replaces needs no collector.
            gc.collect()
            gc.freeze()
            self._catalog_loaded.set()
        self._healer.look()

    # what the operator sees

    def _hears(self) -> bool:
        """Tell whether readings reach the database, so that a sensor's silence is its own."""
        return self._commits.link.trouble is None and not self._commits.troubles()

    def _on_worker_fault(self, fault: str, error: Exception) -> None:
        """Tell once in a while of each bug; its text and the message stay out of the log."""
        if (held_back := self._repeats.admit(f"worker_fault {fault}", time.monotonic())) is not None:
            stack = "".join(traceback.format_tb(error.__traceback__))
            action = "report it; the messages are dead letters, to be replayed with a release that mends it"
            log.error("worker_fault", fault=fault, stack=stack, action=action, repeats=held_back)

    def _on_set_back(self, set_back_s: float) -> None:
        """Tell that this machine's clock was ahead, and is no more."""
        if (held_back := self._repeats.admit("clock_set_back", time.monotonic())) is not None:
            action = "what came before has times that are ahead by as much; have the clock set by NTP"
            log.warning("clock_set_back", set_back_s=round(set_back_s, 3), action=action, repeats=held_back)

    def report(self, *, watched: bool = False) -> Report:
        """Give what a supervisor wants to know; with the last conditions while its page is *watched*."""
        subscribed = self._commits.link.trouble is None
        conditions = self._quality.conditions if watched else None
        return Report(subscribed, self.health().reasons, reported(self._metrics.registry), conditions)

    def health(self) -> Health:
        """Tell whether the process works and, if it is not ready, why; asked by /readyz."""
        reasons = []
        if self._catalog_trouble is not None:
            reasons.append(f"catalog: {self._catalog_trouble}")
        elif not self._catalog_loaded.is_set():
            reasons.append(f"catalog: {self._loader.last_error or 'not loaded yet'}")
        if self._commits.link.trouble is not None:
            reasons.append(f"broker: {self._commits.link.trouble}")
        reasons += self._commits.troubles()
        return Health(live=True, reasons=reasons)
