"""Dead letters of a greenhouse as a worker of some time ago left them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from ingest.model import Rejection
from ingest.write import DeadLetter, deadletters
from tests.acceptance.command_line import CommandLine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest.model import Reason
    from tests.acceptance.conftest import Greenhouse

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY_US = 86_400_000_000


def command_line(directory: Path, dsn: str) -> CommandLine:
    """Make an `ingest` that works on the database of *dsn*, which holds both schemas."""
    made = CommandLine(directory)
    made.environment |= {"INGEST_METADATA_DSN": dsn, "INGEST_TIMESERIES_DSN": dsn}
    return made


def now_us() -> int:
    return (datetime.now(UTC) - EPOCH) // MICROSECOND


class History:
    """Stores letters of one greenhouse, in the way the worker does."""

    def __init__(self, greenhouse: Greenhouse, dsn: str) -> None:
        self.greenhouse = greenhouse
        self._dsn = dsn
        self.client_id = f"then-{greenhouse.code}"

    async def store(
        self,
        payload: object,
        *rejected: tuple[str, Reason],
        topic: str | None = None,
        age_us: int = 0,
        times: int = 1,
        missing: Sequence[str] = (),
    ) -> int:
        """Store a message *times*, a microsecond apart and the last of them *age_us* old; give that time."""
        received_us = now_us() - age_us
        letters = [
            DeadLetter(
                received_us - number,
                topic or self.greenhouse.map_topic,
                payload if isinstance(payload, bytes) else json.dumps(payload).encode(),
                self.greenhouse.tenant_id,
                tuple(Rejection(field, reason, "as it was then") for field, reason in rejected),
                frozenset(missing),
            )
            for number in range(times)
        ]
        connection = await asyncpg.connect(self._dsn)
        try:
            await deadletters.store(connection, self.client_id, letters, max_payload_bytes=262_144)
        finally:
            await connection.close()
        return received_us

    async def letters(self) -> list[asyncpg.Record]:
        return await self.greenhouse.dead_letters(self.client_id)

    async def operations(self) -> list[dict[str, Any]]:
        """Give metadata.bulk_operation_log, oldest first."""
        return [
            dict(record)
            for record in await self.greenhouse.fetch("select * from metadata.bulk_operation_log order by id")
        ]
