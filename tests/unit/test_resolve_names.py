"""Names: how they are compared, derived into ids, and quoted without harm."""

from __future__ import annotations

import math
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.resolve.names import derived_sensor_id, parse_uuid, quoted, unstorable
from ingest.resolve.units import converted, quantity
from tests.fuzzing import examples
from tests.unit.catalog_examples import SARA_01, example_catalog

CATALOG = example_catalog()


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("temperature", "TEMPERATURE"),
        ("TEMPERATURA", "TEMPERATURE"),
        (" Humedad ", "HUMIDITY"),
        ("soil-moisture", "SOIL_MOISTURE"),
        ("Soil  Moisture", "SOIL_MOISTURE"),
        ("humedad del suelo", "SOIL_MOISTURE"),
        ("consígna", "SETPOINT"),
        ("consi\u0301gna", "SETPOINT"),
        ("TEMPORIZADOR", None),
        ("", None),
    ],
)
def test_sensor_type_names(written: str, name: str | None) -> None:
    found = CATALOG.sensor_type_named(written)
    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("written", "symbol"),
    [("°C", "°C"), (" celsius ", "°C"), ("Percent", "%"), ("LUX", "lux"), ("furlong", None), ("", None)],
)
def test_units(written: str, symbol: str | None) -> None:
    found = CATALOG.unit_named(written)
    assert (found.symbol if found else None) == symbol


@pytest.mark.parametrize(
    "text",
    [
        "{5e0f2c7a-3d1b-4b6e-8c55-1f2e3d4c5b6a}",
        "urn:uuid:5e0f2c7a-3d1b-4b6e-8c55-1f2e3d4c5b6a",
        "5e0f2c7a3d1b4b6e8c551f2e3d4c5b6a",  # pragma: allowlist secret
        "5e0f2c7a-3d1b-4b6e-8c55-1f2e3d4c_b6a",
        "\u0665e0f2c7a-3d1b-4b6e-8c55-1f2e3d4c5b6a",
        "5e0f2c7a-3d1b-4b6e-8c55-1f2e3d4c5b6a\n",
    ],
)
def test_only_the_usual_form_is_a_uuid(text: str) -> None:
    assert parse_uuid(text) is None
    assert parse_uuid("5E0F2C7A-3D1B-4B6E-8C55-1F2E3D4C5B6A") == UUID("5e0f2c7a-3d1b-4b6e-8c55-1f2e3d4c5b6a")


def test_derived_id_is_frozen() -> None:
    # Rows in the table carry these ids: a change here would split every unregistered sensor's history.
    assert derived_sensor_id(SARA_01, "TEMPERATURA INVERNADERO-01") == uuid5(
        SARA_01, "temperatura_invernadero_01"
    )
    assert str(derived_sensor_id(UUID(int=1), "DHT22-SARA01-TEMP")) == "9cd805b5-7609-59ea-a963-5c9c379cc664"


def test_fahrenheit_limits_are_exact() -> None:
    assert converted(100, "°C", "°F") == 212
    assert converted(-50, "°C", "°F") == -58
    assert converted(212, "°F", "°C") == 100
    assert converted(math.inf, "°C", "°F") == math.inf
    assert quantity("°F") == quantity("°C") != quantity("%")


@settings(max_examples=examples(100))
@given(st.text(st.characters(), max_size=120))
def test_quoted_is_short_and_storable(text: str) -> None:
    shown = quoted(text)
    assert len(shown) <= 80
    assert unstorable(shown) is None
    assert "\n" not in shown
    assert "\x1b" not in shown
