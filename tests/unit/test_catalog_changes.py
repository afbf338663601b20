"""A catalog that came of changes is the catalog of its rows, and who followed it answers as who did not."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import dataclass, field
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.model import Decoded, Reading, Scope
from ingest.resolve import Resolver
from ingest.resolve.catalog import EMPTY, Catalog, Draft
from ingest.resolve.names import derived_sensor_id
from ingest.resolve.roster import packed
from ingest.resolve.rows import Greenhouse, Sensor, Tenant
from ingest.resolve.vocabulary import Vocabulary
from tests.fuzzing import examples
from tests.unit.catalog_examples import SENSOR_TYPES, UNITS, default_rules

TENANTS = tuple(UUID(int=0xA0 + number) for number in range(2))
PLACES = tuple(UUID(int=0xB0 + number) for number in range(4))
CODES = ("01", "A1", "a1")
NAMES = ("T1", "ESP", "Temp 1", "temp-1", "é", "")
IDS = (*(UUID(int=0xC0 + number) for number in range(4)), derived_sensor_id(PLACES[0], "T1"))
TYPES = ("TEMPERATURE", "HUMIDITY", "EXTRACTOR", None)


@dataclass
class Rows:
    """The database: what a step changes, and what of it a refresh would read."""

    chance: random.Random
    aliases: dict[str, int] = field(default_factory=dict)
    tenants: dict[UUID, Tenant] = field(default_factory=dict)
    greenhouses: dict[UUID, Greenhouse] = field(default_factory=dict)
    sensors: dict[UUID, Sensor] = field(default_factory=dict)

    def step(self) -> set[UUID]:
        """Change something; give the greenhouses that are to be read again."""
        chance = self.chance
        kind = chance.choice(("alias", "tenant", *["greenhouse"] * 2, *["sensor"] * 8))
        if kind == "alias":
            self.aliases = {name: chance.choice((1, 2)) for name in chance.sample(("HEAT", "WET"), 1)}
            return set()
        if kind == "tenant":
            tenant_id = chance.choice(TENANTS)
            prefix = chance.choice(("SARA", None)) if tenant_id == TENANTS[0] else "LUZ"
            self.tenants[tenant_id] = Tenant(tenant_id, "x", prefix, chance.random() < 0.9)
            return set()
        if kind == "greenhouse":
            place = chance.choice(PLACES)
            if chance.random() < 0.2:
                self.greenhouses.pop(place, None)
                self.sensors = {k: s for k, s in self.sensors.items() if s.greenhouse_id != place}
            elif self.tenants:
                owner = chance.choice(sorted(self.tenants, key=int))
                self.greenhouses[place] = Greenhouse(
                    place, owner, chance.choice(CODES), chance.random() < 0.9
                )
            return {place}
        return self._change_sensor()

    def _change_sensor(self) -> set[UUID]:
        chance = self.chance
        sensor_id = chance.choice(IDS)
        former = self.sensors.pop(sensor_id, None)
        touched = set() if former is None else {former.greenhouse_id}
        if self.greenhouses and chance.random() < 0.8:
            place = chance.choice(sorted(self.greenhouses, key=int))
            device, label = (chance.choice(NAMES) or None for _ in range(2))
            interval = chance.choice((None, 10))
            self.sensors[sensor_id] = Sensor(
                sensor_id, place, f"{chance.choice(NAMES)}", device, label, chance.choice(TYPES),
                chance.choice(("°C", None)), chance.random() < 0.9, interval,
            )  # fmt: skip
            touched.add(place)
        return touched

    def of(self, place: UUID) -> list[Sensor]:
        return [sensor for sensor in self.sensors.values() if sensor.greenhouse_id == place]

    def catalog(self) -> Catalog:
        """Give the catalog of all rows, made at once."""
        return Catalog.build(
            units=UNITS, sensor_types=SENSOR_TYPES, sensor_type_aliases=self.aliases.items(),
            tenants=self.tenants.values(), greenhouses=self.greenhouses.values(),
            sensors=self.sensors.values(),
        )  # fmt: skip

    def after(self, before: Catalog, touched: set[UUID]) -> Catalog:
        """Give the catalog that follows *before* by reading *touched* again."""
        draft = Draft(before)
        draft.put_vocabulary(Vocabulary.of(UNITS, SENSOR_TYPES, (), self.aliases.items()))
        draft.put_tenants(self.tenants.values())
        for place in touched:
            if place in self.greenhouses:
                draft.put_greenhouse(self.greenhouses[place])
                draft.put_sensors(place, packed(self.of(place)))
            else:
                draft.drop_greenhouse(place)
        return draft.finished()


def looked_up(catalog: Catalog) -> dict[str, object]:
    """Give everything that a catalog answers."""
    places = [(place, name) for place in PLACES for name in NAMES]
    return {
        "version": catalog.version,
        "counts": catalog.counts(),
        "sensors": dict(catalog.sensors),
        "held": [sensor_id in catalog.sensors for sensor_id in IDS],
        "coded": [catalog.sensors_coded(*each) for each in places],
        "labelled": [catalog.sensors_labelled(*each) for each in places],
        "intervals": [catalog.intervals_of(place) for place in PLACES],
        "greenhouses": [catalog.greenhouses_coded(code, t) for code in CODES for t in (None, *TENANTS)],
        "of tenants": [catalog.greenhouses_of(tenant_id) for tenant_id in TENANTS],
        "prefixes": [catalog.tenant_prefixed(prefix) for prefix in ("SARA", "LUZ")],
        "types": [catalog.sensor_type_named(name) for name in ("heat", "wet", "humidity")],
    }


def asked() -> list[Decoded]:
    """Give readings of every kind of name, from every kind of place."""
    named = [Scope("readings", None, str(place), gateway="g/{greenhouse}") for place in PLACES]
    named += [Scope("readings", None, code, gateway="g/{greenhouse}") for code in CODES]
    labels = [Scope("labels", prefix, None, gateway="G/{tenant}") for prefix in ("SARA", "LUZ")]
    labels += [Scope("labels", "SARA", code, gateway="G/{tenant}/{greenhouse}") for code in CODES]
    names = [*NAMES, *map(str, IDS)]
    return [
        Decoded(scope, [Reading("f", name, kind, None, 20.0, 1, None)])
        for scopes, kinds in ((named, ("heat", None)), (labels, (None,)))
        for scope in scopes
        for name in names
        for kind in kinds
    ]


def answer(resolver: Resolver, question: Decoded) -> str:
    """Give what it says as text; whether of a list or a tuple is no matter."""
    rows, rejections, *rest = resolver.resolve(question)
    return repr(([*rows], [*rejections], rest))


@settings(max_examples=examples(60))
@given(st.integers(0, 2**32))
def test_changes_one_by_one_come_to_what_the_rows_say(seed: int) -> None:
    rows = Rows(random.Random(seed))  # noqa: S311 (a walk, not a secret)
    catalog = EMPTY
    follower = Resolver(catalog, default_rules(), out_of_range="quarantine")
    questions = asked()
    for _ in range(12):
        before, seen = catalog, looked_up(catalog)
        touched = rows.step()
        catalog = rows.after(before, touched)
        whole = rows.catalog()
        assert looked_up(catalog) == looked_up(whole)
        assert looked_up(before) == seen, "a snapshot never changes"
        assert {*catalog.rosters_changed_since(before)} <= touched
        assert rows.after(catalog, set(PLACES)) is catalog, "what is equal makes no newer one"
        follower.follow(catalog)
        fresh = Resolver(whole, default_rules(), out_of_range="quarantine")
        for question in rows.chance.sample(questions, 60):
            assert answer(follower, question) == answer(fresh, question)


def test_a_sensor_takes_less_than_three_hundred_bytes() -> None:
    """A million of them, and the worker, in 600 MB."""
    places = [
        Greenhouse(UUID(int=number), TENANTS[0], f"{number}", is_active=True) for number in range(1, 51)
    ]
    rows = [
        Sensor(
            sensor_id=UUID(int=place.greenhouse_id.int << 32 | number),
            greenhouse_id=place.greenhouse_id,
            code=f"DHT22-{number:03}",
            device_id="ESP32-7",
            label=f"TEMPERATURA INVERNADERO 01 {number:03}",
            sensor_type="TEMPERATURE",
            unit="°C",
            is_active=True,
            expected_interval_s=10,
        )
        for place in places
        for number in range(100)
    ]
    of_place = {
        place: packed([row for row in rows if row.greenhouse_id == place.greenhouse_id]) for place in places
    }
    empty = Catalog.build(units=UNITS, sensor_types=SENSOR_TYPES)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        draft = Draft(empty)
        for place, sensors in of_place.items():
            draft.put_greenhouse(place)
            draft.put_sensors(place.greenhouse_id, bytes(bytearray(sensors)))
        catalog = draft.finished()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(catalog.sensors) == len(rows)
    assert (after - before) / len(rows) < 300
