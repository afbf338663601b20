"""The arithmetic of docs/scaling.md: what so many gateways send, and what it takes to store that.

    python -m bench.document        writes its tables and figures into the page; a test holds the page to them

Each constant says where it comes from; what the benchmark measures is read from what it keeps. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READINGS_A_MESSAGE: Final = 22
PAYLOAD_BYTES: Final = 700
"""A flat map of 22 fields, as gateways in the field send."""
WIRE_BYTES: Final = PAYLOAD_BYTES + 100
"""With topic, MQTT, TLS, TCP and IP headers; once into the broker, once out of it."""
ROW_WIRE_BYTES: Final = 100
"""One row in COPY's binary form."""
QUEUED_BYTES: Final = PAYLOAD_BYTES + 390
"""In the broker's memory, while the worker or the database is away: config/mosquitto.conf."""

BROKER_MESSAGES: Final = 18_000
"""A second, taken in by one Mosquitto onto a growing queue: config/mosquitto.conf."""
WORKLOAD: Final = "many_sensors"
"""What a worker and a COPY are counted with: single readings of 50 000 sensors, the dearest there are."""

HOT_BYTES: Final = 226
"""A reading that is not compressed yet, index included: docs/storage.md."""
HOT_DAYS: Final = 3
"""compress_after.sensor_readings."""
COMPRESSED_BYTES: Final = {60: 10, 5: 8}
"""A compressed reading by the interval in s; docs/storage.md measured 8.0 at 26 s and 12.4 at 315 s."""
AGGREGATED_BYTES: Final = 530
"""An hour of a sensor in aggregates and rollups: docs/storage.md, 45.2 bytes x 11.4 readings, 4.0 x 138."""
GATEWAYS: Final = (100, 10_000, 1_000_000)
INTERVALS_S: Final = (60, 5)
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Measured:
    """What the benchmark measured; broker, database and worker shared the machine."""

    worker_readings: int
    """A second, by one worker, to two digits."""
    worker_cpu_us: float
    """Of one of them."""
    copy_rows: int
    """A second, raw COPY into the hypertable with its index, to two digits."""
    drained: int
    """Messages a second, from the broker to a socket."""
    map_readings: int
    """A second, by one worker, of flat maps of 22."""
    map_cpu_us: float
    """Of such a map."""

    @classmethod
    def of(cls, kept: dict[str, Any]) -> Measured:
        """Take it from bench/results/latest.json. KeyError where that lacks a workload."""
        counted, maps = kept["workloads"][WORKLOAD], kept["workloads"]["flat_maps"]
        rates = counted["rows_per_s"]
        return cls(
            _two_digits(rates["worker"]),
            counted["cpu_us_per_message"],
            _two_digits(rates["raw_copy"]),
            _two_digits(rates["socket_drain"]),
            _two_digits(maps["rows_per_s"]["worker"]),
            maps["cpu_us_per_message"],
        )


@dataclass(frozen=True, slots=True)
class Load:
    """So many gateways, each publishing every so many seconds."""

    gateways: int
    interval_s: int

    @property
    def messages(self) -> float:
        """A second."""
        return self.gateways / self.interval_s

    @property
    def readings(self) -> float:
        """A second."""
        return self.messages * READINGS_A_MESSAGE

    @property
    def sensors(self) -> int:
        """One for each field."""
        return self.gateways * READINGS_A_MESSAGE

    @property
    def broker_mbit(self) -> float:
        """Mbit/s into the broker, and as many out of it."""
        return self.messages * WIRE_BYTES * 8 / 1e6

    @property
    def database_mbit(self) -> float:
        """Mbit/s into the database."""
        return self.readings * ROW_WIRE_BYTES * 8 / 1e6

    @property
    def queued_gb_an_hour(self) -> float:
        """What the broker queues in an hour of nobody taking it, GB."""
        return self.messages * 3600 * QUEUED_BYTES / 1e9

    @property
    def hot_gb(self) -> float:
        """Readings not compressed yet, GB."""
        return self.readings * _DAY_S * HOT_DAYS * HOT_BYTES / 1e9

    @property
    def year_gb(self) -> float:
        """What a year adds: compressed readings, aggregates and rollups, GB."""
        compressed = self.readings * _DAY_S * 365 * COMPRESSED_BYTES[self.interval_s]
        return (compressed + self.sensors * 24 * 365 * AGGREGATED_BYTES) / 1e9


def loads() -> list[Load]:
    """Return every load of the page, in its order."""
    return [Load(gateways, interval_s) for interval_s in INTERVALS_S for gateways in GATEWAYS]


def rates(_: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of rates."""
    yield "| gateways | every | messages/s | readings/s | Mbit/s through broker | Mbit/s to database |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for load in loads():
        yield (
            f"| {load.gateways:,} | {load.interval_s} s | {_short(load.messages)} | {_short(load.readings)} "
            f"| {_short(load.broker_mbit)} | {_short(load.database_mbit)} |"
        )


def shares(kept: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of what is used up."""
    measured = Measured.of(kept)
    yield "| gateways | every | of a Mosquitto | of a database's COPY | workers | broker queue in an hour |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for load in loads():
        yield (
            f"| {load.gateways:,} | {load.interval_s} s | {_percent(load.messages / BROKER_MESSAGES)} "
            f"| {_percent(load.readings / measured.copy_rows)} "
            f"| {math.ceil(load.readings / measured.worker_readings)} "
            f"| {_short(load.queued_gb_an_hour)} GB |"
        )


def storage(_: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of bytes."""
    yield "| gateways | every | readings a day | not compressed yet | a year adds |"
    yield "|---:|---:|---:|---:|---:|"
    for load in loads():
        yield (
            f"| {load.gateways:,} | {load.interval_s} s | {_short(load.readings * _DAY_S / 1e6)} million "
            f"| {_short(load.hot_gb)} GB | {_short(load.year_gb)} GB |"
        )


def _short(number: float) -> str:
    """Three digits that count, and no exponent."""
    if number >= 100:  # noqa: PLR2004 (three digits)
        return f"{round(number, 2 - math.floor(math.log10(number))):,.0f}"
    return f"{number:.3g}"


def _percent(share: float) -> str:
    return f"{_short(share * 100)} %"


def _two_digits(number: float) -> int:
    return int(round(number, 1 - math.floor(math.log10(number))))


def _spaced(number: float) -> str:
    """Two digits that count, thousands apart."""
    return f"{_two_digits(number):,}".replace(",", " ")


def figures(kept: dict[str, Any]) -> dict[str, str]:
    """Give what stands in the sentences of the page, by name."""
    measured = Measured.of(kept)
    shard, quick_shard, most = Load(50_000, 60), Load(10_000, 5), Load(1_000_000, 60)
    gateways_s = measured.copy_rows / READINGS_A_MESSAGE
    return {
        "drained": _spaced(measured.drained),
        "copy": _spaced(measured.copy_rows),
        "worker": _spaced(measured.worker_readings),
        "worker_cpu": f"{measured.worker_cpu_us:.0f}",
        "maps": _spaced(measured.map_readings),
        "map_cpu": f"{measured.map_cpu_us:.0f}",
        "copy_gateways": _spaced(gateways_s * 60),
        "copy_quick_gateways": _spaced(gateways_s * 5),
        "most_of_copy": f"{100 * most.readings / measured.copy_rows:.0f} %",
        "shard": _spaced(shard.readings),
        "shard_of_copy": f"{100 * shard.readings / measured.copy_rows:.0f} %",
        "shard_of_worker": f"{100 * shard.readings / measured.worker_readings:.0f} %",
        "shard_hot": f"{shard.hot_gb / 1000:.1f} TB",
        "shard_year": f"{shard.year_gb / 1000:.0f} TB",
        "shard_queue": f"{shard.queued_gb_an_hour:.1f} GB",
        "quick_shard": _spaced(quick_shard.readings),
        "quick_shard_of_copy": f"{100 * quick_shard.readings / measured.copy_rows:.0f} %",
        "quick_shard_of_worker": f"{100 * quick_shard.readings / measured.worker_readings:.0f} %",
        "quick_shard_hot": f"{quick_shard.hot_gb / 1000:.1f} TB",
        "quick_shard_year": f"{quick_shard.year_gb / 1000:.0f} TB",
        "quick_shard_queue": f"{_short(quick_shard.queued_gb_an_hour)} GB",
        "quick_shard_queue_day": f"{_short(24 * quick_shard.queued_gb_an_hour)} GB",
    }


TABLES: Final[dict[str, Callable[[dict[str, Any]], Iterator[str]]]] = {
    "rates": rates,
    "shares": shares,
    "storage": storage,
}
