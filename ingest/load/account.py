"""The account of a replay: each message that was published, and where it is in the database.

Looks while the replay runs, so that little is kept, and after it until everything is there or nothing new has
come for a while. Reads only, on one connection, which is made anew when it breaks. A task on the event loop
beside the replay; what is expected is reckoned in `expected`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from ingest.decode import Decoder, Routes
from ingest.errors import DatabaseFault, IngestError, Unavailable
from ingest.labels import LabelRules
from ingest.load import account_sql as sql
from ingest.load.expected import (
    NO_TIME,
    Expected,
    Judgement,
    Letter,
    Place,
    Published,
    Reading,
    StoredLetter,
    judge,
    place_of,
)
from ingest.load.resume import Position
from ingest.load.stored_rows import StoredRows, stored_rows
from ingest.operate.reading import reading_from, translated
from ingest.resolve import Resolver
from ingest.resolve.loader import CatalogLoader
from ingest.write.retry import translate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import asyncpg

    from ingest.load.replay import Outgoing
    from ingest.settings import Settings

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CHUNK: Final = 2_000
"""Keys in one statement: 20 ms, which is what a probe that falls due meanwhile is seen late by."""
_CLOCKS_APART: Final = timedelta(seconds=5)
"""By how much the clocks of worker, database and this process may be apart, for rows since the beginning."""
_PROBE_EVERY_S: Final = 0.1
_PROBES: Final = 20
"""At a time."""
_LOOK_EVERY_S: Final = 0.05
_JUDGE_EVERY_S: Final = 1.0
_SAME_VALUE: Final = 1_000
"""Readings of a sensor looked back at for a value that would not tell whose row it is."""


_NOBODY: Final = Published(Position(), ("", b""))
Ask: TypeAlias = "Callable[..., Awaitable[list[Any]]]"


@dataclass(slots=True)
class Account:
    """What is told in the end; readings = landed + duplicate + dead + missing."""

    messages: int
    ignored: int
    readings: int
    nulls: int
    judgement: Judgement
    latencies_s: list[float]
    """Ascending, of the messages that were watched."""
    there_before: int
    """Of the messages looked for before they were published, those that were there."""
    looked_for: int

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not self.judgement.missing


@dataclass(slots=True)
class _Probe:
    """A reading that is watched from its publishing until its row is seen."""

    place: Place
    time_us: int
    value: float
    sent_us: int | None = None


@dataclass(slots=True)
class _Probes:
    by_number: dict[int, _Probe] = field(default_factory=dict)
    """By the number of their message, before and after it is published."""
    latencies_s: list[float] = field(default_factory=list)
    there_before: int = 0
    looked_for: int = 0
    last_s: float = float("-inf")


class Accountant:
    """See the module's header; an observer of `Replay`, and an asynchronous context manager."""

    def __init__(self, settings: Settings, patience_s: float) -> None:
        """Prepare; *patience_s*: how long nothing new may come, and how long the database may be away."""
        self._settings = settings
        self._patience_s = patience_s
        self._expected: Expected
        self._began_us = 0
        self._since = _EPOCH
        self._overflow: dict[str, int] = {}
        self._connection: asyncpg.Connection | None = None
        self._closing = contextlib.AsyncExitStack()
        self._asking = asyncio.Lock()
        self._probes = _Probes()
        self._watching: asyncio.Task[None] | None = None
        self._added = asyncio.Event()
        self._over = False

    async def __aenter__(self) -> Self:
        """Read the catalog, and note the beginning. Raises DatabaseFaults."""
        settings = self._settings
        loader = CatalogLoader(settings.dsn("metadata"), settings.resolve, lambda _: None)
        try:
            catalog = await loader.load()
        finally:
            await loader.close()
        self._expected = Expected(
            Decoder(Routes(settings.route, settings.decode.ignore), settings.decode),
            Resolver(catalog, LabelRules(settings.label_rule), out_of_range=settings.resolve.out_of_range),
        )
        (now,) = await self._ask_once(sql.NOW)
        self._began_us = min(_us(now[0]), time.time_ns() // 1_000)
        self._since = _EPOCH + timedelta(microseconds=self._began_us) - _CLOCKS_APART
        self._overflow = await self._overflowed()
        # Rights and tables that lack are heard of now, not when everything is published.
        await self._ask_once(sql.SENSOR_COUNT, [], [], [], self._since)
        await self._ask_once(sql.LETTERS, self._since, [])
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        with contextlib.suppress(IngestError):
            await self._stop_watching()
        await self._disconnect()

    # what the replay tells

    async def before(self, message: Outgoing) -> None:
        """Choose *message* to be watched, if it is time for one, unless its row is there already."""
        probes = self._probes
        now_s = time.monotonic()
        if now_s - probes.last_s < _PROBE_EVERY_S or len(probes.by_number) >= _PROBES:
            return
        if self._asking.locked():
            return  # the replay does not wait for a look at what it has published
        probes.last_s = now_s
        for row in self._expected.rows_of(message, time.time_ns() // 1_000):
            place = place_of(row)
            probe = _Probe(place, row.time_us, row.value)
            earlier = self._expected.timeless.get(place, [])[-_SAME_VALUE:]
            if row.time_us == NO_TIME and any(each.value == row.value for each in earlier):
                continue
            try:
                there = await self._is_there(probe, self._ask_once)
            except Unavailable:
                return
            probes.looked_for += 1
            probes.there_before += there
            if not there:
                probes.by_number[message.number] = probe
            return

    def delivered(self, message: Outgoing, sent_us: int) -> None:
        """Expect what *message* has to leave."""
        if (probe := self._probes.by_number.get(message.number)) is not None:
            probe.sent_us = sent_us
        self._expected.add(message, sent_us)
        self._added.set()

    def refused(self, message: Outgoing) -> None:
        """Watch *message* no more."""
        self._probes.by_number.pop(message.number, None)

    # looking

    async def settle(self, stop: asyncio.Event, on_progress: Callable[[int, int], None]) -> Account:
        """Wait until nothing is missing, nothing new has come for long enough, or *stop*; give the account.

        *on_progress* hears how many readings have their outcome, and of how many. Raises DatabaseFaults.
        """
        await self._stop_watching()
        moved_s, done, judged_s = time.monotonic(), -1, float("-inf")
        while True:
            enough, outcome = await self._progress()
            now_s = time.monotonic()
            moved = outcome != done
            if moved:
                done, moved_s = outcome, now_s
            on_progress(done, self._expected.readings)
            if (enough and moved) or now_s - judged_s >= _JUDGE_EVERY_S or stop.is_set():
                judged_s = now_s
                judgement = await self._judge()
                if not judgement.missing or now_s - moved_s >= self._patience_s or stop.is_set():
                    return self._account(judgement)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await stop.wait()

    async def stored(self) -> StoredRows:
        """Give the rows of the greenhouses whose messages these are, and a day of them, for a report."""
        expected = self._expected
        now_us = time.time_ns() // 1_000
        received_us = (self._began_us, now_us) if expected.timeless else None
        ranges_us = [each for each in (expected.time_range_us, received_us) if each is not None]
        if not ranges_us:
            return StoredRows()
        first_us, last_us = min(each[0] for each in ranges_us), max(each[1] for each in ranges_us)
        return await stored_rows(self._ask, sorted(expected.greenhouses), first_us, last_us)

    def _account(self, judgement: Judgement) -> Account:
        expected, probes = self._expected, self._probes
        return Account(
            expected.messages,
            expected.ignored,
            expected.readings,
            expected.nulls,
            judgement,
            sorted(probes.latencies_s),
            probes.there_before,
            probes.looked_for,
        )

    async def _watch(self) -> None:
        """Look for what is watched every moment, and for the others in between."""
        while not self._over:
            await self._added.wait()
            await self._see_probes()
            if len(self._expected.waiting) >= _CHUNK:
                await self._see(_CHUNK)
            if not self._probes.by_number and len(self._expected.waiting) < _CHUNK:
                self._added.clear()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _stop_watching(self) -> None:
        """Let it look once more, for a statement is not cut off; raises what it met."""
        self._over = True
        self._added.set()
        if self._watching is not None:
            await self._watching

    async def _see_probes(self) -> None:
        probes = self._probes.by_number
        for number, probe in list(probes.items()):
            if probe.sent_us is None:
                continue
            if await self._is_there(probe, self._ask):
                self._probes.latencies_s.append(max(time.time_ns() // 1_000 - probe.sent_us, 0) / 1e6)
                del probes[number]

    async def _is_there(self, probe: _Probe, ask: Ask) -> bool:
        if probe.time_us != NO_TIME:
            reading = Reading(probe.place, probe.time_us, probe.value, "", _NOBODY, again=False)
            return bool(await ask(sql.VALUES, *_keys([reading])))
        sent_us = probe.sent_us or time.time_ns() // 1_000
        since = _EPOCH + timedelta(microseconds=sent_us) - _CLOCKS_APART
        return bool(await ask(sql.SENSOR_VALUE, *probe.place, since, probe.value))

    async def _see(self, count: int) -> int:
        """Look for the rows of the *count* readings that have waited longest; give how many were found."""
        waiting = self._expected.waiting
        readings = [waiting.popleft() for _ in range(min(count, len(waiting)))]
        try:
            values = await self._values(readings)
        except BaseException:
            waiting.extendleft(reversed(readings))
            raise
        return self._expected.found(readings, values)

    async def _values(self, readings: Sequence[Reading]) -> dict[int, float]:
        """Give the values that stand under the keys of *readings*, by their number."""
        if not readings:
            return {}
        records = await self._ask(sql.VALUES, *_keys(readings))
        return {record["number"]: record["value"] for record in records}

    async def _progress(self) -> tuple[bool, int]:
        """Look for everything once; say whether it may be all, and how much has an outcome."""
        expected = self._expected
        await self._see_probes()
        for _ in range(0, len(expected.waiting), _CHUNK):
            await self._see(_CHUNK)
        counted = 0
        if expected.timeless:
            records = await self._ask(sql.SENSOR_COUNT, *_columns(list(expected.timeless)), self._since)
            counted = records[0][0]
        outcome = expected.landed + expected.duplicate + min(counted, expected.timeless_readings)
        enough = not expected.waiting and counted >= expected.timeless_readings
        return enough, outcome

    async def _judge(self) -> Judgement:
        expected = self._expected
        rows: dict[Place, list[tuple[int, float]]] = {}
        if expected.timeless:
            for record in await self._ask(sql.SENSOR_ROWS, *_columns(list(expected.timeless)), self._since):
                place = (record["greenhouse_id"], record["sensor_type_id"], record["sensor_id"])
                rows[place] = list(zip(record["times_us"], record["values"], strict=True))
        waiting = list(expected.waiting)
        others: dict[tuple[Place, int], float] = {}
        for start in range(0, len(waiting), _CHUNK):
            chunk = waiting[start : start + _CHUNK]
            for number, value in (await self._values(chunk)).items():
                others[chunk[number].place, chunk[number].time_us] = value
        counted = {
            topic: readings - self._overflow.get(topic, 0)
            for topic, readings in (await self._overflowed()).items()
        }
        letters = await self._letters()
        return judge(expected, rows, letters, counted, others, began_us=self._began_us)

    async def _letters(self) -> dict[Letter, list[StoredLetter]]:
        """Give the dead letters of topics of which something is to be dead, or is not found."""
        expected = self._expected
        topics = {topic[:200] for topic, _ in expected.rejected}
        topics |= {reading.message.letter[0][:200] for reading in expected.waiting}
        topics |= {reading.message.letter[0][:200] for each in expected.timeless.values() for reading in each}
        found: dict[Letter, list[StoredLetter]] = defaultdict(list)
        for record in await self._ask(sql.LETTERS, self._since, sorted(topics)):
            rejected = json.loads(record["rejected"])
            fields = frozenset(each["field"] for each in rejected)
            whole = "" in fields or len(rejected) < record["rejected_count"]
            letter = (record["topic"], record["digest"])
            found[letter].append(StoredLetter(None if whole else fields))
        return found

    async def _overflowed(self) -> dict[str, int]:
        records = await self._ask(sql.OVERFLOW, self._since)
        return {record["topic"]: record["readings"] for record in records}

    # the connection

    async def _ask(self, statement: str, *arguments: object) -> list[Any]:
        """Run *statement*, again and on a new connection when that breaks; Unavailable when it stays away."""
        began_s = time.monotonic()
        while True:
            try:
                return await self._ask_once(statement, *arguments)
            except Unavailable:
                if time.monotonic() - began_s >= self._patience_s:
                    raise
                await asyncio.sleep(_JUDGE_EVERY_S)

    async def _ask_once(self, statement: str, *arguments: object) -> list[Any]:
        async with self._asking:
            if self._connection is None:
                reading = reading_from(self._settings.dsn("timeseries"), "timeseries")
                self._connection = await self._closing.enter_async_context(reading)
            try:
                with translated("timeseries", "greenhouse_operator"):
                    return await self._connection.fetch(statement, *arguments)
            except DatabaseFault as error:
                await self._disconnect()
                if error.__cause__ is not None and isinstance(translate(error.__cause__), Unavailable):
                    raise Unavailable(str(error), error.sqlstate) from error
                raise

    async def _disconnect(self) -> None:
        self._connection = None
        with contextlib.suppress(Exception):  # it is gone anyway
            await self._closing.aclose()


def _columns(places: Sequence[Place]) -> tuple[list[Any], list[Any], list[Any]]:
    greenhouses, types, sensors = zip(*places, strict=True)
    return list(greenhouses), list(types), list(sensors)


def _keys(readings: Sequence[Reading]) -> tuple[object, ...]:
    """Give the arguments of the statement VALUES."""
    greenhouses, types, sensors = _columns([reading.place for reading in readings])
    times = [_EPOCH + timedelta(microseconds=reading.time_us) for reading in readings]
    return greenhouses, types, times, sensors, min(times), max(times)


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
