"""What a gateway writes: its readings as topics and payloads, in each of the formats that are installed.

A format is a class with `payloads`: the values of one moment in, messages out. How a gateway spells times,
numbers, types and units is drawn once, for gateways keep to their habits; `decode` and `resolve` take all
of them. Pure but for the batch that a buffering gateway gathers.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

import orjson

from ingest.load.simulate.probes import SILENT, Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

    from ingest.load.simulate.installation import Channel, Installation

Value: TypeAlias = float | Silent | None
Payload: TypeAlias = tuple[str, bytes]
"""Topic and payload."""

STATUS_TOPIC: Final = "GREENHOUSE/STATUS"
"""What gateways of the older kinds say when they have connected; never a reading (`decode.ignore`)."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MADRID: Final = timezone(timedelta(hours=1))
_SECONDS_FROM_S: Final = 2.0
"""Gateways that report more often write times finer than a second: two readings would have one key."""
_BATCH_MOMENTS: Final = 6
_BATTERY_EVERY: Final = 10

SPELLINGS: Final[dict[str, tuple[str, ...]]] = {
    "temperature": ("temperature", "TEMPERATURE", "Temperatura", "temp", "air-temperature"),
    "humidity": ("humidity", "HUMEDAD", "Humedad", "hum", "relative_humidity"),
    "light": ("light", "LUZ", "lux", "illuminance", "light-level"),
    "co2": ("co2", "CO2", "Co2", "carbon_dioxide", "CO2"),
    "soil": ("soil_moisture", "soil-moisture", "SUELO", "humedad_suelo", "SOIL_MOISTURE"),
    "radiation": ("solar_radiation", "RADIACION", "radiation", "solar-radiation", "SOLAR_RADIATION"),
    "wind": ("wind_speed", "VIENTO", "wind", "wind-speed", "WIND_SPEED"),
    "rain": ("precipitation", "LLUVIA", "rain", "rainfall", "PRECIPITATION"),
    "pressure": ("pressure", "PRESION", "barometer", "air-pressure", "PRESSURE"),
    "heat_to": ("setpoint", "CONSIGNA", "SETPOINT", "set-point", "Setpoint"),
    "vent_at": ("setpoint", "CONSIGNA", "SETPOINT", "set-point", "Setpoint"),
    "extractor": ("sensor", "SENSOR", "Sensor", "generic", "sensor"),
}
"""Of each sensor type, a name for each habit of spelling; all are names or aliases of the catalog."""
_UNITS: Final[dict[str, tuple[str, ...]]] = {
    "°C": ("°C", "C", "ºC", "celsius", "degC"),
    "%": ("%", "%RH", "percent", "%", "pct"),
    "lux": ("lux", "lx", "LUX", "lux", "lm/m2"),
    "ppm": ("ppm", "PPM", "ppm", "ppmv", "ppm"),
    "W/m²": ("W/m²", "W/m2", "W/m2", "W/m^2", "W/m²"),
    "m/s": ("m/s", "m/s", "mps", "m/s", "m s-1"),
    "mm": ("mm", "mm", "l/m2", "mm", "mm"),
    "hPa": ("hPa", "mbar", "hPa", "millibar", "hPa"),
    "value": ("value", "valor", "value", "value", "value"),
    "unit": ("unit", "ud", "unit", "unit", "unit"),
}
_HABITS: Final = 5


def _moment(time_us: int) -> datetime:
    return _EPOCH + time_us * _MICROSECOND


_CLOCKS: Final[dict[str, Callable[[int], object]]] = {
    "utc": lambda us: f"{_moment(us).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z",
    "offset": lambda us: _moment(us).astimezone(_MADRID).isoformat(timespec="milliseconds"),
    "naive": lambda us: _moment(us).replace(tzinfo=None).isoformat(timespec="milliseconds"),
    "milliseconds": lambda us: us // 1_000,
    "microseconds": lambda us: us,
    "text": lambda us: str(us // 1_000),
    "utc seconds": lambda us: f"{_moment(us).replace(tzinfo=None).isoformat(timespec='seconds')}Z",
    "seconds": lambda us: us // 1_000_000,
}
_COARSE: Final = ("utc seconds", "seconds")
CLOCKS: Final = tuple(_CLOCKS)


class Habits(NamedTuple):
    """How one gateway writes."""

    spelling: int
    clock: Callable[[int], object]
    comma: bool
    """Numbers as text with a decimal comma."""
    switches: tuple[object, object]
    """Off and on."""
    with_unit: bool
    fahrenheit: bool
    timed: bool
    """Where the format leaves it open, readings have their time."""

    def number(self, value: Value) -> object:
        """Write *value*."""
        return f"{value}".replace(".", ",") if self.comma and value is not None else value

    def switch(self, value: Value) -> object:
        """Write a switch that is on or off."""
        return self.switches[value == 1]


def habits(random: Random, interval_s: float) -> Habits:
    """Draw the habits of a gateway that reports every *interval_s*."""
    clocks = (
        CLOCKS if interval_s >= _SECONDS_FROM_S else tuple(name for name in CLOCKS if name not in _COARSE)
    )
    return Habits(
        spelling=random.randrange(_HABITS),
        clock=_CLOCKS[random.choice(clocks)],
        comma=random.random() < 0.125,  # noqa: PLR2004 (one in eight)
        switches=random.choice(((0, 1), (0, 1), (False, True), ("OFF", "ON"))),
        with_unit=random.random() < 0.75,  # noqa: PLR2004 (three in four)
        fahrenheit=random.random() < 0.125,  # noqa: PLR2004 (one in eight)
        timed=random.random() < 0.5,  # noqa: PLR2004 (one in two)
    )


class Writer(Protocol):
    """Turns the values of one moment into messages."""

    timed: bool
    """Its readings have their time, so that they may be delivered later."""

    def payloads(self, values: Sequence[Value], time_us: int) -> Iterator[Payload]:
        """Write *values*, one a channel, as of *time_us* by the gateway's clock."""
        ...


def writer(part: Installation, how: Habits) -> Writer:
    """Give what writes the format of *part*."""
    house = part.houses[0]
    place = f"greenhouse/{house.greenhouse_id if part.by_id else house.code}"
    match part.format:
        case "labels":
            return _Map(f"GREENHOUSE/{part.prefix}/{house.code}", part.channels, how, timed=how.timed)
        case "plc":
            return _Map(f"GREENHOUSE/{part.prefix}", part.channels, how, timed=False)
        case "legacy":
            return _Map("GREENHOUSE", part.channels, how, timed=False)
        case named:
            return _NAMED[named](place, part.channels, how)


class _Readings:
    """One reading a message, each type on its topic: device code or UUID, value, unit, time, battery."""

    def __init__(self, place: str, channels: Sequence[Channel], how: Habits) -> None:
        self.timed = True
        self._how = how
        self._rows = [
            (f"{place}/sensors/{_spelled(channel, how)}", channel.name, *_unit(channel, how))
            for channel in channels
        ]
        self._written = 0

    def payloads(self, values: Sequence[Value], time_us: int) -> Iterator[Payload]:
        how = self._how
        stamp = how.clock(time_us)
        for (topic, name, unit, imperial), value in zip(self._rows, values, strict=True):
            if value is SILENT:
                continue
            shown = _fahrenheit(value) if imperial else value
            reading: dict[str, Any] = {"sensor_id": name, "value": how.number(shown)}
            if unit:
                reading["unit"] = unit
            reading["timestamp"] = stamp
            self._written += 1
            if self._written % _BATTERY_EVERY == 0:
                reading["metadata"] = {"battery_v": round(3.3 + self._written % 700 / 1000, 2)}
            yield topic, orjson.dumps(reading)


class _Bare:
    """The number alone, on the topic of its type."""

    def __init__(self, place: str, channels: Sequence[Channel], how: Habits) -> None:
        self.timed = False
        self._topics = [f"{place}/sensors/{_spelled(channel, how)}" for channel in channels]

    def payloads(self, values: Sequence[Value], time_us: int) -> Iterator[Payload]:
        _ = time_us
        for topic, value in zip(self._topics, values, strict=True):
            if value is not SILENT:
                yield topic, orjson.dumps(value)


class _Arrays:
    """All probes of one type in one message, on the type's topic."""

    def __init__(self, place: str, channels: Sequence[Channel], how: Habits) -> None:
        self.timed = True
        self._how = how
        self._by_topic: dict[str, list[tuple[int, str]]] = {}
        for index, channel in enumerate(channels):
            topic = f"{place}/sensors/{_spelled(channel, how)}"
            self._by_topic.setdefault(topic, []).append((index, channel.name))

    def payloads(self, values: Sequence[Value], time_us: int) -> Iterator[Payload]:
        how = self._how
        stamp = how.clock(time_us)
        for topic, probes in self._by_topic.items():
            readings = [
                {"sensor_id": name, "value": how.number(value), "timestamp": stamp}
                for index, name in probes
                if (value := values[index]) is not SILENT
            ]
            if readings:
                yield topic, orjson.dumps(readings)


class _Batches:
    """A buffering gateway: some moments in one array, each reading with its type and time."""

    def __init__(self, place: str, channels: Sequence[Channel], how: Habits) -> None:
        self.timed = True
        self._topic = f"{place}/readings"
        self._how = how
        self._rows = [(channel.name, _spelled(channel, how)) for channel in channels]
        self._gathered: list[dict[str, object]] = []
        self._moments = 0

    def payloads(self, values: Sequence[Value], time_us: int) -> Iterator[Payload]:
        how = self._how
        stamp = how.clock(time_us)
        self._gathered += [
            {"sensor_id": name, "sensor_type": kind, "value": how.number(value), "timestamp": stamp}
            for (name, kind), value in zip(self._rows, values, strict=True)
            if value is not SILENT
        ]
        self._moments += 1
        if self._moments == _BATCH_MOMENTS:
            self._moments = 0
            if self._gathered:
                yield self._topic, orjson.dumps(self._gathered)
                self._gathered = []


class _Envelopes:
    """One moment's readings under its time."""

    def __init__(self, place: str, channels: Sequence[Channel], how: Habits) -> None:
        self.timed = True
        self._topic = f"{place}/readings"
        self._how = how
        self._rows = [
            (channel.name, _spelled(channel, how), channel.quantity == "extractor", *_unit(channel, how))
            for channel in channels
        ]

    def payloads(self, values: Sequence[Value], time_us: int) -> Iterator[Payload]:
        how = self._how
        readings: list[dict[str, object]] = []
        for (name, kind, switch, unit, imperial), value in zip(self._rows, values, strict=True):
            if value is SILENT:
                continue
            shown = how.switch(value) if switch else how.number(_fahrenheit(value) if imperial else value)
            reading: dict[str, object] = {"sensor_id": name, "sensor_type": kind, "value": shown}
            if unit:
                reading["unit"] = unit
            readings.append(reading)
        if readings:
            yield self._topic, orjson.dumps({"timestamp": how.clock(time_us), "readings": readings})


class _Map:
    """Label to value, all of a moment in one message; with a time, also the ids that nobody believes."""

    def __init__(self, topic: str, channels: Sequence[Channel], how: Habits, *, timed: bool) -> None:
        self.timed = timed
        self._topic = topic
        self._how = how
        self._rows = [(channel.name, channel.quantity == "extractor") for channel in channels]
        self._house = topic.rpartition("/")[2]

    def payloads(self, values: Sequence[Value], time_us: int) -> Iterator[Payload]:
        how = self._how
        fields: dict[str, object] = {}
        for (label, switch), value in zip(self._rows, values, strict=True):
            if value is not SILENT:
                fields[label] = how.switch(value) if switch else how.number(value)
        if not fields:
            return
        if self.timed:
            fields["timestamp"] = how.clock(time_us)
            fields["greenhouseId"] = self._house
        yield self._topic, orjson.dumps(fields)


_NAMED: Final[dict[str, type[_Readings | _Bare | _Arrays | _Batches | _Envelopes]]] = {
    "reading": _Readings,
    "bare": _Bare,
    "array": _Arrays,
    "batch": _Batches,
    "envelope": _Envelopes,
}


def _spelled(channel: Channel, how: Habits) -> str:
    return SPELLINGS[channel.quantity][how.spelling]


def _unit(channel: Channel, how: Habits) -> tuple[str, bool]:
    """Give the unit that is sent, empty for none, and whether the value is to be turned into it."""
    if channel.quantity == "temperature" and how.fahrenheit:
        return "°F", True
    return _UNITS[channel.unit][how.spelling] if how.with_unit else "", False


def _fahrenheit(value: Value) -> Value:
    return value if value is None or value is SILENT else round(value * 9 / 5 + 32, 1)
