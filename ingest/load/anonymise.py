"""Recorded messages without names of tenants, greenhouses and sensors; values, types, units and times stay.

What the worker would make of a message stays the same: as many readings of the same types, as many
rejections. So topics are told apart by its routes and payloads by its formats; what is no reading loses its
letters and digits. Pure.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from ingest.decode import IGNORED, Routes
from ingest.decode.labels import ENVELOPE_KEYS
from ingest.decode.payload import parse_payload
from ingest.decode.routes import CAPTURES, capture
from ingest.decode.values import Fault, parse_time, parse_value
from ingest.load.json_values import dumped
from ingest.load.pseudonyms import Pseudonyms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.load.recording import Recorded
    from ingest.model import PayloadFormat
    from ingest.settings import DecodeSettings, LabelRule, RouteSettings

_ANY_TIME: Final = (-(2**63), 2**63)
_LONGEST_SENSOR_ID: Final = 200
_EXACT_INTEGER: Final = 2**53


class Anonymiser:
    """Maps messages under one key; see the module's header."""

    def __init__(
        self,
        key: bytes,
        *,
        routes: Sequence[RouteSettings],
        decode: DecodeSettings,
        label_rules: Sequence[LabelRule],
    ) -> None:
        """Take the secret *key*, and what the worker reads messages by."""
        self._names = Pseudonyms(key, (token for rule in label_rules for token in rule.tokens))
        self._scopes = Routes(routes, decode.ignore).scopes
        self._patterns = [(route, tuple(route.topic.split("/"))) for route in routes]
        levels = {level for _, pattern in self._patterns for level in pattern}
        levels.update(*(each.split("/") for each in decode.ignore))
        self._kept_levels = levels - CAPTURES.keys()
        self._kept_tenants = {route.tenant for route in routes}
        self._decode = decode

    def message(self, message: Recorded) -> Recorded:
        """Give *message* without names; never raises."""
        topic, payload_format = self._topic(message.topic)
        return message._replace(
            topic=topic,
            payload=self._payload(message.payload, payload_format),
            client_id=None if message.client_id is None else self._names.sensor(message.client_id),
            properties=None if message.properties is None else self._properties(message.properties),
        )

    def _topic(self, topic: str) -> tuple[str, PayloadFormat | None]:
        """Give the topic without names, and the format of what is published there: None if it is not read."""
        levels = topic.split("/")
        if self._scopes[topic] is not IGNORED:
            for route, pattern in self._patterns:
                if capture(pattern, levels) is not None:
                    mapped = [self._level(*pair) for pair in zip(pattern, levels, strict=True)]
                    return "/".join(mapped), route.format
        kept = self._kept_levels
        mapped = [each if each in kept else self._names.text(each) for each in levels]
        if levels[0][:1] == "$":  # the broker's own topics; further down it is a letter like others
            mapped[0] = levels[0]
        return "/".join(mapped), None

    def _level(self, expected: str, level: str) -> str:
        match CAPTURES.get(expected):
            case "tenant":
                return level if level in self._kept_tenants else self._names.tenant(level)
            case "greenhouse":
                return self._names.greenhouse(level)
        return self._names.text(level) if expected == "+" else level

    def _payload(self, payload: bytes, payload_format: PayloadFormat | None) -> bytes:
        if len(payload) > self._decode.max_payload_bytes:
            return b"x" * len(payload)
        if payload_format is None:
            return _without_text(payload)
        tree = parse_payload(payload, self._decode.max_depth)
        if isinstance(tree, Fault):
            return _without_text(payload)
        mapped = self._labels(tree) if payload_format == "labels" else self._readings(tree, payload_format)
        return dumped(mapped)

    def _labels(self, tree: object) -> object:
        if not isinstance(tree, dict):
            return self._other(tree)
        longest = self._decode.max_label_chars
        return {
            self._label(key, longest): (
                _time(value)
                if key == "timestamp"
                else self._id(value)
                if key in ENVELOPE_KEYS
                else _value(value)
            )
            for key, value in tree.items()
        }

    def _label(self, label: str, longest: int) -> str:
        if label in ENVELOPE_KEYS:
            return label
        if len(label) > longest:  # refused for that, and so it will be
            return self._names.text(label).ljust(len(label), "x")
        return self._names.label(label)

    def _readings(self, tree: object, payload_format: PayloadFormat) -> object:
        if isinstance(tree, list):
            return [self._reading(each) for each in tree]
        if payload_format == "readings" and isinstance(tree, dict) and "readings" in tree:
            return {
                key: (
                    _time(value)
                    if key == "timestamp"
                    else [self._reading(each) for each in value]
                    if key == "readings" and isinstance(value, list)
                    else self._other(value)
                )
                for key, value in tree.items()
            }
        return self._reading(tree)

    def _reading(self, item: object) -> object:
        if not isinstance(item, dict):
            return _value(item)
        return {key: self._field(key, value) for key, value in item.items()}

    def _field(self, key: str, value: object) -> object:
        match key:
            case "value":
                return _value(value)
            case "timestamp":
                return _time(value)
            case "sensor_id":
                return self._id(value)
            case "sensor_type" | "unit" if isinstance(value, str):
                return value
        return self._other(value)

    def _id(self, value: object) -> object:
        """Give the name of a sensor or place for one; what is none stays none."""
        if isinstance(value, float) and math.isfinite(value) and abs(value) < _EXACT_INTEGER:
            value = repr(value)
        elif type(value) is int:
            value = str(value)
        if not isinstance(value, str):
            return self._other(value) if isinstance(value, dict | list) else value
        if len(value) > _LONGEST_SENSOR_ID:
            return self._names.text(value).ljust(len(value), "x")
        return self._names.sensor(value)

    def _other(self, tree: object) -> object:
        """Give what is no reading's value: its shape and keys, other texts, no numbers."""
        if isinstance(tree, dict):
            return {key: self._other(value) for key, value in tree.items()}
        if isinstance(tree, list):
            return [self._other(each) for each in tree]
        if isinstance(tree, str):
            return self._names.text(tree)
        return 0 if type(tree) is int or type(tree) is float else tree

    def _properties(self, properties: Any) -> dict[str, Any]:  # noqa: ANN401 (JSON)
        mapped: dict[str, Any] = {}
        for name, value in properties.items():
            match name, value:
                case "response_topic", str(topic):
                    mapped[name] = self._topic(topic)[0]
                case "user_properties", list(pairs):
                    mapped[name] = [[key, self._names.text(text)] for key, text in pairs]
                case (("payload_format_indicator" | "message_expiry_interval" | "content_type"), _):
                    mapped[name] = value
        return mapped


def _value(value: object) -> object:
    """Give a reading's value; text that is none loses its letters and digits."""
    if isinstance(value, dict | list):
        return type(value)()
    return _masked(value) if isinstance(value, str) and isinstance(parse_value(value), Fault) else value


def _time(stamp: object) -> object:
    if isinstance(stamp, dict | list):
        return type(stamp)()
    return _masked(stamp) if isinstance(stamp, str) and type(parse_time(stamp, _ANY_TIME)) is Fault else stamp


def _masked(text: str) -> str:
    return "".join("0" if "0" <= each <= "9" else "x" if each.isalnum() else each for each in text)


_MASKED_BYTES: Final = _masked(bytes(range(0x80)).decode()).encode().ljust(0x100, b"\xff")
"""Of what is not UTF-8, which it stays so."""


def _without_text(payload: bytes) -> bytes:
    """Give what is no JSON, or nothing to be read, with its structure and length: it stays what it is."""
    try:
        return _masked(payload.decode()).encode()
    except UnicodeDecodeError:
        return payload.translate(_MASKED_BYTES)
