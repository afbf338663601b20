"""Which dead letters a command means: the conditions of list, replay and purge, once in SQL.

Used by the operator's commands. Every condition is optional; a letter has to fit all that are given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from ingest.errors import ConfigurationError
from ingest.migrate import Database
from ingest.migration_connection import connected
from ingest.resolve.loader import translated
from ingest.resolve.names import parse_uuid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime
    from uuid import UUID

    import asyncpg

    from ingest.model import Reason
    from ingest.settings import Settings

CONDITIONS: Final = """
    where ($1::text[] is null or reasons && $1)
      and ($2::text is null or topic = $2)
      and ($3::text is null or topic ~ $3)
      and ($4::timestamptz is null or received_at >= $4)
      and ($5::timestamptz is null or received_at < $5)
      and ($6::uuid is null or tenant_id = $6)
      and ($7::bigint[] is null or dead_letter_id = any ($7))
"""
"""For iot.ingest_dead_letters; its parameters are `LetterFilter.arguments`, those of the statement follow."""

_SUMMARY: Final = """
    select
        count(*) as letters,
        count(payload_sha256) as cut,
        coalesce(sum(rejected_count), 0)::bigint as readings,
        min(received_at) as first_received_at,
        max(received_at) as last_received_at,
        coalesce(max(dead_letter_id), 0) as last_id
    from iot.ingest_dead_letters
"""
_SUMMARY_SQL: Final = _SUMMARY + CONDITIONS
_BY_REASON: Final = """
    select r.reason, count(*) as letters
    from iot.ingest_dead_letters
    cross join lateral unnest(reasons) as r (reason)
"""
_EACH_REASON: Final = " group by r.reason order by letters desc, r.reason"
_BY_REASON_SQL: Final = _BY_REASON + CONDITIONS + _EACH_REASON
_PAGE: Final = "select dead_letter_id from iot.ingest_dead_letters"
_ONE_PAGE: Final = """
      and dead_letter_id > $8
      and dead_letter_id <= $9
    order by dead_letter_id
    limit $10
"""
_PAGE_SQL: Final = _PAGE + CONDITIONS + _ONE_PAGE
_TENANT_SQL: Final = """
    select id
    from metadata.tenants
    where mqtt_topic_prefix = $1
        or name = $1
    order by mqtt_topic_prefix is distinct from $1
    limit 1
"""


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Conditions; None or empty: any."""

    reasons: tuple[Reason, ...] = ()
    """One of these among the letter's."""
    topic: str | None = None
    """A topic, or an MQTT filter with wildcards."""
    since: datetime | None = None
    """Received at or after."""
    until: datetime | None = None
    """Received before."""
    tenant_id: UUID | None = None
    letters: tuple[int, ...] = ()

    def arguments(self) -> tuple[object, ...]:
        """Give the parameters of CONDITIONS."""
        wildcard = self.topic is not None and bool(re.search(r"[+#]", self.topic))
        pattern = topic_pattern(self.topic) if self.topic is not None and wildcard else None
        exact = None if wildcard else self.topic
        reasons, letters = self.reasons or None, self.letters or None
        return (reasons, exact, pattern, self.since, self.until, self.tenant_id, letters)

    def only(self, letters: Sequence[int]) -> LetterFilter:
        """Give the same conditions for these *letters*, of which there must be one."""
        return replace(self, letters=tuple(letters))


class Summary(NamedTuple):
    """What fits a filter."""

    letters: int
    cut: int
    """Of them those of which only the start was kept."""
    readings: int
    """Rejected ones in them."""
    first_received_at: datetime | None
    last_received_at: datetime | None
    last_id: int
    """0 without a letter."""


async def summary(connection: asyncpg.Connection, wanted: LetterFilter) -> Summary:
    """Count what fits *wanted*. Raises asyncpg's errors."""
    return Summary(*(await connection.fetchrow(_SUMMARY_SQL, *wanted.arguments()) or ()))


async def by_reason(connection: asyncpg.Connection, wanted: LetterFilter) -> dict[str, int]:
    """Count what fits *wanted* by reason, most first; a letter counts once for each of its reasons."""
    records = await connection.fetch(_BY_REASON_SQL, *wanted.arguments())
    return {record["reason"]: record["letters"] for record in records}


async def pages(
    connection: asyncpg.Connection, wanted: LetterFilter, *, last_id: int, size: int
) -> AsyncIterator[list[int]]:
    """Give the numbers of the letters that fit, up to *last_id* and *size* at a time, oldest first."""
    after = 0
    while True:
        records = await connection.fetch(_PAGE_SQL, *wanted.arguments(), after, last_id, size)
        if not records:
            return
        numbers = [record["dead_letter_id"] for record in records]
        after = numbers[-1]
        yield numbers


async def tenant_id_of(settings: Settings, tenant: str) -> UUID:
    """Give the id that *tenant* is, or the one of the tenant with this topic prefix, else with this name.

    Asks the metadata database only where it is no UUID. Raises ConfigurationError, or a DatabaseFault.
    """
    tenant_id = parse_uuid(tenant)
    if tenant_id is not None:
        return tenant_id
    async with (
        connected(settings.dsn("metadata"), Database.METADATA) as connection,
        translated("look the tenant up"),
    ):
        found: UUID | None = await connection.fetchval(_TENANT_SQL, tenant)
    if found is None:
        text = f"--tenant: no tenant has the topic prefix or the name {tenant!r}"
        raise ConfigurationError([f"{text}: see `ingest catalog list tenants`"])
    return found


def topic_pattern(topic_filter: str) -> str:
    """Return PostgreSQL's regular expression for an MQTT filter; `a/#` matches its parent `a` too."""
    levels = topic_filter.split("/")
    parts = ["[^/]*" if level == "+" else re.sub(r"([^0-9A-Za-z_])", r"\\\1", level) for level in levels]
    if levels[-1] == "#":
        return f"^{'/'.join(parts[:-1])}(/.*)?$" if len(levels) > 1 else "^.*$"
    return f"^{'/'.join(parts)}$"
