"""Lines whose time no clock has, or whose client id no client: they are named, and the others read."""

from __future__ import annotations

import pytest

from ingest.load.fields import END_US
from ingest.load.recording import Recorded, line_of, messages_of
from ingest.load.simulate.gateway import Plan
from ingest.load.simulate.stream import messages

GOOD = Recorded(7, "a", b"fine", client_id="gateway-1")


@pytest.mark.parametrize(
    "useless",
    [
        GOOD._replace(received_us=1_760_000_000_000_000_000),  # in nanoseconds
        GOOD._replace(received_us=2**64 - 1),
        GOOD._replace(received_us=253_370_764_800_000_000),
        GOOD._replace(received_us=-1),
        GOOD._replace(client_id="ñ" * 32_768),
        GOOD._replace(client_id="gateway\0"),
    ],
)
def test_a_line_that_nothing_can_use_is_named(useless: Recorded) -> None:
    found, faults = messages_of(line_of(GOOD) + line_of(useless) + line_of(GOOD))
    assert found == [GOOD, GOOD]
    assert [str(each) for each in faults] == ["line 2 is no message"]


@pytest.mark.parametrize(
    "edge",
    [
        GOOD._replace(received_us=0),
        GOOD._replace(received_us=253_370_764_799_999_999),  # 9998-12-31T23:59:59.999999Z
        GOOD._replace(client_id=""),
        GOOD._replace(client_id="n" * 65_535),
    ],
)
def test_what_can_just_be_used_is_read(edge: Recorded) -> None:
    assert messages_of(line_of(GOOD) + line_of(edge)) == ([GOOD, edge], [])


def test_the_latest_simulation_can_be_read() -> None:
    plan = Plan(seed=1, gateways=2, start_us=END_US - 20_000_000, duration_us=20_000_000)
    made = list(messages(plan))
    assert made
    assert messages_of(b"".join(map(line_of, made))) == (made, [])
