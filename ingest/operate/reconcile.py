"""`ingest reconcile`: what the ledgers say of a range of time, what the tables hold, and where readings lack.

Reads, in one snapshot of the timeseries database: the ledgers by gateway and hour of receipt, the totals of
each session, the dead letters, and the rows the workers booked beside those the table has, by hour of the
readings' own times. Then the pauses of each sensor (`gaps`). Decides nothing (`reconcile_judge` does) and
writes nothing: the role greenhouse_operator is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ingest.errors import CheckFailed
from ingest.operate import reconcile_sql as sql
from ingest.operate.gaps import ON_ITS_WAY_S, registered_greenhouses, sensors_of
from ingest.operate.names import Names, read_names
from ingest.operate.reading import reading_from

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    import asyncpg

    from ingest.operate.gaps import Sensor


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for; times in UTC, `until` not after now."""

    since: datetime
    until: datetime
    tenant: str | None = None
    """Its id, `mqtt_topic_prefix` or name."""
    gateway: str | None = None

    @property
    def first_hour(self) -> datetime:
        """The first hour of the ledgers that is looked at: the one of `since`."""
        return _hour(self.since)

    @property
    def before_hour(self) -> datetime:
        """The first hour that is no more: the one of `until` is looked at."""
        return _hour(self.until - timedelta(microseconds=1)) + timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that was read; the records are as the statements of `reconcile_sql` give them."""

    question: Question
    names: Names
    gateways: Sequence[asyncpg.Record]
    unbalanced: Sequence[asyncpg.Record]
    totals: Sequence[asyncpg.Record]
    """Counters that are not the sum of their hours; looked for only where nothing is left out."""
    dead_letters: Mapping[str | None, tuple[int, int]]
    """By gateway: messages, rejected readings."""
    sessions: Sequence[asyncpg.Record]
    rows: Sequence[asyncpg.Record]
    sensors: Sequence[Sensor]


async def reconcile(dsn: str, metadata_dsn: str | None, question: Question, now: datetime) -> Findings:
    """Read what *question* asks for. Raises ConfigurationError, CheckFailed or a DatabaseFault."""
    names = await read_names(metadata_dsn)
    tenant_id = None if question.tenant is None else names.tenant_called(question.tenant)
    hours = (question.first_hour, question.before_hour)
    async with reading_from(dsn, "timeseries") as connection:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            gateways = await connection.fetch(sql.GATEWAYS, *hours, tenant_id, question.gateway)
            unbalanced = await connection.fetch(sql.UNBALANCED, *hours, tenant_id, question.gateway)
            whole = question.tenant is None and question.gateway is None
            totals = await connection.fetch(sql.TOTALS) if whole else []
            letters = await connection.fetch(sql.DEAD_LETTERS, *hours)
            sessions = await connection.fetch(sql.SESSIONS)
            houses = None
            if question.gateway is not None:
                tenant_id, houses = _place(question.gateway, gateways)
            rows = await connection.fetch(sql.ROWS, *hours, tenant_id, houses)
        if houses is None:
            houses = await _greenhouses(connection, names, tenant_id, rows)
        on_its_way_s = ON_ITS_WAY_S if now - question.until < timedelta(seconds=ON_ITS_WAY_S) else 0.0
        sensors = await sensors_of(connection, houses, question.since, question.until, grace_s=on_its_way_s)
    return Findings(
        question,
        names,
        gateways,
        unbalanced,
        totals,
        {each["gateway"]: (each["messages"], each["readings"]) for each in letters},
        sessions,
        rows,
        sensors,
    )


def _place(gateway: str, found: Sequence[asyncpg.Record]) -> tuple[UUID | None, list[UUID] | None]:
    """Give tenant and greenhouse of the *gateway* asked for: all of the tenant's where its labels decide.

    What has no place has no greenhouse either. Raises CheckFailed when the gateway was not heard of.
    """
    if not found:
        raise CheckFailed(f"gateway {gateway!r} has nothing in these hours; without --gateway all are listed")
    tenant_id = found[0]["tenant_id"]
    houses = [each["greenhouse_id"] for each in found if each["greenhouse_id"] is not None]
    return tenant_id, houses if houses or tenant_id is None else None


async def _greenhouses(
    connection: asyncpg.Connection, names: Names, tenant_id: UUID | None, rows: Sequence[asyncpg.Record]
) -> list[UUID]:
    """Give every greenhouse that has rows, is in the catalog, or has a sensor that should publish."""
    houses = {each["greenhouse_id"] for each in rows}
    houses |= {house for house, tenant in names.tenant_of.items() if tenant_id in (None, tenant)}
    if tenant_id is None:
        houses |= await registered_greenhouses(connection)
    return sorted(houses)


def _hour(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)
