"""What is published: each workload is a kind of message, a fleet of sensors, and how the broker delivers it.

Pure: the same clock gives the same messages, byte for byte. What must be in the table afterwards is told by
the publisher's side alone: a count of rows, and a sum of their values in tenths.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from bench.fleet import TENANT, Fleet, fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.fleet import Channel

Shape: TypeAlias = Literal["reading", "map", "batch"]
Protocol: TypeAlias = Literal["5", "3.1.1"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STEP_US: Final = 10_000
"""Between two readings: one hundred sensors, one reading a second each."""
_DAY_US: Final = 86_400_000_000
_NEAR, _FAR = 10, 6_990
"""How long ago a reading was first sent that comes again: in the batch being filled, or long committed."""


class Message(NamedTuple):
    """One PUBLISH, and what it adds to the table."""

    topic: str
    payload: bytes
    rows: int
    tenths: int
    """Sum of the rows' values, in tenths: exact where a sum of floats is not."""


@dataclass(frozen=True, slots=True)
class Workload:
    """See the module's header."""

    name: str
    says: str
    """What it is, for a heading."""
    shape: Shape
    messages: int
    """Of one round; a tenth of it with --quick."""
    topics: int = 1
    sensors_a_topic: int = 100
    qos: Literal[0, 1] = 1
    protocol: Protocol = "5"
    window: int | None = None
    """Mosquitto's max_inflight_messages; None as config/mosquitto.conf has it."""
    duplicate_every: int = 0
    """One message in so many repeats an earlier one; 0 none."""
    compressed: bool = False
    """Whether the rows fall into a chunk that is compressed: two days older, and TimescaleDB only."""

    def fleet(self) -> Fleet:
        """Give its sensors."""
        return fleet(self.topics, self.sensors_a_topic)

    @property
    def rows_a_message(self) -> int:
        """Rows that one message makes, unless it is a duplicate."""
        return 1 if self.shape == "reading" else self.sensors_a_topic

    def first_us(self, now_us: int) -> int:
        """Give the time of the first reading: half a day ago, or at noon five days ago."""
        if self.compressed:
            return now_us // _DAY_US * _DAY_US - 5 * _DAY_US + _DAY_US // 2
        return now_us - _DAY_US // 2


WORKLOADS: Final = (
    Workload("single_qos1", "single readings, QoS 1, MQTT 5", "reading", 200_000),
    Workload("single_qos1_v311", "single readings, QoS 1, MQTT 3.1.1", "reading", 200_000, protocol="3.1.1"),
    Workload("single_qos0", "single readings, QoS 0", "reading", 200_000, qos=0),
    # MQTT 3.1.1: with 5 it is the client's Receive Maximum that counts, whatever the broker's window.
    Workload(
        "single_window20",
        "single readings, QoS 1, MQTT 3.1.1, broker window 20",
        "reading",
        50_000,
        protocol="3.1.1",
        window=20,
    ),
    Workload(
        "single_duplicates",
        "single readings, QoS 1, 5 % of them sent twice",
        "reading",
        200_000,
        duplicate_every=20,
    ),
    Workload(
        "many_sensors",
        "single readings, QoS 1, 1 000 topics, 50 000 sensors",
        "reading",
        200_000,
        topics=1_000,
        sensors_a_topic=50,
    ),
    Workload("flat_maps", "flat maps of 22 fields, QoS 1", "map", 20_000, sensors_a_topic=22),
    Workload("batches", "batches of 100 readings, QoS 1", "batch", 5_000),
    Workload(
        "late_compressed",
        "single readings, into a compressed chunk",
        "reading",
        50_000,
        compressed=True,
    ),
)
BY_NAME: Final = {workload.name: workload for workload in WORKLOADS}


def messages(workload: Workload, count: int, now_us: int) -> Iterator[Message]:
    """Give *count* messages of *workload*, the first of them published at *now_us* (µs since 1970)."""
    channels = workload.fleet().channels
    make = {"reading": _reading, "map": _map, "batch": _batch}[workload.shape]
    start_us = workload.first_us(now_us)
    every = workload.duplicate_every
    for index in range(count):
        if every and index % every == every - 1:
            back = _FAR if index // every % 2 and index > _FAR else _NEAR
            yield make(workload, channels, index - back, start_us)._replace(rows=0, tenths=0)
        else:
            yield make(workload, channels, index, start_us)


def _reading(workload: Workload, channels: tuple[Channel, ...], index: int, start_us: int) -> Message:
    topic = index % workload.topics
    number = index // workload.topics % workload.sensors_a_topic
    channel = channels[topic * workload.sensors_a_topic + number]
    tenths = index % 1000
    payload = {
        "sensor_id": str(channel.sensor_id),
        "value": tenths / 10,
        "unit": channel.kind.unit,
        "timestamp": iso(start_us + _STEP_US * index),
    }
    return Message(
        f"greenhouse/{channel.greenhouse_id}/sensors/{channel.kind.name}", _as_json(payload), 1, tenths
    )


def _map(workload: Workload, channels: tuple[Channel, ...], index: int, start_us: int) -> Message:
    """Give a map without a time, as the hardware sends them; *start_us* plays no part."""
    del workload, start_us
    tenths = [(index + number) % 1000 for number in range(len(channels))]
    payload = {channel.label: each / 10 for channel, each in zip(channels, tenths, strict=True)}
    return Message(f"GREENHOUSE/{TENANT.prefix}/01", _as_json(payload), len(tenths), sum(tenths))


def _batch(workload: Workload, channels: tuple[Channel, ...], index: int, start_us: int) -> Message:
    del workload
    tenths = [(index + number) % 1000 for number in range(len(channels))]
    time = iso(start_us + 1_000_000 * index)
    payload = [
        {
            "sensor_id": str(channel.sensor_id),
            "sensor_type": channel.kind.name,
            "value": each / 10,
            "unit": channel.kind.unit,
            "timestamp": time,
        }
        for channel, each in zip(channels, tenths, strict=True)
    ]
    topic = f"greenhouse/{channels[0].greenhouse_id}/readings"
    return Message(topic, _as_json(payload), len(tenths), sum(tenths))


def iso(time_us: int) -> str:
    """Write a time as gateways do: ISO 8601 with an offset."""
    return (_EPOCH + timedelta(microseconds=time_us)).isoformat()


def _as_json(payload: object) -> bytes:
    return json.dumps(payload, ensure_ascii=False).encode()
