"""The sensors of one greenhouse as one piece of bytes: a hundred bytes each; as objects, eight hundred.

One record a sensor, ordered by id; each field begins with NUL and its letter, and PostgreSQL's text holds no
NUL, so that a record is told from the next and a field from another:

    NUL c sensor_code    NUL d device_id    NUL l mqtt_field_name
    NUL x id as 32 hex digits, 1 or 0 for active or not, expected_interval_s
    NUL t sensor_type_id, or = and the name that a legacy writer left    NUL u likewise its unit

A field of which there is nothing is empty. The database writes this form (`reading`), `packed` does for rows
at hand. A table says where names are, 8 bytes each. Pure; a roster never changes.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Final
from uuid import UUID

from ingest.labels import normalise_label
from ingest.resolve.rows import Sensor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ingest.resolve.vocabulary import Vocabulary

_RECORD: Final = b"\0c"
_IDS: Final = re.compile(rb"\0x([0-9a-f]{32})")
_INTERVALS: Final = re.compile(rb"\0x([0-9a-f]{32})1([0-9]+)")
_CODES: Final = re.compile(r"\0c([^\0]*)")
_DEVICES: Final = re.compile(r"\0d([^\0]*)")
_LABELS: Final = re.compile(r"\0l([^\0]*)")
_HASH_MASK: Final = 0xFFFF_FFFF
_new = tuple.__new__
"""`_new(Sensor, (...))` makes one without its generated `__new__`, in half of the time."""


class Roster:
    """The sensors of one greenhouse; see the module's header. Lookups give them in the order of their ids."""

    __slots__ = ("_places", "count", "greenhouse_id", "packed")

    def __init__(self, greenhouse_id: UUID, packed: bytes) -> None:
        """Take the records as the database or `packed` wrote them."""
        self.greenhouse_id = greenhouse_id
        self.packed = packed
        self.count = packed.count(_RECORD)
        self._places = self._table()

    def ids(self) -> list[int]:
        """Give all ids, as numbers."""
        return [int(digits, 16) for digits in _IDS.findall(self.packed)]

    def intervals(self) -> list[tuple[UUID, int]]:
        """Give the id and `expected_interval_s` of each active sensor that has one."""
        return [
            (UUID(int=int(digits, 16)), int(seconds)) for digits, seconds in _INTERVALS.findall(self.packed)
        ]

    def digest(self) -> int:
        """Give 64 bits that tell this roster from any other, in any process."""
        content = self.greenhouse_id.bytes + self.packed
        return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")

    def identified(self, sensor_id: int, names: Vocabulary) -> Sensor | None:
        """Find by id."""
        for sensor in self._found(hash(sensor_id), names):
            if sensor.sensor_id.int == sensor_id:
                return sensor
        return None

    def coded(self, code: str, names: Vocabulary) -> list[Sensor]:
        """Find by `sensor_code`, then by `device_id`, written exactly so."""
        found = self._found(hash(code), names)
        if not found:
            return found
        return [each for each in found if each.code == code] + [
            each for each in found if each.device_id == code
        ]

    def labelled(self, label: str, names: Vocabulary) -> list[Sensor]:
        """Find by `mqtt_field_name`: the exact label, else alike in case and separators."""
        key = normalise_label(label)
        found = self._found(hash(key), names)
        if not found:
            return found
        exact = [each for each in found if each.label == label]
        return exact or [
            each for each in found if each.label is not None and normalise_label(each.label) == key
        ]

    def _found(self, hashed: int, names: Vocabulary) -> list[Sensor]:
        """Give the sensors of which an id, code, device or label may be the one *hashed*."""
        places = self._places
        lowest = (hashed & _HASH_MASK) << 32
        at = bisect_left(places, lowest)
        found: list[Sensor] = []
        former = -1
        while at < len(places) and (start := places[at] - lowest) <= _HASH_MASK:
            if start != former:  # a sensor may have one name twice
                end = self.packed.find(_RECORD, start)
                found.append(self._sensor(self.packed[start : end if end >= 0 else None], names))
            at, former = at + 1, start
        return found

    def _table(self) -> array[int]:
        """Give, in order, the hash of each name with where its record begins: 32 bits of either."""
        text = self.packed.decode()
        starts = list(accumulate((len(each) + 2 for each in self.packed.split(_RECORD)[1:]), initial=2))
        places = [
            (hash(name) & _HASH_MASK) << 32 | start
            for found in (
                self.ids(),
                _CODES.findall(text),
                _DEVICES.findall(text),
                map(normalise_label, _LABELS.findall(text)),
            )
            for name, start in zip(found, starts, strict=False)  # the last start is the end
            if name != ""
        ]
        places.sort()
        return array("Q", places)

    def _sensor(self, record: bytes, names: Vocabulary) -> Sensor:
        code, device, label, own, sensor_type, unit = record.decode().split("\0")
        types, units = names.types_written, names.units_written
        return _new(
            Sensor,
            (
                UUID(int=int(own[1:33], 16)),
                self.greenhouse_id,
                code,
                device[1:] or None,
                label[1:] or None,
                sensor_type[2:] if sensor_type.startswith("t=") else types.get(sensor_type),
                unit[2:] if unit.startswith("u=") else units.get(unit),
                own[33] == "1",
                int(own[34:]) if len(own) > 34 else None,  # noqa: PLR2004 (as in the lines above)
            ),
        )


def packed(sensors: Iterable[Sensor]) -> bytes:
    """Pack the *sensors* of one greenhouse; type and unit go in by name."""
    return b"".join(_record(sensor) for sensor in sorted(sensors, key=lambda sensor: sensor.sensor_id.int))


def _record(sensor: Sensor) -> bytes:
    sensor_type = "" if sensor.sensor_type is None else f"={sensor.sensor_type}"
    unit = "" if sensor.unit is None else f"={sensor.unit}"
    interval = "" if sensor.expected_interval_s is None else f"{sensor.expected_interval_s}"
    return (
        f"\0c{sensor.code}\0d{sensor.device_id or ''}\0l{sensor.label or ''}"
        f"\0x{sensor.sensor_id.hex}{int(sensor.is_active)}{interval}\0t{sensor_type}\0u{unit}"
    ).encode()
