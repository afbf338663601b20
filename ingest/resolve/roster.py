"""The sensors of one greenhouse as one piece of bytes: a hundred bytes each; as objects, eight hundred.

One record a sensor, ordered by id; each field begins with NUL and its letter, and PostgreSQL's text holds no
NUL, so that looking for a name is one `bytes.find`, which finds neither half a name nor one in another field:

    NUL c sensor_code    NUL d device_id    NUL l mqtt_field_name
    NUL x id as 32 hex digits, 1 or 0 for active or not, expected_interval_s
    NUL t sensor_type_id, or = and the name that a legacy writer left    NUL u likewise its unit

A field of which there is nothing is empty. The database writes this form (`reading`), `packed` does for rows
at hand. Pure; a roster never changes.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final
from uuid import UUID

from ingest.labels import normalise_label
from ingest.resolve.rows import Sensor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ingest.resolve.vocabulary import Vocabulary

_CODE: Final = b"\0c"
_DEVICE: Final = b"\0d"
_LABEL: Final = b"\0l"
_KEY: Final = b"\0k"
_PLACE: Final = b"\0p"
_IDS: Final = re.compile(rb"\0x([0-9a-f]{32})")
_LABELS: Final = re.compile(rb"\0l([^\0]+)")


class Roster:
    """The sensors of one greenhouse; see the module's header. Lookups give them in the order of their ids."""

    __slots__ = ("_keys", "count", "greenhouse_id", "packed")

    def __init__(self, greenhouse_id: UUID, packed: bytes) -> None:
        """Take the records as the database or `packed` wrote them."""
        self.greenhouse_id = greenhouse_id
        self.packed = packed
        self.count = packed.count(_CODE)
        self._keys: bytes | None = None
        """Labels in the form in which they are compared, each with where it is; made when first asked for."""

    def ids(self) -> list[int]:
        """Give all ids, as numbers."""
        return [int(digits, 16) for digits in _IDS.findall(self.packed)]

    def digest(self) -> int:
        """Give 64 bits that tell this roster from any other, in any process."""
        content = self.greenhouse_id.bytes + self.packed
        return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")

    def all(self, names: Vocabulary) -> list[Sensor]:
        """Give every sensor; *names* are those of its snapshot, here and below."""
        return [self._sensor(record, names) for record in self.packed.split(_CODE)[1:]]

    def identified(self, sensor_id: int, names: Vocabulary) -> Sensor | None:
        """Find by id."""
        at = self.packed.find(b"\0x%032x" % sensor_id)
        return None if at < 0 else self._around(at, names)

    def coded(self, code: str, names: Vocabulary) -> list[Sensor]:
        """Find by `sensor_code`, then by `device_id`, written exactly so."""
        return self._named(_CODE, code, names) + self._named(_DEVICE, code, names)

    def labelled(self, label: str, names: Vocabulary) -> list[Sensor]:
        """Find by `mqtt_field_name`: the exact label, else alike in case and separators."""
        return self._named(_LABEL, label, names) or self._alike(label, names)

    def _named(self, field: bytes, name: str, names: Vocabulary) -> list[Sensor]:
        if not name or "\0" in name:
            return []
        # Half of a surrogate pair is in no text of the database: what it becomes finds nothing.
        needle = b"%b%b\0" % (field, name.encode("utf-8", "surrogatepass"))
        found = []
        at = self.packed.find(needle)
        while at >= 0:
            found.append(self._around(at, names))
            at = self.packed.find(needle, at + 1)
        return found

    def _alike(self, label: str, names: Vocabulary) -> list[Sensor]:
        if not label or "\0" in label:
            return []
        keys = self._keys
        if keys is None:
            keys = self._keys = b"".join(
                b"%b%b%b%d" % (_KEY, normalise_label(match[1].decode()).encode(), _PLACE, match.start())
                for match in _LABELS.finditer(self.packed)
            )
        needle = b"%b%b%b" % (_KEY, normalise_label(label).encode("utf-8", "surrogatepass"), _PLACE)
        found = []
        at = keys.find(needle)
        while at >= 0:
            place = keys[at + len(needle) :].partition(_KEY)[0]
            found.append(self._around(int(place), names))
            at = keys.find(needle, at + 1)
        return found

    def _around(self, at: int, names: Vocabulary) -> Sensor:
        """Give the sensor whose record has a field that begins at *at*."""
        packed = self.packed
        start = packed.rfind(_CODE, 0, at + 2) + 2
        end = packed.find(_CODE, start)
        return self._sensor(packed[start:end] if end >= 0 else packed[start:], names)

    def _sensor(self, record: bytes, names: Vocabulary) -> Sensor:
        code, device, label, own, sensor_type, unit = record.decode().split("\0")
        return Sensor(
            UUID(int=int(own[1:33], 16)),
            self.greenhouse_id,
            code,
            device[1:] or None,
            label[1:] or None,
            names.sensor_type_written(sensor_type[1:]),
            names.unit_written(unit[1:]),
            own[33] == "1",
            int(own[34:]) if len(own) > 34 else None,  # noqa: PLR2004 (as in the lines above)
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
