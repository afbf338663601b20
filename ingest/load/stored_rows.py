"""What stands in the table after a replay, for its report: rows by type, and a day of each. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ingest.load import account_sql as sql
from ingest.load.measured import DAY_US, Day, DayPart, part_us

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows by sensor type, most first, and the last day of each type."""

    by_type: tuple[tuple[str, int], ...] = ()
    days: tuple[Day, ...] = ()


async def stored_rows(
    ask: Callable[..., Awaitable[list[Any]]], greenhouses: Sequence[UUID], first_us: int, last_us: int
) -> StoredRows:
    """Ask for the rows of *greenhouses* from *first_us* to *last_us*, whoever sent them."""
    last = _moment(last_us)
    by_type = await ask(sql.ROWS_BY_TYPE, greenhouses, _moment(first_us), last)
    began_us = max(first_us, last_us - DAY_US)
    width = timedelta(microseconds=part_us(last_us - began_us))
    found: dict[tuple[str, str], list[DayPart]] = {}
    for record in await ask(sql.TIME_OF_TYPES, greenhouses, _moment(began_us), last, width):
        parts = found.setdefault((record["sensor_type"], record["unit"]), [])
        parts.append(DayPart(record["at_us"], *record["shares"]))
    return StoredRows(
        tuple((record["sensor_type"], record["rows"]) for record in by_type),
        tuple(Day(name, unit, tuple(parts)) for (name, unit), parts in found.items()),
    )


def _moment(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)
