"""A connection lives while anything comes, whatever stands ahead of the PINGRESP; silence ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ingest.receive import ConnectionLost
from tests.scripted_broker import PACE_S, ScriptedBroker

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.mqtt_client import Client

KEEPALIVE_S = 1
FLOWING_S = 3.0
"""Longer than a connection is kept without a PINGRESP."""
SILENT_S = 20.0
"""Far longer than it may take."""


async def test_what_comes_ahead_of_a_pingresp_is_a_sign_of_life_and_silence_is_none(
    client_of: Callable[..., Client],
) -> None:
    flowing = [b"\x32\x07\x00\x01t\x00%c\x00x" % number for number in range(1, round(FLOWING_S / PACE_S) + 1)]
    silence = [b""] * round(SILENT_S / PACE_S)
    async with ScriptedBroker(mqtt5=True, before=(*flowing, *silence)) as broker:
        client = client_of(broker.url, keepalive_s=KEEPALIVE_S, connect_timeout_s=SILENT_S)
        client.session.misc_interval_s = 0.1
        with pytest.raises(ConnectionLost, match="answered no PINGREQ within the keep-alive time"):
            await client.connect("a/#")
    assert len(client.deliveries) == len(flowing), "it was kept to the last of them"
