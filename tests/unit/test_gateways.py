"""Who a gateway is: the topic as far as it says the place, in the catalog's spelling, if it knows it."""

from __future__ import annotations

import pytest

from ingest.decode import Routes
from ingest.intake import Intake
from ingest.model import UNPLACED, Delivery, Gateway, Scope
from ingest.resolve import Resolver
from ingest.settings import RouteSettings, Settings
from tests.batches import NOW_US
from tests.unit.catalog_examples import HORTAMED, HORTAMED_A1, SARA, SARA_01, default_rules, example_catalog
from tests.unit.examples import default_decoder


@pytest.fixture
def intake() -> Intake:
    resolver = Resolver(example_catalog(), default_rules(), out_of_range="quarantine")
    return Intake(default_decoder(), resolver, ignore_retained=True, max_batch_rows=1_000)


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        (f"greenhouse/{SARA_01}/sensors/temperature", f"greenhouse/{SARA_01}"),
        (f"greenhouse/{SARA_01}/readings", f"greenhouse/{SARA_01}"),
        (f"greenhouse/{str(SARA_01).upper()}/readings", f"greenhouse/{SARA_01}"),
        ("greenhouse/A1/sensors/co2", "greenhouse/A1"),
        ("greenhouse/a1/sensors/CO2", UNPLACED.name),  # without a tenant, a code is spelt exactly
        ("GREENHOUSE/SARA", "GREENHOUSE/SARA"),
        ("GREENHOUSE/SARA/01", "GREENHOUSE/SARA/01"),
        ("GREENHOUSE/HORTAMED/a1", "GREENHOUSE/HORTAMED/A1"),
        ("GREENHOUSE/HORTAMED/ a1  ", "GREENHOUSE/HORTAMED/A1"),
        ("GREENHOUSE/CLOSED", "GREENHOUSE/CLOSED"),  # switched off, and known
        ("GREENHOUSE/SARA/03", "GREENHOUSE/SARA/03"),
        ("GREENHOUSE/NOBODY", UNPLACED.name),
        ("GREENHOUSE/SARA/99", UNPLACED.name),
        ("greenhouse/99/readings", UNPLACED.name),
        ("greenhouse/01/readings", UNPLACED.name),  # two tenants have one
        ("GREENHOUSE/RESPONSE", UNPLACED.name),
        ("some/other/topic", UNPLACED.name),
        ("GREENHOUSE", UNPLACED.name),  # no tenant DEFAULT here
    ],
)
def test_the_gateway_of_a_topic(intake: Intake, topic: str, name: str) -> None:
    assert intake.gateway_of(topic).name == name


def test_it_knows_tenant_and_greenhouse_and_is_one_object(intake: Intake) -> None:
    flat, single = intake.gateway_of("GREENHOUSE/SARA"), intake.gateway_of("greenhouse/A1/sensors/co2")
    assert (flat.tenant_id, flat.greenhouse_id) == (SARA, None)
    assert (single.tenant_id, single.greenhouse_id) == (HORTAMED, HORTAMED_A1)
    assert intake.gateway_of("greenhouse/A1/readings") is single


def test_invented_topics_make_no_gateways(intake: Intake) -> None:
    spellings = [
        f"GREENHOUSE/HORTAMED/{' ' * number}a1{' ' * other}" for number in range(9) for other in (0, 3)
    ]
    topics = [*spellings, *(f"GREENHOUSE/SARA/{number}x" for number in range(50)), "x" * 60_000]
    intake.take_in([Delivery(topic, b"[]", 2, 1) for topic in topics], NOW_US)
    batch = intake.next_batch()
    assert batch is not None
    assert {gateway.name for gateway in batch.gateways} == {"GREENHOUSE/HORTAMED/A1", UNPLACED.name}


def test_each_message_of_a_batch_has_its_gateway(intake: Intake) -> None:
    sent = [
        Delivery("GREENHOUSE/SARA/01", b'{"SENSOR_01": 1, "SENSOR_02": null}', 2, 1),
        Delivery("GREENHOUSE/SARA/01", b"not JSON", 2, 2),
        Delivery("GREENHOUSE/SARA/01", b"", 2, 3),
        Delivery("greenhouse/A1/sensors/sensor", b"1", 3, 4),  # retained
        Delivery("GREENHOUSE/STATUS", b"{}", 2, 5),
        Delivery("GREENHOUSE/SARA/NEW", b'{"SENSOR_01": 1}', 2, 6),
    ]
    intake.take_in(sent, NOW_US)
    batch = intake.next_batch()
    assert batch is not None
    named = [gateway.name for gateway in batch.gateways]
    assert named == ["GREENHOUSE/SARA/01"] * 3 + ["greenhouse/A1"] + [UNPLACED.name] * 2
    assert (batch.ignored_at, batch.nulls_of) == ([2, 3, 4], {0: 1})
    assert [letter.gateway for letter in batch.dead_letters({})] == ["GREENHOUSE/SARA/01", UNPLACED.name]
    revised = intake.look_again(batch)
    assert [gateway.name for gateway in revised.gateways] == named
    assert (revised.ignored_at, revised.nulls_of) == (batch.ignored_at, batch.nulls_of)


@pytest.mark.parametrize(
    ("pattern", "topic", "gateway"),
    [
        ("farm/+/{greenhouse}/x", "farm/north/G1/x", "farm/+/{greenhouse}"),
        ("{sensor_type}/of/{greenhouse}", "co2/of/G1", "+/of/{greenhouse}"),
        ("{greenhouse}/from/{tenant}", "G1/from/SARA", "{greenhouse}/from/{tenant}"),
    ],
)
def test_what_a_route_does_not_read_is_in_no_name(pattern: str, topic: str, gateway: str) -> None:
    scope = Routes([RouteSettings(topic=pattern, format="reading")], ()).scopes[topic]
    assert isinstance(scope, Scope)
    assert scope.gateway == gateway


def test_a_topic_without_a_place_is_its_route() -> None:
    route = RouteSettings(topic="plc/+/data", format="labels", tenant="SARA")
    scope = Routes([route], Settings().decode.ignore).scopes["plc/7/data"]
    assert isinstance(scope, Scope)
    resolver = Resolver(example_catalog(), default_rules(), out_of_range="quarantine")
    gateway = resolver.gateway_of(scope)
    assert isinstance(gateway, Gateway)
    assert (gateway.name, gateway.tenant_id) == ("plc/+/data", SARA)
