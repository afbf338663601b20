"""`ingest catalog list|add|import` on a real PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from ingest.errors import CheckFailed, ConfigurationError, Unavailable
from ingest.operate.catalog import (
    CatalogKind,
    add_alias,
    add_greenhouse,
    add_sensor,
    add_sensor_type,
    add_tenant,
    add_unit,
    import_catalog,
    list_catalog,
)
from ingest.operate.catalog_entries import AliasKind
from tests.servers import free_port

EXPLICIT = UUID("5e0f2c7a-3d1b-4b6e-8c55-1f2e3d4c5b6a")


@pytest.fixture
def dsn(metadata_dsn: str) -> str:
    return metadata_dsn


@pytest.fixture
async def house(dsn: str) -> UUID:
    await add_tenant(dsn, name="Sara", prefix="SARA")
    return UUID((await add_greenhouse(dsn, tenant="SARA", code="01", name="North")).id)


async def test_the_same_again_is_already_there(dsn: str, house: UUID) -> None:
    tenant = await add_tenant(dsn, name="Sara", prefix="SARA")
    greenhouse = await add_greenhouse(dsn, tenant="SARA", code="01", name="North")
    assert (tenant.added, greenhouse.added, greenhouse.id) == (False, False, str(house))
    first, second = [
        await add_sensor(
            dsn, tenant="SARA", greenhouse="01", sensor_type="Humedad", unit="percent", label="HUM 1"
        )
        for _ in range(2)
    ]
    assert (first.added, second.added, first.id) == (True, False, second.id)
    alias = [await add_alias(dsn, kind=AliasKind.UNIT, alias="grados", name="C") for _ in range(2)]
    assert [entry.added for entry in alias] == [True, False]
    assert (await add_alias(dsn, kind=AliasKind.SENSOR_TYPE, alias="wärme", name="temperatura")).id == "1"


async def test_new_units_and_types_get_the_next_ids_and_what_waits_for_them(dsn: str) -> None:
    unit = [await add_unit(dsn, symbol="mS/cm", name="millisiemens per centimetre") for _ in range(2)]
    assert [(each.id, each.added) for each in unit] == [("12", True), ("12", False)]
    first, second = [
        await add_sensor_type(dsn, name="Conductivity", unit="mS/cm", minimum=0, maximum=20.5)
        for _ in range(2)
    ]
    assert (first.name, first.added, second.added) == ("CONDUCTIVITY", True, False)
    assert int(first.id) > 11
    await add_tenant(dsn, name="Sara", prefix="SARA")
    await add_greenhouse(dsn, tenant="SARA", code="01")
    assert (
        await add_sensor(dsn, tenant="SARA", greenhouse="01", sensor_type="conductivity", label="EC")
    ).added
    found = {each["name"]: each for each in await list_catalog(dsn, CatalogKind.SENSOR_TYPES)}
    assert (found["CONDUCTIVITY"]["unit"], found["CONDUCTIVITY"]["maximum"]) == ("mS/cm", 20.5)
    with pytest.raises(CheckFailed, match=r"maximum is 20\.50, not 30"):
        await add_sensor_type(dsn, name="CONDUCTIVITY", unit="mS/cm", maximum=30)
    with pytest.raises(CheckFailed, match="PPM: already means ppm"):
        await add_unit(dsn, symbol="PPM", name="parts per million")
    with pytest.raises(CheckFailed, match="TEMPERATURA: already means TEMPERATURE"):
        await add_sensor_type(dsn, name="temperatura", unit="C")
    with pytest.raises(CheckFailed, match="no unit 'furlong'; add it first"):
        await add_sensor_type(dsn, name="DISTANCE", unit="furlong")
    with pytest.raises(ConfigurationError, match="the minimum is greater than the maximum"):
        await add_sensor_type(dsn, name="X", unit="%", minimum=2, maximum=1)
    with pytest.raises(ConfigurationError, match="decimal"):
        await add_sensor_type(dsn, name="X", unit="%", minimum=0.001)


@pytest.mark.usefixtures("house")
async def test_there_but_different(dsn: str) -> None:
    await add_sensor(dsn, tenant="SARA", greenhouse="01", sensor_type="humidity", code="H1")
    with pytest.raises(CheckFailed, match="name is 'Sara', not 'Sarah'"):
        await add_tenant(dsn, name="Sarah", prefix="SARA")
    with pytest.raises(CheckFailed, match="already exists"):
        await add_tenant(dsn, name="Sara", prefix="OTHER")
    with pytest.raises(CheckFailed, match="timezone is 'Europe/Madrid', not 'Europe/Lisbon'"):
        await add_greenhouse(dsn, tenant="SARA", code="01", timezone="Europe/Lisbon")
    with pytest.raises(CheckFailed, match="sensor_type is 'HUMIDITY', not 'CO2'"):
        await add_sensor(dsn, tenant="SARA", greenhouse="01", sensor_type="co2", code="H1")
    with pytest.raises(CheckFailed, match="already exists"):
        await add_sensor(
            dsn, tenant="SARA", greenhouse="01", sensor_type="humidity", code="H1", sensor_id=EXPLICIT
        )
    with pytest.raises(CheckFailed, match="already means °C, not °F"):
        await add_alias(dsn, kind=AliasKind.UNIT, alias="celsius", name="°F")


@pytest.mark.usefixtures("house")
async def test_one_name_for_a_tenant_and_anothers_greenhouse_is_refused(dsn: str) -> None:
    """A broker login of that name might publish for both: config/mosquitto.acl gives rights by name."""
    await add_tenant(dsn, name="Lia", prefix="LIA")
    for code in ("SARA", "sara", " Sara "):
        with pytest.raises(CheckFailed, match=r"prefix of tenant 'Sara'.*take another code"):
            await add_greenhouse(dsn, tenant="LIA", code=code)
    assert (await add_greenhouse(dsn, tenant="LIA", code="LIA")).added
    assert (await add_greenhouse(dsn, tenant="LIA", code="01")).added
    await add_greenhouse(dsn, tenant="LIA", code="b7")
    with pytest.raises(CheckFailed, match=r"greenhouse of tenant 'Lia' has this code.*take another prefix"):
        await add_tenant(dsn, name="B", prefix="B7")
    assert not (await add_tenant(dsn, name="Lia", prefix="LIA")).added


@pytest.mark.usefixtures("house")
async def test_what_names_nothing(dsn: str) -> None:
    with pytest.raises(CheckFailed, match="no tenant has the prefix NOBODY"):
        await add_greenhouse(dsn, tenant="NOBODY", code="01")
    with pytest.raises(CheckFailed, match="no greenhouse 02"):
        await add_sensor(dsn, tenant="SARA", greenhouse="02", sensor_type="co2")
    with pytest.raises(CheckFailed, match="no sensor type 'furlongs'"):
        await add_sensor(dsn, tenant="SARA", greenhouse="01", sensor_type="furlongs")
    with pytest.raises(CheckFailed, match="no unit 'furlong'"):
        await add_sensor(dsn, tenant="SARA", greenhouse="01", sensor_type="co2", unit="furlong")
    with pytest.raises(CheckFailed, match="lux does not measure CO2"):
        await add_sensor(dsn, tenant="SARA", greenhouse="01", sensor_type="co2", unit="lux")
    with pytest.raises(CheckFailed, match="no unit 'furlong'"):
        await add_alias(dsn, kind=AliasKind.UNIT, alias="fl", name="furlong")
    with pytest.raises(ConfigurationError, match="prefix"):
        await add_tenant(dsn, name="lower", prefix="lower")


@pytest.mark.parametrize(
    ("names", "derived_from"),
    [
        ({"label": "HUMEDAD INVERNADERO-01", "code": "H1"}, "humedad_invernadero_01"),
        ({"code": "DHT22-SARA01-HUM"}, "dht22_sara01_hum"),
        ({"device_id": "ESP32 7"}, "esp32_7"),
        ({}, "humidity"),
    ],
)
async def test_sensor_keeps_the_id_it_had(
    dsn: str, house: UUID, names: dict[str, str], derived_from: str
) -> None:
    registered = await add_sensor(dsn, tenant="SARA", greenhouse="01", sensor_type="humedad", **names)  # type: ignore[arg-type]  # a dict of keywords
    assert UUID(registered.id) == uuid5(house, derived_from)


@pytest.mark.usefixtures("house")
async def test_explicit_id(dsn: str) -> None:
    registered = await add_sensor(
        dsn, tenant="SARA", greenhouse="01", sensor_type="co2", code="C", sensor_id=EXPLICIT
    )
    assert registered.id == str(EXPLICIT)
    again = await add_sensor(dsn, tenant="SARA", greenhouse="01", sensor_type="co2", code="C")
    assert (again.added, again.id) == (False, str(EXPLICIT))


@pytest.mark.usefixtures("house")
async def test_interval(dsn: str) -> None:
    sensor: dict[str, Any] = {"tenant": "SARA", "greenhouse": "01", "sensor_type": "co2"}
    assert (await add_sensor(dsn, **sensor, expected_interval_s=10)).added
    assert not (await add_sensor(dsn, **sensor, expected_interval_s=10)).added
    with pytest.raises(CheckFailed, match="expected_interval_s is 10, not 11"):
        await add_sensor(dsn, **sensor, expected_interval_s=11)


async def test_list(dsn: str, house: UUID) -> None:
    await add_sensor(dsn, tenant="SARA", greenhouse="01", sensor_type="co2", label="CO2 1")
    listed = {kind: await list_catalog(dsn, kind) for kind in CatalogKind}
    json.dumps(list(listed.values()))
    assert listed[CatalogKind.GREENHOUSES] == [
        {
            "id": str(house),
            "tenant": "SARA",
            "code": "01",
            "name": "North",
            "timezone": "Europe/Madrid",
            "is_active": True,
        }
    ]
    (sensor,) = listed[CatalogKind.SENSORS]
    assert (sensor["greenhouse"], sensor["label"], sensor["unit"]) == ("01", "CO2 1", "ppm")
    assert [row["name"] for row in listed[CatalogKind.TENANTS]] == ["Sara"]
    assert (len(listed[CatalogKind.UNITS]), len(listed[CatalogKind.SENSOR_TYPES])) == (11, 11)
    assert {"kind": "sensor-type", "alias": "TEMPERATURA", "name": "TEMPERATURE"} in listed[
        CatalogKind.ALIASES
    ]


def document(**changes: object) -> str:
    sensors = [{"sensor_type": "bodenfeuchte", "label": f"SOIL {number}", "unit": "%"} for number in range(3)]
    return json.dumps(
        {
            "tenants": [
                {
                    "name": "Sara",
                    "prefix": "SARA",
                    "greenhouses": [{"code": "01", "sensors": sensors}, {"code": "02"}],
                }
            ],
            "aliases": [{"kind": "sensor-type", "alias": "Bodenfeuchte", "name": "SOIL_MOISTURE"}],
        }
        | changes
    )


async def test_import(dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "catalog.json"
    path.write_text(document(), encoding="utf-8")
    tried = await import_catalog(dsn, path, dry_run=True)
    assert (tried.faults, tried.written, tried.added.total()) == ([], False, 7)
    assert await list_catalog(dsn, CatalogKind.TENANTS) == []
    report = await import_catalog(dsn, path)
    assert (report.faults, report.written) == ([], True)
    assert report.added == {"tenant": 1, "greenhouse": 2, "alias": 1, "sensor": 3}
    again = await import_catalog(dsn, path)
    assert (again.written, again.added.total(), again.already_there.total()) == (True, 0, 7)
    assert len(await list_catalog(dsn, CatalogKind.SENSORS)) == 3


async def test_import_with_ids_gives_two_databases_the_same(dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "catalog.json"
    house = {"code": "01", "greenhouse_id": str(EXPLICIT), "sensors": [{"sensor_type": "co2"}]}
    tenant = {"name": "Sara", "prefix": "SARA", "tenant_id": str(UUID(int=7))}
    path.write_text(json.dumps({"tenants": [tenant | {"greenhouses": [house]}]}), encoding="utf-8")
    for added in (3, 0):
        report = await import_catalog(dsn, path)
        assert (report.faults, report.added.total()) == ([], added)
    assert [row["id"] for row in await list_catalog(dsn, CatalogKind.TENANTS)] == [str(UUID(int=7))]
    assert [row["id"] for row in await list_catalog(dsn, CatalogKind.GREENHOUSES)] == [str(EXPLICIT)]
    assert [row["id"] for row in await list_catalog(dsn, CatalogKind.SENSORS)] == [
        str(uuid5(EXPLICIT, "co2"))
    ]
    other = tenant | {"tenant_id": str(UUID(int=8))}
    path.write_text(json.dumps({"tenants": [other]}), encoding="utf-8")
    (fault,) = (await import_catalog(dsn, path)).faults
    assert "tenant SARA is already there and different: id is" in fault


async def test_import_lists_every_fault_and_writes_nothing(dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "catalog.json"
    house = {"tenant": "SARA", "greenhouse": "01"}
    sensors = [
        house | {"sensor_type": "furlongs"},
        house | {"sensor_type": "co2", "greenhouse": "09"},
        house | {"sensor_type": "co2", "code": "A", "sensor_id": str(EXPLICIT)},
        house | {"sensor_type": "co2", "code": "A", "sensor_id": str(UUID(int=1))},
        house | {"colour": "red"},
    ]
    path.write_text(document(sensors=sensors), encoding="utf-8")
    report = await import_catalog(dsn, path)
    assert [fault.split(": ")[0] for fault in report.faults] == [
        "sensors[4].sensor_type",
        "sensors[4].colour",
        "sensors[0]",
        "sensors[1]",
        "sensors[3]",
    ]
    assert not report.written
    assert await list_catalog(dsn, CatalogKind.TENANTS) == []


async def test_import_csv(dsn: str, house: UUID, tmp_path: Path) -> None:
    path = tmp_path / "sensors.csv"
    path.write_text(
        "tenant,greenhouse,sensor_type,code,device_id\nSARA,01,TEMPERATURE,T1,ESP-1\nSARA,01,HUMIDITY,H1,ESP-1\n",
        encoding="utf-8",
    )
    report = await import_catalog(dsn, path)
    assert (report.faults, report.added) == ([], {"sensor": 2})
    assert [row["id"] for row in await list_catalog(dsn, CatalogKind.SENSORS)] == [
        str(uuid5(house, "h1")),
        str(uuid5(house, "t1")),
    ]


async def test_no_database() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await list_catalog(f"postgresql://postgres@127.0.0.1:{free_port()}/none", CatalogKind.UNITS)


async def test_the_example_that_is_shipped_can_be_imported(dsn: str) -> None:
    report = await import_catalog(dsn, Path(__file__).parents[2] / "config" / "catalog.example.json")
    assert (report.faults, report.written) == ([], True)
    assert report.added.total() == 8
