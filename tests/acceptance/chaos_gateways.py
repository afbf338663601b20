"""Gateways of the chaos run: each message with a number of its own, and what the broker answered to it.

A stubborn gateway sends again, with DUP, what a lost connection left without PUBACK; a forgetful one drops
it.
They own their connections and the record of what they published; they know nothing of worker and tables.
"""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.gateways import Message, packet
from tests.mqtt_packets import PACKET_IDS, connect

if TYPE_CHECKING:
    import random

WINDOW: Final = 200
"""Messages without PUBACK that a gateway has under way at most."""
SILENCE_S: Final = 10.0
"""A broker that answers nothing for so long has lost the gateway."""
HANG_UP: Final = 0.01
"""The share of bursts after which a gateway hangs up without waiting for its PUBACKs."""
_DUP: Final = 0x08
_PUBACK: Final = 0x40


class Kind(NamedTuple):
    """What a message leaves in the tables, each time it is stored."""

    name: str
    topic: str
    payload: str
    """With {n} for its number, {ms} for a time (ms since 1970) that no other message has."""
    weight: int
    row: bool = False
    letter: bool = False
    timed: bool = False
    """Whether the unique key knows its row."""


_READINGS: Final = "greenhouse/{id}/sensors/sensor"
_MAPS: Final = "GREENHOUSE/{prefix}"
KINDS: Final = (
    Kind("timed", _READINGS, '{{"value": {n}, "timestamp": {ms}}}', 40, row=True, timed=True),
    Kind("map", _MAPS, '{{"SENSOR_01": {n}}}', 25, row=True),
    Kind("bare value", _READINGS, "{n}", 10, row=True),
    Kind("map, bad field", _MAPS, '{{"SENSOR_01": {n}, "SENSOR_02": "x"}}', 10, row=True, letter=True),
    Kind("timed, bad value", _READINGS, '{{"value": "{n} x", "timestamp": {ms}}}', 5, letter=True),
    Kind("no JSON", _READINGS, '{{"value": {n}', 5, letter=True),
    Kind("unknown type", "greenhouse/{id}/sensors/nobody_knows", "{n}", 5, letter=True),
)


@dataclass(slots=True)
class Published:
    """One message and what became of it between gateway and broker; times in s since 1970."""

    number: int
    kind: Kind
    sends: int = 0
    """How often it was written to a connection; 1 unless it was sent again."""
    sent_s: float = 0.0
    """When it was first."""
    acknowledged_s: float | None = None
    """When its PUBACK arrived; None where the gateway cannot know whether the broker has it."""


class Publications:
    """Every message of the run, by number; *tenant* fills the topics' ``{id}`` and ``{prefix}``."""

    def __init__(self, tenant: dict[str, str]) -> None:
        self._tenant = tenant
        self._started_ms = time.time_ns() // 1_000_000
        self.all: list[Published] = []
        self.numbers: dict[bytes, int] = {}
        """By payload, of what leaves dead letters."""

    def next(self, seeded: random.Random) -> Published:
        """Make a message of a kind that *seeded* chooses."""
        (kind,) = seeded.choices(KINDS, [kind.weight for kind in KINDS])
        made = Published(len(self.all), kind)
        self.all.append(made)
        if kind.letter:
            self.numbers[self.message(made).payload] = made.number
        return made

    def message(self, published: Published) -> Message:
        kind, number = published.kind, published.number
        payload = kind.payload.format(n=number, ms=self._started_ms - number)
        return Message(kind.topic.format_map(self._tenant), payload.encode())


class Gateway:
    """One gateway with a connection at a time, to *port*; see the module's header."""

    def __init__(
        self, client_id: str, port: int, publications: Publications, *, stubborn: bool, seeded: random.Random
    ) -> None:
        self._client_id = client_id
        self._port = port
        self._publications = publications
        self._stubborn = stubborn
        self._random = seeded
        self._unanswered: dict[int, Published] = {}
        """By packet id, in the order they were first sent."""
        self._last_id = 0
        self._heard_s = 0.0

    async def run(self, ended: asyncio.Event) -> None:
        """Publish until *ended*, then until nothing is unanswered; connects again after each end."""
        while not ended.is_set() or self._unanswered:
            try:
                async with asyncio.timeout(SILENCE_S):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    await self._converse(reader, writer, ended)
                finally:
                    writer.transport.abort()
            except (OSError, EOFError):  # a timeout is an OSError
                await asyncio.sleep(self._random.uniform(0.05, 0.5))

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ended: asyncio.Event
    ) -> None:
        writer.write(connect(self._client_id, clean=True, keepalive_s=0))
        async with asyncio.timeout(SILENCE_S):
            assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
        if not self._stubborn:
            self._unanswered.clear()
        for packet_id, published in self._unanswered.items():
            self._send(writer, published, packet_id)
        self._heard_s = time.monotonic()
        answers = asyncio.create_task(self._hear(reader))
        try:
            while not answers.done() and (not ended.is_set() or self._unanswered):
                if not ended.is_set():
                    self._publish(writer)
                    if self._random.random() < HANG_UP:
                        writer.close()  # the broker reads all of it, and its PUBACKs find nobody
                        await writer.wait_closed()
                        return
                await asyncio.wait([answers], timeout=self._random.uniform(0.05, 0.3))
                if self._unanswered and time.monotonic() - self._heard_s > SILENCE_S:
                    raise TimeoutError
            if answers.done():
                answers.result()
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)

    def _publish(self, writer: asyncio.StreamWriter) -> None:
        """Send a burst, as far as the window allows."""
        for _ in range(min(self._random.randint(1, 30), WINDOW - len(self._unanswered))):
            published = self._publications.next(self._random)
            self._last_id = self._last_id % PACKET_IDS + 1
            self._unanswered[self._last_id] = published
            self._send(writer, published, self._last_id)

    def _send(self, writer: asyncio.StreamWriter, published: Published, packet_id: int) -> None:
        data = packet(self._publications.message(published), packet_id)
        if published.sends:
            data = bytes([data[0] | _DUP]) + data[1:]
        else:
            published.sent_s = time.time()
        published.sends += 1
        writer.write(data)

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        """Note PUBACKs until the connection ends; raises EOFError then."""
        while True:
            first, _, packet_id = struct.unpack(">BBH", await reader.readexactly(4))
            assert first == _PUBACK, f"packet type {first:#x} was not expected"
            self._heard_s = time.monotonic()
            self._unanswered.pop(packet_id).acknowledged_s = time.time()
