"""Dead letters replayed: one batch of them, one transaction.

Takes letters up, has each looked at again (by the caller's function: this stage decodes nothing), lands and
books what are rows by now (`backfill`), and shortens or deletes the letters, all of it together or not at
all. Run twice, it changes nothing the second time: a row that is there is met by its key. Two at once share
the work: a locked letter is passed over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import asyncpg
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from ingest.write.backfill import book, land
from ingest.write.deadletters import names_kept, what_is_rejected
from ingest.write.letters import StoredLetter, take

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from ingest.model import Reason, Rejection, Row
    from ingest.write.staged import ConflictPolicy

TRIES: Final = 5
"""For a batch that met a deadlock or a lock: a gateway may be sending the same readings at this moment."""

_SHORTEN: Final = """
update iot.ingest_dead_letters
set replayed_at = now(),
    rejected = $2,
    reasons = $3,
    reason_counts = $4,
    rejected_count = $5,
    missing = $6,
    tenant_id = coalesce($7, tenant_id)
where dead_letter_id = $1
"""
_DELETE: Final = "delete from iot.ingest_dead_letters where dead_letter_id = any ($1::bigint[])"


class LookedAt(NamedTuple):
    """What of a letter's lost fields is rows by now, and what stays behind."""

    rows: Sequence[Row] = ()
    rejections: Sequence[Rejection] = ()
    missing: frozenset[str] = frozenset()
    nulls: int = 0
    """Of a message rejected whole: fields that are null."""
    ignored: bool = False
    """By rule, by now: the letter goes, and nothing of it comes."""
    tenant_id: UUID | None = None
    fault: str | None = None
    """A bug of ours, by its kind and place: the letter stays as it is."""


LookAgain: TypeAlias = "Callable[[StoredLetter], LookedAt]"


@dataclass(slots=True)
class Replayed:
    """What became of letters; readings: written + duplicate + null + still = looked at."""

    letters: int = 0
    """Looked at."""
    settled: int = 0
    """Of them those with nothing left, which are deleted."""
    ignored: int = 0
    """Of those the ones whose topic is ignored by now."""
    written: int = 0
    duplicate: int = 0
    null: int = 0
    still: Counter[Reason] = field(default_factory=Counter)
    """Readings that stay rejected, by the reason of now."""
    faults: Counter[str] = field(default_factory=Counter)
    """Letters left as they are, by the bug of ours that they show."""
    hours_noted: int = 0
    """Late hours, each of a greenhouse and type, noted to be computed again; one noted twice counts twice."""

    @property
    def readings(self) -> int:
        """Readings looked at."""
        return self.written + self.duplicate + self.null + self.still.total()

    def add(self, other: Replayed) -> None:
        """Add *other* to this."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "")[:2] in {"40", "55"}


@retry(
    retry=retry_if_exception(_is_passing),
    wait=wait_random_exponential(multiplier=0.1, max=5),
    stop=stop_after_attempt(TRIES),
    reraise=True,
)
async def replay(
    connection: asyncpg.Connection,
    letters: Sequence[int],
    look_again: LookAgain,
    *,
    policy: ConflictPolicy,
    max_rows: int,
    now_us: int,
    keep: bool = True,
) -> tuple[Replayed, list[int]]:
    """Replay *letters* in one transaction, as many as *max_rows* and MAX_BATCH_BYTES allow; one at least.

    Gives what became of them, and the numbers of those it did not come to. Letters that are gone, locked or
    kept in part only are passed over. *now_us* tells which rows are late. Without *keep* nothing is locked
    and all is rolled back. Raises asyncpg's errors, rolled back.
    """
    transaction = connection.transaction()
    await transaction.start()
    try:
        taken, rest = await take(connection, letters, lock=keep)
        looked: list[tuple[StoredLetter, LookedAt]] = []
        readings = 0
        for letter in taken:
            if readings >= max_rows:
                break
            looked.append((letter, look_again(letter)))
            readings += len(looked[-1][1].rows) + len(looked[-1][1].rejections)
            await asyncio.sleep(0)  # the worker's event loop has more to do
        rest = [letter.dead_letter_id for letter in taken[len(looked) :]] + rest
        replayed = await _settle(connection, looked, policy, now_us, keep=keep)
    except Exception:  # after a cancellation the connection is thrown away instead
        if not connection.is_closed():
            await transaction.rollback()
        raise
    await (transaction.commit() if keep else transaction.rollback())
    return replayed, rest


async def _settle(
    connection: asyncpg.Connection,
    looked: Sequence[tuple[StoredLetter, LookedAt]],
    policy: ConflictPolicy,
    now_us: int,
    *,
    keep: bool,
) -> Replayed:
    """Insert the rows and write down what is left of each letter."""
    rows = [row for _, each in looked for row in each.rows]
    owners = [index for index, (_, each) in enumerate(looked) for _ in each.rows]
    landed = await land(connection, rows, policy=policy, now_us=now_us)
    left = [list(each.rejections) for _, each in looked]
    for number, rejection in landed.refused.items():
        left[owners[number]].append(rejection)
    replayed = Replayed(
        letters=len(looked),
        settled=sum(not each for each in left),
        ignored=sum(each.ignored for _, each in looked),
        written=landed.written,
        duplicate=landed.duplicate,
        null=sum(each.nulls for _, each in looked),
        still=Counter(rejection.reason for each in left for rejection in each),
        faults=Counter(each.fault for _, each in looked if each.fault is not None),
        hours_noted=landed.hours_noted,
    )
    if keep:
        await _write_down(connection, looked, left)
        await book(connection, landed.new, "(replay)")
    return replayed


async def _write_down(
    connection: asyncpg.Connection,
    looked: Sequence[tuple[StoredLetter, LookedAt]],
    left: Sequence[Sequence[Rejection]],
) -> None:
    """Delete the letters with nothing left; of the others change those that are not as they were."""
    gone: list[int] = []
    shortened: list[tuple[Any, ...]] = []
    for (letter, now), rejections in zip(looked, left, strict=True):
        if now.fault is not None:
            continue
        if not rejections:
            gone.append(letter.dead_letter_id)
            continue
        rejected, reasons, reason_counts, count = what_is_rejected(rejections)
        missing = names_kept(now.missing)
        # Of a sample its reasons say nothing: equal samples of as many are taken for equal.
        before = (what_is_rejected(letter.rejections)[0], letter.rejected_count, list(letter.missing) or None)
        if (rejected, count, missing) != before:
            columns = (rejected, reasons, reason_counts, count, missing, now.tenant_id)
            shortened.append((letter.dead_letter_id, *columns))
    if shortened:
        await connection.executemany(_SHORTEN, shortened)
    if gone:
        await connection.execute(_DELETE, gone)
