"""The arithmetic of docs/scaling.md: what so many gateways send, and what it takes to store that.

    python -m docs.scaling_arithmetic        prints the tables; a test holds the page equal to them

Each constant says where it comes from; change one, print, and paste.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

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
WORKER_READINGS: Final = 60_000
"""A second, by one worker: `make bench ARGS=--quick`; broker and database on the same two cores."""
COPY_ROWS: Final = 230_000
"""A second, raw COPY into the hypertable with its index, on two cores: `make bench ARGS=--quick`."""

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


def rates() -> Iterator[str]:
    """Yield the lines of the table of rates."""
    yield "| gateways | every | messages/s | readings/s | Mbit/s through broker | Mbit/s to database |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for load in loads():
        yield (
            f"| {load.gateways:,} | {load.interval_s} s | {_short(load.messages)} | {_short(load.readings)} "
            f"| {_short(load.broker_mbit)} | {_short(load.database_mbit)} |"
        )


def shares() -> Iterator[str]:
    """Yield the lines of the table of what is used up."""
    yield "| gateways | every | of a Mosquitto | of a database's COPY | workers | broker queue in an hour |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for load in loads():
        yield (
            f"| {load.gateways:,} | {load.interval_s} s | {_percent(load.messages / BROKER_MESSAGES)} "
            f"| {_percent(load.readings / COPY_ROWS)} | {math.ceil(load.readings / WORKER_READINGS)} "
            f"| {_short(load.queued_gb_an_hour)} GB |"
        )


def storage() -> Iterator[str]:
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


def main() -> None:
    """Print the tables."""
    for table in (rates, shares, storage):
        sys.stdout.write("\n".join([*table(), "", ""]))


if __name__ == "__main__":
    main()
