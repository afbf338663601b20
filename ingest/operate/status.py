"""`ingest status`: one look at both databases. Decides nothing (`status_judge` does) and writes nothing.

The role greenhouse_reader is enough. A database that is away, or a part that this role may not read, is a
fault beside the rest; both are looked at at once. For the operator's command.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ingest.errors import DatabaseFault, IngestError, Misconfigured, Unavailable
from ingest.operate import status_ledger_sql as ledgers
from ingest.operate import status_rows_sql as rows
from ingest.operate import status_sql as sql
from ingest.operate.policies import read_live
from ingest.operate.policy_plan import make_plan
from ingest.operate.reading import reading_from, translated
from ingest.operate.status_facts import (
    Coverage,
    DeadLetters,
    Fault,
    Findings,
    Hypertable,
    Job,
    LateHours,
    LetterReason,
    Quality,
    Rate,
    Server,
    Session,
    Unmapped,
)
from ingest.operate.status_forecast import forecast
from ingest.operate.status_readings import (
    Span,
    chunks_of_readings,
    count_lacking,
    is_stale,
    read_aggregates,
    silent_sensors,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    import asyncpg

    from ingest.operate.reading import DatabaseName
    from ingest.settings import Settings

_ROLE: Final = "greenhouse_reader"
_NOT_MIGRATED: Final = {"42P01", "3F000", "42703"}
"""A table, schema or column is not there: one of them says it of all."""
_LEAST_BOOKED_S = 3600.0
"""Rows of less than an hour say nothing of a day."""
# Planned anew each time, with the times of a statement in it: a plan for all times opens every chunk.
_CUSTOM_PLANS = "set plan_cache_mode = force_custom_plan"


async def look(settings: Settings, now: datetime, *, count_all: bool = False) -> Findings:
    """Look at everything; never raises for what a database is or answers.

    Readings without ids are counted for `status.count_for_s`, with *count_all* in every chunk.
    """
    began_s = time.monotonic()
    found = Findings(now)
    await asyncio.gather(
        _Timeseries(settings, found).look(None if count_all else settings.status.count_for_s),
        _metadata(settings, found),
    )
    found.seconds = time.monotonic() - began_s
    return found


@asynccontextmanager
async def _part(found: Findings, database: DatabaseName) -> AsyncIterator[None]:
    """Do what is inside; a refusal is a fault, said once. Raises Unavailable: then the rest fails as well."""
    try:
        with translated(database, _ROLE):
            yield
    except Unavailable:
        raise
    except IngestError as error:
        fault = _fault(database, error)
        before = [each for each in found.faults if each.database == database]
        if fault not in before and not (
            fault.sqlstate in _NOT_MIGRATED and any(each.sqlstate in _NOT_MIGRATED for each in before)
        ):
            found.faults.append(fault)


def _fault(database: DatabaseName, error: IngestError) -> Fault:
    return Fault(database, str(error), error.sqlstate if isinstance(error, DatabaseFault) else None)


class _Timeseries:
    """The looks at the readings' database, one after the other on one connection."""

    def __init__(self, settings: Settings, found: Findings) -> None:
        self._settings = settings
        self._found = found
        self._bytes: dict[str, int] = {}

    async def look(self, limit_s: float | None) -> None:
        """Connect and take every part; that the database is not there, or goes away, is a fault as well."""
        try:
            async with reading_from(self._settings.dsn("timeseries"), "timeseries", _ROLE) as connection:
                await self._parts(connection, limit_s)
        except IngestError as fault:
            self._found.faults.append(_fault("timeseries", fault))
        self._forecast()

    async def _parts(self, connection: asyncpg.Connection, limit_s: float | None) -> None:
        """Take every part in turn; what one of them lacks the others may have."""
        found = self._found
        await connection.execute(_CUSTOM_PLANS)
        async with _part(found, "timeseries"):
            await self._server(connection)
        chunks: list[Span] = []
        async with _part(found, "timeseries"):
            chunks = await chunks_of_readings(connection)
        for part in (self._hypertables, self._jobs, self._ingest, self._dead_letters, self._rows_a_day):
            async with _part(found, "timeseries"):
                await part(connection)
        async with _part(found, "timeseries"):
            await self._aggregates(connection, chunks)
        async with _part(found, "timeseries"):
            found.sensors_watched, found.silent = await silent_sensors(connection, self._settings, found.at)
        async with _part(found, "timeseries"):
            found.readings = await count_lacking(connection, chunks, limit_s)
        # Last: it has this connection give spans of time as months, days and microseconds.
        async with _part(found, "timeseries"):
            found.policies = make_plan(self._settings, await read_live(connection))

    async def _server(self, connection: asyncpg.Connection) -> None:
        row = await connection.fetchrow(sql.SERVER)
        if row is None:
            text = "the timeseries database has no extension timescaledb; run `ingest schema migrate`"
            raise Misconfigured(text)
        self._found.server = Server(**dict(row))

    async def _hypertables(self, connection: asyncpg.Connection) -> None:
        ages = self._settings.compress_after.model_dump()
        late_s = self._settings.status.compression_late_s
        records = await connection.fetch(sql.HYPERTABLES, late_s, list(ages), list(ages.values()))
        self._bytes = {each["name"]: each["bytes"] for each in await connection.fetch(sql.SIZES)}
        self._found.hypertables = [
            Hypertable(**dict(each), total_bytes=self._bytes.get(each["name"], 0)) for each in records
        ]

    async def _jobs(self, connection: asyncpg.Connection) -> None:
        records = await connection.fetch(sql.JOBS, self._settings.status.aggregate_late_runs)
        self._found.jobs = [Job(**dict(each)) for each in records]
        records = await connection.fetch(sql.INVALID_INDEXES)
        self._found.invalid_indexes = [each["name"] for each in records]

    async def _aggregates(self, connection: asyncpg.Connection, chunks: list[Span]) -> None:
        ours = self._settings.refresh_every.model_dump()
        self._found.aggregates = [
            replace(
                each,
                total_bytes=self._bytes.get(each.name, 0),
                stale=each.name in ours and await is_stale(connection, each, chunks),
            )
            for each in await read_aggregates(connection, self._settings.status.aggregate_late_runs)
        ]
        late = await connection.fetchrow(rows.LATE_HOURS)
        self._found.late = None if late is None else LateHours(**dict(late))

    async def _ingest(self, connection: asyncpg.Connection) -> None:
        self._found.sessions = [Session(**dict(each)) for each in await connection.fetch(ledgers.SESSIONS)]
        rate = await connection.fetchrow(ledgers.RATE)
        self._found.rate = None if rate is None else Rate(**dict(rate))

    async def _dead_letters(self, connection: asyncpg.Connection) -> None:
        in_all = await connection.fetchrow(ledgers.DEAD_LETTERS_IN_ALL)
        reasons = [LetterReason(**dict(each)) for each in await connection.fetch(ledgers.DEAD_LETTERS)]
        only_counted = await connection.fetchval(ledgers.ONLY_COUNTED)
        if in_all is not None:
            self._found.dead_letters = DeadLetters(in_all["kept"], in_all["last_day"], reasons, only_counted)

    async def _rows_a_day(self, connection: asyncpg.Connection) -> None:
        for statement in (rows.WRITTEN, rows.ROLLED_UP):
            booked = await connection.fetchrow(statement)
            if booked is not None and booked["rows"] and booked["seconds"] >= _LEAST_BOOKED_S:
                self._found.rows_a_day = booked["rows"] * 86_400 / booked["seconds"]
                return

    def _forecast(self) -> None:
        found = self._found
        if found.server is not None and found.hypertables is not None:
            found.forecast = forecast(
                found.server.bytes,
                self._settings.status.capacity_gb,
                found.rows_a_day,
                found.hypertables,
                found.aggregates or (),
            )


async def _metadata(settings: Settings, found: Findings) -> None:
    try:
        async with reading_from(settings.dsn("metadata"), "metadata", _ROLE) as connection:
            async with _part(found, "metadata"):
                found.coverage = [Coverage(**dict(each)) for each in await connection.fetch(ledgers.COVERAGE)]
            async with _part(found, "metadata"):
                found.unmapped = [Unmapped(**dict(each)) for each in await connection.fetch(ledgers.UNMAPPED)]
            async with _part(found, "metadata"):
                found.quality = [Quality(**dict(each)) for each in await connection.fetch(ledgers.QUALITY)]
    except IngestError as fault:
        found.faults.append(_fault("metadata", fault))
