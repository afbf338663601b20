"""Dead letters for the tests, stored by the worker's own statement, and a look at them under a catalog."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from ingest.model import Rejection
from ingest.replaying import look_again
from ingest.resolve import Resolver
from ingest.write import DeadLetter, deadletters
from ingest.write.replay import Replayed, replay
from tests.batches import MAX_PAYLOAD_BYTES, NOW_US
from tests.unit.catalog_examples import SARA, SARA_01, default_rules, example_catalog
from tests.unit.examples import default_decoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from ingest.model import Reason
    from ingest.resolve import Catalog
    from ingest.write.replay import LookAgain
    from ingest.write.staged import ConflictPolicy

MAP_TOPIC = "GREENHOUSE/SARA/01"
LABEL = f"label {SARA_01} bomba"
"""What a letter that lacks the label BOMBA in MAP_TOPIC's greenhouse keeps."""


def letter(
    payload: object,
    *rejected: tuple[str, Reason],
    topic: str = MAP_TOPIC,
    receipt_us: int = NOW_US,
    missing: Sequence[str] = (),
) -> DeadLetter:
    return DeadLetter(
        receipt_us,
        topic,
        payload if isinstance(payload, bytes) else json.dumps(payload).encode(),
        SARA,
        tuple(Rejection(field, reason, "then") for field, reason in rejected),
        frozenset(missing),
    )


async def store(connection: asyncpg.Connection, *letters: DeadLetter, client_id: str = "test") -> list[int]:
    """Store *letters*; give their numbers in order."""
    await deadletters.store(connection, client_id, letters, max_payload_bytes=MAX_PAYLOAD_BYTES)
    return [int(record[0]) for record in await connection.fetch(
        "select dead_letter_id from iot.ingest_dead_letters order by dead_letter_id"
    )][-len(letters):]  # fmt: skip


def under(catalog: Catalog | None = None) -> LookAgain:
    """Look again with the default configuration under *catalog*, else the example's."""
    resolver = Resolver(catalog or example_catalog(), default_rules(), out_of_range="quarantine")
    return partial(look_again, default_decoder(), resolver)


async def replay_all(
    connection: asyncpg.Connection,
    look: LookAgain,
    *,
    policy: ConflictPolicy = "dead_letter",
    keep: bool = True,
    now_us: int = NOW_US,
) -> Replayed:
    """Replay every letter there is, in one transaction."""
    records = await connection.fetch("select dead_letter_id from iot.ingest_dead_letters")
    numbers = [record[0] for record in records]
    replayed, rest = await replay(
        connection, numbers, look, policy=policy, max_rows=100_000, now_us=now_us, keep=keep
    )
    assert not rest
    return replayed


async def left(connection: asyncpg.Connection) -> list[tuple[str, list[str], int, list[str] | None]]:
    """Give each letter as (topic, reasons of rejected in order, rejected_count, missing)."""
    records = await connection.fetch("select * from iot.ingest_dead_letters order by dead_letter_id")
    return [
        (
            record["topic"],
            [each["reason"] for each in json.loads(record["rejected"])],
            record["rejected_count"],
            record["missing"],
        )
        for record in records
    ]
