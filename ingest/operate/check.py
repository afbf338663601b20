"""`ingest check`: whether everything is there that `ingest run` needs, and as it has to be.

Asks the broker with a client id of its own and a session that ends with the connection, so that a
running worker is not disturbed; asks both databases for version, schema and privileges. Changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from ingest.errors import BrokerRefused, DatabaseFault, IngestError
from ingest.migrate import Database, status
from ingest.operate.exchange import exchange
from ingest.receive import ConnectionLost, MqttVersion, ProtocolUnsupported, Session
from ingest.resolve.loader import CatalogLoader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

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
_MISSING_PRIVILEGES: Final = """
select each.privilege || ' on ' || needed.relation as privilege
from (
    values
        ('iot.sensor_readings', 'select, insert'),
        ('iot.ingest_dead_letters', 'select, insert, update, delete'),
        ('iot.ingest_sessions', 'select, insert, update'),
        ('iot.ingest_counters', 'select, insert, update'),
        ('iot.ingest_gateway_hours', 'select, insert, update'),
        ('iot.ingest_written_hours', 'select, insert, update'),
        ('iot.ingest_late_buckets', 'select, insert, update'),
        ('iot.units', 'select, insert, update'),
        ('iot.sensor_types', 'select, insert, update'),
        ('iot.sensor_intervals', 'select, insert, update, delete')
) as needed (relation, privileges)
cross join string_to_table(needed.privileges, ', ') as each (privilege)
where not case each.privilege
    when 'delete' then has_table_privilege(needed.relation, each.privilege)
    else has_any_column_privilege(needed.relation, each.privilege)
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
    wrong = await _exchanged(settings)
    return [
        await _judged(name, _refused(wrong) if wrong and name in _OF_ONE_DATABASE else look(settings))
        for name, look in checks
    ]


async def _exchanged(settings: Settings) -> str | None:
    """Tell whether the DSNs are exchanged; a database that does not answer has a check of its own."""
    with contextlib.suppress(IngestError, TimeoutError):
        async with asyncio.timeout(_TIMEOUT_S):
            return await exchange(settings)
    return None


async def _refused(wrong: str) -> str:
    raise DatabaseFault(wrong)


async def _judged(name: str, looking: Coroutine[None, None, str]) -> CheckResult:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return CheckResult(name, ok=True, detail=await looking)
    except (IngestError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
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
        await session.open()
        session.start()
        await session.subscribe(broker.filters)
        await session.close(timeout_s=2)
    except (ConnectionLost, BrokerRefused) as error:
        raise type(error)(f"{settings.broker_url}: {error}") from error
    finally:
        session.abort()
    filters = "filter" if len(broker.filters) == 1 else "filters"
    return f"{settings.broker_url} speaks MQTT {version} and grants QoS 1 on {len(broker.filters)} {filters}"


async def _metadata_server(settings: Settings) -> str:
    async with _connected(settings.dsn("metadata")) as connection:
        return await _server(connection)


async def _timeseries_server(settings: Settings) -> str:
    async with _connected(settings.dsn("timeseries")) as connection:
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
    async with _connected(settings.dsn("timeseries")) as connection:
        missing = [row["privilege"] for row in await connection.fetch(_MISSING_PRIVILEGES)]
    if missing:
        raise DatabaseFault(
            f"this login lacks {', '.join(missing)}: grant it greenhouse_worker, see docs/database-logins.md"
        )
    return "readings, dead letters, session, counters, late notes and mirrors can be written"


@contextlib.asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        yield connection
    finally:
        await connection.close()
