"""One backlog for all contenders of a round: made once, published once, queued by the broker for each.

The publisher is a bare socket that sends packets encoded beforehand, and it has ended before anybody drains.
"""

from __future__ import annotations

import json
import selectors
import socket
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from uuid import UUID

from bench.fleet import label_rules
from bench.workloads import messages
from ingest.decode import Decoder, Routes
from ingest.intake import Intake
from ingest.receive.packets import PacketParser
from ingest.resolve import Resolver
from ingest.settings import Settings
from tests.mqtt_packets import DISCONNECT, connect, packet_id, publish, subscribe

if TYPE_CHECKING:
    from bench.workloads import Message, Workload
    from ingest.model import Delivery, Row

FILTERS: Final = {
    "reading": "greenhouse/+/sensors/+",
    "batch": "greenhouse/+/readings",
    "map": "GREENHOUSE/#",
}
_READ_BYTES: Final = 262_144
_WRITE_BYTES: Final = 262_144
_PUBACK_BYTES: Final = 4
_PATIENCE_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Backlog:
    """The messages of a workload, and what must be in the table after the first so many of them."""

    workload: Workload
    messages: list[Message]
    published_us: int
    _totals: list[tuple[int, int]]

    @classmethod
    def of(cls, workload: Workload, count: int, now_us: int) -> Backlog:
        """Make *count* messages as of *now_us*."""
        made = list(messages(workload, count, now_us))
        totals = accumulate(
            made, lambda sums, each: (sums[0] + each.rows, sums[1] + each.tenths), initial=(0, 0)
        )
        return cls(workload, made, now_us, list(totals))

    def __len__(self) -> int:
        """Count the messages."""
        return len(self.messages)

    def expected(self, count: int) -> tuple[int, int]:
        """Give rows, and the sum of their values in tenths, that the first *count* messages make."""
        return self._totals[count]

    def readings(self, count: int) -> int:
        """Count the readings of the first *count* messages, those that come twice as two."""
        return count * self.workload.rows_a_message

    def last_key(self) -> tuple[datetime, UUID]:
        """Give time and sensor of the last row that is not sent twice; flat maps have no time."""
        payload = json.loads(next(each.payload for each in reversed(self.messages) if each.rows))
        reading = payload[-1] if isinstance(payload, list) else payload
        return datetime.fromisoformat(reading["timestamp"]), UUID(reading["sensor_id"])

    def packets(self) -> bytes:
        """Give them as PUBLISH packets."""
        qos = self.workload.qos
        return b"".join(
            publish(each.topic, each.payload, qos=qos, packet_id=packet_id(index))
            for index, each in enumerate(self.messages)
        )

    def rows(self) -> list[Row]:
        """Give the rows that the worker would make of them, each key once."""
        settings = Settings()
        intake = Intake(
            Decoder(Routes(settings.route, settings.decode.ignore), settings.decode),
            Resolver(self.workload.fleet().catalog(), label_rules(), out_of_range="quarantine"),
            ignore_retained=True,
            max_batch_rows=1 << 40,
        )
        intake.take_in([_delivery(each) for each in self.messages if each.rows], self.published_us)
        batch = intake.next_batch()
        return [] if batch is None else batch.rows


def _delivery(message: Message) -> Delivery:
    [delivery], _ = PacketParser(mqtt5=False).feed(publish(message.topic, message.payload, qos=0))
    return delivery


def keep_session(url: str, client_id: str, topic_filter: str) -> None:
    """Make a persistent session that is subscribed and away, so that the backlog is queued for it."""
    with connected(url, client_id) as stream:
        stream.sendall(subscribe(topic_filter))
        if stream.recv(5)[:1] != b"\x90":
            raise SystemExit("the broker refused a subscription")
        stream.sendall(DISCONNECT)


def end_session(url: str, client_id: str) -> None:
    """End a session and what is still queued for it."""
    with connected(url, client_id, clean=True) as stream:
        stream.sendall(DISCONNECT)


def publish_all(url: str, packets: bytes, count: int, qos: int) -> None:
    """Publish *packets*; returns once the broker has acknowledged all *count* (QoS 0: has read them all)."""
    with connected(url, "bench-publisher", clean=True) as stream, selectors.DefaultSelector() as selector:
        stream.setblocking(False)  # noqa: FBT003 - the socket's own signature
        selector.register(stream, selectors.EVENT_READ | selectors.EVENT_WRITE)
        view = memoryview(packets)
        sent = heard = 0
        wanted = count * _PUBACK_BYTES if qos else 2
        pinged = qos > 0
        while heard < wanted:
            ready = selector.select(_PATIENCE_S)
            if not ready:
                raise SystemExit("the broker does not take the backlog")
            for _, events in ready:
                if events & selectors.EVENT_READ:
                    heard += len(stream.recv(_READ_BYTES))
                if events & selectors.EVENT_WRITE:
                    if sent < len(view):
                        sent += stream.send(view[sent : sent + _WRITE_BYTES])
                    else:
                        if not pinged:  # its answer comes behind everything before it
                            stream.send(b"\xc0\x00")
                            pinged = True
                        selector.modify(stream, selectors.EVENT_READ)
        stream.setblocking(True)  # noqa: FBT003 - as above
        stream.sendall(DISCONNECT)


def connected(url: str, client_id: str, *, clean: bool = False) -> socket.socket:
    """Connect by MQTT 3.1.1; the session is kept unless *clean*."""
    parts = urlsplit(url)
    stream = socket.create_connection((parts.hostname or "", parts.port or 1883), _PATIENCE_S)
    stream.sendall(connect(client_id, clean=clean))
    if stream.recv(4)[3:] != b"\x00":
        raise SystemExit(f"the broker refused the connection of {client_id}")
    return stream
