"""Schema metadata on a real PostgreSQL: what the files make, and what it holds to."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from ingest.migrate import Database, describe, migrate, schema_folder, verify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SNAPSHOT = schema_folder(Database.METADATA).parent / "verify" / "metadata.txt"
UNCOMMENTED = """
    select format('%s.%s', c.relname, a.attname)
    from pg_class as c
    join pg_attribute as a on a.attrelid = c.oid and a.attnum >= 0 and not a.attisdropped
    where c.relnamespace = $1::regnamespace
        and c.relkind in ('r', 'v')
        and col_description(c.oid, a.attnum) is null
    union all
    select c.relname
    from pg_class as c
    where c.relnamespace = $1::regnamespace
        and c.relkind in ('r', 'v')
        and obj_description(c.oid, 'pg_class') is null
"""


@pytest.fixture
async def metadata(metadata_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(metadata_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def announced(
    metadata_dsn: str, metadata: asyncpg.Connection[asyncpg.Record]
) -> AsyncIterator[asyncio.Queue[str]]:
    """What is announced on channel catalog_changed."""
    assert not metadata.is_closed()
    queue: asyncio.Queue[str] = asyncio.Queue()
    listener = await asyncpg.connect(metadata_dsn)
    await listener.add_listener("catalog_changed", lambda *args: queue.put_nowait(str(args[3])))
    yield queue
    await listener.close()


async def test_the_files_make_what_the_snapshot_says(
    metadata_dsn: str, metadata: asyncpg.Connection[asyncpg.Record]
) -> None:
    assert not metadata.is_closed()
    found = await describe(metadata_dsn, Database.METADATA)
    if "INGEST_WRITE_SNAPSHOT" in os.environ:
        SNAPSHOT.write_text("\n".join(found) + "\n")
    assert found == SNAPSHOT.read_text().splitlines()
    assert sum(line.startswith("row ") for line in found) == 62
    assert await verify(metadata_dsn, Database.METADATA) == []


async def test_every_table_and_column_has_a_comment(metadata: asyncpg.Connection[asyncpg.Record]) -> None:
    assert [row[0] for row in await metadata.fetch(UNCOMMENTED, "metadata")] == []


async def test_new_catalog_rows_get_ids_after_the_shipped_ones(
    metadata: asyncpg.Connection[asyncpg.Record],
) -> None:
    unit = await metadata.fetchval(
        "insert into metadata.units (symbol, name) values ('kPa', 'kilopascal') returning id"
    )
    kind = await metadata.fetchval("""
        insert into metadata.sensor_types (name, default_unit_id, data_type)
        values ('PH', 10, 'DECIMAL') returning id
    """)
    assert (unit, kind) == (12, 12)


async def test_aliases_name_what_is_meant(metadata: asyncpg.Connection[asyncpg.Record]) -> None:
    types = {
        row["alias"]: row["name"]
        for row in await metadata.fetch("""
            select a.alias, t.name
            from metadata.sensor_type_aliases as a
            join metadata.sensor_types as t on t.id = a.sensor_type_id
        """)
    }
    units = {
        row["alias"]: row["symbol"]
        for row in await metadata.fetch("""
            select a.alias, u.symbol
            from metadata.unit_aliases as a
            join metadata.units as u on u.id = a.unit_id
        """)
    }
    expected = {
        "temperatura": "TEMPERATURE",
        "Humedad": "HUMIDITY",
        "soil-moisture": "SOIL_MOISTURE",
        "suelo": "SOIL_MOISTURE",
        "luz": "LIGHT",
        "presión": "PRESSURE",
        "presion": "PRESSURE",
        "viento": "WIND_SPEED",
        "lluvia": "PRECIPITATION",
        "radiacion": "SOLAR_RADIATION",
    }
    assert {name: types[name.upper()] for name in expected} == expected
    assert {name: units[name] for name in ("C", "DEGC", "ºC", "PERCENT", "W/M2", "MBAR", "LX")} == {
        "C": "°C",
        "DEGC": "°C",
        "ºC": "°C",
        "PERCENT": "%",
        "W/M2": "W/m²",
        "MBAR": "hPa",
        "LX": "lux",
    }
    # As Python folds them too, since the worker compares there.
    assert [alias for alias in (*types, *units) if alias != alias.strip().upper()] == []
    names = {row[0].upper() for row in await metadata.fetch("select name from metadata.sensor_types")}
    symbols = {row[0].upper() for row in await metadata.fetch("select symbol from metadata.units")}
    assert not names & types.keys()
    assert not symbols & units.keys()


@pytest.mark.parametrize("alias", ["temperatur", " TEMPERATUR", ""])
async def test_an_alias_nobody_could_meet_is_refused(
    metadata: asyncpg.Connection[asyncpg.Record], alias: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await metadata.execute("insert into metadata.sensor_type_aliases values ($1, 1)", alias)


async def test_a_catalog_row_in_use_stays(metadata: asyncpg.Connection[asyncpg.Record]) -> None:
    with pytest.raises((asyncpg.ForeignKeyViolationError, asyncpg.RestrictViolationError)):
        await metadata.execute("delete from metadata.units where id = 1")


async def test_changes_of_the_catalog_are_announced(
    metadata: asyncpg.Connection[asyncpg.Record], announced: asyncio.Queue[str]
) -> None:
    tenant = await metadata.fetchval(
        "insert into metadata.tenants (name, mqtt_topic_prefix) values ('Sara', 'SARA') returning id"
    )
    greenhouse = await metadata.fetchval(
        "insert into metadata.greenhouses (tenant_id, name, greenhouse_code) values ($1, 'A', '1') "
        "returning id",
        tenant,
    )
    sensor = await metadata.fetchval(
        "insert into metadata.sensors (greenhouse_id, tenant_id, sensor_code) values ($1, $2, 'T') "
        "returning id",
        greenhouse,
        tenant,
    )
    await metadata.execute(
        "update metadata.sensors set last_seen = now(), updated_at = now() where id = $1", sensor
    )
    await metadata.execute("update metadata.sensors set is_active = false where id = $1", sensor)
    await metadata.execute("delete from metadata.sensors")
    await metadata.execute("truncate metadata.unit_aliases")
    await metadata.execute("update metadata.sensor_types set max_value = 90 where id = 1")
    await metadata.execute("update metadata.units set description = null")
    await metadata.execute("delete from metadata.sensor_type_aliases where alias = 'TEMP'")
    heard = [await asyncio.wait_for(announced.get(), 5) for _ in range(9)]
    assert heard == [
        "tenants",
        f"greenhouse {greenhouse}",
        f"greenhouse {greenhouse}",
        f"greenhouse {greenhouse}",
        f"greenhouse {greenhouse}",
        "unit_aliases",
        "sensor_types",
        "units",
        "sensor_type_aliases",
    ]
    assert announced.empty()


async def test_a_transaction_announces_a_table_once(
    metadata: asyncpg.Connection[asyncpg.Record], announced: asyncio.Queue[str]
) -> None:
    async with metadata.transaction():
        for prefix in ("A", "B", "C"):
            await metadata.execute(
                "insert into metadata.tenants (name, mqtt_topic_prefix) values ($1, $1)", prefix
            )
    await metadata.execute("notify catalog_changed, 'end'")
    assert [await asyncio.wait_for(announced.get(), 5) for _ in range(2)] == ["tenants", "end"]


SOME_GREENHOUSES = """
    insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code)
    select ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid, t.id, n, n
    from generate_series($1::integer, $2) as n, metadata.tenants as t
"""
TWO_SENSORS_EACH = """
    insert into metadata.sensors (greenhouse_id, tenant_id, sensor_code)
    select g.id, g.tenant_id, n
    from metadata.greenhouses as g, generate_series(1, 2) as n
    order by g.id
"""
MOVE_SENSORS = """
    update metadata.sensors
    set greenhouse_id = $1, sensor_code = sensor_code || ' of another'
    where greenhouse_id = $2
"""


async def test_a_transaction_announces_a_greenhouse_once_and_a_thousand_at_most(
    metadata: asyncpg.Connection[asyncpg.Record], announced: asyncio.Queue[str]
) -> None:
    async def heard() -> list[str]:
        await metadata.execute("notify catalog_changed, 'end'")
        all_of_it: list[str] = []
        while (payload := await asyncio.wait_for(announced.get(), 5)) != "end":
            all_of_it.append(payload)
        return all_of_it

    await metadata.execute("insert into metadata.tenants (name) values ('Sara')")
    await metadata.execute(SOME_GREENHOUSES, 1, 900)
    await heard()
    await metadata.execute(TWO_SENSORS_EACH)
    assert len(set(await heard())) == 900
    await metadata.execute("delete from metadata.sensors")
    await heard()
    await metadata.execute(SOME_GREENHOUSES, 901, 1100)
    await heard()
    async with metadata.transaction():
        await metadata.execute(TWO_SENSORS_EACH)
        await metadata.execute("update metadata.greenhouses set is_active = false")
    payloads = await heard()
    assert len(payloads) == 1000 + len({"sensors", "greenhouses"})
    assert set(payloads[-2:]) == {"sensors", "greenhouses"}
    await metadata.execute("update metadata.sensors set is_active = false where sensor_code = '1'")
    assert len(await heard()) == 1001, "the count begins anew with each transaction"
    one, two = (UUID(int=number) for number in (1, 2))
    await metadata.execute(MOVE_SENSORS, one, two)
    assert set(await heard()) == {f"greenhouse {one}", f"greenhouse {two}"}
    await metadata.execute("truncate metadata.greenhouses cascade")
    assert {"greenhouses", "sensors"} <= set(await heard())


async def test_a_live_legacy_database_is_taken_as_it_is(postgres_dsn: str) -> None:
    connection = await asyncpg.connect(postgres_dsn)
    try:
        (legacy,) = schema_folder(Database.METADATA).glob("V11__*.sql")
        await connection.execute(legacy.read_text(encoding="utf-8"))
        await connection.execute(
            "insert into metadata.tenants (name, mqtt_topic_prefix) values ('Old', 'OLD')"
        )
        applied = await migrate(postgres_dsn, Database.METADATA)
        assert applied[0].version == "11"
        assert await connection.fetchval("select count(*) from metadata.tenants") == 1
    finally:
        await connection.close()


async def test_nothing_is_open_to_everybody(metadata: asyncpg.Connection[asyncpg.Record]) -> None:
    """Functions that run with their owner's rights, tables and later tables are closed."""
    assert (
        await metadata.fetch("""
            select p.oid::regprocedure from pg_proc as p
            where p.pronamespace = 'metadata'::regnamespace and p.prosecdef
                and p.prorettype <> 'trigger'::regtype
                and has_function_privilege('public', p.oid, 'execute')
        """)
        == []
    )
    assert (
        await metadata.fetch("""
            select c.relname from pg_class as c, aclexplode(c.relacl) as a
            where c.relnamespace = 'metadata'::regnamespace and a.grantee = 0
        """)
        == []
    )
    await metadata.execute("create table metadata.later (id integer)")
    for role in ("greenhouse_worker", "greenhouse_operator", "greenhouse_reader"):
        assert not await metadata.fetchval("select has_table_privilege($1, 'metadata.later', 'select')", role)


async def test_every_function_with_its_owners_rights_has_a_fixed_search_path(
    metadata: asyncpg.Connection[asyncpg.Record],
) -> None:
    assert (
        await metadata.fetch("""
            select oid::regprocedure from pg_proc
            where pronamespace = 'metadata'::regnamespace and prosecdef
                and not coalesce(proconfig, '{}') @> array['search_path=pg_catalog, pg_temp']
        """)
        == []
    )
