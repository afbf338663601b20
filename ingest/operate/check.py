"""`ingest check`: whether everything is there that `ingest run` needs, and as it has to be.

Asks the broker with a client id of its own and a session that ends with the connection, so that a
running worker is not disturbed; asks both databases for version, schema and privileges. Changes nothing.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from ingest.ending import check_sharing
from ingest.errors import BrokerRefused, DatabaseFault, IngestError
from ingest.migrate import Database, schema_folder, status
from ingest.migration_connection import connected
from ingest.operate import exchange
from ingest.operate.encoding import other_encoding
from ingest.receive import ConnectionLost, MqttVersion, ProtocolUnsupported, Session
from ingest.resolve.loader import CatalogLoader
from ingest.write.retry import DRIVER_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import asyncpg

    from ingest.settings import Settings

_TIMEOUT_S: Final = 30.0
_OLDEST_POSTGRESQL: Final = 150_000
_OLDEST_TIMESCALEDB: Final = (2, 20)
_CLOCK_TOLERANCE_S: Final = 5.0
_OF_ONE_DATABASE: Final = (
    "metadata schema",
    "catalog",
    "timeseries server",
    "timeseries schema",
    "timeseries privileges",
)
"""What would ask for the wrong remedy where the DSNs are exchanged."""
_GRANT: Final = re.compile(
    r"grant greenhouse_worker (select|insert|update|delete) on (iot\.(?!schema_history)\w+)(?:\.(\w+))?",
    re.ASCII,
)
_MISSING_PRIVILEGES: Final = """
select concat(g.privilege, ' on ', g.relation, '.' || g.attribute) as privilege
from unnest($1::text[], $2::text[], $3::text[]) as g (privilege, relation, attribute)
where not case
    when g.attribute is null then has_table_privilege(g.relation, g.privilege)
    else has_column_privilege(g.relation, g.attribute, g.privilege)
end
union all
select 'temporary on the database'
where not has_database_privilege(current_database(), 'temporary')
"""


class CheckResult(NamedTuple):
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


async def check(settings: Settings) -> list[CheckResult]:
    """Look at the broker, both databases, their schema and the catalog; never raises for what it finds.

    Takes as long as the slowest answer, half a minute at most for each.
    """
    checks: tuple[tuple[str, Callable[[Settings], Coroutine[None, None, str]]], ...] = (
        ("broker", _broker),
        ("metadata server", _metadata_server),
        ("metadata schema", lambda each: _schema(each, Database.METADATA)),
        ("catalog", _catalog),
        ("timeseries server", _timeseries_server),
        ("timeseries schema", lambda each: _schema(each, Database.TIMESERIES)),
        ("timeseries privileges", _privileges),
    )
    wrong = await exchange.found(settings)
    return [
        await _judged(name, _refused(wrong) if wrong and name in _OF_ONE_DATABASE else look(settings))
        for name, look in checks
    ]


async def _refused(wrong: str) -> str:
    raise DatabaseFault(wrong)


async def _judged(name: str, looking: Coroutine[None, None, str]) -> CheckResult:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return CheckResult(name, ok=True, detail=await looking)
    except (IngestError, *DRIVER_ERRORS) as error:
        return CheckResult(name, ok=False, detail=str(error) or f"no answer within {_TIMEOUT_S:g} s")


async def _broker(settings: Settings) -> str:
    """Connect, subscribe to every filter, and leave no trace."""
    asked: MqttVersion = "5" if settings.broker.protocol == "auto" else settings.broker.protocol
    try:
        return await _subscribe(settings, asked)
    except ProtocolUnsupported:
        if settings.broker.protocol != "auto":
            raise
        return await _subscribe(settings, "3.1.1")


async def _subscribe(settings: Settings, version: MqttVersion) -> str:
    broker = settings.broker
    session = Session(
        settings.broker_address,
        broker.model_copy(update={"client_id": f"{broker.client_id}-check-{secrets.token_hex(4)}"}),
        version=version,
        keep=False,
        on_deliveries=lambda _: None,
        on_ping=lambda: None,
        on_pong=lambda: None,
    )
    try:
        opened = await session.open()
        check_sharing(settings, shares=opened.shares)
        session.start()
        await session.subscribe(_filters_to_try(settings))
        await session.close(timeout_s=2)
    except (ConnectionLost, BrokerRefused) as error:
        raise type(error)(f"{settings.broker_url}: {error}") from error
    finally:
        session.abort()
    filters = "filter" if len(broker.filters) == 1 else "filters"
    return f"{settings.broker_url} speaks MQTT {version} and grants QoS 1 on {len(broker.filters)} {filters}"


def _filters_to_try(settings: Settings) -> list[str]:
    """Give the filters as the worker has them, but in a group of our own, so that we take nothing away."""
    if settings.share_group is None:
        return list(settings.broker.filters)
    group = f"{settings.share_group}-check-{secrets.token_hex(4)}"
    return [f"$share/{group}/{each}" for each in settings.broker.filters]


async def _metadata_server(settings: Settings) -> str:
    async with connected(settings.dsn("metadata"), Database.METADATA) as connection:
        return await _server(connection)


async def _timeseries_server(settings: Settings) -> str:
    async with connected(settings.dsn("timeseries"), Database.TIMESERIES) as connection:
        server = await _server(connection)
        version = await connection.fetchval(
            "select extversion from pg_extension where extname = 'timescaledb'"
        )
        if version is None:
            raise DatabaseFault(f"{server}, without the extension timescaledb: create it in this database")
        if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_TIMESCALEDB:
            raise DatabaseFault(f"{server}, TimescaleDB {version}: 2.20 or newer is needed")
        return f"{server}, TimescaleDB {version}"


async def _server(connection: asyncpg.Connection) -> str:
    number = int(await connection.fetchval("show server_version_num"))
    skew_s = float(
        await connection.fetchval(
            "select extract(epoch from clock_timestamp() - $1::timestamptz)", datetime.now(UTC)
        )
    )
    name = f"PostgreSQL {await connection.fetchval('show server_version')}"
    if number < _OLDEST_POSTGRESQL:
        raise DatabaseFault(f"{name}: 15 or newer is needed")
    if (wrong := await other_encoding(connection)) is not None:
        raise DatabaseFault(f"{name}: {wrong}")
    if abs(skew_s) > _CLOCK_TOLERANCE_S:
        raise DatabaseFault(
            f"{name}: its clock differs from this machine's by {skew_s:+.1f} s; set both by NTP"
        )
    return name


async def _schema(settings: Settings, database: Database) -> str:
    states = await status(settings.dsn(database.value), database)
    wrong = [f"V{each.version} {each.state}" for each in states if each.state != "applied"]
    if wrong:
        raise DatabaseFault(f"{', '.join(wrong)}: run `ingest schema migrate`, or `ingest schema status`")
    return f"{len(states)} migrations applied, the newest V{states[-1].version}"


async def _catalog(settings: Settings) -> str:
    loader = CatalogLoader(settings.dsn("metadata"), settings.resolve, lambda _: None)
    try:
        counts = (await loader.load()).counts()
    finally:
        await loader.close()
    if not counts["sensor_types"] or not counts["units"]:
        raise DatabaseFault("no sensor types or no units: run `ingest schema migrate`")
    if not counts["tenants"]:
        raise DatabaseFault("no tenants: every message would be a dead letter; see `ingest catalog add`")
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())


async def _privileges(settings: Settings) -> str:
    """Ask for each privilege that the migrations grant the worker; the history has a check of its own."""
    snapshot = schema_folder(Database.TIMESERIES).parent / "verify" / "timeseries.txt"
    lines = snapshot.read_text(encoding="utf-8").splitlines()
    grants = [grant.groups() for line in lines if (grant := _GRANT.fullmatch(line))]
    async with connected(settings.dsn("timeseries"), Database.TIMESERIES) as connection:
        rows = await connection.fetch(
            _MISSING_PRIVILEGES, *(list(column) for column in zip(*grants, strict=True))
        )
        missing = [row["privilege"] for row in rows]
    if missing:
        raise DatabaseFault(
            f"this login lacks {', '.join(missing)}: grant it greenhouse_worker, see docs/database-logins.md"
        )
    return "readings, dead letters, session, counters, late notes and mirrors can be written"
