"""What labels mean: the table of labels from the field and the type and unit each should get."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.defaults import DEFAULT_LABEL_RULES
from ingest.errors import ConfigurationError
from ingest.labels import LabelRules, greenhouse_number, label_tokens, normalise_label
from ingest.settings import LabelRule
from tests.fuzzing import examples
from tests.unit.examples import PLC_FIELDS

RULES = LabelRules([LabelRule(**rule) for rule in DEFAULT_LABEL_RULES])


@pytest.mark.parametrize(
    ("label", "sensor_type", "unit"),
    [
        ("TEMPERATURA INVERNADERO 01", "TEMPERATURE", "°C"),
        ("HUMEDAD INVERNADERO 01", "HUMIDITY", "%"),
        ("INVERNADERO_01_SECTOR_01", "SENSOR", "unit"),
        ("INVERNADERO_01_EXTRACTOR", "SENSOR", "unit"),
        ("RESERVA", "SENSOR", "unit"),
        ("SENSOR_01", "SENSOR", "unit"),
        ("SETPOINT_01", "SETPOINT", "value"),
        ("SETPOINT_TEMP_01", "SETPOINT", "value"),
        ("SARA_TEMP01_valor", "TEMPERATURE", "°C"),
        ("SARA_HUM01_valor", "HUMIDITY", "%"),
        ("SARA_SOIL01_valor", "SOIL_MOISTURE", "%"),
        ("SARA_LIGHT01_valor", "LIGHT", "lux"),
        ("HORTAMED_TEMP_A1_01", "TEMPERATURE", "°C"),
        ("HUMEDAD SUELO 02", "SOIL_MOISTURE", "%"),
        ("SENSOR_TEMP_01", "TEMPERATURE", "°C"),
        ("SECTOR_TEMP", "TEMPERATURE", "°C"),
        ("temperature", "TEMPERATURE", "°C"),
        ("Temp.interior", "TEMPERATURE", "°C"),
        ("zona/1/luz", "LIGHT", "lux"),
        ("LUX2", "LIGHT", "lux"),
        ("CO2", "CO2", "ppm"),
        ("co2_01", "CO2", "ppm"),
        ("SARA_CO2_valor", "CO2", "ppm"),
        ("CO₂ sala", "CO2", "ppm"),
        ("Presión 01", "PRESSURE", "hPa"),
        ("Presio\u0301n 01", "PRESSURE", "hPa"),
        ("PRES-1", "PRESSURE", "hPa"),
        ("VIENTO", "WIND_SPEED", "m/s"),
        ("WIND_01", "WIND_SPEED", "m/s"),
        ("Lluvia", "PRECIPITATION", "mm"),
        ("RAIN01", "PRECIPITATION", "mm"),
        ("Radiación solar", "SOLAR_RADIATION", "W/m²"),
        ("RAD_1", "SOLAR_RADIATION", "W/m²"),
    ],
)
def test_labels_with_a_meaning(label: str, sensor_type: str, unit: str) -> None:
    rule = RULES.match(label)
    assert rule is not None
    assert (rule.sensor_type, rule.unit) == (sensor_type, unit)


@pytest.mark.parametrize(
    "label",
    [
        "TEMPORIZADOR",
        "TEMPORIZADOR_01",
        "HUMO",
        "LUXURY",
        "PRESENCIA",
        "RADIO_01",
        "RADIADOR",
        "CO",
        "CO_MONITOR_2",
        "CO21",
        "SENSORES",
        "INVERNADERO_01",
        "BOMBA",
        "01",
        "___",
        "",
    ],
)
def test_labels_without_one(label: str) -> None:
    assert RULES.match(label) is None


def test_every_label_of_the_plc_has_a_meaning() -> None:
    assert len(PLC_FIELDS) == 22
    assert all(RULES.match(label) for label in PLC_FIELDS)


def test_sectors_and_extractors_have_ranges() -> None:
    sector, extractor = RULES.match("INVERNADERO_01_SECTOR_01"), RULES.match("INVERNADERO_01_EXTRACTOR")
    assert sector is not None
    assert extractor is not None
    assert (sector.minimum, sector.maximum) == (0, 100)
    assert (extractor.minimum, extractor.maximum) == (0, 1)


def test_the_order_of_the_rules_decides_not_that_of_the_words() -> None:
    first = LabelRule(tokens=("b",), sensor_type="B", unit="%")
    second = LabelRule(tokens=("A", "soil temp"), sensor_type="A", unit="%")
    assert LabelRules([first, second]).match("a_b") is first
    assert LabelRules([second, first]).match("b_a") is second
    assert LabelRules([second, first]).match("SOIL-TEMP-1") is second
    assert LabelRules([second, first]).match("TEMP-SOIL-1") is None


def test_a_token_that_can_never_match_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="label_rule 1: the token '-'"):
        LabelRules([LabelRule(tokens=("TEMP", "-"), sensor_type="TEMPERATURE", unit="°C")])


@pytest.mark.parametrize(
    ("label", "number"),
    [
        ("TEMPERATURA INVERNADERO 01", "01"),
        ("INVERNADERO_02_SECTOR_01", "02"),
        ("invernadero3", "3"),
        ("SECTOR_01_INVERNADERO_10", "10"),
        ("INVERNADERO", None),
        ("INVERNADERO_A1", None),
        ("INVERNADEROS_01", None),
        ("SECTOR_01", None),
        ("", None),
    ],
)
def test_greenhouse_numbers(label: str, number: str | None) -> None:
    assert greenhouse_number(label) == number


@pytest.mark.parametrize(
    ("label", "normal"),
    [
        ("TEMPERATURA INVERNADERO 01", "temperatura_invernadero_01"),
        ("temperatura_invernadero-01", "temperatura_invernadero_01"),
        ("  TEMPERATURA __ INVERNADERO- 01_", "temperatura_invernadero_01"),
        ("DHT22-SARA01-TEMP", "dht22_sara01_temp"),
        ("Presión", "presión"),
        ("PRESIO\u0301N", "presión"),
        ("a.b/c", "a.b/c"),
        ("-", "_"),
        ("", ""),
    ],
)
def test_normal_forms(label: str, normal: str) -> None:
    assert normalise_label(label) == normal


def test_tokens() -> None:
    assert label_tokens("Presión_01.b2/C-d e") == ("PRESION", "01", "B", "2", "C", "D", "E")


@settings(max_examples=examples(60), deadline=None)
@given(st.text(st.characters(), max_size=30))
def test_any_text_is_a_label(label: str) -> None:
    normal = normalise_label(label)
    assert normalise_label(normal) == normal
    assert normalise_label(unicodedata.normalize("NFD", label)) == normal
    assert (normal == "") == (label == "")
    RULES.match(label)
    greenhouse_number(label)
