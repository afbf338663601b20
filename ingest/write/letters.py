"""Dead letters taken up again: one batch of them, one transaction.

Locks letters, has each looked at again (by the caller's function: this stage decodes nothing), inserts what
are rows by now, notes late hours, and shortens or deletes the letters, all of it together or not at all. Run
twice, it changes nothing the second time: a row that is there is met by its key. Two at once share the work:
a locked letter is passed over. Used by the operator's command and by the worker that heals.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import asyncpg
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from ingest.model import Reason, Rejection, Row
from ingest.write import late
from ingest.write.copy import Inserted, insert_new, pack
from ingest.write.deadletters import names_kept, what_is_rejected
from ingest.write.retry import translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from uuid import UUID

    from ingest.settings import WriteSettings
    from ingest.write.copy import ConflictPolicy

MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Of payloads in one transaction: 32 of the largest, 40 000 of the usual ones."""

TRIES: Final = 5
"""For a batch that met a deadlock or a lock: a gateway may be sending the same readings at this moment."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

# octet_length of a payload out of line costs no reading of it.
_FIND: Final = """
select dead_letter_id, octet_length(payload) as payload_bytes
from iot.ingest_dead_letters
where dead_letter_id = any ($1::bigint[])
    and payload_sha256 is null
order by dead_letter_id
"""
_LOCKED: Final = "for update skip locked"
_FIND_AND_LOCK: Final = _FIND + _LOCKED
_READ: Final = """
select dead_letter_id, received_at, topic, payload, rejected, rejected_count, missing
from iot.ingest_dead_letters
where dead_letter_id = any ($1::bigint[])
order by dead_letter_id
"""
_SHORTEN: Final = """
update iot.ingest_dead_letters
set rejected = $2,
    reasons = $3,
    rejected_count = $4,
    missing = $5,
    tenant_id = coalesce($6, tenant_id)
where dead_letter_id = $1
"""
_DELETE: Final = "delete from iot.ingest_dead_letters where dead_letter_id = any ($1::bigint[])"
_LACKING: Final = """
select dead_letter_id
from iot.ingest_dead_letters
where missing && $1::text[]
    and payload_sha256 is null
    and dead_letter_id > $2
order by dead_letter_id
limit $3
"""
_MISSING_NAMES: Final = """
select distinct m.name
from iot.ingest_dead_letters as d
cross join lateral unnest(d.missing) as m (name)
where d.missing is not null
    and d.recorded_at >= $1
limit $2
"""


class StoredLetter(NamedTuple):
    """One row of `iot.ingest_dead_letters` whose payload was kept whole."""

    dead_letter_id: int
    receipt_us: int
    topic: str
    payload: bytes
    rejections: tuple[Rejection, ...]
    """May be a sample: `rejected_count` has their number."""
    rejected_count: int
    missing: tuple[str, ...] = ()


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
    hours_noted: int = 0
    """Late hours, each of a greenhouse and type, noted to be computed again; one noted twice counts twice."""

    @property
    def readings(self) -> int:
        """Readings looked at."""
        return self.written + self.duplicate + self.null + self.still.total()

    def add(self, other: Replayed) -> None:
        """Add *other* to this."""
        self.letters += other.letters
        self.settled += other.settled
        self.ignored += other.ignored
        self.written += other.written
        self.duplicate += other.duplicate
        self.null += other.null
        self.still += other.still
        self.hours_noted += other.hours_noted


@asynccontextmanager
async def connected(
    dsn: str, settings: WriteSettings, application_name: str
) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection as the writer's, for letters; thrown away with what the body raises.

    Raises DatabaseFault for the driver's errors, of the body too.
    """
    timeout_ms = str(int(settings.commit_timeout_s * 1000))
    connection: asyncpg.Connection | None = None
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=settings.connect_timeout_s,
            command_timeout=settings.commit_timeout_s + settings.connect_timeout_s,
            server_settings={
                "application_name": application_name,
                "timezone": "UTC",
                "statement_timeout": timeout_ms,
                "idle_in_transaction_session_timeout": timeout_ms,
                "timescaledb.max_tuples_decompressed_per_dml_transaction": "0",  # as the writer's
                # One name and a thousand, a filter given and one left out: each wants a plan of its own.
                "plan_cache_mode": "force_custom_plan",
            },
        )
        yield connection
        await connection.close(timeout=settings.connect_timeout_s)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        raise translate(error) from error
    finally:
        if connection is not None and not connection.is_closed():
            connection.terminate()


async def missing_names(
    connection: asyncpg.Connection, since: datetime, limit: int
) -> tuple[list[str], datetime]:
    """Give the names that letters recorded since then lack, at most *limit*, and when that was asked."""
    asked_at: datetime = await connection.fetchval("select now()")
    return [record["name"] for record in await connection.fetch(_MISSING_NAMES, since, limit)], asked_at


async def lacking(connection: asyncpg.Connection, names: Sequence[str], after: int, limit: int) -> list[int]:
    """Give the letters numbered over *after* that lack one of *names*, in their order, at most *limit*."""
    return [record["dead_letter_id"] for record in await connection.fetch(_LACKING, names, after, limit)]


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
    retrying = AsyncRetrying(
        retry=retry_if_exception(_is_passing),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        stop=stop_after_attempt(TRIES),
        reraise=True,
    )
    return await retrying(
        _transaction,
        connection,
        letters,
        look_again,
        policy=policy,
        max_rows=max_rows,
        now_us=now_us,
        keep=keep,
    )


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "")[:2] in {"40", "55"}


async def _transaction(
    connection: asyncpg.Connection,
    letters: Sequence[int],
    look_again: LookAgain,
    *,
    policy: ConflictPolicy,
    max_rows: int,
    now_us: int,
    keep: bool,
) -> tuple[Replayed, list[int]]:
    transaction = connection.transaction()
    await transaction.start()
    try:
        taken, rest = await _take(connection, letters, lock=keep)
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


async def _take(
    connection: asyncpg.Connection, letters: Sequence[int], *, lock: bool
) -> tuple[list[StoredLetter], list[int]]:
    """Give the first of *letters* whose payloads fit, locked, and the numbers of the others found."""
    found = await connection.fetch(_FIND_AND_LOCK if lock else _FIND, letters)
    fitting, size = 0, 0
    for record in found:
        size += record["payload_bytes"]
        if fitting and size > MAX_BATCH_BYTES:
            break
        fitting += 1
    numbers = [record["dead_letter_id"] for record in found]
    records = await connection.fetch(_READ, numbers[:fitting])
    return [_stored_letter(record) for record in records], numbers[fitting:]


def _stored_letter(record: asyncpg.Record) -> StoredLetter:
    rejected: list[dict[str, Any]] = json.loads(record["rejected"])
    return StoredLetter(
        record["dead_letter_id"],
        (record["received_at"] - _EPOCH) // _MICROSECOND,
        record["topic"],
        record["payload"],
        tuple(Rejection(each["field"] or "", each["reason"], each["detail"]) for each in rejected),
        record["rejected_count"],
        tuple(record["missing"] or ()),
    )


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
    inserted, refused = Inserted(0, 0, []), dict[int, Rejection]()
    if rows:
        inserted, refused = await insert_new(connection, rows, pack(rows), policy)
    left = [list(each.rejections) for _, each in looked]
    for number, rejection in refused.items():
        left[owners[number]].append(rejection)
    replayed = Replayed(
        letters=len(looked),
        settled=sum(not each for each in left),
        ignored=sum(each.ignored for _, each in looked),
        written=inserted.written,
        duplicate=inserted.duplicate,
        null=sum(each.nulls for _, each in looked),
        still=Counter(rejection.reason for each in left for rejection in each),
    )
    if inserted.written:
        stored = [row for number, row in enumerate(rows) if number not in refused]
        if hours := late.late_hours(stored, now_us):
            await late.note(connection, hours)
            replayed.hours_noted = len(hours)
    if keep:
        await _write_down(connection, looked, left)
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
        if not rejections:
            gone.append(letter.dead_letter_id)
            continue
        columns = (*what_is_rejected(rejections), names_kept(now.missing))
        before = (
            *what_is_rejected(letter.rejections)[:2],
            letter.rejected_count,
            list(letter.missing) or None,
        )
        if columns != before:
            shortened.append((letter.dead_letter_id, *columns, now.tenant_id))
    if shortened:
        await connection.executemany(_SHORTEN, shortened)
    if gone:
        await connection.execute(_DELETE, gone)
