"""The greenhouses and sensors that a workload's gateways have: the catalog's rows, the same in every run.

Pure. Every sensor is registered under its UUID, code and label, as in a running installation; so a row is the
same whoever writes it, and no contender has to derive an id.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple
from uuid import UUID, uuid5

from ingest.defaults import DEFAULT_LABEL_RULES
from ingest.labels import LabelRules
from ingest.resolve.catalog import Catalog
from ingest.resolve.rows import Greenhouse, Sensor, Tenant
from ingest.settings import LabelRule
from tests.unit.catalog_examples import SENSOR_TYPES, UNITS

_NAMESPACE: Final = UUID("5be2d8a5-6d3f-4a6c-9d0e-7a3f0f6d4b01")
TENANT: Final = Tenant(uuid5(_NAMESPACE, "tenant"), "Benchmark", "BENCH", is_active=True)


class Kind(NamedTuple):
    """A sensor type, as a topic writes it, with its id and that of its unit."""

    name: str
    unit: str
    type_id: int
    unit_id: int


KINDS: Final = (
    Kind("temperature", "°C", 1, 1),
    Kind("humidity", "%", 2, 3),
    Kind("light", "lux", 3, 4),
    Kind("soil_moisture", "%", 4, 3),
    Kind("co2", "ppm", 5, 6),
)


class Channel(NamedTuple):
    """One registered sensor: where it publishes, and what its rows hold."""

    greenhouse_id: UUID
    sensor_id: UUID
    kind: Kind
    label: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """All sensors, those of one topic behind one another."""

    greenhouses: tuple[Greenhouse, ...]
    channels: tuple[Channel, ...]

    def sensors(self) -> list[Sensor]:
        """Give the rows of `metadata.sensors`."""
        return [
            Sensor(
                channel.sensor_id,
                channel.greenhouse_id,
                f"S-{number}",
                None,
                channel.label,
                channel.kind.name.upper(),
                channel.kind.unit,
                is_active=True,
                expected_interval_s=10,
            )
            for number, channel in enumerate(self.channels)
        ]

    def catalog(self) -> Catalog:
        """Give the snapshot that a worker would load."""
        return Catalog.build(
            units=UNITS,
            sensor_types=SENSOR_TYPES,
            tenants=[TENANT],
            greenhouses=self.greenhouses,
            sensors=self.sensors(),
        )


@lru_cache
def fleet(topics: int, sensors_a_topic: int) -> Fleet:
    """Give *topics* topics of *sensors_a_topic* sensors: five types a greenhouse, or one of temperatures."""
    kinds = KINDS if topics > 1 else KINDS[:1]
    houses = -(-topics // len(kinds))
    greenhouses = tuple(
        Greenhouse(
            uuid5(_NAMESPACE, f"greenhouse {number}"), TENANT.tenant_id, f"{number:02}", is_active=True
        )
        for number in range(1, houses + 1)
    )
    channels = []
    for topic in range(topics):
        house, kind = greenhouses[topic // len(kinds)], kinds[topic % len(kinds)]
        for number in range(1, sensors_a_topic + 1):
            label = f"{kind.name.upper()} INVERNADERO {house.code} {number:02}"
            sensor_id = uuid5(house.greenhouse_id, label)
            channels.append(Channel(house.greenhouse_id, sensor_id, kind, label))
    return Fleet(greenhouses, tuple(channels))


def label_rules() -> LabelRules:
    """Give the rules as shipped."""
    return LabelRules([LabelRule.model_validate(rule) for rule in DEFAULT_LABEL_RULES])
