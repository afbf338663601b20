"""The socket between paho and the network: buffers both ways and takes the PUBLISH packets out.

paho believes it talks to a socket. In truth its writes are appended whole to one outgoing buffer
(so PUBACK blobs and its own packets never interleave), and its reads see only the packets that are
not PUBLISH. Owned by one connection, driven by the event loop; nothing here blocks or waits.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, cast

import paho.mqtt.client as paho

from ingest.receive.packets import PINGREQ, PINGRESP, PUBACK

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.addresses import BrokerAddress
    from ingest.model import Delivery
    from ingest.receive.packets import PacketParser

READ_BYTES: Final = 65_536
"""Taken from the socket before other tasks get the event loop: 300 single readings, 2 ms. A COPY under way
waits for the loop, too, to hand on its next piece: with 1 MiB a turn flat maps came at 190 000 rows/s instead
of 250 000, single readings at 94 000 instead of 104 000 (`python -m bench --only flat_maps`)."""
_READS_A_TURN: Final = 4
"""Where TLS gives a record of 16 KiB at a time."""


class Stream(Protocol):
    """What is left of a socket once it is connected: raw TCP, TLS, or paho's WebSocket."""

    def recv(self, length: int, /) -> bytes: ...  # noqa: D102 - as socket.recv
    def send(self, data: bytes | bytearray, /) -> int: ...  # noqa: D102 - as socket.send
    def close(self) -> None: ...  # noqa: D102 - as socket.close
    def fileno(self) -> int: ...  # noqa: D102 - as socket.fileno
    def setblocking(self, flag: bool, /) -> None: ...  # noqa: D102, FBT001 - as socket.setblocking


def connect(address: BrokerAddress, tls: ssl.SSLContext | None, timeout_s: float) -> Stream:
    """Connect to *address*: TCP, then TLS and the WebSocket handshake where it asks for them. Blocks.

    Each step may take *timeout_s*. Raises OSError (ssl.SSLError is one), WebsocketConnectionError, and
    leaves no socket behind then.
    """
    stream = socket.create_connection((address.host, address.port), timeout_s)
    try:
        if tls is not None:
            stream = tls.wrap_socket(stream, server_hostname=address.host, do_handshake_on_connect=False)
            stream.do_handshake()
        if address.websocket_path is None:
            return stream
        return cast(
            "Stream",
            paho._WebsocketWrapper(  # noqa: SLF001 - what paho itself would have made of the socket
                socket=stream,
                host=address.host,
                port=address.port,
                is_ssl=address.tls,
                path=address.websocket_path,
                extra_headers=None,
            ),
        )
    except BaseException:
        stream.close()
        raise


class Transport:
    """Stands in for paho's socket; see the module's header.

    `fill` reads the network, `take` gives the deliveries it brought, `flush` writes the network.
    The methods named as socket's are paho's side.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        parser: PacketParser,
        on_ping: Callable[[], None],
        on_pong: Callable[[], None],
        on_puback: Callable[[bytes], None] | None = None,
    ) -> None:
        """Wrap a connected *stream*; *parser* is this connection's own.

        *on_ping* is called for each PINGREQ queued, paho's own included, *on_pong* for each
        PINGRESP read: the broker answers them in order. Where there is *on_puback* it gets each PUBACK
        instead of paho.
        """
        self._stream = stream
        self._parser = parser
        self._deliveries: list[Delivery] = []
        self._for_paho = bytearray()
        self._out: deque[bytes] = deque()
        self._on_ping = on_ping
        self._on_pong = on_pong
        self._on_puback = on_puback
        self.closed = False
        self.heard_s = 0.0
        """When the network last brought anything, on the monotonic clock."""

    # the event loop's side

    def fill(self) -> bool:
        """Read what the network holds, up to a turn's worth; False once the peer has closed.

        Raises OSError as the socket does, MalformedPacket when the bytes are not MQTT.
        """
        on_puback = self._on_puback
        for _ in range(_READS_A_TURN):
            try:
                data = self._stream.recv(READ_BYTES)
            except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                # A WebSocket wrapper raises this after a control frame too; TLS may hold the next one.
                if not self._pending():
                    return True
                continue
            if not data:
                return False
            self.heard_s = time.monotonic()
            deliveries, others = self._parser.feed(data)
            self._deliveries += deliveries
            for packet in others:
                if on_puback is not None and packet[0] == PUBACK:
                    on_puback(packet)
                    continue
                self._for_paho += packet
                if packet == PINGRESP:
                    self._on_pong()
            if not self._pending():
                return True
        return True

    @property
    def readable_now(self) -> bool:
        """Whether decrypted bytes wait in the TLS layer, where the event loop cannot see them."""
        return self._pending() > 0

    def take(self) -> list[Delivery]:
        """Give the deliveries read since the last call, in arrival order."""
        deliveries, self._deliveries = self._deliveries, []
        return deliveries

    @property
    def has_packets_for_paho(self) -> bool:
        """Whether paho has something to read."""
        return bool(self._for_paho)

    def write(self, data: bytes) -> None:
        """Queue whole packets behind what is queued already."""
        if data:
            self._out.append(data)

    def flush(self) -> bool:
        """Write as much as the network takes; True when nothing is left. Raises OSError."""
        while self._out:
            data = self._out[0]
            try:
                sent = self._stream.send(data)
            except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            if sent == len(data):
                self._out.popleft()
            elif sent > 0:
                self._out[0] = data[sent:]
            else:  # the WebSocket wrapper wants the same bytes again once it can write
                return False
        return True

    # paho's side

    def recv(self, length: int) -> bytes:
        """Give paho up to *length* bytes of its packets; BlockingIOError when there are none."""
        if not self._for_paho:
            raise BlockingIOError
        data = bytes(self._for_paho[:length])
        del self._for_paho[:length]
        return data

    def send(self, data: bytes | bytearray) -> int:
        """Take a packet of paho's whole."""
        packet = bytes(data)
        self.write(packet)
        if packet == PINGREQ:
            self._on_ping()
        return len(packet)

    def close(self) -> None:
        """Close the network connection, after one try to write what is queued; may be called twice."""
        if self.closed:
            return
        self.closed = True
        with contextlib.suppress(OSError, ValueError):
            self.flush()  # paho closes right after its DISCONNECT
        self._stream.close()

    def fileno(self) -> int:
        """Give the socket's file descriptor, for the event loop."""
        return self._stream.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the socket's own signature
        """Set the mode of the stream below."""
        self._stream.setblocking(flag)

    def _pending(self) -> int:
        pending = getattr(self._stream, "pending", None)
        return pending() if pending is not None else 0
