"""One MQTT network connection: connect, resume the session, subscribe, serve, leave.

paho does the protocol, through its external-loop API; `Transport` carries the bytes. Runs on the
event loop, except connecting (DNS, TCP, TLS and WebSocket handshakes, in which paho blocks), which
has a thread of its own and a deadline. A `Session` serves one connection and is thrown away; who
reconnects, and what a redelivery means, is the worker's business.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.errors import BrokerRefused
from ingest.receive import tls
from ingest.receive.client import SessionClient, in_thread
from ingest.receive.losses import ConnectionLost, HungUp, ProtocolUnsupported
from ingest.receive.opened import GRANTED_QOS, Opened, not_granted, opened
from ingest.receive.packets import (
    PINGREQ,
    WHOLE_PACKET_BYTES,
    MalformedPacket,
    PacketParser,
    answer_blob,
)
from ingest.receive.transport import Transport

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Sequence

    from paho.mqtt.reasoncodes import ReasonCode

    from ingest.addresses import BrokerAddress
    from ingest.model import Delivery
    from ingest.settings import BrokerSettings

MqttVersion: TypeAlias = Literal["5", "3.1.1"]


class Session:
    """See the module's header. Callbacks are called on the event loop and must not block."""

    misc_interval_s = 1.0
    """How often paho looks at its keep-alive clock, which counts in seconds."""

    def __init__(
        self,
        address: BrokerAddress,
        settings: BrokerSettings,
        *,
        version: MqttVersion,
        keep: bool = True,
        whole_packet_bytes: int = WHOLE_PACKET_BYTES,
        tls_context: ssl.SSLContext | None = None,
        keep_properties: bool = False,
        on_deliveries: Callable[[list[Delivery]], None],
        on_ping: Callable[[], None],
        on_pong: Callable[[], None],
        on_puback: Callable[[bytes], None] | None = None,
    ) -> None:
        """Prepare a connection to *address*; nothing touches the network before `open`.

        With *keep* false the session starts clean and ends with the connection. A PUBLISH over
        *whole_packet_bytes* is cut; with *keep_properties* payloads are DescribedPayload where MQTT 5
        properties came with them. Without *tls_context* the TLS files are read. *on_puback* gets each PUBACK,
        for who publishes past paho. Raises ConnectionLost when the TLS files cannot be used.
        """
        self._address = address
        self._settings = settings
        self._mqtt5 = version == "5"
        self._keep = keep
        parser = PacketParser(
            mqtt5=self._mqtt5, whole_packet_bytes=whole_packet_bytes, keep_properties=keep_properties
        )
        self._make_transport = partial(
            Transport, parser=parser, on_ping=on_ping, on_pong=on_pong, on_puback=on_puback
        )
        self._on_deliveries = on_deliveries
        self._loop = asyncio.get_running_loop()
        self._transport: Transport | None = None
        self._started = False
        self._reading = False
        self._reads = 0
        self.written = asyncio.Event()
        self.written.set()
        """Set while the network has taken all that was sent, or the connection is gone."""
        self._connack: asyncio.Future[Opened] = self._loop.create_future()
        self._answers: dict[int, asyncio.Future[list[int]]] = {}
        self._misc: asyncio.TimerHandle | None = None
        self._farewell: ConnectionLost | None = None
        self.closed: asyncio.Future[Exception | None] = self._loop.create_future()
        """Done when the connection is gone: with its error, or None after `close`."""
        try:
            self._client = self._make_client(tls_context)
        except OSError as error:
            raise ConnectionLost(f"the TLS files of table [broker] cannot be used: {error}") from error

    # life

    async def open(self) -> Opened:
        """Connect, resume the session and wait for CONNACK; deliveries are held until `start`.

        Raises ConnectionLost (unreachable, timed out, TLS failed), ProtocolUnsupported,
        BrokerRefused (credentials, client id, ACL).
        """
        timeout_s = self._settings.connect_timeout_s
        host, port = self._address.host, self._address.port
        connecting = in_thread(self._client.connect_session)
        try:
            async with asyncio.timeout(timeout_s + 1):  # paho's own limit bounds each handshake
                await asyncio.shield(connecting)
        except (TimeoutError, asyncio.CancelledError) as error:
            connecting.add_done_callback(self._abandon)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ConnectionLost(f"no connection to {host}:{port} within {timeout_s:g} s") from error
        except (OSError, ValueError, paho.WebsocketConnectionError) as error:
            raise ConnectionLost(tls.explained(error, self._address, self._settings)) from error
        self._transport = self._client.transport_made
        self._client.on_socket_register_write = self._on_paho_writes
        self._client.on_socket_close = self._unregister
        self._write()
        self.resume()
        self._misc = self._loop.call_later(self.misc_interval_s, self._on_misc)
        try:
            async with asyncio.timeout(timeout_s):
                done, _ = await asyncio.wait((self._connack, self.closed), return_when="FIRST_COMPLETED")
                if self._connack in done:
                    return await self._connack
        except (TimeoutError, asyncio.CancelledError) as error:
            self.abort()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ConnectionLost(f"{host}:{port} sent no CONNACK within {timeout_s:g} s") from error
        why = self.closed.result()
        hint = tls.certificate_hint(why, self._address, self._settings)
        raise HungUp(f"{host}:{port} hung up before CONNACK: {why}{hint}")

    def start(self) -> None:
        """Hand over the deliveries held since CONNACK and those to come."""
        self._started = True
        self._loop.call_soon(self._on_readable)

    async def subscribe(
        self, filters: Sequence[str], *, retained: bool = False, any_qos: bool = False
    ) -> list[int]:
        """Subscribe to *filters* at QoS 1; give the QoS granted for each.

        Where MQTT 5 can say so, retained messages come only if *retained*. Raises BrokerRefused when a
        filter is not granted, or not QoS 1 (unless *any_qos*), ConnectionLost.
        """
        if self._mqtt5:
            handling = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
            handling = handling if retained else SubscribeOptions.RETAIN_DO_NOT_SEND
            options = SubscribeOptions(qos=GRANTED_QOS, retainHandling=handling)
            result, message_id = self._client.subscribe([(name, options) for name in filters])
        else:
            result, message_id = self._client.subscribe([(name, GRANTED_QOS) for name in filters])
        granted = await self._answer(result, message_id, "SUBACK")
        if len(granted) != len(filters):
            raise ConnectionLost(f"the broker's SUBACK has {len(granted)} codes for {len(filters)} filters")
        refused = not_granted(filters, granted, any_qos=any_qos)
        if refused:
            raise BrokerRefused(
                f"the broker did not grant QoS 1 for {', '.join(refused)}: "
                f"allow client {self._settings.client_id!r} to read these filters in its ACL"
            )
        return granted

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """End subscriptions of an earlier configuration. Raises ConnectionLost."""
        await self._answer(*self._client.unsubscribe(list(filters)), "UNSUBACK")

    async def close(self, timeout_s: float) -> None:
        """Write what is queued, DISCONNECT and keep the session; give up writing after *timeout_s*."""
        if self._transport is None or self.closed.done():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.written.wait()
        if not self.closed.done():
            self._client.disconnect()
            self._client.loop_write()
            self._end(None)

    def abort(self, why: str = "the worker cut the connection") -> None:
        """Cut the connection without DISCONNECT; `closed` tells *why*."""
        self._end(ConnectionLost(why))

    # the hot path

    def acknowledge(self, answers: list[int]) -> None:
        """Write *answers* (see `answers_to`), in order; the caller gives them in arrival order."""
        self.send(answer_blob(answers))

    def send(self, data: bytes) -> None:
        """Write whole packets; on a connection that is gone they are dropped."""
        if self._transport is not None and not self.closed.done():
            self._transport.write(data)
            self._flush()

    def ping(self) -> None:
        """Write a PINGREQ of our own: its answer proves that the PUBACKs before it arrived."""
        if self._transport is not None and not self.closed.done():
            self._transport.send(PINGREQ)
            self._flush()

    def pause(self) -> None:
        """Stop reading: the broker, and TCP behind it, must wait."""
        if self._reading and self._transport is not None:
            self._reading = False
            self._loop.remove_reader(self._transport.fileno())

    def resume(self) -> None:
        """Read again."""
        if not self._reading and self._transport is not None and not self._transport.closed:
            self._reading = True
            self._loop.add_reader(self._transport.fileno(), self._on_readable)
            self._loop.call_soon(self._on_readable)  # TLS may hold bytes the selector cannot see

    @property
    def paused(self) -> bool:
        """Whether reading is stopped on an open connection."""
        return not self._reading and not self.closed.done()

    # events

    def _on_readable(self) -> None:
        transport = self._transport
        if transport is None or self.closed.done() or not self._reading:
            return
        self._reads += 1
        try:
            is_open = transport.fill()
            self._let_paho_read(transport)
        except (OSError, MalformedPacket) as error:
            self._end(ConnectionLost(f"the connection to the broker failed: {error}"))
            return
        if self._started and not self._hand_over(transport.take()):
            return
        if transport.closed:
            self._end(self._farewell or ConnectionLost("the broker ended the connection"))
        elif not is_open:
            self._end(ConnectionLost("the broker closed the connection"))
        elif transport.readable_now:
            self._loop.call_soon(self._on_readable)

    def _let_paho_read(self, transport: Transport) -> None:
        """Give paho its packets. Raises MalformedPacket when it cannot read one."""
        try:
            while transport.has_packets_for_paho and not self.closed.done():
                if self._client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS and transport.closed:
                    break
        except Exception as error:  # paho raises whatever its parsing stumbles over
            raise MalformedPacket(f"the broker sent a packet that is no MQTT: {error!r}") from error

    def _hand_over(self, deliveries: list[Delivery]) -> bool:
        """Call *on_deliveries*; end on a bug: reading on would acknowledge past the lost."""
        if deliveries:
            try:
                self._on_deliveries(deliveries)
            except Exception as error:  # noqa: BLE001 - `closed` hands it to whoever serves
                self._end(error)
        return not self.closed.done()

    def _on_misc(self) -> None:
        """Let paho watch its keep-alive."""
        if self.closed.done():
            return
        if self._transport is not None:
            self._client.heard(self._transport.heard_s)
        self._client.loop_misc()
        if self._transport is not None and self._transport.closed:
            self._end(ConnectionLost("the broker answered no PINGREQ within the keep-alive time"))
            return
        self._misc = self._loop.call_later(self.misc_interval_s, self._on_misc)

    def _on_paho_writes(self, *_: object) -> None:
        self._loop.call_soon(self._write)

    def _write(self) -> None:
        """Take paho's queued packets over and write them."""
        if not self.closed.done():
            self._client.loop_write()
            self._flush()

    def _flush(self) -> None:
        transport = self._transport
        if transport is None or transport.closed:
            return
        try:
            drained = transport.flush()
        except OSError as error:
            self._end(ConnectionLost(f"the connection to the broker failed: {error}"))
            return
        if drained and not self.written.is_set():
            self.written.set()
            self._loop.remove_writer(transport.fileno())
        elif not drained and self.written.is_set():
            self.written.clear()
            self._loop.add_writer(transport.fileno(), self._flush)

    def _end(self, error: Exception | None) -> None:
        """Release the socket and tell everyone who waits, once."""
        if self.closed.done():
            return
        self.closed.set_result(error)
        self.written.set()
        if self._misc is not None:
            self._misc.cancel()
        for answer in self._answers.values():
            if not answer.done():
                answer.cancel()
        self._unregister()
        if self._transport is not None:
            self._transport.close()

    def _unregister(self, *_: object) -> None:
        """Take the socket out of the event loop while its descriptor is still ours."""
        self._reading = False
        if self._transport is not None and (descriptor := self._transport.fileno()) >= 0:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)

    # paho

    def _make_client(self, tls_context: ssl.SSLContext | None) -> SessionClient:
        client = SessionClient(
            self._address,
            self._settings,
            mqtt5=self._mqtt5,
            keep=self._keep,
            tls_context=tls_context,
            make_transport=self._make_transport,
        )
        client.on_connect = self._on_connack
        client.on_subscribe = self._on_answer
        client.on_unsubscribe = self._on_answer
        client.on_disconnect = self._on_disconnect
        client.on_socket_register_write = lambda *_: None  # the packets wait until `open` takes over
        return client

    def _abandon(self, connecting: asyncio.Future[None]) -> None:
        """Close a socket that came to stand after nobody waited for it any more."""
        if not connecting.cancelled():
            connecting.exception()  # heard, though nobody is left to act on it
        if self._client.transport_made is not None:
            self._client.transport_made.close()

    def _on_connack(
        self, _client: object, _data: object, flags: paho.ConnectFlags, reason: ReasonCode, properties: object
    ) -> None:
        if self._connack.done():
            return
        try:
            self._connack.set_result(opened(self._settings.client_id, flags, reason, properties))
        except (ProtocolUnsupported, BrokerRefused) as error:
            self._connack.set_exception(error)
            self._connack.exception()  # heard, should nobody wait any more

    def _on_answer(
        self, _client: object, _data: object, message_id: int, reasons: Iterable[ReasonCode], *_: object
    ) -> None:
        answer = self._answers.pop(message_id, None)
        if answer is not None and not answer.done():
            answer.set_result([reason.value for reason in reasons])

    def _on_disconnect(
        self, _client: object, _data: object, flags: paho.DisconnectFlags, reason: ReasonCode, *_: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._farewell = ConnectionLost(f"the broker sent DISCONNECT: {reason}")

    async def _answer(self, result: MQTTErrorCode, message_id: int | None, packet: str) -> list[int]:
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or message_id is None or self.closed.done():
            raise ConnectionLost("the connection to the broker is gone")
        answer: asyncio.Future[list[int]] = self._loop.create_future()
        self._answers[message_id] = answer
        read = -1
        # A resumed session's backlog stands before the answer: only a broker that is silent is late.
        while not answer.done() and not self.closed.done() and (read != self._reads or not self._reading):
            read = self._reads
            patience_s = self._settings.connect_timeout_s
            await asyncio.wait((answer, self.closed), timeout=patience_s, return_when="FIRST_COMPLETED")
        if answer.done() and not answer.cancelled():
            return answer.result()
        self.abort(f"the broker sent no {packet} in time")
        raise ConnectionLost(f"no {packet}: {self.closed.result()}")
