"""One gateway: an MQTT connection of its own that publishes, kept alive, and what it has in flight.

Owns the packet ids and what the broker has not acknowledged, which it publishes again, marked DUP, after
each reconnect. Who may publish when, and when all is lost, is the fleet's business (`gateways`). Runs on the
event loop; connecting has a thread, see `receive/client`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Protocol, TypeVar

from ingest.errors import BrokerRefused
from ingest.load.publishing import FAILURE, Publishable, puback_of, publish_packet
from ingest.receive import ConnectionLost, Session, Undecided, VersionChoice

if TYPE_CHECKING:
    import ssl

    from ingest.addresses import BrokerAddress
    from ingest.receive import Attempt, MqttVersion, Opened
    from ingest.settings import BrokerSettings

M = TypeVar("M", bound=Publishable)

_LAST_PACKET_ID: Final = 65_535
_MOST_DOUBLINGS: Final = 16
_MOST_FRUITLESS: Final = 5
"""Connections in a row that end before a single PUBACK, until the message they begin with is given up."""
_FAREWELL_S: Final = 2.0


class PublishingSession(Session):
    """A session that has nothing to receive; 10 000 of them look at their keep-alive clocks."""

    misc_interval_s = 2.5  # half of the shortest keep-alive time the settings allow


class _Sent(NamedTuple, Generic[M]):
    message: M
    sent_us: int


class Listener(Protocol[M]):
    """What the fleet hears of its gateways, on the event loop; its limits, which they share."""

    address: BrokerAddress
    tls_context: ssl.SSLContext | None
    versions: VersionChoice
    window: int
    connecting: asyncio.Semaphore
    """How many connect at a time."""

    def acknowledged(self, gateway: Gateway[M], sent: M, sent_us: int, reason: int) -> None:
        """Hear of a PUBACK that is no refusal."""

    def refused(self, gateway: Gateway[M], message: M, why: str) -> None:
        """Hear of a message that the broker does not take, ever."""

    def online(self, gateway: Gateway[M]) -> None:
        """Hear of a CONNACK."""

    def troubled(self, gateway: Gateway[M], error: Exception, offline_s: float) -> None:
        """Hear that there is no connection, and for how long; what is raised here ends the gateway."""


class Gateway(Generic[M]):
    """See the module's header."""

    def __init__(self, number: int, settings: BrokerSettings, fleet: Listener[M]) -> None:
        """Prepare; `serve` connects. The client id is that of *settings*."""
        self.number = number
        self._settings = settings
        self._fleet = fleet
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None
        self._mqtt5 = True
        self._limit = 0
        """What may be in flight on this connection."""
        self._packet_bytes: int | None = None
        self._packet_id = 0
        self._in_flight: dict[int, _Sent[M]] = {}
        """By packet id, in the order in which they were published."""
        self._again: deque[int] = deque()
        """Of them, those that are still to be published on this connection."""
        self._outbox: list[bytes] = []
        self._acknowledged = 0
        self._fruitless = 0
        self.room = asyncio.Event()
        """Set while it may publish: it is connected, and its window is not full."""

    @property
    def client_id(self) -> str:
        """Its name for the broker."""
        return self._settings.client_id

    @property
    def connected(self) -> bool:
        """Whether there is a connection that the broker has answered."""
        return self._session is not None

    async def serve(self) -> None:
        """Keep a connection until cancelled, or until the fleet has had enough (see `Listener.troubled`)."""
        failures = 0
        attempt = self._fleet.versions.attempt()
        lost_s: float | None = None
        while True:
            try:
                async with self._fleet.connecting:
                    attempt = self._fleet.versions.attempt()
                    lost_s = lost_s or time.monotonic()
                    session, opened = await self._open(attempt)
                self._begin(session, opened, attempt.version)
                failures = 0
                # Shielded: this task is cancelled before the connection is closed in good order.
                error = await asyncio.shield(session.closed) or ConnectionLost("the connection was closed")
                lost_s = time.monotonic()
                self._end()
            except Undecided:
                continue
            except (ConnectionLost, BrokerRefused) as caught:
                error = caught
                self._fleet.versions.failed(attempt, caught)
            self._fleet.troubled(self, error, time.monotonic() - (lost_s or 0))
            longest_s = min(self._settings.reconnect_min_s * 2**failures, self._settings.reconnect_max_s)
            failures = min(failures + 1, _MOST_DOUBLINGS)
            await asyncio.sleep(random.uniform(longest_s / 2, longest_s))  # noqa: S311 - jitter

    async def leave(self) -> None:
        """DISCONNECT, if there is a connection."""
        if self._session is not None:
            self._write()
            await self._session.close(_FAREWELL_S)

    @property
    def written(self) -> asyncio.Event | None:
        """Set while the network has taken what was published; None without a connection."""
        return None if self._session is None else self._session.written

    def publish(self, message: M) -> None:
        """Publish *message*; the caller has seen that there is `room`.

        At QoS 0 nothing is heard of it again: should the connection end now, it is lost, as MQTT says.
        """
        if message.qos:
            packet_id = self._packet_id
            while True:
                packet_id = packet_id % _LAST_PACKET_ID + 1
                if packet_id not in self._in_flight:
                    break
            self._packet_id = packet_id
            self._in_flight[packet_id] = _Sent(message, time.time_ns() // 1_000)
            if len(self._in_flight) >= self._limit:
                self.room.clear()
            self._put(packet_id, message)
        else:
            self._put(0, message)

    # the connection

    async def _open(self, attempt: Attempt) -> tuple[Session, Opened]:
        session = PublishingSession(
            self._fleet.address,
            self._settings,
            version=attempt.version,
            keep=False,
            tls_context=self._fleet.tls_context,
            on_deliveries=_nothing,
            on_ping=_nothing,
            on_pong=_nothing,
            on_puback=self._on_puback,
        )
        opened = await session.open()
        try:
            self._fleet.versions.answered(attempt)
        except Undecided:
            session.abort()
            raise
        return session, opened

    def _begin(self, session: Session, opened: Opened, version: MqttVersion) -> None:
        """Publish again what has no PUBACK, as much as the broker takes at a time; the rest follows."""
        self._session = session
        self._mqtt5 = version == "5"
        self._limit = min(self._fleet.window, opened.receive_maximum)
        self._packet_bytes = opened.packet_bytes
        self._outbox.clear()
        self._acknowledged = 0
        self._again = deque(self._in_flight)
        for _ in range(self._limit if self._again else 0):
            self._publish_again()
        if len(self._in_flight) < self._limit:
            self.room.set()
        self._fleet.online(self)

    def _end(self) -> None:
        self._session = None
        self.room.clear()
        self._outbox.clear()
        if self._acknowledged or not self._in_flight:
            self._fruitless = 0
            return
        self._fruitless += 1
        if self._fruitless == _MOST_FRUITLESS:
            self._fruitless = 0
            packet_id = next(iter(self._in_flight))
            why = f"the broker ended the connection each of the {_MOST_FRUITLESS} times it was published"
            self._refuse(packet_id, self._in_flight[packet_id].message, why)

    def _publish_again(self) -> None:
        while self._again:
            packet_id = self._again.popleft()
            if (sent := self._in_flight.get(packet_id)) is not None:
                self._put(packet_id, sent.message, dup=True)
                return

    # packets

    def _put(self, packet_id: int, message: M, *, dup: bool = False) -> None:
        """Queue the PUBLISH of *message*: what one turn of the event loop publishes goes out in one write."""
        try:
            packet = publish_packet(message, packet_id, mqtt5=self._mqtt5, dup=dup)
        except ValueError as error:
            self._refuse(packet_id, message, str(error))
            return
        if self._packet_bytes is not None and len(packet) > self._packet_bytes:
            why = (
                f"its packet of {len(packet)} bytes is longer than the {self._packet_bytes} the broker takes"
            )
            self._refuse(packet_id, message, why)
            return
        if not self._outbox:
            self._loop.call_soon(self._write)
        self._outbox.append(packet)

    def _write(self) -> None:
        if self._session is not None and self._outbox:
            packets = b"".join(self._outbox)
            self._outbox.clear()
            self._session.send(packets)

    def _on_puback(self, packet: bytes) -> None:
        packet_id, reason = puback_of(packet)
        sent = self._in_flight.get(packet_id)
        if sent is None:
            return
        self._acknowledged += 1
        if reason >= FAILURE:
            self._refuse(packet_id, sent.message, f"the broker answered with reason code {reason:#04x}")
        else:
            self._settle(packet_id)
            self._fleet.acknowledged(self, sent.message, sent.sent_us, reason)

    def _refuse(self, packet_id: int, message: M, why: str) -> None:
        self._settle(packet_id)
        self._fleet.refused(self, message, why)

    def _settle(self, packet_id: int) -> None:
        """Take a message out of flight, and make use of the room."""
        self._in_flight.pop(packet_id, None)
        if self._session is None:
            return
        if self._again:
            self._publish_again()
        elif len(self._in_flight) < self._limit:
            self.room.set()


def _nothing(*_: object) -> None:
    """Hear of what a publisher does not care for."""
