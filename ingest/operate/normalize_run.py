"""What the commands that rewrite readings have in common: one at a time, and what a fault means to go on.

Owns the advisory lock and the session's settings; knows nothing of rows. Used by normalize.py and
normalize_legacy.py, on their own connections.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ingest.errors import CheckFailed
from ingest.operate.normalize_sql import SESSION_SQL
from ingest.operate.rights import advice
from ingest.write.retry import DRIVER_ERRORS, translate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.migration_connection import Connection

LOCK_KEY = 5_147_260_403
"""Session advisory lock of the timeseries database: one run at a time. The two before it are the schema's."""


async def claim(connection: Connection) -> None:
    """Make *connection* the only one at this work, until it is closed; raises CheckFailed when it is not."""
    if not await connection.fetchval("select pg_try_advisory_lock($1)", LOCK_KEY):
        raise CheckFailed("another `ingest normalize` is at work in this database: wait for it or stop it")
    await connection.execute(SESSION_SQL)


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the driver's errors into DatabaseFaults that say what was being done, and how to go on."""
    try:
        yield
    except DRIVER_ERRORS as error:
        fault = translate(error)
        how = advice(fault, "ingest_migrator", "run again to go on")
        text = f"cannot {doing}: {fault}; what was committed stays: {how}"
        raise type(fault)(text, fault.sqlstate) from error
