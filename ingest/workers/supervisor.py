"""The supervisor: `ingest run` in a share group. It starts the worker processes of this host and keeps them.

    slots     one for each session it is in charge of: its workers', and those it empties and ends
    look      which sessions of the group have no process, here or on a host that is gone
    http      /metrics of all workers as one page, /readyz once each of them is ready; the page

A session is ended by a worker process like any other, started with that order, and only while another worker
of this host hears the group: nothing is published past all of them. The supervisor decodes nothing and
writes nothing; when it is killed, the workers leave in order. One event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from ingest.errors import DatabaseFault
from ingest.model import MOST_SESSIONS
from ingest.observe.http import Health, serve
from ingest.observe.logs import Repeats
from ingest.observe.merged import Merged
from ingest.quality import Conditions, merged_conditions
from ingest.workers.child import Child, ending_of
from ingest.workers.order import Order, is_member, member
from ingest.write import sessions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ingest.settings import Settings
    from ingest.workers.line import Report

_EXIT_CONFIGURATION: Final = 2
_RESTART_MIN_S: Final = 0.5
_RESTART_MAX_S: Final = 30.0
_RAN_WELL_S: Final = 60.0
"""A worker that ran for so long is started again at once, as after its first end."""
_SETTLED_S: Final = 10.0
"""A worker that ends with code 2 sooner shows that the settings are wrong: of two supervisors with the same
client id, the one that came last. Later, its session was taken while it was cut off from the database."""
_MOST_DOUBLINGS: Final = 10
_SILENT_S: Final = 5.0
_LOOK_S: Final = 10.0
_DATABASE_RETRY_S: Final = 2.0
_REPEAT_INTERVAL_S: Final = 30.0
_ENDING_AT_ONCE: Final = 2
"""Processes that end sessions at the same time: each takes the memory of a worker."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Slot:
    """A session that this supervisor is in charge of."""

    client_id: str
    ending: bool = False
    """Whether it is to be emptied and ended."""
    child: Child | None = None
    report: Report | None = None
    heard_s: float = 0.0
    trouble: str = "is being started"
    """Why it has no process."""
    failures: int = 0
    keeping: asyncio.Task[None] | None = None

    @property
    def subscribed(self) -> bool:
        return self.report is not None and self.report.subscribed


@dataclass(slots=True)
class _Sighting:
    """Since when a session has been seen without a process, at which epoch."""

    epoch: int
    since_s: float = field(default_factory=time.monotonic)


class Supervisor:
    """See the module's header."""

    def __init__(self, settings: Settings, *, config: Path | None, debug: bool) -> None:
        """Prepare; *config* and *debug* are handed on to the workers."""
        self._settings = settings
        self._config = config
        self._debug = debug
        self._count = settings.workers.count or 1
        self._group = settings.share_group or ""
        self._slots: dict[str, _Slot] = {}
        self._sightings: dict[str, _Sighting] = {}
        self._merged = Merged(lambda: not self.health().reasons)
        self._repeats = Repeats(_REPEAT_INTERVAL_S)
        self._ending_at_once = asyncio.Semaphore(_ENDING_AT_ONCE)
        self._news = asyncio.Event()
        self._leaving = asyncio.Event()
        self._code = 0
        self._started = False
        self._database_trouble: str | None = None

    # life

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, or a worker shows that the settings are wrong; give the exit code.

        A second signal ends the workers at once. SIGTTIN adds a worker, SIGTTOU retires one.
        """
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, tuple[Callable[[int], None], int]] = {
            signal.SIGTERM: (self.stop, signal.SIGTERM),
            signal.SIGINT: (self.stop, signal.SIGINT),
            signal.SIGTTIN: (self.resize, +1),
            signal.SIGTTOU: (self.resize, -1),
        }
        for number, (handler, argument) in handlers.items():
            loop.add_signal_handler(number, handler, argument)
        http = await serve(self._settings.observe, self._merged.registry, self.health, self.conditions)
        log.info("supervisor_started", group=self._group, workers=self._count, process_id=os.getpid())
        try:
            await self._work()
        finally:
            self._kill()
            if http is not None:
                await http.stop()
            for number in handlers:
                loop.remove_signal_handler(number)
        log.info("supervisor_stopped", exit_code=self._code)
        return self._code

    def stop(self, number: int) -> None:
        """Have every worker leave in order; asked twice, end them."""
        if self._leaving.is_set():
            self._kill()
            os._exit(128 + number)
        log.info("supervisor_stopping", signal=signal.Signals(number).name)
        self._leave(0)

    def resize(self, by: int) -> None:
        """Want *by* workers more or less than before, one at least."""
        self._count = min(max(self._count + by, 1), MOST_SESSIONS)
        log.info("workers_wanted", workers=self._count)
        if self._started:
            self._assign()

    def _kill(self) -> None:
        for slot in self._slots.values():
            if slot.child is not None:
                slot.child.kill()

    def _leave(self, code: int) -> None:
        self._code = self._code or code
        self._leaving.set()
        self._news.set()

    async def _work(self) -> None:
        """Keep the slots and look for others until it is time to leave; return once every process is gone."""
        work = [asyncio.create_task(each) for each in (self._begin(), self._look())]
        for task in work:
            task.add_done_callback(self._on_task_done)
        await self._leaving.wait()
        for task in work:
            task.cancel()
        tasks = [*work, *(slot.keeping for slot in self._slots.values() if slot.keeping is not None)]
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled():
                task.result()  # a bug is not passed over

    async def _begin(self) -> None:
        """Start the workers.

        A session that one worker had to itself joins the group first, under its own name: it then gets a
        share rather than a copy of everything, and is ended as soon as another worker hears.
        """
        base = self._settings.broker.client_id
        joining: _Slot | None = None
        if await self._is_alone(base):
            log.info("session_joins_group", client_id=base, group=self._group)
            slot = joining = self._take_charge(base, ending=False)
            await self._when(lambda: slot.subscribed)
            if self._leaving.is_set():
                return
        self._started = True
        self._assign()
        if joining is not None:
            joining.ending = True
            self._news.set()

    def _assign(self) -> None:
        """Have a worker in each wanted slot, and end the sessions of the others."""
        base = self._settings.broker.client_id
        wanted = [member(base, number) for number in range(self._count)]
        for client_id in wanted:
            self._take_charge(client_id, ending=False)
        for client_id, slot in self._slots.items():
            if is_member(client_id, base) and client_id not in wanted:
                slot.ending = True
        self._news.set()

    def _take_charge(self, client_id: str, *, ending: bool) -> _Slot:
        slot = self._slots.setdefault(client_id, _Slot(client_id))
        slot.ending = ending
        if slot.keeping is None:
            slot.keeping = asyncio.create_task(self._keep(slot))
            slot.keeping.add_done_callback(self._on_task_done)
        return slot

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._leave(1)
        self._news.set()

    # one slot

    async def _keep(self, slot: _Slot) -> None:
        """Have a process serve the session, or end it; start it again when it ends by itself."""
        while not self._leaving.is_set():
            if not slot.ending:
                await self._process(slot, ending=False)
                continue
            slot.trouble = "waits until another worker hears the group"
            await self._when(lambda: not slot.ending or self._is_heard_beside(slot))
            async with self._ending_at_once:
                ended = self._is_to_end(slot) and await self._process(slot, ending=True)
            if ended and self._is_to_end(slot):  # a worker may be wanted again by now
                del self._slots[slot.client_id]
                return

    def _is_to_end(self, slot: _Slot) -> bool:
        return slot.ending and not self._leaving.is_set()

    async def _process(self, slot: _Slot, *, ending: bool) -> bool:
        """Run one process to its end, and wait before the next if need be; True: the session is done with."""
        began_s = slot.heard_s = time.monotonic()
        order = Order(slot.client_id, self._count, ending)
        try:
            child = slot.child = await Child.start(order, config=self._config, debug=self._debug)
        except OSError as error:
            await self._rest(slot, 0.0, reason=f"cannot be started: {error}")
            return False
        log.info("worker_process_started", worker=slot.client_id, process_id=child.pid, ending=ending)

        def on_report(report: Report) -> None:
            slot.report, slot.heard_s = report, time.monotonic()
            self._merged.take(slot.client_id, report.metrics)
            self._news.set()

        def is_to_leave() -> bool:
            changed = slot.ending != ending and (ending or self._is_heard_beside(slot))
            return running.done() or changed

        running = asyncio.create_task(child.run(on_report))
        running.add_done_callback(lambda _: self._news.set())
        await self._when(is_to_leave)
        asked = not running.done()
        child.ask_to_leave()
        code = await running
        slot.child, slot.report = None, None
        self._merged.ended(slot.client_id)
        if asked:
            log.info("worker_process_ended", worker=slot.client_id, **ending_of(code))
        elif ending and code in {0, _EXIT_CONFIGURATION}:
            # 2: its own process came back, or another supervisor was first. Were it the settings, the
            # workers would end with it, too.
            log.info("session_left_alone" if code else "session_retired", worker=slot.client_id)
            return True
        elif ends_all(code, time.monotonic() - began_s):
            log.error("worker_process_ended", worker=slot.client_id, **ending_of(code))
            self._leave(code)
        else:
            await self._rest(slot, time.monotonic() - began_s, **ending_of(code))
        return False

    async def _rest(self, slot: _Slot, ran_s: float, **ended: object) -> None:
        """Wait, longer each time, before a process that ended by itself is started again."""
        slot.failures = 0 if ran_s > _RAN_WELL_S else slot.failures
        longest_s = min(_RESTART_MIN_S * 2**slot.failures, _RESTART_MAX_S)
        slot.failures = min(slot.failures + 1, _MOST_DOUBLINGS)
        wait_s = random.uniform(longest_s / 2, longest_s)  # noqa: S311 - jitter
        slot.trouble = f"has ended ({', '.join(f'{name} {value}' for name, value in ended.items())})"
        log.error("worker_process_ended", worker=slot.client_id, **ended, starts_again_in_s=round(wait_s, 1))
        self._merged.restarted()
        ending = slot.ending
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._when(lambda: slot.ending != ending)

    def _is_heard_beside(self, slot: _Slot) -> bool:
        """Tell whether another worker of this host is subscribed, and stays."""
        return any(each.subscribed and not each.ending for each in self._slots.values() if each is not slot)

    # the other sessions of the group

    async def _look(self) -> None:
        """Find sessions without a process, again and again, and have those ended that are nobody's.

        Those of this host are at once: only this supervisor would start them. Those of others are once they
        were without a process, and unclaimed, in every look for as long as the settings say.
        """
        workers = self._settings.workers
        while True:
            await asyncio.sleep(min(_LOOK_S, workers.orphan_after_s / 4))
            if not self._started or not any(slot.subscribed for slot in self._slots.values()):
                continue
            try:
                found = await sessions.ownerless(self._settings.dsn("timeseries"), self._group)
            except DatabaseFault as fault:  # the workers say so; what was seen before proves nothing now
                log.debug("sessions_not_read", error=str(fault))
                self._sightings.clear()
                continue
            now_s = time.monotonic()
            seen, self._sightings = self._sightings, {}
            for each in found:
                if each.client_id in self._slots:
                    continue
                sighting = seen.get(each.client_id)
                if sighting is None or sighting.epoch != each.epoch:
                    sighting = _Sighting(each.epoch)
                self._sightings[each.client_id] = sighting
                own = is_member(each.client_id, self._settings.broker.client_id)
                if own or now_s - sighting.since_s >= workers.orphan_after_s:
                    log.warning("session_adopted", client_id=each.client_id, host=each.host)
                    self._take_charge(each.client_id, ending=True)

    async def _is_alone(self, client_id: str) -> bool:
        """Ask the database, until it answers, whether there is such a session, subscribed by itself."""
        while True:
            try:
                answer = await sessions.is_alone(self._settings.dsn("timeseries"), client_id)
            except DatabaseFault as fault:
                self._database_trouble = str(fault)
                if (held_back := self._repeats.admit("database", time.monotonic())) is not None:
                    log.warning("database_fault", error=str(fault), repeats=held_back)
                await asyncio.sleep(_DATABASE_RETRY_S)
            else:
                self._database_trouble = None
                return answer

    async def _when(self, holds: Callable[[], bool]) -> None:
        """Return once *holds*, or it is time to leave; looked at whenever something was heard of a worker."""
        while not holds() and not self._leaving.is_set():
            self._news.clear()
            await self._news.wait()

    # what the operator sees

    def health(self) -> Health:
        """Tell why this host is not ready, by worker; asked by /readyz."""
        reasons = [f"database: {self._database_trouble}"] if self._database_trouble else []
        if not self._started and not reasons:
            reasons.append("the workers are not started yet")
        now_s = time.monotonic()
        for slot in self._slots.values():
            if slot.ending:
                continue
            if slot.child is None:
                reasons.append(f"worker {slot.client_id}: {slot.trouble}")
            elif slot.report is None:
                reasons.append(f"worker {slot.client_id}: is being started")
            elif now_s - slot.heard_s > _SILENT_S:
                reasons.append(f"worker {slot.client_id}: silent for {now_s - slot.heard_s:.0f} s")
            else:
                reasons += [f"worker {slot.client_id}: {reason}" for reason in slot.report.reasons]
        return Health(live=True, reasons=reasons)

    def conditions(self) -> Conditions | None:
        """Give what the workers said last, and ask them again; None where `quality.enabled` is false."""
        if not self._settings.quality.enabled:
            return None
        for slot in self._slots.values():
            if slot.child is not None:
                slot.child.ask_conditions()
        reports = [slot.report for slot in self._slots.values() if slot.report is not None]
        return merged_conditions([each.conditions for each in reports if each.conditions is not None])


def ends_all(code: int, ran_s: float) -> bool:
    """Tell whether an exit *code*, after *ran_s* seconds, is one that starting it again cannot mend."""
    return code == _EXIT_CONFIGURATION and ran_s < _SETTLED_S
