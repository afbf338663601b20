"""Batches for the writer's tests, and a Writer that remembers what it told the operator."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from ingest.model import Delivery, Row, Series
from ingest.settings import WriteSettings
from ingest.write import Batch, Counts, Outcome, Writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from ingest.errors import DatabaseFault

NOW_US = 1_763_374_560_000_000
"""2025-11-17T10:16:00Z."""

MAX_PAYLOAD_BYTES = 262_144


def series_of(*, like: Series | None = None, sensor_type_id: int = 1, unit_id: int = 1) -> Series:
    """Make a series nobody else has, or the one *like* another in all but its unit."""
    return Series(
        greenhouse_id=like.greenhouse_id if like else uuid4(),
        tenant_id=like.tenant_id if like else uuid4(),
        sensor_id=like.sensor_id if like else uuid4(),
        sensor_type_id=like.sensor_type_id if like else sensor_type_id,
        unit_id=unit_id,
        minimum=float("-inf"),
        maximum=float("inf"),
    )


def row(
    series: Series, value: float, after_us: int = 0, *, metadata: bytes | None = None, field: str = ""
) -> Row:
    """Make a row *after_us* after NOW_US."""
    return Row(series, NOW_US + after_us, value, metadata, field)


def batch_of(rows: Sequence[Row]) -> Batch:
    """Make a batch of one QoS 1 message a row."""
    batch = Batch()
    for number, each in enumerate(rows):
        batch.add(Delivery("topic", b"%d" % number, 2, number % 65_535 + 1), NOW_US + number, [each])
    return batch


class WriterUnderTest(Writer):
    """A Writer with a client id of its own, used with ``async with``."""

    def __init__(self, dsn: str, settings: WriteSettings | None = None, *, client_id: str = "") -> None:
        self.dsn = dsn
        self.client_id = client_id or f"test-{uuid4().hex[:12]}"
        self.faults: list[DatabaseFault] = []
        self.faulted = asyncio.Event()
        self.recoveries = 0
        super().__init__(
            dsn,
            settings or WriteSettings(retry_max_s=0.2),
            self.client_id,
            max_payload_bytes=MAX_PAYLOAD_BYTES,
            on_retry=self._note,
            on_recovery=self._note_recovery,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def commit(self, batch: Batch, pending: Sequence[int] = (), also: Counts | None = None) -> Outcome:
        return await super().commit(batch, pending, also or Counts())

    def committing(self, batch: Batch) -> asyncio.Task[Outcome]:
        """Start to commit *batch*, for what happens meanwhile."""
        return asyncio.create_task(self.commit(batch))

    def _note(self, fault: DatabaseFault, wait_s: float) -> None:
        assert wait_s >= 0
        self.faults.append(fault)
        self.faulted.set()

    def _note_recovery(self) -> None:
        self.recoveries += 1


async def counters_of(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, int]:
    """Give the stored ledgers by counter."""
    records = await connection.fetch("select counter, value from iot.ingest_counters")
    return {record["counter"]: record["value"] for record in records}


async def stored(connection: asyncpg.Connection[asyncpg.Record]) -> list[tuple[int, float]]:
    """Give each stored reading as (µs after NOW_US, value)."""
    records = await connection.fetch(
        "select (extract(epoch from time) * 1000000)::bigint - $1::bigint, value "
        "from iot.sensor_readings order by 1, 2",
        NOW_US,
    )
    return [(int(record[0]), float(record[1])) for record in records]
