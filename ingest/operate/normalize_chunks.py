"""Gives the legacy rows of one chunk their ids, batch by batch, each committed.

Owns the order within a chunk: decompress, batches, look again, compress. What is done is seen in the rows
alone, so that a run cut off anywhere is taken up by the next. Runs in the operator's command, on its
connection; never touches a row that lacks no id, but to compare.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import asyncpg
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from ingest.errors import CheckFailed
from ingest.operate import normalize_sql as sql
from ingest.operate.normalize_names import Counted, LegacyNames, meaning
from ingest.operate.normalize_report import EXAMPLES_KEPT, Differing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ingest.migration_connection import Connection
    from ingest.operate.normalize_report import Report
    from ingest.resolve.catalog import Catalog

BATCH_ROWS = 10_000
"""Rows of one transaction: 0.2 s, for which they are locked. Twice as many are no quicker."""
PASSES = 3
"""A chunk is looked at again after its batches: an old writer may have added to it."""
TRIES = 5
"""For a batch that met a deadlock or a lock, or whose chunk a policy compressed again."""

_NO_SENSOR = UUID(int=0)
_STEP = timedelta(microseconds=1)
"""The resolution of timestamptz."""


class Chunk(NamedTuple):
    """One chunk of iot.sensor_readings; times from ``first`` up to ``before``."""

    name: str
    first: datetime
    before: datetime
    is_compressed: bool
    compression_due: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one batch did, in rows; `partial` ones still lack an id afterwards."""

    complete: int = 0
    partial: int = 0
    no_sensor: int = 0
    merged: int = 0
    merged_partial: int = 0
    differing: int = 0
    differing_partial: int = 0
    examples: str | None = None
    """JSON of the first few that differ."""

    def __add__(self, other: Outcome) -> Outcome:
        """Add up the rows; examples are of one batch only."""
        return Outcome(
            self.complete + other.complete,
            self.partial + other.partial,
            self.no_sensor + other.no_sensor,
            self.merged + other.merged,
            self.merged_partial + other.merged_partial,
            self.differing + other.differing,
            self.differing_partial + other.differing_partial,
        )

    @property
    def stay(self) -> int:
        """Rows that stay as they are, because another reading has their key."""
        return self.differing + self.differing_partial

    @property
    def collided(self) -> int:
        """Rows that came to another's key."""
        return self.merged + self.merged_partial + self.stay

    @property
    def written(self) -> int:
        """Rows updated or deleted."""
        return self.complete + self.partial + self.merged + self.merged_partial


class Group(NamedTuple):
    """Legacy rows of one greenhouse in one chunk, with one type id or with none."""

    greenhouse_id: UUID
    sensor_type_id: int | None
    counted: Sequence[Counted]


@dataclass(slots=True)
class Pace:
    """Keeps to *rate_rows_s* rows a second, None for as fast as it goes, and knows when to stop."""

    rate_rows_s: float | None
    stop: asyncio.Event
    _began_s: float = field(default_factory=time.monotonic)
    _rows: int = 0

    @property
    def batch_rows(self) -> int:
        """Rows of a batch: at most a second's worth."""
        return BATCH_ROWS if self.rate_rows_s is None else max(1, min(BATCH_ROWS, int(self.rate_rows_s)))

    async def after(self, rows: int) -> None:
        """Wait as long as *rows* more may take; less when it is to stop."""
        self._rows += rows
        if self.rate_rows_s is None:
            return
        wait_s = self._began_s + self._rows / self.rate_rows_s - time.monotonic()
        if wait_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self.stop.wait()


async def list_chunks(connection: Connection) -> list[Chunk]:
    """Return the chunks, oldest first."""
    return [
        Chunk(
            row["chunk"],
            row["range_start"],
            row["range_end"],
            row["is_compressed"],
            bool(row["compression_due"]),
        )
        for row in await connection.fetch(sql.CHUNKS_SQL)
    ]


async def take_census(connection: Connection, chunk: Chunk) -> list[Counted]:
    """Count the legacy rows of *chunk* by what they lack and what they are called."""
    await connection.execute(sql.BY_ANY_SCAN_SQL)
    return [
        Counted(
            LegacyNames(
                _plain(row["greenhouse_id"]),
                None if row["tenant_id"] is None else _plain(row["tenant_id"]),
                row["sensor_type_id"],
                row["unit_id"],
                row["sensor_type"],
                row["unit"],
                None if row["sensor_id"] is None else _plain(row["sensor_id"]),
            ),
            row["rows"],
            row["no_sensor"],
            row["first"],
            row["last"],
        )
        for row in await connection.fetch(sql.CENSUS_SQL, chunk.first, chunk.before)
    ]


class ChunkNormalizer:
    """Maps the rows of one chunk after the other; counts into *report*, tells *on_rows* of progress."""

    def __init__(
        self,
        connection: Connection,
        catalog: Catalog,
        report: Report,
        pace: Pace,
        on_rows: Callable[[int], None],
    ) -> None:
        """Take the connection, set up by SESSION_SQL and outside a transaction."""
        self._connection = connection
        self._catalog = catalog
        self._report = report
        self._pace = pace
        self._on_rows = on_rows

    async def rehearse(self, chunk: Chunk, census: list[Counted]) -> None:
        """Count what `move` would do, writing nothing."""
        found = await self._collisions(chunk, census)
        complete = partial = 0
        for one in census:
            meant = meaning(self._catalog, one.names)
            self._report.note_unknown(one, meant)
            if meant.complete:
                complete += one.rows
                self._report.no_sensor += one.no_sensor
            else:
                partial += one.rows
        self._report.mapped += complete - found.merged - found.differing
        self._report.merged += found.merged + found.merged_partial
        self._report.differing += found.stay
        self._report.unmapped += partial - found.merged_partial - found.differing_partial

    async def move(self, chunk: Chunk, census: list[Counted]) -> None:
        """Give the rows of *chunk* the ids that the catalog knows; count those that stay, and why."""
        compress = False
        differing = 0
        if chunk.is_compressed and sum(one.rows for one in census) <= BATCH_ROWS:
            # Not decompressed only to find that all there is are readings that have to stay as they are.
            differing = (await self._collisions(chunk, census)).stay
        for _ in range(PASSES):
            known = sum(one.rows for group in self._groups(census) for one in group.counted)
            if known <= differing or self._pace.stop.is_set():
                break
            compress = await self._decompress(chunk) or compress
            passed = await self._pass(chunk, census)
            differing = passed.stay
            census = await take_census(self._connection, chunk)
            if not passed.written and differing < known and not self._pace.stop.is_set():
                raise CheckFailed(
                    f"{known - differing} rows of chunk {chunk.name} have names that the catalog knows and "
                    "could not be given their ids: compare its time zone, collation and columns with the "
                    "schema's (`ingest schema verify`)"
                )
        if compress or (chunk.compression_due and not chunk.is_compressed):
            await self._patiently(chunk, sql.COMPRESS_SQL, chunk.name)
            self._report.recompressed += compress
        self.count_left(census, differing)

    def count_left(self, census: list[Counted], differing: int = 0) -> None:
        """Count the rows of *census* as those that stay without an id, *differing* of them for their key."""
        known = 0
        for one in census:
            meant = meaning(self._catalog, one.names)
            if meant.adds_to(one.names):
                known += one.rows
            else:
                self._report.unmapped += one.rows
                self._report.note_unknown(one, meant)
        self._report.differing += differing
        if self._pace.stop.is_set():
            self._report.pending += max(0, known - differing)
        else:
            self._report.arrived += max(0, known - differing)

    async def _collisions(self, chunk: Chunk, census: list[Counted]) -> Outcome:
        """Find the rows that would come to another's key."""
        total = Outcome()
        await self._connection.execute(sql.BY_ANY_SCAN_SQL)
        for group in self._groups(census):
            if group.sensor_type_id is None:
                found = await self._connection.fetchrow(
                    sql.REHEARSE_SQL,
                    group.greenhouse_id,
                    chunk.first,
                    chunk.before,
                    *self._what_names_mean(group),
                )
                outcome = Outcome(**dict(found or {}))
                total += outcome
                self._keep_examples(group, outcome.examples)
        return total

    async def _pass(self, chunk: Chunk, census: list[Counted]) -> Outcome:
        await self._connection.execute(sql.BY_INDEX_SQL)
        total = Outcome()
        for group in self._groups(census):
            apart = False
            at = min(one.first for one in group.counted)
            before = max(one.last for one in group.counted) + _STEP
            while at < before and not self._pace.stop.is_set():
                last = await self._boundary(group, at, before)
                if last is None:
                    break
                outcome = await self._batch(chunk, group, at, last + _STEP, apart=apart)
                if outcome is None:
                    apart = True
                    continue
                # Duplicates come in runs; where there are none, the plain statement is twice as quick.
                apart = apart and outcome.collided > 0
                at = last + _STEP
                total += outcome
                self._keep_examples(group, outcome.examples)
                self._report.mapped += outcome.complete
                self._report.no_sensor += outcome.no_sensor
                self._report.merged += outcome.merged + outcome.merged_partial
                self._on_rows(outcome.written)
                await self._pace.after(outcome.written)
        return total

    async def _boundary(self, group: Group, at: datetime, before: datetime) -> datetime | None:
        """Return the time of the last row of the batch that begins *at*, None when there is none left."""
        arguments = (group.greenhouse_id, at, before, self._pace.batch_rows)
        if group.sensor_type_id is None:
            found = await self._connection.fetchval(sql.BOUNDARY_UNTYPED_SQL, *arguments)
        else:
            found = await self._connection.fetchval(sql.BOUNDARY_TYPED_SQL, *arguments, group.sensor_type_id)
        return found if isinstance(found, datetime) else None

    async def _batch(
        self, chunk: Chunk, group: Group, first: datetime, before: datetime, *, apart: bool
    ) -> Outcome | None:
        """Map the rows of *group* in a range of times; None when two came to one key and nothing was done."""
        arguments: list[Any] = [group.greenhouse_id, first, before, *self._what_names_mean(group)]
        if group.sensor_type_id is not None:
            statement = sql.MOVE_TYPED_SQL
            arguments.append(group.sensor_type_id)
        else:
            statement = sql.MOVE_APART_SQL if apart else sql.MOVE_UNTYPED_SQL
        try:
            row = await self._patiently(chunk, statement, *arguments)
        except asyncpg.UniqueViolationError:
            if apart:
                raise
            return None
        return Outcome(**dict(row))

    async def _patiently(self, chunk: Chunk, statement: str, *arguments: Any) -> asyncpg.Record:  # noqa: ANN401 (what asyncpg takes)
        """Run *statement*; again after a deadlock, a lock not had, or a key or compression between."""
        retried = (
            asyncpg.DeadlockDetectedError,
            asyncpg.LockNotAvailableError,
            asyncpg.FeatureNotSupportedError,
            *((asyncpg.UniqueViolationError,) if statement == sql.MOVE_APART_SQL else ()),
        )
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(retried),
            stop=stop_after_attempt(TRIES),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            reraise=True,
        ):
            with attempt:
                try:
                    row = await self._connection.fetchrow(statement, *arguments)
                except asyncpg.FeatureNotSupportedError:
                    # 0A000: the columns of the key cannot be changed in a chunk that a policy has compressed.
                    await self._connection.fetchrow(sql.DECOMPRESS_SQL, chunk.name)
                    raise
                if row is not None:
                    return row
        raise CheckFailed(f"chunk {chunk.name} is gone: a retention policy dropped it; run again")

    async def _decompress(self, chunk: Chunk) -> bool:
        """Return whether *chunk* was compressed; it is not any more."""
        if not await self._connection.fetchval(sql.IS_COMPRESSED_SQL, chunk.name):
            return False
        await self._patiently(chunk, sql.DECOMPRESS_SQL, chunk.name)
        return True

    def _groups(self, census: list[Counted]) -> list[Group]:
        """Return those rows of *census* to which the catalog adds an id, in the order of the index."""
        groups: dict[tuple[UUID, int | None], list[Counted]] = defaultdict(list)
        for one in census:
            if meaning(self._catalog, one.names).adds_to(one.names):
                groups[one.names.greenhouse_id, one.names.sensor_type_id].append(one)
        return [Group(*key, counted) for key, counted in groups.items()]

    def _what_names_mean(self, group: Group) -> tuple[Any, ...]:
        """Return the tenant, and as columns: type as written, unit as written, sensor, type id, unit id."""
        spellings = {
            # Without the ids that some rows have already: those are kept by the statement.
            one.names._replace(tenant_id=None, unit_id=None)
            for one in group.counted
        }
        meanings = [(names, meaning(self._catalog, names)) for names in sorted(spellings, key=repr)]
        return (
            meanings[0][1].tenant_id,
            [names.sensor_type for names, _ in meanings],
            [names.unit for names, _ in meanings],
            [names.sensor_id or _NO_SENSOR for names, _ in meanings],
            [meant.sensor_type_id for _, meant in meanings],
            [meant.unit_id for _, meant in meanings],
        )

    def _keep_examples(self, group: Group, examples: str | None) -> None:
        for one in json.loads(examples) if examples else []:
            example = Differing(greenhouse_id=group.greenhouse_id, **one)
            if len(self._report.examples) < EXAMPLES_KEPT and example not in self._report.examples:
                self._report.examples.append(example)


def _plain(value: UUID) -> UUID:
    """Turn asyncpg's own UUID class into the standard library's, which catalogs are keyed by."""
    return UUID(int=value.int)
