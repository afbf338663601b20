"""A fleet: N gateways that publish, each over an MQTT connection of its own, on one event loop.

`publish` waits while a gateway is not connected, its window is full, or too much is in flight in all:
who publishes is slowed down by the broker, and nothing grows. What has no PUBACK when a connection ends is
published again on the next. A broker that stays away longer than the deadline, or is there and acknowledges
nothing for as long, ends the fleet with BrokerAway; what was acknowledged by then was told to
*on_acknowledged*.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
import zlib
from typing import TYPE_CHECKING, Final, Generic, Self

from ingest.errors import BrokerAway, BrokerRefused, ConfigurationError
from ingest.load.gateway import Gateway, M
from ingest.load.publishing import NO_SUBSCRIBERS
from ingest.receive import ProtocolUnsupported, VersionChoice
from ingest.receive import tls as broker_tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from ingest.addresses import BrokerAddress
    from ingest.settings import BrokerSettings

DEADLINE_S: Final = 60.0
WINDOW: Final = 100
_MOST_IN_FLIGHT: Final = 20_000
"""Of all gateways together: 10 000 windows of 100 would be a million messages in memory."""
_MOST_CONNECTING: Final = 200
"""Connections that are being made at a time, each in a thread; Mosquitto's own queue of them is 100 long."""
_PUBLISHED_A_TURN: Final = 50
"""After so many the event loop gets its turn: PUBACKs are read and packets written."""
_LOOKS_A_DEADLINE: Final = 10
"""How often it is looked whether anything was acknowledged: the deadline is kept to a tenth."""
_AFTER_STOP_S: Final = 3.0
"""How long a stop waits for PUBACKs; what has none by then counts as not published, and may come twice."""
_DESCRIPTORS: Final = 128
"""Open files of this process besides the gateways' connections."""


def gateway_of(topic: str, gateways: int) -> int:
    """Give the number of the gateway that publishes to *topic*: always the same, to keep its order."""
    return zlib.crc32(topic.encode()) % gateways


class Fleet(Generic[M]):
    """See the module's header. An asynchronous context manager: entered once all are connected."""

    def __init__(
        self,
        address: BrokerAddress,
        settings: BrokerSettings,
        client_ids: Sequence[str],
        *,
        window: int = WINDOW,
        deadline_s: float = DEADLINE_S,
        on_acknowledged: Callable[[int, M, int, int], None] | None = None,
        on_refused: Callable[[int, M, str], None] | None = None,
        on_trouble: Callable[[int, Exception], None] | None = None,
        stop: asyncio.Event | None = None,
    ) -> None:
        """Prepare a gateway for each of *client_ids*; *settings* has the rest of how to connect.

        *window* messages of a gateway may be without a PUBACK. A gateway without a connection for
        *deadline_s* ends the fleet. *stop* ends every wait, that for PUBACKs some seconds later; who waited
        looks at it. *on_acknowledged* is called with the gateway's number, the message, and
        the µs since 1970 when it was first published and when it was acknowledged; *on_refused* with why the
        broker will never take this message; *on_trouble* whenever a connection is lost or cannot be made.
        All on the event loop.
        """
        self.address = address
        self.versions = VersionChoice(settings.protocol)
        self.tls_context: ssl.SSLContext | None = None
        self.window = window
        self.connecting = asyncio.Semaphore(_MOST_CONNECTING)
        self.in_flight = 0
        """QoS 1 messages published and neither acknowledged nor refused."""
        self.connections = 0
        """Made so far; those beyond one a gateway are reconnects."""
        self.unheard = 0
        """Messages that the broker acknowledged and had nobody to deliver to; MQTT 5 alone tells."""
        self._settings = settings
        self._deadline_s = deadline_s
        self._on_acknowledged = on_acknowledged
        self._on_refused = on_refused
        self._on_trouble = on_trouble
        self._stop = stop
        self._failure: Exception | None = None
        self._quiet_since_s = 0.0
        """Since when PUBACKs are waited for and none came, while there are connections."""
        self._patience: asyncio.Timeout | None = None
        """Of `drain`, once it waits."""
        self._turn = 0
        self._moved = asyncio.Event()
        """Set when something left the flight, or all is lost."""
        self._over = asyncio.Event()
        """Set once it was stopped, or all is lost."""
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gateways = [
            Gateway(number, settings.model_copy(update={"client_id": client_id}), self)
            for number, client_id in enumerate(client_ids)
        ]
        self._awaited = set(range(len(client_ids)))
        """Those that were never connected so far."""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def connected(self) -> int:
        """How many gateways are, at the moment."""
        return sum(gateway.connected for gateway in self._gateways)

    async def __aenter__(self) -> Self:
        """Connect all, or as many as until stop. Raises BrokerAway, BrokerRefused, ConfigurationError."""
        _allow_descriptors(len(self._gateways) + _DESCRIPTORS)
        if self.address.tls:
            try:
                self.tls_context = broker_tls.context(self._settings)
            except OSError as error:
                fault = f"the TLS files of table [broker] cannot be used: {error}"
                raise ConfigurationError([fault]) from error
        self._tasks = [asyncio.create_task(self._serve(gateway)) for gateway in self._gateways]
        self._tasks.append(asyncio.create_task(self._watch()))
        if self._stop is not None:
            self._tasks.append(asyncio.create_task(self._heed(self._stop)))
        try:
            if self._awaited:
                await self._started
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect all, whether or not everything is acknowledged; see `drain`."""
        await self._leave()

    async def publish(self, gateway: int, message: M) -> bool:
        """Have *gateway* publish *message* as soon as it may; tell whether it did, or was stopped.

        Raises BrokerAway once all is lost.
        """
        publisher = self._gateways[gateway]
        self._turn += 1
        if self._turn % _PUBLISHED_A_TURN == 0:
            await asyncio.sleep(0)
        written = publisher.written
        if not message.qos and written is not None and not written.is_set():
            await self._unless_over(written)
        while not self._stopped and (not publisher.room.is_set() or self.in_flight >= _MOST_IN_FLIGHT):
            self._check()
            if self.in_flight >= _MOST_IN_FLIGHT:
                self._moved.clear()
                await self._moved.wait()
            else:
                await publisher.room.wait()
        self._check()
        if self._stopped:
            return False
        if not self.in_flight:
            self._quiet_since_s = time.monotonic()
        self.in_flight += message.qos > 0
        publisher.publish(message)
        return True

    async def _unless_over(self, awaited: asyncio.Event) -> None:
        """Wait for *awaited*, or until nobody is to wait any longer."""
        waiting = [asyncio.create_task(each.wait()) for each in (awaited, self._over)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def drain(self) -> None:
        """Wait until nothing is in flight and all is written; after a stop, not long. Raises BrokerAway."""
        until_s = asyncio.get_running_loop().time() + _AFTER_STOP_S if self._stopped else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until_s) as self._patience:
                while self.in_flight:
                    self._check()
                    self._moved.clear()
                    await self._moved.wait()
                await asyncio.sleep(0)  # what this turn of the event loop published goes out with the next
                for gateway in self._gateways:
                    if gateway.written is not None:
                        await gateway.written.wait()
        self._patience = None

    # what gateways tell

    def acknowledged(self, gateway: Gateway[M], message: M, sent_us: int, reason: int) -> None:
        """Hear of a PUBACK."""
        self.in_flight -= 1
        self._quiet_since_s = time.monotonic()
        self.unheard += reason == NO_SUBSCRIBERS
        self._moved.set()
        if self._on_acknowledged is not None:
            try:
                self._on_acknowledged(gateway.number, message, sent_us, time.time_ns() // 1_000)
            except Exception as error:  # noqa: BLE001 - as below
                self._fail(error)

    def refused(self, gateway: Gateway[M], message: M, why: str) -> None:
        """Hear of a message that the broker never takes."""
        self.in_flight -= message.qos > 0
        self._quiet_since_s = time.monotonic()
        self._moved.set()
        if self._on_refused is not None:
            try:
                self._on_refused(gateway.number, message, why)
            except Exception as error:  # noqa: BLE001 - raised again where somebody waits
                self._fail(error)

    def online(self, gateway: Gateway[M]) -> None:
        """Hear of a connection."""
        self.connections += 1
        self._quiet_since_s = time.monotonic()
        self._awaited.discard(gateway.number)
        if not self._awaited and not self._started.done():
            self._started.set_result(None)

    def troubled(self, gateway: Gateway[M], error: Exception, offline_s: float) -> None:
        """Hear of a connection that is not there; raises what ends the fleet."""
        self._quiet_since_s = time.monotonic()  # that it is away has its own deadline
        unsupported = isinstance(error, ProtocolUnsupported)
        if isinstance(error, BrokerRefused) and not unsupported and not self.connections:
            raise error  # nobody was ever let in: no patience mends a password
        if self._on_trouble is not None:
            self._on_trouble(gateway.number, error)
        if offline_s >= self._deadline_s:
            raise BrokerAway(
                f"gateway {gateway.client_id!r} had no connection to {self.address.host}:{self.address.port} "
                f"for {offline_s:.0f} s: {error}"
            )

    async def _serve(self, gateway: Gateway[M]) -> None:
        try:
            await gateway.serve()
        except Exception as error:  # noqa: BLE001 - raised again where somebody waits
            self._fail(error)

    async def _watch(self) -> None:
        """End the fleet where PUBACKs are due and none has come for the deadline."""
        while True:
            await asyncio.sleep(self._deadline_s / _LOOKS_A_DEADLINE)
            if self.in_flight and (quiet_s := time.monotonic() - self._quiet_since_s) >= self._deadline_s:
                broker = f"{self.address.host}:{self.address.port}"
                why = f"{broker} has acknowledged none of {self.in_flight} messages for {quiet_s:.0f} s"
                self._fail(BrokerAway(f"{why}, though connected"))
                return

    @property
    def _stopped(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    async def _heed(self, stop: asyncio.Event) -> None:
        """Wake everybody who waits once *stop* is set."""
        await stop.wait()
        self._wake()
        if not self._started.done():
            self._started.set_result(None)
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time() + _AFTER_STOP_S)

    def _wake(self) -> None:
        self._over.set()
        self._moved.set()
        for gateway in self._gateways:
            gateway.room.set()

    def _fail(self, error: Exception) -> None:
        """Keep the first *error* that ends the fleet, and wake everybody who waits."""
        if self._failure is not None:
            return
        self._failure = error
        self._wake()
        if not self._started.done():
            self._started.set_exception(error)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(gateway.leave() for gateway in self._gateways))
        if self._started.done() and not self._started.cancelled():
            self._started.exception()  # heard, if nobody entered


def _allow_descriptors(count: int) -> None:
    """Raise this process's own limit of open files to *count*. Raises ConfigurationError where it may not."""
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if least >= count or least == resource.RLIM_INFINITY:
        return
    if most != resource.RLIM_INFINITY and most < count:
        raise ConfigurationError(
            [f"{count} connections and files at a time are more than the {most} allowed: raise `ulimit -Hn`"]
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, most))
