"""Which database faults are worth another try, decided by SQLSTATE, and how long to wait for it.

The table follows PostgreSQL's error code classes (Appendix A of its manual). What is not in it is
held loudly: retried slowly, never dropped. Substrings of messages are never looked at.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

import asyncpg
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    stop_never,
    wait_random_exponential,
)

from ingest.errors import DatabaseFault, Misconfigured, Poison, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tenacity import RetryCallState

T = TypeVar("T")

# The last of asyncpg's is what it raises when the server dies between two messages of a statement.
DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # a timeout is one
)
"""What `translate` is for."""

# Codes first, then their classes (the first two characters).
_BY_CODE: Final[dict[str, type[DatabaseFault]]] = {
    "25006": Unavailable,  # read-only: a standby that is about to be promoted, or a full disk's lock
    "25P03": Unavailable,  # idle in transaction for too long: ours was stalled
    "53400": Misconfigured,  # TimescaleDB's decompression limit, not a full server: waiting cures nothing
}
_BY_CLASS: Final[dict[str, type[DatabaseFault]]] = {
    "08": Unavailable,  # connection
    "40": Unavailable,  # serialisation, deadlock
    "53": Unavailable,  # out of disk, memory, connections
    "55": Unavailable,  # lock not available, object in use
    "57": Unavailable,  # shut down, cancelled, starting up
    "58": Unavailable,  # I/O error of the server's system
    "22": Poison,  # data exception
    "23": Poison,  # integrity constraint
    "44": Poison,  # check option
    "54": Poison,  # a row too large for a page or an index
    "P0": Poison,  # raised by a trigger
}


def translate(error: BaseException) -> DatabaseFault:
    """Give the DatabaseFault for an error of asyncpg, a socket or a deadline."""
    if isinstance(error, DatabaseFault):
        return error
    if isinstance(error, asyncpg.PostgresError):
        code = str(error.sqlstate or "")
        kind = _BY_CODE.get(code) or _BY_CLASS.get(code[:2], Misconfigured)
        return kind(f"{error} (SQLSTATE {code or 'none'})", code or None)
    if isinstance(error, TimeoutError):
        return Unavailable(
            "the database did not answer in time; if it is alive, raise write.commit_timeout_s "
            "or lower write.max_batch_rows"
        )
    if isinstance(error, OSError):
        return Unavailable(f"the database cannot be reached: {error}")
    if isinstance(error, DRIVER_ERRORS):
        return Unavailable(f"the database connection is unusable: {error}")
    return Misconfigured(f"{type(error).__name__}: {error}")


async def until_done(
    work: Callable[[], Awaitable[T]],
    *,
    min_s: float,
    max_s: float,
    on_retry: Callable[[DatabaseFault, float], None],
    patience_s: float | None = None,
) -> T:
    """Await *work* until it succeeds, waiting between tries for up to *max_s* seconds, with jitter.

    Only Unavailable and Misconfigured are tried again, for ever: nothing may be dropped. With *patience_s*
    only Unavailable, and no more once so long has passed since the first fault, however late that came.
    *on_retry* hears of each fault and of the wait that follows, in seconds.
    """
    passing = (Unavailable, Misconfigured) if patience_s is None else (Unavailable,)
    try:
        # Nearly always this does it, and what a retrying leaves behind goes round in circles: 25 objects a
        # batch, for the garbage collector to find by the hundred thousand, 15 to 80 ms each time.
        return await work()
    except passing as fault:
        first = [fault]

    def tell(state: RetryCallState) -> None:
        fault = state.outcome.exception() if state.outcome else None
        if isinstance(fault, DatabaseFault):
            on_retry(fault, state.next_action.sleep if state.next_action else 0.0)

    retrying = AsyncRetrying(
        retry=retry_if_exception_type(passing),
        wait=wait_random_exponential(multiplier=min_s, max=max_s),
        stop=stop_never if patience_s is None else stop_after_delay(patience_s),
        before_sleep=tell,
        sleep=asyncio.sleep,
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            if first:
                raise first.pop()
            return await work()
    raise AssertionError("retrying ends with an answer or an error")
