"""Migration V13 on what live databases hold: every spelling, names nobody knows, half-done attempts."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest

from ingest.migrate import Database, migrate, schema_folder, verify
from ingest.migration_files import load_migrations, version_key
from ingest.operate.catalog import CatalogKind, add_alias, add_sensor, list_catalog
from ingest.operate.catalog_entries import AliasKind
from ingest.resolve.loader import CatalogLoader
from ingest.settings import ResolveSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

METADATA = Database.METADATA
TENANT, GREENHOUSE = UUID(int=0xA0), UUID(int=0xA1)
# The six sensors and three actuators of a small production, as its application wrote them.
SENSORS = [
    ("TEMP-01", "TEMPERATURE", "°C"),
    ("TEMP-02", " Temperatura ", "C"),
    ("HUM-01", "humedad", "percent"),
    ("HUM-02", "Humidity\t", " % "),
    ("SOIL-01", "HUMEDAD_DEL_SUELO", None),
    ("VIB-01", "VIBRATION", "furlong"),
]
ACTUATORS = [
    ("FAN-01", "Fan", "on", "%"),
    ("EXT-01", "EXTRACTOR", "OFF", ""),
    ("VAL-01", " valve", "half open", None),
]
ALERTS = [
    ("sensor_offline", "critical"),
    ("Threshold_Exceeded ", None),
    ("FROST", "SEVERE"),
]
UNDO = schema_folder(METADATA) / "U13__normalize_existing_tables.sql"
LATER_UNDOS = ["U16__create_roles", "U15__create_audit_triggers", "U14__create_staging_tables"]


def files_until(version: str, folder: Path) -> Path:
    """Copy the migrations up to *version* into *folder*."""
    for file in load_migrations(schema_folder(METADATA)):
        if version_key(file.version) <= version_key(version):
            shutil.copy(file.path, folder)
    return folder


@pytest.fixture
async def legacy(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A database at V12_1, before anything was normalised."""
    await migrate(postgres_dsn, METADATA, folder=files_until("12_1", tmp_path))
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(
        "insert into metadata.tenants (id, name, mqtt_topic_prefix) values ($1, 'Sara', 'SARA')", TENANT
    )
    await connection.execute(
        "insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code)"
        " values ($1, $2, 'North', '01')",
        GREENHOUSE,
        TENANT,
    )
    await connection.executemany(
        "insert into metadata.sensors (greenhouse_id, tenant_id, sensor_code, sensor_type, unit)"
        " values ($1, $2, $3, $4, $5)",
        [(GREENHOUSE, TENANT, *sensor) for sensor in SENSORS],
    )
    await connection.executemany(
        "insert into metadata.actuators"
        " (greenhouse_id, tenant_id, actuator_code, actuator_type, current_state, unit)"
        " values ($1, $2, $3, $4, $5, $6)",
        [(GREENHOUSE, TENANT, *actuator) for actuator in ACTUATORS],
    )
    await connection.executemany(
        "insert into metadata.alerts (greenhouse_id, tenant_id, alert_type, severity)"
        " values ($1, $2, $3, $4)",
        [(GREENHOUSE, TENANT, *alert) for alert in ALERTS],
    )
    yield connection
    await connection.close()


@pytest.fixture
async def normalised(
    legacy: asyncpg.Connection[asyncpg.Record], postgres_dsn: str
) -> asyncpg.Connection[asyncpg.Record]:
    """The same database with every migration."""
    await migrate(postgres_dsn, METADATA)
    return legacy


async def rows(connection: asyncpg.Connection[asyncpg.Record], sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await connection.fetch(sql)]


SENSOR_IDS = """
    select sensor_code, sensor_type, sensor_type_id, unit, unit_id
    from metadata.sensors
    order by sensor_code
"""
ACTUATOR_IDS = (
    "select actuator_code, actuator_type_id, state_id, unit_id from metadata.actuators order by actuator_code"
)
UNMAPPED = "select * from metadata.v_unmapped_names order by 1, 2, 3"


async def test_names_get_the_ids_they_mean_and_stay(normalised: asyncpg.Connection[asyncpg.Record]) -> None:
    assert await rows(normalised, SENSOR_IDS) == [
        ("HUM-01", "humedad", 2, "percent", 3),
        ("HUM-02", "Humidity\t", 2, " % ", 3),
        ("SOIL-01", "HUMEDAD_DEL_SUELO", 4, None, None),
        ("TEMP-01", "TEMPERATURE", 1, "°C", 1),
        ("TEMP-02", " Temperatura ", 1, "C", 1),
        ("VIB-01", "VIBRATION", None, "furlong", None),
    ]
    assert await rows(normalised, ACTUATOR_IDS) == [
        ("EXT-01", None, 1, None),
        ("FAN-01", 2, 2, 3),
        ("VAL-01", 4, None, None),
    ]
    assert await rows(
        normalised, "select alert_type, alert_type_id, severity_id from metadata.alerts order by alert_type"
    ) == [("FROST", None, None), ("Threshold_Exceeded ", 1, None), ("sensor_offline", 3, 4)]


async def test_what_the_catalog_lacks_is_reported_and_no_neighbour_is_taken(
    normalised: asyncpg.Connection[asyncpg.Record],
) -> None:
    assert await rows(normalised, UNMAPPED) == [
        ("actuators", "actuator_type", "EXTRACTOR", None, 1),
        ("actuators", "current_state", "half open", None, 1),
        ("alerts", "alert_type", "FROST", None, 1),
        ("alerts", "severity", "SEVERE", None, 1),
        ("sensors", "sensor_type", "VIBRATION", None, 1),
        ("sensors", "unit", "furlong", None, 1),
    ]
    issues = await rows(
        normalised,
        "select data_source, severity, affected_records_count, status, sample_data ->> 'value'"
        " from metadata.data_quality_log order by id",
    )
    assert len(issues) == 6
    assert issues[0] == ("metadata.actuators.actuator_type", "MEDIUM", 1, "OPEN", "EXTRACTOR")
    assert issues[4] == ("metadata.sensors.sensor_type", "HIGH", 1, "OPEN", "VIBRATION")


async def test_the_report_is_said_aloud(legacy: asyncpg.Connection[asyncpg.Record]) -> None:
    heard: list[str] = []
    legacy.add_log_listener(lambda _, message: heard.append(message.message))
    (path,) = schema_folder(METADATA).glob("V13__*.sql")
    async with legacy.transaction():
        await legacy.execute(path.read_text(encoding="utf-8"))
    assert "metadata.actuators.actuator_type: 1 row(s) with 'EXTRACTOR', left without an id" in heard


async def test_views_show_a_name_wherever_it_is(normalised: asyncpg.Connection[asyncpg.Record]) -> None:
    assert await rows(
        normalised,
        "select sensor_code, sensor_type, unit, tenant_name, greenhouse_code"
        " from metadata.v_sensors_denormalized order by 1",
    ) == [
        ("HUM-01", "HUMIDITY", "%", "Sara", "01"),
        ("HUM-02", "HUMIDITY", "%", "Sara", "01"),
        ("SOIL-01", "SOIL_MOISTURE", "%", "Sara", "01"),
        ("TEMP-01", "TEMPERATURE", "°C", "Sara", "01"),
        ("TEMP-02", "TEMPERATURE", "°C", "Sara", "01"),
        ("VIB-01", "VIBRATION", "furlong", "Sara", "01"),
    ]
    assert await rows(
        normalised,
        "select actuator_code, actuator_type, current_state"
        " from metadata.v_actuators_denormalized order by 1",
    ) == [("EXT-01", "EXTRACTOR", "OFF"), ("FAN-01", "FAN", "ON"), ("VAL-01", "VALVE", "half open")]
    assert await rows(
        normalised,
        "select alert_type, severity, severity_level from metadata.v_alerts_denormalized order by alert_type",
    ) == [("FROST", "SEVERE", None), ("SENSOR_OFFLINE", "CRITICAL", 4), ("THRESHOLD_EXCEEDED", "WARNING", 2)]


async def test_a_half_done_attempt_is_finished(
    legacy: asyncpg.Connection[asyncpg.Record], postgres_dsn: str
) -> None:
    await legacy.execute("""
        alter table metadata.actuators add column actuator_type_id smallint, add column state_id smallint;
        alter table metadata.sensors add column sensor_type_id smallint
            constraint sensors_sensor_type_id_fkey references metadata.sensor_types (id);
        update metadata.actuators set actuator_type_id = 1 where actuator_type = 'EXTRACTOR';
        update metadata.sensors set sensor_type_id = 1 where sensor_code = 'TEMP-01';
        create view metadata.v_sensors_denormalized as select id from metadata.sensors;
    """)
    await migrate(postgres_dsn, METADATA)
    assert await verify(postgres_dsn, METADATA) == []
    assert await rows(legacy, ACTUATOR_IDS) == [
        ("EXT-01", 1, 1, None),
        ("FAN-01", 2, 2, 3),
        ("VAL-01", 4, None, None),
    ]
    # The id that somebody gave is kept, and what it contradicts is said.
    assert ("actuators", "actuator_type", "EXTRACTOR", "RELAY", 1) in await rows(legacy, UNMAPPED)


async def test_again_changes_nothing(legacy: asyncpg.Connection[asyncpg.Record], postgres_dsn: str) -> None:
    (path,) = schema_folder(METADATA).glob("V13__*.sql")
    states = []
    for _ in range(2):
        async with legacy.transaction():
            await legacy.execute(path.read_text(encoding="utf-8"))
        states.append([await rows(legacy, sql) for sql in (SENSOR_IDS, ACTUATOR_IDS, UNMAPPED)])
    assert states[0] == states[1]
    await migrate(postgres_dsn, METADATA)
    assert await verify(postgres_dsn, METADATA) == []


async def test_ids_of_another_type_are_no_ids(
    legacy: asyncpg.Connection[asyncpg.Record], postgres_dsn: str
) -> None:
    await legacy.execute("alter table metadata.sensors add column unit_id integer")
    with pytest.raises(Exception, match=r"sensors\.unit_id integer"):
        await migrate(postgres_dsn, METADATA)


async def test_a_legacy_writer_gets_ids(normalised: asyncpg.Connection[asyncpg.Record]) -> None:
    async def after(change: str) -> tuple[Any, ...]:
        await normalised.execute(change)
        (row,) = await rows(
            normalised,
            "select sensor_type, sensor_type_id, unit, unit_id from metadata.sensors"
            " where sensor_code = 'NEW'",
        )
        return row

    insert = (
        f"insert into metadata.sensors (greenhouse_id, tenant_id, sensor_code, sensor_type, unit, unit_id)"
        f" values ('{GREENHOUSE}', '{TENANT}', 'NEW', 'humedad', 'C', null)"
    )
    update = "update metadata.sensors set {} where sensor_code = 'NEW'"
    assert await after(insert) == ("humedad", 2, "C", 1)
    assert await after(update.format("sensor_type = 'lluvia', unit = 'mm'")) == ("lluvia", 8, "mm", 9)
    assert await after(update.format("sensor_type = 'frost'")) == ("frost", None, "mm", 9)
    assert await after(update.format("sensor_type = 'Luz', unit = unit")) == ("Luz", 3, "mm", 9)
    # Ids given count, whatever the name says; a name taken away leaves the id.
    assert await after(update.format("sensor_type_id = 5")) == ("Luz", 5, "mm", 9)
    assert await after(update.format("sensor_type = 'co2', sensor_type_id = 6")) == ("co2", 6, "mm", 9)
    assert await after(update.format("sensor_type = null, unit = null")) == (None, 6, None, 9)
    assert await after(update.format("unit_id = null")) == (None, 6, None, None)


async def test_a_legacy_writer_of_actuators_and_alerts_gets_ids(
    normalised: asyncpg.Connection[asyncpg.Record],
) -> None:
    await normalised.execute("update metadata.actuators set current_state = 'closing', unit = 'lux'")
    assert {row[2:] for row in await rows(normalised, ACTUATOR_IDS)} == {(8, 4)}
    await normalised.execute(
        "insert into metadata.alerts (tenant_id, greenhouse_id, alert_type, severity, message)"
        " values ($1, $2, 'battery_low', 'Info', 'new')",
        TENANT,
        GREENHOUSE,
    )
    new = "select alert_type_id, severity_id from metadata.alerts where message = 'new'"
    assert await rows(normalised, new) == [(10, 1)]
    await normalised.execute("update metadata.alerts set severity = 'ERROR' where message = 'new'")
    assert await rows(normalised, new) == [(10, 3)]


async def test_a_new_alias_maps_what_waited_for_it(
    normalised: asyncpg.Connection[asyncpg.Record], postgres_dsn: str
) -> None:
    await add_alias(postgres_dsn, kind=AliasKind.SENSOR_TYPE, alias="vibration", name="SENSOR")
    assert ("VIB-01", "VIBRATION", 11, "furlong", None) in await rows(normalised, SENSOR_IDS)
    statuses = dict(
        await rows(normalised, "select sample_data ->> 'value', status from metadata.data_quality_log")
    )
    assert (statuses["VIBRATION"], statuses["EXTRACTOR"]) == ("RESOLVED", "OPEN")
    await normalised.execute("insert into metadata.actuator_types (name) values ('EXTRACTOR')")
    assert await normalised.fetchval("select metadata.map_names()") == 1
    assert await normalised.fetchval("select metadata.note_unmapped_names()") == 0
    assert "EXTRACTOR" not in [row[2] for row in await rows(normalised, UNMAPPED)]


async def test_case_tells_units_apart(normalised: asyncpg.Connection[asyncpg.Record]) -> None:
    await normalised.execute(
        "insert into metadata.units (id, symbol, name) values (20, 'mW', 'milliwatt'), (21, 'MW', 'megawatt')"
    )
    assert await rows(
        normalised,
        "select metadata.unit_id_of(written)"
        " from unnest(array['mW', ' MW ', 'mw', 'LUX', '', ' ']) as written",
    ) == [(20,), (21,), (None,), (4,), (None,), (None,)]


async def test_a_catalog_row_in_use_stays(normalised: asyncpg.Connection[asyncpg.Record]) -> None:
    for table, row_id in (("actuator_types", 2), ("actuator_states", 2), ("alert_severities", 4)):
        with pytest.raises((asyncpg.ForeignKeyViolationError, asyncpg.RestrictViolationError)):
            await normalised.execute(f"delete from metadata.{table} where id = {row_id}")
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await normalised.execute("update metadata.sensors set sensor_type_id = 99")


async def test_the_worker_goes_by_the_ids(
    normalised: asyncpg.Connection[asyncpg.Record], postgres_dsn: str
) -> None:
    await normalised.execute("""
        update metadata.sensors set sensor_type = null, unit = null, expected_interval_s = 60
        where sensor_code = 'TEMP-01'
    """)
    loader = CatalogLoader(postgres_dsn, ResolveSettings.model_validate({}), lambda _: None)
    catalog = await loader.load()
    await loader.close()
    assert {
        sensor.code: (sensor.sensor_type, sensor.unit, sensor.expected_interval_s)
        for sensor in catalog.sensors.values()
    } == {
        "TEMP-01": ("TEMPERATURE", "°C", 60),
        "TEMP-02": ("TEMPERATURE", "°C", None),
        "HUM-01": ("HUMIDITY", "%", None),
        "HUM-02": ("HUMIDITY", "%", None),
        "SOIL-01": ("SOIL_MOISTURE", None, None),
        "VIB-01": ("VIBRATION", "furlong", None),
    }


async def test_a_registered_sensor_has_names_and_ids(
    normalised: asyncpg.Connection[asyncpg.Record], postgres_dsn: str
) -> None:
    await add_sensor(
        postgres_dsn,
        tenant="SARA",
        greenhouse="01",
        sensor_type="humedad",
        code="NEW",
        expected_interval_s=30,
    )
    again = await add_sensor(
        postgres_dsn, tenant="SARA", greenhouse="01", sensor_type="humidity", unit="percent", code="NEW"
    )
    assert not again.added
    assert ("NEW", "HUMIDITY", 2, "%", 3) in await rows(normalised, SENSOR_IDS)
    # One that somebody else registered by ids alone is the same sensor too.
    await normalised.execute("update metadata.sensors set sensor_type = null, unit = null")
    again = await add_sensor(
        postgres_dsn, tenant="SARA", greenhouse="01", sensor_type="humidity", unit="%", code="NEW"
    )
    assert not again.added
    listed = {row["code"]: row for row in await list_catalog(postgres_dsn, CatalogKind.SENSORS)}
    assert (listed["NEW"]["sensor_type"], listed["NEW"]["unit"]) == ("HUMIDITY", "%")
    assert listed["NEW"]["expected_interval_s"] == 30


async def test_undo_puts_the_names_back(normalised: asyncpg.Connection[asyncpg.Record]) -> None:
    await normalised.execute("""
        update metadata.sensors set sensor_type = null, unit = ' ' where sensor_code like 'TEMP-%';
        update metadata.actuators set current_state = null, actuator_type = null
        where actuator_code = 'FAN-01';
        update metadata.alerts set alert_type = null, severity = null where alert_type = 'sensor_offline';
        truncate metadata.audit_log, metadata.actuator_command_history, metadata.data_quality_log;
    """)
    for undo in LATER_UNDOS:
        await normalised.execute((UNDO.parent / f"{undo}.sql").read_text(encoding="utf-8"))
    await normalised.execute(UNDO.read_text(encoding="utf-8"))
    assert await rows(
        normalised, "select sensor_code, sensor_type, unit from metadata.sensors order by sensor_code"
    ) == [
        ("HUM-01", "humedad", "percent"),
        ("HUM-02", "Humidity\t", " % "),
        ("SOIL-01", "HUMEDAD_DEL_SUELO", None),
        ("TEMP-01", "TEMPERATURE", "°C"),
        ("TEMP-02", "TEMPERATURE", "°C"),
        ("VIB-01", "VIBRATION", "furlong"),
    ]
    assert ("FAN-01", "FAN", "ON") in await rows(
        normalised, "select actuator_code, actuator_type, current_state from metadata.actuators"
    )
    assert ("SENSOR_OFFLINE", "CRITICAL") in await rows(
        normalised, "select alert_type, severity from metadata.alerts"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            "update metadata.actuators set actuator_type_id = 2 where actuator_type = 'EXTRACTOR'",
            "actuators.actuator_type 'EXTRACTOR' .id: FAN",
        ),
        ("update metadata.sensors set expected_interval_s = 60", "expected interval"),
    ],
)
async def test_undo_refuses_what_would_be_lost(
    normalised: asyncpg.Connection[asyncpg.Record], change: str, reason: str
) -> None:
    await normalised.execute(change)
    with pytest.raises(asyncpg.RaiseError, match=reason):
        await normalised.execute(UNDO.read_text(encoding="utf-8"))
