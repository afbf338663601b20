"""A client of the session under test: it connects, waits for deliveries and acknowledges them."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Literal

from ingest.addresses import broker_address
from ingest.receive import MqttVersion, Opened, Session, answers_to
from ingest.settings import BrokerSettings
from tests.gateways import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ingest.model import Delivery

VERSIONS: tuple[MqttVersion, ...] = ("5", "3.1.1")
PATIENCE_S = 30.0
Transport = Literal["mqtt", "mqtts", "ws", "wss"]


class Client:
    """A session and what it brought; opened with `connect`, cut at the test's end."""

    def __init__(self, url: str, version: MqttVersion, settings: Mapping[str, object]) -> None:
        given: dict[str, object] = {
            "client_id": f"test-{uuid.uuid4().hex[:12]}",
            "connect_timeout_s": 5.0,
            **settings,
        }
        # The tests are quicker than any keep-alive time the settings allow: that one is not validated.
        keepalive_s = given.pop("keepalive_s", 30)
        self.settings = BrokerSettings.model_validate(given).model_copy(update={"keepalive_s": keepalive_s})
        self.deliveries: list[Delivery] = []
        self.pings = 0
        self.pongs = 0
        self._moved = asyncio.Event()
        self.session = Session(
            broker_address(url),
            self.settings,
            version=version,
            on_deliveries=self._take,
            on_ping=self._ping,
            on_pong=self._pong,
        )

    async def connect(self, *filters: str) -> Opened:
        opened = await self.session.open()
        self.session.start()
        if filters:
            await self.session.subscribe(filters)
        return opened

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self._moved.clear()
                await self._moved.wait()

    async def receive(self, count: int) -> list[Delivery]:
        await self.until(lambda: len(self.deliveries) >= count)
        return self.deliveries

    async def acknowledge_all(self) -> None:
        """PUBACK everything, and wait for the proof."""
        self.session.acknowledge(answers_to(self.deliveries))
        self.session.ping()
        await self.until(lambda: self.pongs == self.pings)

    async def closed(self) -> str:
        """Wait until the connection is gone; give why."""
        async with asyncio.timeout(PATIENCE_S):
            return str(await self.session.closed)

    def _take(self, deliveries: list[Delivery]) -> None:
        self.deliveries += deliveries
        self._moved.set()

    def _ping(self) -> None:
        self.pings += 1

    def _pong(self) -> None:
        self.pongs += 1
        self._moved.set()


def messages(topic: str, count: int, *, qos: int = 1) -> list[Message]:
    return [Message(topic, b"%d" % number, qos) for number in range(count)]
