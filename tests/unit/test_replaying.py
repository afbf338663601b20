"""A dead letter looked at again: the fields it lost and no others, judged by the time of then."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ingest.decode import Decoder, Routes
from ingest.model import Rejection
from ingest.replaying import look_again, lost_fields
from ingest.resolve import Resolver
from ingest.resolve.rows import Greenhouse, SensorType, Tenant
from ingest.settings import DecodeSettings, RouteSettings
from ingest.write.letters import StoredLetter
from tests.batches import NOW_US
from tests.unit.catalog_examples import SARA, SARA_01, default_rules, example_catalog, sensor
from tests.unit.examples import default_decoder

if TYPE_CHECKING:
    from ingest.decode import Ignored
    from ingest.model import Decoded, Reason
    from ingest.resolve import Catalog
    from ingest.write.replay import LookedAt

DAY_US = 86_400_000_000
BATCH_TOPIC = f"greenhouse/{SARA_01}/readings"


def letter(
    topic: str,
    payload: object,
    *rejected: tuple[str, Reason],
    count: int | None = None,
    receipt_us: int = NOW_US,
) -> StoredLetter:
    return StoredLetter(
        1,
        receipt_us,
        topic,
        payload if isinstance(payload, bytes) else json.dumps(payload).encode(),
        tuple(Rejection(field, reason, "then") for field, reason in rejected),
        len(rejected) if count is None else count,
    )


def again(one: StoredLetter, catalog: Catalog | None = None, decoder: Decoder | None = None) -> LookedAt:
    resolver = Resolver(catalog or example_catalog(), default_rules(), out_of_range="quarantine")
    return look_again(decoder or default_decoder(), resolver, one)


def values(looked: LookedAt) -> list[float]:
    return [row.value for row in looked.rows]


def test_only_the_lost_fields_come_back() -> None:
    labelled = example_catalog(sensor(UUID(int=0xD2), SARA_01, "B", "SENSOR", label="BOMBA"))
    one = letter(
        "GREENHOUSE/SARA/01",
        {"SENSOR_01": 1, "BOMBA": 2, "TEMP_01": 6484.1, "CALDERA": 3, "SENSOR_02": None},
        ("BOMBA", "unknown_sensor_type"),
        ("TEMP_01", "out_of_range"),
        ("CALDERA", "unknown_sensor_type"),
    )
    looked = again(one, labelled)
    assert values(looked) == [2.0]
    assert [(each.field, each.reason) for each in looked.rejections] == [
        ("TEMP_01", "out_of_range"),
        ("CALDERA", "unknown_sensor_type"),
    ]
    assert looked.missing == {f"label {SARA_01} caldera"}
    assert (looked.nulls, looked.tenant_id) == (0, SARA)


def test_a_lost_field_still_collides_with_a_good_one() -> None:
    one = letter("GREENHOUSE/SARA/01", {"SENSOR_01": 1, "SENSOR 01": 2}, ("SENSOR 01", "key_collision"))
    looked = again(one)
    assert not looked.rows
    assert [(each.field, each.reason) for each in looked.rejections] == [("SENSOR 01", "key_collision")]


def test_times_are_judged_by_the_receipt_of_then() -> None:
    years_ago_us = NOW_US - 900 * DAY_US
    sent = [
        {"sensor_id": "A", "sensor_type": "flux", "value": 1},
        {"sensor_id": "B", "sensor_type": "flux", "value": 2, "timestamp": (years_ago_us - DAY_US) // 1000},
        {
            "sensor_id": "C",
            "sensor_type": "flux",
            "value": 3,
            "timestamp": (years_ago_us - 31 * DAY_US) // 1000,
        },
        {"sensor_id": "D", "sensor_type": "flux", "value": 4, "timestamp": NOW_US // 1000},
    ]
    lost: list[tuple[str, Reason]] = [(f"[{at}]", "unknown_sensor_type") for at in range(4)]
    flux = SensorType(20, "FLUX", 10, -math.inf, math.inf)
    looked = again(letter(BATCH_TOPIC, sent, *lost, receipt_us=years_ago_us), example_catalog(types=(flux,)))
    assert [row.time_us - years_ago_us for row in looked.rows] == [0, -DAY_US]
    assert [(each.field, each.reason) for each in looked.rejections] == [
        ("[2]", "bad_timestamp"),
        ("[3]", "bad_timestamp"),
    ]


def test_a_message_rejected_whole_gets_all_its_rows() -> None:
    one = letter("plant/7", {"SENSOR_01": 1, "SENSOR_02": None, "CALDERA": 2}, ("", "unknown_topic"))
    assert again(one).rejections[0].reason == "unknown_topic"
    routes = [RouteSettings(topic="plant/{greenhouse_code}", format="labels", tenant="SARA")]
    seven = example_catalog(greenhouses=(Greenhouse(UUID(int=0xD1), SARA, "7", is_active=True),))
    looked = again(one, seven, Decoder(Routes(routes, ()), DecodeSettings()))
    assert values(looked) == [1.0]
    assert [each.field for each in looked.rejections] == ["CALDERA"]
    assert looked.nulls == 1


def test_of_a_sample_the_whole_message_is_looked_at() -> None:
    one = letter("GREENHOUSE/SARA/01", {"SENSOR_01": 1, "SENSOR_02": 2}, ("SENSOR_02", "inactive"), count=2)
    assert lost_fields(one) is None
    assert values(again(one)) == [1.0, 2.0]
    assert lost_fields(one._replace(rejected_count=1)) == frozenset({"SENSOR_02"})


def test_a_field_is_found_by_the_name_it_was_stored_under() -> None:
    payload = rb'{"SENSOR_\u0000": 1, "SENSOR_\ud800": 2, "SENSOR_01": 3}'
    looked = again(letter("GREENHOUSE/SARA/01", payload, ("SENSOR_�", "bad_value")))
    assert not looked.rows
    assert [each.field for each in looked.rejections] == ["SENSOR_�", "SENSOR_�"]


def test_what_is_read_otherwise_by_now_is_kept() -> None:
    one = letter("GREENHOUSE/SARA/01", {"CALDERA": 1, "SENSOR_01": 2}, ("CALDERA", "unknown_sensor_type"))
    small = DecodeSettings(max_readings=1)
    routes = [RouteSettings(topic="GREENHOUSE/{tenant}/{greenhouse_code}", format="labels")]
    looked = again(one, decoder=Decoder(Routes(routes, ()), small))
    assert [(each.field, each.reason) for each in looked.rejections] == [("CALDERA", "too_large")]
    other_format = [RouteSettings(topic="GREENHOUSE/+/{greenhouse}", format="reading")]
    batch = letter("GREENHOUSE/SARA/A1", [{"value": 1, "sensor_type": "co2"}], ("CALDERA", "inactive"))
    looked = again(batch, decoder=Decoder(Routes(other_format, ()), DecodeSettings()))
    assert looked.rejections == [Rejection("CALDERA", "inactive", "then")]
    assert not looked.rows


def test_a_topic_ignored_by_now_leaves_nothing() -> None:
    looked = again(letter("GREENHOUSE/STATUS", {"x": 1}, ("", "unknown_topic")))
    assert looked.ignored
    assert not looked.rows
    assert not looked.rejections


class BrokenDecoder(Decoder):
    """A Decoder with a bug that one payload shows."""

    def decode(self, topic: str, payload: bytes, receipt_us: int, **judged: Any) -> Decoded | Ignored:  # noqa: ANN401 (as it is)
        if b"SHOWS" in payload:
            raise KeyError("what the payload holds")
        return super().decode(topic, payload, receipt_us, **judged)


def test_a_bug_of_ours_leaves_the_letter_as_it_is() -> None:
    routes = [RouteSettings(topic="GREENHOUSE/{tenant}/{greenhouse_code}", format="labels")]
    decoder = BrokenDecoder(Routes(routes, ()), DecodeSettings())
    one = letter("GREENHOUSE/SARA/01", {"SHOWS": 1}, ("SHOWS", "inactive"), count=9)
    looked = again(one, decoder=decoder)
    assert looked.rejections == one.rejections
    assert looked.fault is not None
    assert looked.fault.startswith("KeyError at unit/test_replaying.py:")
    assert "payload holds" not in looked.fault
    assert again(letter("GREENHOUSE/SARA/01", {"A": 1}, ("A", "inactive")), decoder=decoder).fault is None


def test_a_tenant_known_by_now_is_told() -> None:
    new = Tenant(UUID(int=0xD0), "New", "NEW", is_active=True)
    one = letter("GREENHOUSE/NEW", {"SENSOR_01": 1}, ("SENSOR_01", "unknown_tenant"))
    looked = again(one, example_catalog(tenants=(new,)))
    assert looked.tenant_id == new.tenant_id
    assert [each.reason for each in looked.rejections] == ["ambiguous_greenhouse"]
    assert looked.missing == {f"only_greenhouse {new.tenant_id} NEW"}
