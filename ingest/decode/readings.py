"""One message -> Decoded: the entry of the stage, and the readings written as JSON objects.

Owns the shapes (object, bare value, array, envelope), the limits of a message and the ledger:
readings + rejections + nulls = decoded, a message rejected whole counting as one. It resolves no
name and reads no clock; the receipt time is an argument. Called by the worker's task, a few µs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ingest.decode.labels import ENVELOPE_KEYS, read_labels
from ingest.decode.payload import parse_payload
from ingest.decode.routes import IGNORED, Ignored, Routes
from ingest.decode.values import (
    INFINITY,
    MINUS_INFINITY,
    Fault,
    TimeFault,
    bad_time,
    parse_time,
    parse_value,
    quoted,
)
from ingest.model import CutPayload, Decoded, Reading, Rejection

if TYPE_CHECKING:
    from ingest.model import Reason, Scope
    from ingest.settings import DecodeSettings

_MISSING: Final = object()
_EXACT_INTEGER: Final = 2.0**53
"""Beyond it a number read as a float has lost digits, and two ids may have become one."""
_LONGEST_SENSOR_ID: Final = 200
"""Characters: a UUID has 36, a registered device code 100 at most."""


class Decoder:
    """Decodes messages under one set of routes and limits; holds no state between messages."""

    def __init__(self, routes: Routes, settings: DecodeSettings) -> None:
        """Take the compiled *routes* and the limits of *settings* (seconds become µs once)."""
        self._scopes = routes.scopes
        self._max_payload_bytes = settings.max_payload_bytes
        self._max_readings = settings.max_readings
        self._max_depth = settings.max_depth
        self._max_label_chars = settings.max_label_chars
        self._max_age_us = round(settings.max_age_s * 1_000_000)
        self._max_future_us = round(settings.max_future_s * 1_000_000)

    def decode(  # noqa: PLR0911 - one return a verdict, the hot path's without a call
        self,
        topic: str,
        payload: bytes,
        receipt_us: int,
        *,
        now_us: int | None = None,
        time_range_us: tuple[int, int] | None = None,
    ) -> Decoded | Ignored:
        """Decode one message; IGNORED where it is not ours by rule or empty. Never raises.

        *receipt_us* is the time of readings without one. Times are judged against *now_us* (without
        it the receipt), or against *time_range_us* (earliest, latest) in a backfill; µs since 1970.
        """
        scope = self._scopes[topic]
        if scope is IGNORED or not payload:
            return IGNORED
        if scope is None:
            return _whole(
                None, "unknown_topic", f"no route fits the topic {quoted(topic)}; add one, or ignore it"
            )
        if len(payload) > self._max_payload_bytes or type(payload) is CutPayload:
            size = payload.total_bytes if isinstance(payload, CutPayload) else len(payload)
            limit = self._max_payload_bytes
            return _whole(scope, "too_large", f"{size} bytes, the limit is {limit} (max_payload_bytes)")
        tree = parse_payload(payload, self._max_depth)
        if type(tree) is Fault:
            return _whole(scope, "bad_payload", tree)
        if time_range_us is None:
            judged_at_us = receipt_us if now_us is None else now_us
            time_range_us = (judged_at_us - self._max_age_us, judged_at_us + self._max_future_us)
        if type(tree) is dict and scope.format == "reading":  # most messages
            outcome = _read(tree, "", scope.sensor_type, receipt_us, time_range_us)
            if type(outcome) is Reading:
                return tuple.__new__(Decoded, (scope, (outcome,), (), 0))
            return _alone(scope, outcome)
        if scope.format == "labels":
            return self._labels(scope, tree, payload, receipt_us, time_range_us)
        return self._readings(scope, tree, receipt_us, time_range_us)

    def scope_of(self, topic: str) -> Scope | None:
        """Give what *topic* says of messages that are not decoded; None where it is ignored or unrouted."""
        scope = self._scopes[topic]
        return None if scope is IGNORED else scope

    def _readings(
        self, scope: Scope, tree: object, receipt_us: int, time_range_us: tuple[int, int]
    ) -> Decoded:
        """Read one reading, an array, or (format `readings` only, which has no bare values) an envelope."""
        time_us: int | TimeFault = receipt_us
        if scope.format == "readings":
            if type(tree) is dict and "readings" in tree:
                stamp = tree.get("timestamp")
                if stamp is not None:
                    time_us = parse_time(stamp, time_range_us)
                tree = tree["readings"]
                if type(tree) is not list:
                    return _whole(scope, "bad_payload", f"`readings` is {quoted(tree)}, not an array")
            elif type(tree) is not list and not (type(tree) is dict and "value" in tree):
                found = "an object without `readings` or `value`" if type(tree) is dict else quoted(tree)
                return _whole(scope, "bad_payload", f"{found} where a batch of readings is expected")
        if type(tree) is not list:
            return _alone(scope, _read(tree, "", scope.sensor_type, time_us, time_range_us))
        if len(tree) > self._max_readings:
            return self._too_many(scope, len(tree))
        return _array(scope, tree, time_us, time_range_us)

    def _labels(
        self, scope: Scope, tree: object, payload: bytes, receipt_us: int, time_range_us: tuple[int, int]
    ) -> Decoded:
        if type(tree) is not dict:
            return _whole(scope, "bad_payload", f"{quoted(tree)} where a map label -> value is expected")
        stamp = tree.get("timestamp")
        time_us = receipt_us if stamp is None else parse_time(stamp, time_range_us)
        for key in ENVELOPE_KEYS:
            tree.pop(key, None)
        if len(tree) > self._max_readings:
            return self._too_many(scope, len(tree))
        return Decoded(
            scope,
            *read_labels(tree, time_us, max_label_chars=self._max_label_chars, escaped=b"\\u" in payload),
        )

    def _too_many(self, scope: Scope, count: int) -> Decoded:
        return _whole(
            scope, "too_large", f"{count} readings, the limit is {self._max_readings} (max_readings)"
        )


def _whole(scope: Scope | None, reason: Reason, detail: str) -> Decoded:
    return Decoded(scope, (), [Rejection("", reason, str(detail))])


def _array(
    scope: Scope, items: list[object], time_us: int | TimeFault, time_range_us: tuple[int, int]
) -> Decoded:
    readings: list[Reading] = []
    rejections: list[Rejection] = []
    for place, item in zip(_places(len(items)), items, strict=False):
        outcome = _read(item, place, scope.sensor_type, time_us, time_range_us)
        if isinstance(outcome, Reading):
            readings.append(outcome)
        elif outcome is not None:
            rejections.append(outcome)
    return Decoded(scope, readings, rejections, len(items) - len(readings) - len(rejections))


_known_places: list[str] = []


def _places(count: int) -> list[str]:
    """Give the names of *count* places in an array or more: each is made once."""
    if len(_known_places) < count:
        _known_places.extend(f"[{position}]" for position in range(len(_known_places), count))
    return _known_places


def _alone(scope: Scope, outcome: Reading | Rejection | None) -> Decoded:
    """Give a message that is one reading, or was to be one."""
    if outcome is None:
        return Decoded(scope, nulls=1)
    return Decoded(scope, (outcome,)) if isinstance(outcome, Reading) else Decoded(scope, (), (outcome,))


def _read(
    item: object,
    field: str,
    topic_type: str | None,
    default_time_us: int | TimeFault,
    time_range_us: tuple[int, int],
) -> Reading | Rejection | None:
    """Read *item*, a JSON object or a bare value; None for a null. Keys not looked up here are not read."""
    if type(item) is not dict:
        return _read_bare(item, field, topic_type, default_time_us)
    get = item.get
    value = get("value", _MISSING)
    if value is None:
        return None
    if type(value) is not float or not MINUS_INFINITY < value < INFINITY:
        value = Fault("the object has no `value`") if value is _MISSING else parse_value(value)
    stamp = get("timestamp")
    time_us = default_time_us if stamp is None else parse_time(stamp, time_range_us)
    sensor = get("sensor_id")
    if sensor is not None and (type(sensor) is not str or len(sensor) > _LONGEST_SENSOR_ID):
        sensor = _sensor_text(sensor)
    sensor_type = get("sensor_type")
    unit = get("unit")
    metadata = get("metadata")
    if metadata is not None and type(metadata) is not dict:
        metadata = {"metadata": metadata}
    if (
        type(time_us) is int
        and type(value) is float
        and type(sensor) is not Fault
        and (sensor_type is None or type(sensor_type) is str)
        and (unit is None or type(unit) is str)
    ):
        return tuple.__new__(
            Reading,
            (
                field,
                sensor or None,
                sensor_type or topic_type,
                unit or None,
                value,
                time_us,
                metadata or None,
            ),
        )
    return _refusal(field, time_us=time_us, value=value, sensor=sensor, sensor_type=sensor_type, unit=unit)


def _read_bare(
    value: object, field: str, topic_type: str | None, time_us: int | TimeFault
) -> Reading | Rejection | None:
    """Read a bare value, half as costly as an object: 20 KB of zeros are 10 000 readings."""
    number = parse_value(value)
    if number is None:
        return None
    if isinstance(time_us, int) and type(number) is float:
        return tuple.__new__(Reading, (field, None, topic_type, None, number, time_us, None))
    return _refusal(field, time_us=time_us, value=number, sensor=None, sensor_type=None, unit=None)


def _refusal(
    field: str, *, time_us: int | TimeFault, value: object, sensor: object, sensor_type: object, unit: object
) -> Rejection:
    """Name the first thing wrong with a reading that has something wrong."""
    if not isinstance(time_us, int):
        return bad_time(field, time_us)
    for fault in (value, sensor):
        if isinstance(fault, Fault):
            return Rejection(field, "bad_value", str(fault))
    if sensor_type is not None and not isinstance(sensor_type, str):
        return Rejection(field, "unknown_sensor_type", f"the sensor_type is {quoted(sensor_type)}, not text")
    return Rejection(field, "unknown_unit", f"the unit is {quoted(unit)}, not text")


def _sensor_text(sensor: object) -> str | Fault:
    """Give a numeric sensor_id as text: some gateways number their devices."""
    if type(sensor) is int:
        return str(sensor)
    if type(sensor) is str:
        return Fault(f"a sensor_id of {len(sensor)} characters, the limit is {_LONGEST_SENSOR_ID}")
    if type(sensor) is float and -_EXACT_INTEGER < sensor < _EXACT_INTEGER:
        return repr(sensor)
    return Fault(f"the sensor_id is {quoted(sensor)}; send it as text")
