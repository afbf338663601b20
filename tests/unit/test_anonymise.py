"""Anonymised messages: no name is left, and the worker makes of them what it made of the others."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.decode import IGNORED, Ignored
from ingest.defaults import DEFAULT_LABEL_RULES, DEFAULT_ROUTES
from ingest.labels import greenhouse_number
from ingest.load.anonymise import Anonymiser
from ingest.load.pseudonyms import Pseudonyms
from ingest.load.recording import Recorded
from ingest.resolve import Catalog, Resolver
from ingest.settings import DecodeSettings, LabelRule, RouteSettings
from tests.batches import NOW_US
from tests.fuzzing import examples
from tests.unit.catalog_examples import (
    GREENHOUSES,
    SENSOR_TYPES,
    SENSORS,
    TENANTS,
    UNITS,
    default_rules,
    example_catalog,
)
from tests.unit.examples import EXAMPLES, PLC, RECEIPT_US, Example, default_decoder
from tests.unit.test_fuzz_pipeline import payloads, topics

if TYPE_CHECKING:
    from ingest.model import Decoded, Resolved

KEY = b"a secret of more than 16 bytes"
RULES = [LabelRule.model_validate(rule) for rule in DEFAULT_LABEL_RULES]
NAMES = Pseudonyms(KEY, (token for rule in RULES for token in rule.tokens))
DECODER = default_decoder()


def anonymiser(key: bytes = KEY) -> Anonymiser:
    return Anonymiser(
        key,
        routes=[RouteSettings(**route) for route in DEFAULT_ROUTES],
        decode=DecodeSettings(),
        label_rules=RULES,
    )


ANONYMISER = anonymiser()


def changed(topic: str, payload: bytes | str | object, made: Anonymiser = ANONYMISER) -> tuple[str, Any]:
    """Give topic and payload as they are recorded, JSON read."""
    given = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    message = made.message(Recorded(RECEIPT_US, topic, given))
    return message.topic, json.loads(message.payload)


def renamed_catalog() -> Catalog:
    """Give the example catalog with the names that the anonymiser gives."""
    ids = [each for row in (*GREENHOUSES, *SENSORS) for each in row if isinstance(each, UUID)]
    uuid = {each: UUID(NAMES.uuid(each)) for each in ids}
    return Catalog.build(
        units=UNITS,
        sensor_types=SENSOR_TYPES,
        unit_aliases=[("CELSIUS", 1), ("FAHRENHEIT", 2), ("PERCENT", 3)],
        sensor_type_aliases=[("TEMPERATURA", 1), ("HUMEDAD", 2), ("HUMEDAD_DEL_SUELO", 4), ("CONSIGNA", 10)],
        tenants=[each._replace(prefix=NAMES.tenant(each.prefix or "")) for each in TENANTS],
        greenhouses=[
            each._replace(greenhouse_id=uuid[each.greenhouse_id], code=NAMES.greenhouse(each.code))
            for each in GREENHOUSES
        ],
        sensors=[
            each._replace(
                sensor_id=uuid[each.sensor_id],
                greenhouse_id=uuid[each.greenhouse_id],
                code=NAMES.sensor(each.code),
                device_id=each.device_id and NAMES.sensor(each.device_id),
                label=each.label and NAMES.label(each.label),
            )
            for each in SENSORS
        ],
    )


def made_of(decoded: Decoded) -> tuple[object, ...]:
    """Give what counts of a decoded message, without its names."""
    scope = decoded.scope
    return (
        scope and (scope.format, scope.sensor_type),
        [(each.value, each.time_us, each.sensor_type, each.unit) for each in decoded.readings],
        Counter(each.reason for each in decoded.rejections),
        decoded.nulls,
    )


def rows_of(resolved: Resolved) -> tuple[object, ...]:
    return (
        [(row.series.sensor_type_id, row.series.unit_id, row.value, row.time_us) for row in resolved.rows],
        Counter(each.reason for each in resolved.rejections),
    )


@settings(max_examples=examples(150))
@given(topics, payloads())
def test_whatever_comes_is_decoded_to_the_same(topic: str, payload: bytes) -> None:
    message = ANONYMISER.message(Recorded(NOW_US, topic, payload))
    before = DECODER.decode(topic, payload, NOW_US)
    after = DECODER.decode(message.topic, message.payload, NOW_US)
    if isinstance(before, Ignored):
        assert after is IGNORED
        return
    assert not isinstance(after, Ignored)
    assert made_of(after) == made_of(before)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_installed_base_becomes_the_same_rows(example: Example) -> None:
    message = ANONYMISER.message(Recorded(RECEIPT_US, example.topic, example.payload))
    before = DECODER.decode(example.topic, example.payload, RECEIPT_US)
    after = DECODER.decode(message.topic, message.payload, RECEIPT_US)
    if isinstance(before, Ignored) or isinstance(after, Ignored):
        assert before is after
        return
    was = Resolver(example_catalog(), default_rules(), out_of_range="quarantine").resolve(before)
    now = Resolver(renamed_catalog(), default_rules(), out_of_range="quarantine").resolve(after)
    assert rows_of(now) == rows_of(was)


def test_there_are_rows_among_the_examples_before_and_after() -> None:
    rows = 0
    for example in EXAMPLES:
        topic, payload = ANONYMISER.message(Recorded(RECEIPT_US, example.topic, example.payload))[1:3]
        decoded = DECODER.decode(topic, payload, RECEIPT_US)
        if not isinstance(decoded, Ignored):
            resolver = Resolver(renamed_catalog(), default_rules(), out_of_range="quarantine")
            rows += len(resolver.resolve(decoded).rows)
    assert rows > 15


def test_topics_keep_their_shape() -> None:
    (tenant, code), (same_tenant, same_code) = (
        changed(topic, {})[0].split("/")[1:] for topic in ("GREENHOUSE/SARA/A1", "GREENHOUSE/SARA/a1")
    )
    assert re.fullmatch("T[0-9A-F]{12}", tenant)
    assert re.fullmatch("G[0-9A-F]{12}", code)
    assert (tenant, code) == (same_tenant, same_code)
    assert changed("GREENHOUSE/SARA", {})[0] == f"GREENHOUSE/{tenant}"
    assert changed("greenhouse/A1/sensors/temperature", 1)[0] == f"greenhouse/{code}/sensors/temperature"
    assert changed("GREENHOUSE", {})[0] == "GREENHOUSE"
    assert changed("GREENHOUSE/DEFAULT", {})[0] == "GREENHOUSE/DEFAULT"  # no tenant's own name
    assert re.fullmatch("GREENHOUSE/RESPONSE/x[0-9a-f]{12}", changed("GREENHOUSE/RESPONSE/SARA", {})[0])
    assert changed("SYSTEM/status", {})[0].startswith("SYSTEM/x")
    house = "0B0C6F3E-8f7a-4c1e-9a44-8a1d0e6c2f01"
    mapped = changed(f"greenhouse/{house}/readings", [])[0].split("/")[1]
    assert UUID(mapped).version == 4
    assert mapped not in {house, house.lower()}
    assert changed(f"greenhouse/{house.lower()}/readings", [])[0].split("/")[1] == mapped


def test_readings_lose_names_and_keep_what_was_measured() -> None:
    sensor = "5e0f2c7a-3d1b-4b6e-8c55-1f2e3d4c5b6a"
    _, (named, coded, bare) = changed(
        "greenhouse/A1/readings",
        [
            {
                "sensor_id": sensor,
                "value": "24,30",
                "unit": "°C",
                "sensor_type": "temperatura",
                "timestamp": "2025-11-17T10:15:00Z",
                "metadata": {"site": "Finca Sara", "lat": 36.83, "ok": True, "tags": ["x", sensor]},
                "operator": "Ana",
                "phone": 34600000000,
            },
            {"sensor_id": "dht22 SARA01-temp", "value": "Ana 1 broke it", "timestamp": "yesterday"},
            {"value": None},
        ],
    )
    assert named.pop("sensor_id") == NAMES.sensor(sensor.upper())
    site, tags = named["metadata"].pop("site"), named["metadata"].pop("tags")
    assert re.fullmatch("x[0-9a-f]{12}", site)
    assert tags[1] == NAMES.sensor(sensor)
    assert re.fullmatch("x[0-9a-f]{12}", named.pop("operator"))
    assert named == {
        "value": "24,30",
        "unit": "°C",
        "sensor_type": "temperatura",
        "timestamp": "2025-11-17T10:15:00Z",
        "metadata": {"lat": 0, "ok": True},
        "phone": 0,
    }
    assert coded == {
        "sensor_id": NAMES.sensor("DHT22-SARA01-TEMP"),  # another spelling of the same
        "value": "xxx 0 xxxxx xx",
        "timestamp": "xxxxxxxxx",
    }
    assert bare == {"value": None}


def test_labels_keep_what_says_the_type_and_agree_with_the_topic() -> None:
    topic, fields = changed("GREENHOUSE/SARA/01", PLC.payload)
    number = topic.split("/")[2]
    assert number.isdecimal()
    assert number != "01"
    assert [greenhouse_number(label) for label in fields][:2] == [number, number]
    assert f"TEMPERATURA INVERNADERO {number}" in fields
    assert fields["RESERVA"] == 0
    assert len(fields) == 22
    assert [*fields.values()] == [*json.loads(PLC.payload).values()]
    _, fields = changed(
        "GREENHOUSE/SARA",
        {"SARA_TEMP01_valor": 1, "HORTAMED_TEMP_A1_01": "2,5", "tenantId": 17, "timestamp": 1763374500},
    )
    own, foreign, tenant_id, timestamp = fields
    assert re.fullmatch("[B-Z]{8}_TEMP01_[b-z]{8}", own)
    assert re.fullmatch("[B-Z]{8}_TEMP_[B-Z]{8}1_01", foreign)
    assert fields[tenant_id] not in (17, "17")
    assert (fields[foreign], timestamp, fields["timestamp"]) == ("2,5", "timestamp", 1763374500)


@settings(max_examples=examples(100))
@given(st.text(max_size=30))
def test_a_label_keeps_its_rule(label: str) -> None:
    assert default_rules().match(NAMES.label(label)) == default_rules().match(label)
    assert (greenhouse_number(NAMES.label(label)) is None) == (greenhouse_number(label) is None)


def test_what_is_no_json_loses_its_letters_and_digits() -> None:
    def payload(topic: str, given: bytes) -> bytes:
        return ANONYMISER.message(Recorded(RECEIPT_US, topic, given)).payload

    assert payload("GREENHOUSE/SARA", b'{"Ana": 1234') == b'{"xxx": 0000'
    assert payload("GREENHOUSE/SARA", b"\xffAna 7") == b"\xffxxx 0"
    assert payload("GREENHOUSE/RESPONSE", b'{"Ana": 1}') == b'{"xxx": 0}'
    assert payload("nobody/knows", "Señor 1".encode()) == b"xxxxx 0"
    large = b'{"a": "' + b"b" * 300_000
    assert payload("GREENHOUSE/SARA", large) == b"x" * len(large)


def test_properties_and_client_ids_lose_names() -> None:
    message = Recorded(
        RECEIPT_US,
        "GREENHOUSE/SARA",
        b"{}",
        client_id="gateway-sara-1",
        properties={
            "payload_format_indicator": 1,
            "content_type": "application/json",
            "response_topic": "GREENHOUSE/SARA/01",
            "correlation_data_base64": "U0FSQQ==",
            "user_properties": [["site", "Finca Sara"], ["site", "Finca Sara"]],
        },
    )
    found = ANONYMISER.message(message)
    assert found.client_id == NAMES.sensor("gateway-sara-1")
    assert found.properties is not None
    (first, second) = found.properties["user_properties"]
    assert first == second == ["site", NAMES.text("Finca Sara")]
    assert found.properties["response_topic"] == f"{found.topic}/{NAMES.greenhouse('01')}"
    assert set(found.properties) == set(message.properties or ()) - {"correlation_data_base64"}
    assert found.properties["content_type"] == "application/json"


def test_another_key_gives_other_names() -> None:
    topic = "GREENHOUSE/SARA/01"
    payload = {"SARA_TEMP01_valor": 1}
    assert changed(topic, payload) == changed(topic, payload, anonymiser())
    other_topic, other = changed(topic, payload, anonymiser(b"another secret of 16 bytes"))
    same_topic, same = changed(topic, payload)
    assert not set(other_topic.split("/")[1:]) & set(same_topic.split("/")[1:])
    assert not other.keys() & same.keys()


def test_a_dollar_is_the_brokers_in_front_alone() -> None:
    levels = ANONYMISER.message(Recorded(RECEIPT_US, "elsewhere/$SARA/$north", b"1")).topic.split("/")
    assert not [each for each in levels if "$" in each]
    assert ANONYMISER.message(Recorded(RECEIPT_US, "$SYS/$SARA", b"1")).topic.startswith("$SYS/x")
