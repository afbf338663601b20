"""The demonstration's greenhouses and gateways: what they publish, and what must become of it.

Pure: the same seed and clock give the same messages, byte for byte. Every message carries its expected
outcome, so that the demonstration can check the worker against the publisher instead of itself.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.model import Reason

HISTORY_DAYS: Final = 10
_BATCH_READINGS: Final = 48
_BAD_EVERY: Final = 50
"""One message in so many is bad, each kind in turn; one reading in as many is sent twice."""
_FLEET: Final = UUID("9a0f4c1e-52ce-4b0b-a1c3-94b1c7d3a001")
"""Namespace of the demonstration's sensor ids."""

CATALOG: Final[dict[str, Any]] = {
    "tenants": [
        {
            "name": "Invernaderos Sara",
            "prefix": "SARA",
            "greenhouses": [
                {
                    "code": "01",
                    "name": "Sara norte",
                    "sensors": [
                        {
                            "code": "DHT22-SARA01-TEMP",
                            "sensor_type": "TEMPERATURE",
                            "unit": "°C",
                            "sensor_id": str(uuid5(_FLEET, "DHT22-SARA01-TEMP")),
                        },
                        {"label": "RESERVA", "sensor_type": "SENSOR", "unit": "unit"},
                    ],
                },
                {"code": "02", "name": "Sara centro", "sensors": []},
                {"code": "03", "name": "Sara sur", "sensors": []},
            ],
        },
        {
            "name": "Hortamed",
            "prefix": "HORTAMED",
            "greenhouses": [
                {
                    "code": "A1",
                    "name": "Hortamed A1",
                    "sensors": [
                        {
                            "code": "CO2-A1",
                            "sensor_type": "CO2",
                            "unit": "ppm",
                            "sensor_id": str(uuid5(_FLEET, "CO2-A1")),
                        },
                        {
                            "code": "RETIRED-A1",
                            "sensor_type": "HUMIDITY",
                            "unit": "%",
                            "sensor_id": str(uuid5(_FLEET, "RETIRED-A1")),
                        },
                    ],
                },
                {"code": "A2", "name": "Hortamed A2", "sensors": []},
            ],
        },
        {
            "name": "Legacy",
            "prefix": "DEFAULT",
            "greenhouses": [{"code": "01", "name": "First greenhouse", "sensors": []}],
        },
    ]
}
INACTIVE_SENSOR: Final = uuid5(_FLEET, "RETIRED-A1")
_FOREIGN_SENSOR: Final = uuid5(_FLEET, "CO2-A1")


@dataclass(frozen=True, slots=True)
class Message:
    """One message and what must become of it."""

    topic: str
    payload: bytes
    qos: int
    written: int = 0
    duplicates: int = 0
    nulls: int = 0
    reasons: tuple[Reason, ...] = ()
    ignored: bool = False


@dataclass(slots=True)
class Expected:
    """The account that the database has to agree with."""

    messages: int = 0
    written: int = 0
    duplicates: int = 0
    nulls: int = 0
    ignored: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)

    def add(self, message: Message) -> None:
        """Add one published message."""
        self.messages += 1
        self.written += message.written
        self.duplicates += message.duplicates
        self.nulls += message.nulls
        self.ignored += message.ignored
        self.reasons.update(message.reasons)

    @property
    def readings(self) -> int:
        """Every reading published, whatever becomes of it."""
        return self.written + self.duplicates + self.nulls + self.reasons.total()


class Gateway:
    """One gateway: its messages in the order it publishes them."""

    def __init__(self, number: int, seed: int, now: datetime, greenhouses: dict[str, UUID]) -> None:
        """Take the greenhouses' ids by "PREFIX/code" and the moment its history ends."""
        self.name = f"demo-gateway-{number:03d}"
        self._number = number
        self._random = random.Random(f"{seed}/{number}")  # noqa: S311 - a simulation
        self._now = now
        self._greenhouses = greenhouses
        self._bad = bad_input(number, now, greenhouses)

    def messages(self, count: int) -> list[Message]:
        """Give about *count* messages: the gateway's own kind, with bad input and repeats mixed in."""
        kind = (self._probe, self._batches, self._plc, self._labels)[self._number % 4]
        result: list[Message] = []
        for index, message in enumerate(kind(count)):
            result.append(message)
            if index % _BAD_EVERY == self._number % _BAD_EVERY:
                result += next(self._bad)
            if index % _BAD_EVERY == 0 and message.written and b'"timestamp"' in message.payload:
                again = Message(message.topic, message.payload, 1, 0, message.written, message.nulls)
                result.append(again)
        if self._number == 0:  # however short the run, every kind of bad input is in it
            for _ in range(BAD_KINDS):
                result += next(self._bad)
        # Its PUBACK tells that the broker has read the QoS 0 messages before it, which a DISCONNECT
        # right behind them does not.
        result.append(Message("GREENHOUSE/STATUS", b"going offline", 1, ignored=True))
        return result

    def _times(self, count: int) -> Iterator[datetime]:
        """Spread *count* moments evenly over the history, on this gateway's own second."""
        step = timedelta(days=HISTORY_DAYS) / max(count, 1)
        start = self._now - timedelta(days=HISTORY_DAYS)
        for index in range(count):
            moment = start + step * index
            yield moment.replace(microsecond=self._number)

    def _climate(self, moment: datetime) -> dict[str, float]:
        """Give a believable greenhouse at *moment*: warm and dry by day, cool and humid by night."""
        sun = max(0.0, math.sin((moment.hour + moment.minute / 60 - 6) / 12 * math.pi))
        noise = self._random.gauss
        return {
            "TEMPERATURE": round(14 + 14 * sun + noise(0, 0.4), 1),
            "HUMIDITY": round(min(99.0, max(20.0, 88 - 40 * sun + noise(0, 1.5))), 1),
            "LIGHT": round(max(0.0, 62_000 * sun + noise(0, 300)), 0),
            "CO2": round(430 + 260 * (1 - sun) + noise(0, 9), 0),
        }

    def _probe(self, count: int) -> Iterator[Message]:
        """Single readings with their time, one a message: device codes, several spellings, QoS 1."""
        spellings = (
            ("temperature", "TEMPERATURE", "°C"),
            ("HUMEDAD", "HUMIDITY", "%"),
            ("light", "LIGHT", "lux"),
            ("co2", "CO2", "ppm"),
        )
        code, greenhouse = (("01", "SARA/01"), ("A2", "HORTAMED/A2"), ("02", "SARA/02"))[
            self._number // 4 % 3
        ]
        named = str(self._greenhouses[greenhouse]) if code == "01" else code
        for index, moment in enumerate(self._times(count)):
            spelling, name, unit = spellings[index % 4]
            reading = {
                "sensor_id": f"PROBE-{self._number}-{name}",
                "value": self._climate(moment)[name],
                "unit": unit,
                "timestamp": _iso(moment),
            }
            if index % 10 == 0:
                reading["metadata"] = {"battery_v": round(self._random.uniform(3.2, 4.1), 2)}
            yield Message(f"greenhouse/{named}/sensors/{spelling}", _json(reading), 1, written=1)

    def _batches(self, count: int) -> Iterator[Message]:
        """Batches of a buffered gateway, QoS 1: one moment's envelope and epoch milliseconds in turn."""
        greenhouse = ("SARA/01", "HORTAMED/A1", "SARA/03")[self._number // 4 % 3]
        topic = f"greenhouse/{self._greenhouses[greenhouse]}/readings"
        moments = list(self._times(count * _BATCH_READINGS // 4))
        for start in range(0, len(moments), _BATCH_READINGS // 4):
            part = moments[start : start + _BATCH_READINGS // 4]
            readings = [
                {
                    "sensor_id": str(uuid5(_FLEET, f"{self.name}/{name}")),
                    "sensor_type": name.lower(),
                    "value": value,
                    "timestamp": _iso(moment) if start % 2 else int(moment.timestamp() * 1000),
                }
                for moment in part
                for name, value in self._climate(moment).items()
            ]
            payload: object = readings if start % 3 else {"readings": readings}
            yield Message(topic, _json(payload), 1, written=len(readings))

    def _plc(self, count: int) -> Iterator[Message]:
        """Flat maps of 22 fields for three greenhouses, without a time, as the PLC sends them; both QoS."""
        for index in range(count):
            fields: dict[str, object] = {}
            for number in ("01", "02", "03"):
                climate = self._climate(self._now + timedelta(minutes=index))
                fields[f"TEMPERATURA INVERNADERO {number}"] = climate["TEMPERATURE"]
                fields[f"HUMEDAD INVERNADERO {number}"] = climate["HUMIDITY"]
                for sector in range(1, 5):
                    fields[f"INVERNADERO_{number}_SECTOR_{sector:02d}"] = self._random.randrange(0, 101, 10)
                fields[f"INVERNADERO_{number}_EXTRACTOR"] = self._random.choice((0, 1, True, "OFF"))
            fields["RESERVA"] = None if index % 20 == 0 else 0
            nulls = int(fields["RESERVA"] is None)
            yield Message("GREENHOUSE/SARA", _json(fields), index % 2, written=22 - nulls, nulls=nulls)

    def _labels(self, count: int) -> Iterator[Message]:
        """Small flat maps of other tenants: with a time on the tenant's topic, legacy without one."""
        for index, moment in enumerate(self._times(count)):
            climate = self._climate(moment)
            if index % 3:
                fields: dict[str, object] = {
                    f"HORTAMED_TEMP_A1_{self._number:02d}": climate["TEMPERATURE"],
                    f"HORTAMED_HUM_A1_{self._number:02d}": str(climate["HUMIDITY"]).replace(".", ","),
                    f"HORTAMED_SOIL_A1_{self._number:02d}": round(self._random.uniform(30, 70), 1),
                    "timestamp": _iso(moment),
                    "greenhouseId": "not believed",
                }
                yield Message("GREENHOUSE/HORTAMED/A1", _json(fields), 1, written=3)
            else:
                fields = {"SENSOR_01": 1.42, "SENSOR_02": "2.31", "SETPOINT_01": 5.5}
                yield Message("GREENHOUSE", _json(fields), 0, written=3)


def bad_input(number: int, now: datetime, greenhouses: dict[str, UUID]) -> Iterator[list[Message]]:
    """Give every kind of bad input in turn, for ever: each a list of messages to publish in order."""
    sara = greenhouses["SARA/01"]
    serial = 0
    while True:
        for kind in range(BAD_KINDS):
            serial += 1
            # A time of its own for each, so that its good parts collide with nothing.
            moment = now - timedelta(hours=1, seconds=serial, microseconds=number + 500)
            yield _bad(kind, f"BAD-{number}", _iso(moment), sara)


def _bad(kind: int, sensor: str, time: str, sara: UUID) -> list[Message]:
    def reading(**changes: object) -> bytes:
        return _json({"sensor_id": sensor, "value": 21.5, "timestamp": time} | changes)

    def one(
        topic: str, payload: bytes, *reasons: Reason, written: int = 0, ignored: bool = False
    ) -> list[Message]:
        return [Message(topic, payload, 1, written=written, reasons=reasons, ignored=ignored)]

    temperature = f"greenhouse/{sara}/sensors/temperature"
    table = (
        lambda: one(temperature, b'{"value": 21.5, "timest', "bad_payload"),
        lambda: one(temperature, b"\xff\xfe\x00binary", "bad_payload"),
        lambda: one(temperature, b"[" * 500 + b"]" * 500, "bad_payload"),
        lambda: one(temperature, b" " * 300_000, "too_large"),
        lambda: one("GREENHOUSE/SARA/01/what/is/this", b"{}", "unknown_topic"),
        lambda: one(temperature, reading(value="warm"), "bad_value"),
        lambda: one(
            "GREENHOUSE/HORTAMED/A2",
            f'{{"TEMP_1": NaN, "TEMP_2": {{}}, "TEMP_{sensor}": 20, "timestamp": "{time}"}}'.encode(),
            "bad_value",
            "bad_value",
            written=1,
        ),
        lambda: one(temperature, reading(timestamp="1970-01-02T00:00:00Z"), "bad_timestamp"),
        lambda: one(temperature, reading(timestamp="yesterday"), "bad_timestamp"),
        lambda: one(
            "GREENHOUSE/NOBODY/01", b'{"TEMP_01": 20, "HUM_01": 60}', "unknown_tenant", "unknown_tenant"
        ),
        lambda: one("greenhouse/nowhere/sensors/temperature", reading(), "unknown_greenhouse"),
        lambda: one("greenhouse/01/sensors/temperature", reading(), "ambiguous_greenhouse"),
        lambda: one(f"greenhouse/{sara}/sensors/happiness", reading(), "unknown_sensor_type"),
        lambda: one("GREENHOUSE/HORTAMED/A2", b'{"TEMPORIZADOR": 3}', "unknown_sensor_type"),
        lambda: one(temperature, reading(unit="furlong"), "unknown_unit"),
        lambda: one(f"greenhouse/{sara}/sensors/co2", reading(unit="lux"), "unit_mismatch"),
        lambda: one(temperature, reading(sensor_id=str(_FOREIGN_SENSOR)), "foreign_sensor"),
        lambda: one(
            f"greenhouse/{sara}/sensors/humidity", reading(sensor_id="DHT22-SARA01-TEMP"), "type_mismatch"
        ),
        lambda: one("greenhouse/A1/sensors/humidity", reading(sensor_id="RETIRED-A1"), "inactive"),
        lambda: one(temperature, reading(value=6484.1), "out_of_range"),
        lambda: one(
            temperature, b"[" + reading() + b"," + reading(value=22) + b"]", "key_collision", written=1
        ),
        lambda: [
            Message(temperature, reading(), 1, written=1),
            Message(temperature, reading(value=29.5), 1, reasons=("conflicting_value",)),
        ],
        lambda: one("GREENHOUSE/RESPONSE", b'{"ok": true}', ignored=True),
        lambda: one("GREENHOUSE/STATUS", b"1", ignored=True),
        lambda: one("GREENHOUSE/SARA", b"", ignored=True),
    )
    return table[kind]()


BAD_KINDS: Final = 25
"""Entries of the table in `_bad`."""


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
