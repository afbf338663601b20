"""A topic that is no name of one costs its own message only, at QoS 0 too, where nothing is sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.test_fleet import Outcome, Published

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.mqtt_client import Client
    from tests.servers import Mosquitto


async def test_what_is_sent_beside_it_arrives(
    broker: Mosquitto, topic: str, client_of: Callable[..., Client]
) -> None:
    subscriber = client_of(broker.url)
    await subscriber.connect(f"{topic}/#")
    outcome = Outcome()
    bad = [Published(f"{topic}/#", b"", qos=0), Published("", b"", qos=0)]
    good = [Published(f"{topic}/{number}", b"%d" % number, qos=0) for number in range(50)]
    async with outcome.fleet(broker.url, 1) as fleet:
        for message in (*good[:10], *bad, *good[10:]):
            await fleet.publish(0, message)
        await fleet.drain()
    assert [message for message, _ in outcome.refused] == bad
    assert outcome.troubles == []
    await subscriber.until(lambda: len(subscriber.deliveries) == len(good))
