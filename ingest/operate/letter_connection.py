"""The connection on which dead letters are worked off, and what its errors mean to the operator.

For replay_letters.py and purge_letters.py, in the operator's command.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from ingest.errors import DatabaseFault
from ingest.operate.rights import advice
from ingest.write import letters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from ingest.settings import Settings

TARGET: Final = "iot.ingest_dead_letters"
"""What metadata.bulk_operation_log calls it."""

_HINTS: Final = {
    "42P01": "run `ingest schema migrate`",
    "42703": "run `ingest schema migrate`",
    "3F000": "run `ingest schema migrate`",
}


@asynccontextmanager
async def connected(settings: Settings, doing: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect to the readings' database. A DatabaseFault says what could not be done, and how to go on."""
    try:
        async with letters.connected(
            settings.dsn("timeseries"), settings.write, "ingest dead-letters"
        ) as connection:
            yield connection
    except DatabaseFault as fault:
        hint = advice(fault, "ingest_operator", _HINTS.get(fault.sqlstate or "", "run again to go on"))
        text = f"cannot {doing}: {fault}; what was committed stays; {hint}"
        raise type(fault)(text, fault.sqlstate) from fault
