"""A link that leaves: it has its PUBACKs proved, and asks for no proof of what it did not acknowledge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.receive import entry_of
from tests.batches import WriterUnderTest, batch_of
from tests.gateways import publish
from tests.integration.committing import committing
from tests.mqtt_client import messages
from tests.proxy import Proxy
from tests.waiting import until

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from tests.mqtt_client import Client
    from tests.servers import Mosquitto

PINGREQ = b"\xc0\x00"


class Counting(Proxy):
    """Counts what may be PINGREQs."""

    pings = 0

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        data = await super()._read(reader)
        self.pings += data.count(PINGREQ)
        return data


async def test_what_was_acknowledged_is_proved(timeseries_dsn: str, broker: Mosquitto, topic: str) -> None:
    async with committing(timeseries_dsn, broker.url, topic) as committer:
        link = committer.link
        await until(lambda: link.trouble is None)
        await publish(broker.port, messages(topic, 100))
        await until(lambda: committer.totals.received == 100 and committer.drained.is_set())
        link.stop_intake()
        await link.leave()
        assert link.ledger.pending == []


async def test_it_does_not_ask_for_what_no_answer_can_prove(
    timeseries_dsn: str, broker: Mosquitto, topic: str, client_of: Callable[..., Client]
) -> None:
    client = client_of(broker.url)
    await client.connect(topic)  # the broker knows the session
    await publish(broker.port, messages(topic, 2))
    delivered = await client.receive(2)
    await client.acknowledge_all()
    await client.session.close(2.0)
    client_id = client.settings.client_id
    async with WriterUnderTest(timeseries_dsn, client_id=client_id) as writer:
        await (
            writer.claim()
        )  # so does the journal, and that it got two messages, which it does not send again
        await writer.commit(batch_of([]), [entry_of(each) for each in delivered])
    async with (
        Counting(broker.port) as proxy,
        committing(timeseries_dsn, proxy.url(broker.url), topic, client_id=client_id) as committer,
    ):
        link = committer.link
        await until(lambda: link.trouble is None)
        assert len(link.ledger.pending) == 2
        link.stop_intake()
        await link.leave()
        assert proxy.pings <= 2  # one to end a redelivery that is awaited for long; it was thousands
