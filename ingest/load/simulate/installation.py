"""What stands where: the tenant, greenhouses and sensors of each gateway, and the catalog that names them.

A gateway's part depends on the seed, its number and the formats chosen, never on how many others there
are: the first ten of a thousand are the ten. Ids are UUIDv5 of the seed and the names. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, get_args
from uuid import UUID, uuid5

from ingest.load.simulate.randomness import chance

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from random import Random

Format: TypeAlias = Literal["reading", "bare", "array", "batch", "envelope", "plc", "labels", "legacy"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
"""What a gateway speaks; without a choice they take turns in this order."""

TYPES: Final = {
    "temperature": ("TEMPERATURE", "°C"),
    "humidity": ("HUMIDITY", "%"),
    "light": ("LIGHT", "lux"),
    "co2": ("CO2", "ppm"),
    "soil": ("SOIL_MOISTURE", "%"),
    "radiation": ("SOLAR_RADIATION", "W/m²"),
    "wind": ("WIND_SPEED", "m/s"),
    "rain": ("PRECIPITATION", "mm"),
    "pressure": ("PRESSURE", "hPa"),
    "heat_to": ("SETPOINT", "value"),
    "vent_at": ("SETPOINT", "value"),
    "sector_1": ("SENSOR", "unit"),
    "sector_2": ("SENSOR", "unit"),
    "sector_3": ("SENSOR", "unit"),
    "sector_4": ("SENSOR", "unit"),
    "extractor": ("SENSOR", "unit"),
    "reserve": ("SENSOR", "unit"),
}
"""Sensor type and unit of each quantity of `climate`, by the catalog's names."""

MOST_GATEWAYS: Final = 10_000
MOST_SEED: Final = 2**31 - 1
"""So that a tenant's prefix has 20 characters at most."""

_NAMESPACE: Final = UUID("3f6c1c84-5a0e-4c0e-9a55-1d1f0c8f7a10")
_GATEWAYS_OF_A_TENANT: Final = 8
_LETTERS: Final = "ABCDEFGH"
_PLC_HOUSES: Final = ("01", "02", "03")
_INSIDE: Final = ("temperature", "humidity", "light", "co2", "soil")
_MAST: Final = ("radiation", "wind", "rain", "pressure")
_LABELS: Final = {
    "temperature": "TEMP",
    "humidity": "HUM",
    "light": "LIGHT",
    "co2": "CO2",
    "soil": "SOIL",
    "radiation": "RAD",
    "wind": "WIND",
    "rain": "RAIN",
    "pressure": "PRES",
}


class House(NamedTuple):
    """A greenhouse as the catalog has it."""

    greenhouse_id: UUID
    code: str


class Channel(NamedTuple):
    """One value that a gateway reads, and what it calls it."""

    house: int
    """Which of the gateway's greenhouses."""
    quantity: str
    sensor_type: str
    unit: str
    name: str
    """Label, device code or UUID, as it is sent; empty where the gateway names none."""
    entry: dict[str, str]
    """What the catalog calls it: code, label, sensor_id."""


class Installation(NamedTuple):
    """One gateway's part of the catalog."""

    number: int
    format: Format
    prefix: str
    tenant_id: UUID
    tenant_name: str
    houses: tuple[House, ...]
    channels: tuple[Channel, ...]
    by_id: bool
    """It names its greenhouse by UUID, not by code."""
    site: str
    """Gateways of one site have the same weather."""


def installation(seed: int, number: int, formats: tuple[Format, ...]) -> Installation:
    """Give what gateway *number* of *seed* stands in, when the gateways take turns with *formats*."""
    kind = formats[number % len(formats)]
    random = chance(seed, "installation", number)
    tenant = number // _GATEWAYS_OF_A_TENANT
    codes: tuple[str, ...]
    if kind == "legacy":  # the topic without a tenant has one for everybody, with one greenhouse
        prefix, tenant_name, codes = "DEFAULT", "Simulated, from before there were tenants", ("L1",)
    elif kind == "plc":  # its topic names the tenant alone, its labels 01, 02 and 03 of that tenant
        prefix, tenant_name, codes = f"SIM{seed}P{number:04d}", f"Simulated {seed}, PLC {number}", _PLC_HOUSES
    else:
        prefix, tenant_name = f"SIM{seed}T{tenant:04d}", f"Simulated {seed}, tenant {tenant}"
        codes = (f"{_LETTERS[number % _GATEWAYS_OF_A_TENANT]}{tenant + 1}-{seed}",)
    tenant_id = uuid5(_NAMESPACE, prefix)
    houses = tuple(House(uuid5(tenant_id, code), code) for code in codes)
    if kind in {"plc", "labels", "legacy"}:
        channels = _labels(kind, prefix, houses, number // len(formats), random)
    else:
        channels = _names(kind, houses[0], number, random)
    return Installation(
        number=number,
        format=kind,
        prefix=prefix,
        tenant_id=tenant_id,
        tenant_name=tenant_name,
        houses=houses,
        channels=tuple(channels),
        by_id=random.random() < 0.5,  # noqa: PLR2004 (one in two)
        site=str(tenant),
    )


def catalog(installations: Iterable[Installation], interval_s: dict[int, float]) -> dict[str, Any]:
    """Give the document that `ingest catalog import` takes: these tenants, greenhouses and sensors, no other.

    *interval_s* is how often each gateway, by number, publishes.
    """
    tenants: dict[str, dict[str, Any]] = {}
    houses: dict[UUID, dict[str, Any]] = {}
    for each in installations:
        tenant = tenants.setdefault(
            each.prefix,
            {
                "name": each.tenant_name,
                "prefix": each.prefix,
                "tenant_id": str(each.tenant_id),
                "greenhouses": [],
            },
        )
        for house in each.houses:
            if house.greenhouse_id not in houses:
                houses[house.greenhouse_id] = {
                    "code": house.code,
                    "greenhouse_id": str(house.greenhouse_id),
                    "sensors": [],
                }
                tenant["greenhouses"].append(houses[house.greenhouse_id])
        for channel in each.channels:
            houses[each.houses[channel.house].greenhouse_id]["sensors"].append(
                {
                    **channel.entry,
                    "sensor_type": channel.sensor_type,
                    "unit": channel.unit,
                    "expected_interval_s": max(1, round(interval_s[each.number])),
                }
            )
    return {"tenants": list(tenants.values())}


def _labels(
    kind: Format, prefix: str, houses: tuple[House, ...], turn: int, random: Random
) -> Iterator[Channel]:
    """Give the channels of a gateway that writes maps; *turn* counts those of its kind."""
    if kind == "plc":
        for place, house in enumerate(houses):
            yield from _plc_labels(place, house.code)
        yield _labelled(0, "reserve", "RESERVA")
    elif kind == "legacy":
        for place, quantity in enumerate(("soil", "temperature"), start=2 * turn + 1):
            label = f"SENSOR_{place:02d}"  # which says neither what it measures nor in what
            yield Channel(0, quantity, *TYPES["reserve"], label, {"label": label})
        yield _labelled(0, "heat_to", f"SETPOINT_{turn + 1:02d}")
    else:
        plain = random.random() < 0.5  # noqa: PLR2004 (one in two)
        for quantity in _measured(random):
            token = _LABELS[quantity]
            between = "_" if token[-1].isdecimal() else ""  # CO201 would be no CO2
            label = f"{token}{between}01_valor" if plain else f"{token}_{houses[0].code}_01"
            yield _labelled(0, quantity, f"{prefix}_{label}")


def _names(kind: Format, house: House, number: int, random: Random) -> Iterator[Channel]:
    """Give the channels of a gateway that writes readings."""
    if kind == "bare":  # one of each type, so that no name is needed
        for quantity in (*_INSIDE, "heat_to"):
            yield Channel(0, quantity, *TYPES[quantity], "", {})
    elif kind == "array":
        for quantity, count in (("temperature", 3), ("humidity", 2), ("soil", 2)):
            for place in range(count):
                yield _coded(house, quantity, f"{number}-{place + 1}", by_id=False)
    else:
        by_id = random.random() < 0.5  # noqa: PLR2004 (one in two)
        told = ("heat_to", "vent_at", "extractor") if kind == "envelope" else ()
        for quantity in (*_measured(random), *told):
            yield _coded(house, quantity, str(number), by_id=by_id)


def _measured(random: Random) -> tuple[str, ...]:
    """Give what is measured: inside always, outside where there is a mast."""
    return _INSIDE + (_MAST if random.random() < 0.25 else ())  # noqa: PLR2004 (one in four)


def _plc_labels(place: int, code: str) -> Iterator[Channel]:
    yield _labelled(place, "temperature", f"TEMPERATURA INVERNADERO {code}")
    yield _labelled(place, "humidity", f"HUMEDAD INVERNADERO {code}")
    for sector in range(1, 5):
        yield _labelled(place, f"sector_{sector}", f"INVERNADERO_{code}_SECTOR_{sector:02d}")
    yield _labelled(place, "extractor", f"INVERNADERO_{code}_EXTRACTOR")


def _labelled(place: int, quantity: str, label: str) -> Channel:
    return Channel(place, quantity, *TYPES[quantity], label, {"label": label})


def _coded(house: House, quantity: str, number: str, *, by_id: bool) -> Channel:
    code = f"{quantity.upper().replace('_', '-')}-{number}"
    if not by_id:
        return Channel(0, quantity, *TYPES[quantity], code, {"code": code})
    sensor_id = str(uuid5(house.greenhouse_id, f"simulated/{code}"))
    return Channel(0, quantity, *TYPES[quantity], sensor_id, {"code": code, "sensor_id": sensor_id})
