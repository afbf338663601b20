"""The servers that a run measures on: a private Mosquitto, and a database made for it.

Everything on loopback. The database is one of its own on the TimescaleDB whose DSN is given, dropped at the
end, or a private PostgreSQL, whose schema lacks what is TimescaleDB's.
"""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bench.fleet import TENANT
from ingest.migrate import Database, migrate
from tests.integration.plain_postgres import create_timeseries_schema
from tests.servers import PostgresCluster, shipped_broker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from bench.fleet import Fleet
    from tests.servers import Mosquitto

_CLEAR = """
truncate iot.sensor_readings, iot.ingest_sessions, iot.ingest_counters, iot.ingest_dead_letters,
    iot.ingest_dead_letter_overflow, iot.ingest_gateway_hours, iot.ingest_written_hours,
    iot.ingest_late_buckets
"""
_NEW_GREENHOUSE = """
insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code)
values ($1, $2, $3, $3)
"""
_NEW_SENSOR = """
insert into metadata.sensors (
    id,
    greenhouse_id,
    tenant_id,
    sensor_code,
    mqtt_field_name,
    sensor_type,
    unit,
    expected_interval_s
)
values ($1, $2, $3, $4, $5, $6, $7, $8)
"""
# What a contender that resolves no names leaves out of its rows: there is one answer for all of them.
_DEFAULTS = """
alter table iot.sensor_readings
    alter column greenhouse_id set default '{greenhouse_id}',
    alter column tenant_id set default '{tenant_id}',
    alter column sensor_type_id set default {sensor_type_id},
    alter column unit_id set default {unit_id}
"""
_STORED = "select count(*), coalesce(sum((value * 10)::bigint), 0)::bigint from iot.sensor_readings"
_COMPRESS = "select count(compress_chunk(c)) from show_chunks('iot.sensor_readings') as c"
_VERSIONS = """
select
    split_part(current_setting('server_version'), ' ', 1) as postgresql,
    (select e.extversion from pg_extension as e where e.extname = 'timescaledb') as timescaledb
"""


@contextlib.contextmanager
def broker(window: int | None = None) -> Iterator[Mosquitto]:
    """Run a Mosquitto with config/mosquitto.conf, except for what a benchmark on loopback cannot have.

    Everybody may log in and do anything; and it saves when it stops only: each save writes the whole backlog,
    which is there for four sessions to drain, and is not there where a worker keeps up (see the file).
    *window* is max_inflight_messages, where it is not the file's.
    """
    given: dict[str, int] = {} if window is None else {"max_inflight_messages": window}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with shipped_broker(
            Path(folder), autosave_on_changes="false", autosave_interval=0, **given
        ) as running:
            yield running


@dataclass(frozen=True, slots=True)
class Target:
    """The database that everything is written to."""

    dsn: str
    connection: asyncpg.Connection
    versions: dict[str, str]

    @property
    def timescale(self) -> bool:
        """Whether it is a TimescaleDB."""
        return "timescaledb" in self.versions

    @property
    def says(self) -> str:
        """What it is, for a heading."""
        versions = self.versions
        if self.timescale:
            return f"TimescaleDB {versions['timescaledb']} on PostgreSQL {versions['postgresql']}"
        return f"PostgreSQL {versions['postgresql']}, no TimescaleDB"

    async def clear(self) -> None:
        """Empty every table that a contender writes."""
        await self.connection.execute(_CLEAR)

    async def register(self, fleet: Fleet) -> None:
        """Have the catalog hold *fleet* and nothing else."""
        await self.connection.execute("truncate metadata.tenants cascade")
        await self.connection.execute(
            "insert into metadata.tenants (id, name, mqtt_topic_prefix) values ($1, $2, $3)", *TENANT[:3]
        )
        await self.connection.executemany(
            _NEW_GREENHOUSE, [(each.greenhouse_id, each.tenant_id, each.code) for each in fleet.greenhouses]
        )
        rows = [
            (
                each.sensor_id,
                each.greenhouse_id,
                TENANT.tenant_id,
                each.code,
                each.label,
                each.sensor_type,
                each.unit,
                each.expected_interval_s,
            )
            for each in fleet.sensors()
        ]
        await self.connection.executemany(_NEW_SENSOR, rows)
        channel = fleet.channels[0]
        await self.connection.execute(
            _DEFAULTS.format(
                greenhouse_id=channel.greenhouse_id,
                tenant_id=TENANT.tenant_id,
                sensor_type_id=channel.kind.type_id,
                unit_id=channel.kind.unit_id,
            )
        )

    async def stored(self) -> tuple[int, int]:
        """Count the rows, and add their values up, in tenths."""
        [(rows, tenths)] = await self.connection.fetch(_STORED)
        return rows, tenths

    async def compress(self) -> None:
        """Compress every chunk of the readings."""
        await self.connection.execute(_COMPRESS)


@contextlib.asynccontextmanager
async def target(server: str | None) -> AsyncIterator[Target]:
    """Make both schemas in a new database of *server*, a TimescaleDB, or of a private PostgreSQL."""
    with contextlib.ExitStack() as stack:
        if server is None:
            cluster = stack.enter_context(PostgresCluster())
            dsn, name = cluster.create_database(), None
        else:
            name = f"ingest_bench_{uuid.uuid4().hex[:8]}"
            await _execute(server, f"create database {name}")
            dsn = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        try:
            await migrate(dsn, Database.METADATA)
            connection = await asyncpg.connect(dsn)
            if server is None:
                await create_timeseries_schema(connection)
            else:
                await migrate(dsn, Database.TIMESERIES)
            # As the worker's own connection has it: late rows decompress the segments that they fall into.
            await connection.execute("set timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
            [found] = await connection.fetch(_VERSIONS)
            versions = {name: said for name, said in found.items() if said is not None}
            yield Target(dsn, connection, versions)
            await connection.close()
        finally:
            if server is not None:
                await _execute(server, f"drop database {name} with (force)")


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()
