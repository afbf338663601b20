"""Dead letters: the messages that lost a field, stored in the transaction of their good rows.

One row a message. A payload over the limit keeps its first 4 KiB, its length and its SHA-256; of many
rejections the first hundred are listed, and the others counted by reason.
Text is made fit for PostgreSQL here (no NUL, no lone surrogate), so that a dead letter can never
be refused for what it holds.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from ingest.model import DETAILED_REJECTIONS, CutPayload
from ingest.storable import storable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from ingest.model import Reason, Rejection
    from ingest.write.batch import DeadLetter

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final = (
    "received_at",
    "client_id",
    "topic",
    "payload",
    "payload_bytes",
    "payload_sha256",
    "tenant_id",
    "gateway",
    "rejected",
    "reasons",
    "reason_counts",
    "rejected_count",
    "missing",
)
MAX_MISSING: Final = 100
"""Names kept of one message: those of any gateway seen fit; 10 000 invented ones would fill the index."""


async def store(
    connection: asyncpg.Connection,
    client_id: str,
    dead_letters: Sequence[DeadLetter],
    *,
    max_payload_bytes: int,
) -> None:
    """COPY *dead_letters* into iot.ingest_dead_letters, inside the caller's transaction.

    Payloads over *max_payload_bytes* are stored cut. Raises asyncpg's errors.
    """
    await connection.copy_records_to_table(
        "ingest_dead_letters",
        schema_name="iot",
        columns=list(_COLUMNS),
        records=[_record(client_id, letter, max_payload_bytes) for letter in dead_letters],
    )


def _record(client_id: str, letter: DeadLetter, max_payload_bytes: int) -> tuple[Any, ...]:
    payload = letter.payload
    cut: CutPayload | None = None
    if isinstance(payload, CutPayload) or len(payload) > max_payload_bytes:
        payload = cut = CutPayload.of(payload)
    return (
        _EPOCH + timedelta(microseconds=letter.receipt_us),
        storable(client_id),
        storable(letter.topic),
        bytes(payload),
        len(payload) if cut is None else cut.total_bytes,
        None if cut is None else cut.sha256,
        letter.tenant_id,
        letter.gateway,
        *what_is_rejected(letter.rejections),
        names_kept(letter.missing),
    )


def what_is_rejected(rejections: Sequence[Rejection]) -> tuple[str, list[Reason], str | None, int]:
    """Give the columns rejected (JSON text), reasons, reason_counts (JSON text) and rejected_count."""
    rejected = [
        {"field": storable(field), "reason": reason, "detail": storable(detail)}
        for field, reason, detail in rejections[:DETAILED_REJECTIONS]
    ]
    counts = Counter(rejection.reason for rejection in rejections)
    return (
        orjson.dumps(rejected).decode(),
        sorted(counts),
        None if len(rejected) == len(rejections) else orjson.dumps(counts).decode(),
        len(rejections),
    )


def names_kept(missing: frozenset[str]) -> list[str] | None:
    """Give the column missing: None where nothing is, so that the index has no entry for it."""
    return sorted(missing)[:MAX_MISSING] or None
