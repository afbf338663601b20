"""Topics to scopes, and the MQTT filters they are ignored by."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import topics
from ingest.decode import IGNORED, Routes
from ingest.decode.routes import MAX_REMEMBERED_CHARS, MAX_REMEMBERED_TOPICS
from ingest.defaults import DEFAULT_ROUTES
from ingest.errors import ConfigurationError
from ingest.model import Scope
from ingest.settings import DecodeSettings, RouteSettings
from tests.fuzzing import examples

IGNORE = DecodeSettings.model_validate({}).ignore
ROUTES = Routes([RouteSettings(**route) for route in DEFAULT_ROUTES], IGNORE)


def parts(answer: object) -> object:
    if not isinstance(answer, Scope):
        return answer
    return (answer.format, answer.tenant, answer.greenhouse, answer.sensor_type)


@pytest.mark.parametrize(
    ("topic", "answer"),
    [
        ("greenhouse/01/sensors/Humedad", ("reading", None, "01", "Humedad")),
        ("greenhouse/01/readings", ("readings", None, "01", None)),
        ("GREENHOUSE/SARA", ("labels", "SARA", None, None)),
        ("GREENHOUSE/001", ("labels", "001", None, None)),
        ("GREENHOUSE/HORTAMED/A1", ("labels", "HORTAMED", "A1", None)),
        ("GREENHOUSE", ("labels", "DEFAULT", None, None)),
        ("GREENHOUSE/RESPONSE", IGNORED),
        ("GREENHOUSE/RESPONSE/SARA", IGNORED),
        ("GREENHOUSE/STATUS", IGNORED),
        ("GREENHOUSE/MOBILE", IGNORED),
        ("SYSTEM", IGNORED),
        ("SYSTEM/a/b/c", IGNORED),
        ("GREENHOUSE/RESPONSES", ("labels", "RESPONSES", None, None)),
        ("greenhouse/RESPONSE", None),
        ("greenhouse//sensors/temperature", None),
        ("greenhouse/01/sensors/", None),
        ("greenhouse/01/sensors/temperature/x", None),
        ("GREENHOUSE/sara", None),
        ("GREENHOUSE/", None),
        ("GREENHOUSE/SARA/", None),
        ("GREENHOUSE/SARA\n", None),
        ("GREENHOUSE/SARA ", None),
        ("GREENHOUSE/\u0405ARA", None),  # Cyrillic, and it looks the same
        ("GREENHOUSE/SARA\u200b", None),
        ("GREENHOUSE/+", None),
        ("GREENHOUSE/#", None),
        ("$GREENHOUSE/SARA", None),
        ("$share/g/GREENHOUSE/SARA", None),
        ("$SYS/GREENHOUSE/SARA", None),
        ("GREENHOUSE/" + "A" * 20, ("labels", "A" * 20, None, None)),
        ("GREENHOUSE/" + "A" * 21, None),
        ("", None),
        ("/", None),
    ],
)
def test_default_routes(topic: str, answer: object) -> None:
    assert parts(ROUTES.scopes[topic]) == answer


def test_the_first_route_that_fits_wins() -> None:
    routes = Routes(
        [
            RouteSettings(topic="plc/{greenhouse}/+", format="readings"),
            RouteSettings(topic="plc/{greenhouse}/{sensor_type}", format="reading"),
        ],
        [],
    )
    assert parts(routes.scopes["plc/01/temperature"]) == ("readings", None, "01", None)


def test_the_same_topic_gives_the_same_scope() -> None:
    assert ROUTES.scopes["GREENHOUSE/SARA"] is ROUTES.scopes["GREENHOUSE/SARA"]
    assert ROUTES.scopes["GREENHOUSE/SARA"] is not ROUTES.scopes["GREENHOUSE/SARA/01"]


def test_invented_topics_do_not_grow_the_memory() -> None:
    routes = Routes([], [])
    for number in range(MAX_REMEMBERED_TOPICS + 10):
        routes.scopes[str(number)]
    assert len(routes.scopes) == 10
    routes.scopes["x" * (MAX_REMEMBERED_CHARS + 1)]
    assert len(routes.scopes) == 10


def test_every_fault_of_the_routes_is_listed() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Routes(
            [
                RouteSettings(topic="a/{house}", format="labels", tenant="X"),
                RouteSettings(topic="b/#", format="labels", tenant="X"),
                RouteSettings(topic="{greenhouse}/{greenhouse_code}", format="reading"),
                RouteSettings(topic="c/{tenant}", format="labels", tenant="X"),
                RouteSettings(topic="d/{sensor_type}", format="reading"),
            ],
            ["e/#/f"],
        )
    assert len(caught.value.faults) == 6


@pytest.mark.parametrize(
    ("topic_filter", "topic", "received"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/b", "a/b/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a/", True),
        ("a/+", "a", False),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "ab", False),
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("+/#", "a", True),
        ("a/+/#", "a", False),
        ("$share/g/a/#", "a/b", True),
    ],
)
def test_matching_by_the_specification(topic_filter: str, topic: str, *, received: bool) -> None:
    assert topics.match(topic_filter, topic) is received


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/+", "+/b", True),
        ("a/#", "a", True),
        ("a/#", "a/b/+", True),
        ("a/+/c", "a/b/+/d", False),
        ("#", "$SYS/#", False),
        ("#", "+/b", True),
        ("+", "$SYS", False),
        ("GREENHOUSE/#", "greenhouse/+/readings", False),
        ("greenhouse/+/sensors/+", "greenhouse/+/readings", False),
        ("$share/g/a/b", "a/+", True),
    ],
)
def test_overlap(first: str, second: str, *, both: bool) -> None:
    assert topics.overlap(first, second) is both
    assert topics.overlap(second, first) is both


@pytest.mark.parametrize(
    "topic_filter", ["a", "/", "+", "#", "a/+/b", "a/#", "+/+/#", "$share/g/a/#", "a//b"]
)
def test_valid_filters(topic_filter: str) -> None:
    assert topics.valid_filter(topic_filter)


@pytest.mark.parametrize(
    "topic_filter",
    [
        *("", "a#", "a/b#", "#/a", "a+", "a/+b", "a\0b", "a" * 65_536, "\ud800"),
        *("$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/g#/a"),
    ],
)
def test_invalid_filters(topic_filter: str) -> None:
    assert not topics.valid_filter(topic_filter)


LEVELS = st.sampled_from(["a", "b", "", "+"])
FILTERS = st.builds(
    lambda levels, rest: "/".join([*levels, *rest]),
    st.lists(LEVELS, min_size=1, max_size=3),
    st.sampled_from([[], ["#"]]),
).filter(bool)
TOPICS = ["/".join(levels) for length in (1, 2, 3, 4) for levels in product(["a", "b", ""], repeat=length)]


@settings(max_examples=examples(40), deadline=None)
@given(FILTERS, FILTERS)
def test_filters_overlap_where_a_topic_matches_both(first: str, second: str) -> None:
    shared = any(topics.match(first, topic) and topics.match(second, topic) for topic in TOPICS)
    assert topics.overlap(first, second) is shared
