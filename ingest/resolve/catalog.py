"""The catalog: an immutable snapshot of who publishes what, with its lookups.

Made of rows by `Catalog.build`, or of an earlier one by a `Draft`; never changed. A newer state of the
database is another Catalog, which shares with the one before what is equal in both: of a million sensors,
a change of one costs one greenhouse. Reads nothing, knows no clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import orjson

from ingest.resolve.roster import Roster, packed
from ingest.resolve.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Iterator

    from ingest.resolve.rows import Greenhouse, Sensor, SensorType, Tenant, Unit

_Key = TypeVar("_Key", bound="Hashable")

SHARDS: Final = 1024
"""Pieces of the index by sensor id: with a million sensors, one more copies a thousand entries, in 10 µs."""


@dataclass(frozen=True, slots=True, eq=False)
class Catalog:
    """One snapshot. Lookups take names as gateways write them; those that find nothing give None or ()."""

    version: str
    """16 hex digits of a hash over every row: equal versions hold equal rows, in any process."""
    tenants: Mapping[UUID, Tenant]
    greenhouses: Mapping[UUID, Greenhouse]
    vocabulary: Vocabulary
    rosters: Mapping[int, Roster]
    """The sensors of each greenhouse that has some, by the number that its id is: numbers hash faster."""
    index: tuple[Mapping[int, int], ...]
    """The greenhouse of each sensor, both as numbers, in SHARDS pieces."""
    sensor_count: int
    digest: int
    """The sum of the digests of greenhouses and rosters: a change takes one off and adds another."""
    tenants_by_prefix: Mapping[str, Tenant]
    greenhouses_by_code: Mapping[str, tuple[Greenhouse, ...]]
    greenhouses_by_tenant: Mapping[UUID, tuple[Greenhouse, ...]]
    former_version: str | None = None
    """Of the one it was drafted from."""
    new_rosters: Collection[UUID] = ()
    """The greenhouses whose sensors are others than there."""

    @property
    def units(self) -> Mapping[int, Unit]:
        """By id."""
        return self.vocabulary.units

    @property
    def sensor_types(self) -> Mapping[int, SensorType]:
        """By id."""
        return self.vocabulary.sensor_types

    @staticmethod
    def build(
        *,
        units: Iterable[Unit] = (),
        sensor_types: Iterable[SensorType] = (),
        unit_aliases: Iterable[tuple[str, int]] = (),
        sensor_type_aliases: Iterable[tuple[str, int]] = (),
        tenants: Iterable[Tenant] = (),
        greenhouses: Iterable[Greenhouse] = (),
        sensors: Iterable[Sensor] = (),
    ) -> Catalog:
        """Make one of rows; their order does not matter. `Vocabulary.of` says what of two aliases counts."""
        draft = Draft(EMPTY)
        draft.put_vocabulary(Vocabulary.of(units, sensor_types, unit_aliases, sensor_type_aliases))
        draft.put_tenants(tenants)
        for greenhouse in greenhouses:
            draft.put_greenhouse(greenhouse)
        of_greenhouse: dict[UUID, list[Sensor]] = {}
        for sensor in sensors:
            of_greenhouse.setdefault(sensor.greenhouse_id, []).append(sensor)
        for greenhouse_id, found in of_greenhouse.items():
            draft.put_sensors(greenhouse_id, packed(found))
        return draft.finished()

    @property
    def sensors(self) -> Mapping[UUID, Sensor]:
        """Every sensor by its id; each is made when it is asked for."""
        return _Sensors(self)

    def counts(self) -> dict[str, int]:
        """Give the sizes that a log line shows."""
        return {
            "tenants": len(self.tenants),
            "greenhouses": len(self.greenhouses),
            "sensors": self.sensor_count,
            "sensor_types": len(self.sensor_types),
            "units": len(self.units),
            "aliases": self.vocabulary.aliases,
        }

    def unit_named(self, name: str) -> Unit | None:
        """Find a unit by its exact symbol, else by alias (any case, trimmed)."""
        return self.vocabulary.unit_named(name)

    def sensor_type_named(self, name: str) -> SensorType | None:
        """Find a sensor type by name, else by alias; case, accents and separators do not count."""
        return self.vocabulary.sensor_type_named(name)

    def tenant_prefixed(self, prefix: str) -> Tenant | None:
        """Find the tenant with exactly this `mqtt_topic_prefix`."""
        return self.tenants_by_prefix.get(prefix)

    def greenhouses_coded(self, code: str, tenant_id: UUID | None = None) -> tuple[Greenhouse, ...]:
        """Find greenhouses by code, of one tenant or of all: the exact code, else trimmed and in any case."""
        key = code_key(code)
        alike = self.greenhouses_by_code.get(key, ())
        if tenant_id is not None:
            own = self.greenhouses_of(tenant_id)
            if len(own) < len(alike):  # each of a thousand tenants may have a greenhouse 01
                alike = tuple([greenhouse for greenhouse in own if code_key(greenhouse.code) == key])
            else:
                alike = tuple([greenhouse for greenhouse in alike if greenhouse.tenant_id == tenant_id])
        return tuple([greenhouse for greenhouse in alike if greenhouse.code == code]) or alike

    def greenhouses_numbered(self, number: str, tenant_id: UUID) -> tuple[Greenhouse, ...]:
        """Find a tenant's greenhouses by a label's number: the exact code, else without leading zeros."""
        exact = self.greenhouses_coded(number, tenant_id)
        if exact:
            return exact
        bare = number.lstrip("0")
        return tuple(
            greenhouse
            for greenhouse in self.greenhouses_of(tenant_id)
            if greenhouse.code.isdecimal() and greenhouse.code.lstrip("0") == bare
        )

    def greenhouses_of(self, tenant_id: UUID) -> tuple[Greenhouse, ...]:
        """Give a tenant's greenhouses, inactive ones included."""
        return self.greenhouses_by_tenant.get(tenant_id, ())

    def sensors_coded(self, greenhouse_id: UUID, code: str) -> tuple[Sensor, ...]:
        """Find by `sensor_code` (one at most), then by `device_id` (a board may carry several)."""
        roster = self.rosters.get(greenhouse_id.int)
        return () if roster is None else tuple(roster.coded(code, self.vocabulary))

    def sensors_labelled(self, greenhouse_id: UUID, label: str) -> tuple[Sensor, ...]:
        """Find by `mqtt_field_name`: the exact label, else alike in case and separators."""
        roster = self.rosters.get(greenhouse_id.int)
        return () if roster is None else tuple(roster.labelled(label, self.vocabulary))

    def intervals_of(self, greenhouse_id: UUID) -> list[tuple[UUID, int]]:
        """Give the id and interval (s) of each of a greenhouse's active sensors that has one."""
        roster = self.rosters.get(greenhouse_id.int)
        return [] if roster is None else roster.intervals()

    def has_the_places_of(self, before: Catalog) -> bool:
        """Tell whether all but sensors is as in *before*, an earlier one."""
        return (
            self.vocabulary is before.vocabulary
            and self.tenants is before.tenants
            and self.greenhouses is before.greenhouses
        )

    def rosters_changed_since(self, before: Catalog) -> Collection[UUID]:
        """Give the greenhouses whose sensors are not those of *before*, an earlier one.

        At once for the one before, else in some ms for 10 000 greenhouses.
        """
        if self.former_version == before.version:
            return self.new_rosters
        own, former = self.rosters, before.rosters
        changed = [key for key, roster in own.items() if former.get(key) is not roster]
        changed += [key for key in former if key not in own]
        return [UUID(int=key) for key in changed]


class _Sensors(Mapping["UUID", "Sensor"]):
    """The sensors of a catalog as a mapping; see `Catalog.sensors`."""

    __slots__ = ("_catalog",)

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def __getitem__(self, sensor_id: UUID) -> Sensor:
        catalog, key = self._catalog, sensor_id.int
        sensor = catalog.rosters[catalog.index[key % SHARDS][key]].identified(key, catalog.vocabulary)
        if sensor is None:
            raise KeyError(sensor_id)
        return sensor

    def __contains__(self, sensor_id: object) -> bool:
        return isinstance(sensor_id, UUID) and sensor_id.int in self._catalog.index[sensor_id.int % SHARDS]

    def __iter__(self) -> Iterator[UUID]:
        return (UUID(int=key) for shard in self._catalog.index for key in shard)

    def __len__(self) -> int:
        return self._catalog.sensor_count


class Draft:
    """A newer Catalog in the making: one greenhouse after the other, so that nobody waits for a million.

    What is put in replaces what *before* holds under the same id; what is equal costs a comparison, and
    what is not put in or dropped stays. *before* itself never changes.
    """

    def __init__(self, before: Catalog) -> None:
        """Begin with what *before* holds."""
        self._before = before
        self._vocabulary = before.vocabulary
        self._tenants: Mapping[UUID, Tenant] = before.tenants
        self._greenhouses = {**before.greenhouses}
        self._rosters = {**before.rosters}
        self._index: list[dict[int, int]] = list(before.index)  # type: ignore[arg-type] # see `_shard`
        self._own_shards: set[int] = set()
        self._sensor_count = before.sensor_count
        self._digest = before.digest
        self._new_rosters: set[UUID] = set()
        self._replaced: dict[UUID, Greenhouse | None] = {}

    def put_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Take all units, types and aliases."""
        if vocabulary.content != self._vocabulary.content:
            self._vocabulary = vocabulary

    def put_tenants(self, tenants: Iterable[Tenant]) -> None:
        """Take all tenants."""
        by_id = {each.tenant_id: each for each in sorted(tenants, key=lambda each: each.tenant_id.int)}
        if by_id != self._tenants:
            self._tenants = by_id

    def strays(self) -> list[UUID]:
        """Give the greenhouses held for a tenant that is gone: they have another by now, or are gone too."""
        return [
            house.greenhouse_id
            for tenant_id in self._before.tenants.keys() - self._tenants.keys()
            for house in self._before.greenhouses_of(tenant_id)
            if self._greenhouses.get(house.greenhouse_id) is house
        ]

    def put_greenhouse(self, greenhouse: Greenhouse) -> None:
        """Take a greenhouse, new or changed."""
        former = self._greenhouses.get(greenhouse.greenhouse_id)
        if former != greenhouse:
            self._replace(greenhouse.greenhouse_id, former, greenhouse)

    def put_sensors(self, greenhouse_id: UUID, packed: bytes) -> bool:
        """Take all sensors of a greenhouse, as a `Roster` has them; tell whether anything changed."""
        key = greenhouse_id.int
        former = self._rosters.get(key)
        if packed == (b"" if former is None else former.packed):
            return False
        self._new_rosters.add(greenhouse_id)
        ids: Collection[int] = ()
        if packed:
            roster = self._rosters[key] = Roster(greenhouse_id, packed)
            ids = roster.ids()
            self._sensor_count += roster.count
            self._digest += roster.digest()
        else:
            del self._rosters[key]
        if former is not None:
            self._sensor_count -= former.count
            self._digest -= former.digest()
            former_ids = set(former.ids())
            self._forget(former_ids.difference(ids), key)
            ids = set(ids) - former_ids
        for sensor_id in ids:
            self._shard(sensor_id)[sensor_id] = key
        return True

    def drop_greenhouse(self, greenhouse_id: UUID) -> None:
        """Forget a greenhouse and its sensors, if it is there."""
        self.put_sensors(greenhouse_id, b"")
        former = self._greenhouses.get(greenhouse_id)
        if former is not None:
            self._replace(greenhouse_id, former, None)

    def finished(self) -> Catalog:
        """Give the newer Catalog; *before* itself if they are equal. The draft is of no use any more."""
        before = self._before
        by_code, by_tenant = before.greenhouses_by_code, before.greenhouses_by_tenant
        if self._replaced:
            gone = [each for each in self._replaced.values() if each is not None]
            come = [self._greenhouses[each] for each in self._replaced if each in self._greenhouses]
            by_code = _regrouped(by_code, gone, come, lambda each: code_key(each.code))
            by_tenant = _regrouped(by_tenant, gone, come, lambda each: each.tenant_id)
        tenants = orjson.dumps([tuple(each) for each in self._tenants.values()])
        content = b"%b%b%016x" % (self._vocabulary.content, tenants, self._digest % (1 << 64))
        version = hashlib.blake2b(content, digest_size=8).hexdigest()
        if version == before.version:
            return before
        return Catalog(
            version=version,
            tenants=self._tenants,
            greenhouses=self._greenhouses if self._replaced else before.greenhouses,
            vocabulary=self._vocabulary,
            rosters=self._rosters,
            index=tuple(self._index),
            sensor_count=self._sensor_count,
            digest=self._digest,
            tenants_by_prefix={
                each.prefix: each for each in self._tenants.values() if each.prefix is not None
            },
            greenhouses_by_code=by_code,
            greenhouses_by_tenant=by_tenant,
            former_version=before.version,
            new_rosters=self._new_rosters,
        )

    def _replace(self, greenhouse_id: UUID, former: Greenhouse | None, greenhouse: Greenhouse | None) -> None:
        self._replaced.setdefault(greenhouse_id, former)
        if former is not None:
            self._digest -= _digest(former)
        if greenhouse is not None:
            self._digest += _digest(greenhouse)
            self._greenhouses[greenhouse_id] = greenhouse
        else:
            del self._greenhouses[greenhouse_id]

    def _forget(self, sensor_ids: Iterable[int], greenhouse: int) -> None:
        for sensor_id in sensor_ids:
            if self._index[sensor_id % SHARDS].get(sensor_id) == greenhouse:  # else it has moved already
                del self._shard(sensor_id)[sensor_id]

    def _shard(self, sensor_id: int) -> dict[int, int]:
        """Give the piece of the index where *sensor_id* belongs, to be changed: the first time, a copy."""
        number = sensor_id % SHARDS
        if number not in self._own_shards:
            self._own_shards.add(number)
            self._index[number] = self._index[number].copy()
        return self._index[number]


def code_key(code: str) -> str:
    """Give the form in which greenhouse codes are compared: trimmed, upper case."""
    return code.strip().upper()


def _digest(greenhouse: Greenhouse) -> int:
    content = orjson.dumps(tuple(greenhouse))
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def _regrouped(
    groups: Mapping[_Key, tuple[Greenhouse, ...]],
    gone: Iterable[Greenhouse],
    come: Iterable[Greenhouse],
    key: Callable[[Greenhouse], _Key],
) -> dict[_Key, tuple[Greenhouse, ...]]:
    """Give *groups* without those *gone* and with those *come*, each in the order of ids."""
    changed: dict[_Key, dict[UUID, Greenhouse]] = {}
    for greenhouse, stays in [*((each, False) for each in gone), *((each, True) for each in come)]:
        name = key(greenhouse)
        if name not in changed:
            changed[name] = {each.greenhouse_id: each for each in groups.get(name, ())}
        members = changed[name]
        members.pop(greenhouse.greenhouse_id, None)
        if stays:
            members[greenhouse.greenhouse_id] = greenhouse
    regrouped = {**groups}
    for name, members in changed.items():
        regrouped.pop(name, None)
        if members:
            regrouped[name] = tuple(sorted(members.values(), key=lambda each: each.greenhouse_id.int))
    return regrouped


EMPTY: Final = Catalog("", {}, {}, Vocabulary.of(), {}, ({},) * SHARDS, 0, 0, {}, {}, {})
