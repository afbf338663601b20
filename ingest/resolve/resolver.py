"""The resolver: readings by name in, rows by id out; the cached path that every message takes.

What it remembers is true of its Catalog; following a newer one it forgets what that may have made untrue.
Pure: no clock, no logger, no await; runs in the event loop, between decode and write.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from ingest.model import (
    DETAILED_REJECTIONS,
    UNPLACED,
    Decoded,
    Gateway,
    Reading,
    Reason,
    RejectedRow,
    Rejection,
    Resolved,
    Row,
    Scope,
    Series,
)
from ingest.resolve.names import quoted
from ingest.resolve.places import Place, Refused, gateway_of, place_of
from ingest.resolve.series import series_of_label, series_of_reading
from ingest.resolve.stored_metadata import UnstorableMetadata, stored_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from ingest.labels import LabelRules
    from ingest.resolve.catalog import Catalog

OutOfRange: TypeAlias = Literal["quarantine", "flag", "accept"]
Names: TypeAlias = tuple[str | None, str | None, str | None]
"""Sensor, sensor type and unit as a reading writes them."""

CACHED_NAMES = 131_072
"""Entries kept before the cache is emptied: 2 000 gateways of 60 fields; about 200 MB of hostile names."""
CHARS_OF_ONE_NAME = 64
CACHED_NAME_CHARS = 400
"""Longer names are resolved each time: a cache of payload-sized keys would have no bound in bytes."""

_NOTHING: frozenset[str] = frozenset()
_FURTHER_COLLISION: Final = Rejection("", "key_collision", "")
"""Stands for each of a message beyond DETAILED_REJECTIONS: a payload of 20 KB can hold 10 000 readings, and
to tell each what is wrong took 30 ms."""
_new = tuple.__new__


class _Refusal(NamedTuple):
    """Why readings of these names stay behind."""

    reason: Reason
    detail: str
    missing: str | None = None
    """What a newer catalog may know: see `missing_name`."""


_Known: TypeAlias = tuple[Series, float, float, int, bytes | None]
"""A remembered answer: the series, its minimum and maximum, its slot (equal for equal keys of one
topic, whatever the spelling or unit) and the JSON of its origin. A plain tuple: CPython unpacks
those, and not their subclasses, in one specialised step."""


class _Topic:
    """What is known about one Scope."""

    __slots__ = ("gateway", "known", "place", "refused", "slots", "tenant_id")

    def __init__(self, place: Place, gateway: Gateway) -> None:
        self.place = place
        self.gateway = gateway
        self.tenant_id = None if place.tenant is None else place.tenant.tenant_id
        self.known: dict[Names, _Known] = {}
        self.refused: dict[Names, _Refusal] = {}
        self.slots: dict[tuple[object, ...], int] = {}


class Resolver:
    """Resolves messages against one catalog. Not thread-safe; one to a worker."""

    def __init__(self, catalog: Catalog, rules: LabelRules, *, out_of_range: OutOfRange) -> None:
        """Take the snapshot, the label rules and the policy for values outside a type's limits."""
        self.catalog = catalog
        self._rules = rules
        self._out_of_range = out_of_range
        self._topics: dict[Scope, _Topic] = {}
        self._gateways: dict[str, Gateway] = {}
        """By name; as many as the catalog has places, however many topics come."""
        self._cached = 0
        self._placed: dict[UUID, list[Scope]] = {}
        """The topics of each greenhouse; of each tenant those that name no greenhouse."""
        self._unclaimed: dict[int, list[Scope]] = {}
        """By sensor, its id as a number: the topics that name it, of those that are registered nowhere."""
        self._refusing: set[Scope] = set()
        """The topics of which names were refused."""

    def follow(self, catalog: Catalog) -> None:
        """Go on with a newer *catalog*; where only sensors changed, remember what it left true.

        Forgotten are then the topics of the greenhouses and tenants of those sensors, and what was refused.
        To resolve all of 100 000 names again would take seconds of the hot path.
        """
        before, self.catalog = self.catalog, catalog
        if not catalog.has_the_places_of(before):
            self._forget_all()
            return
        stale: list[Scope] = []
        changed = catalog.rosters_changed_since(before)
        for greenhouse_id in changed:
            greenhouse = catalog.greenhouses.get(greenhouse_id)
            stale += self._placed.pop(greenhouse_id, ())
            stale += () if greenhouse is None else self._placed.pop(greenhouse.tenant_id, ())
        if self._unclaimed:  # a sensor that is registered now may be of another greenhouse than its topic's
            for roster in filter(None, (catalog.rosters.get(each.int) for each in changed)):
                for sensor_id in roster.ids():
                    stale += self._unclaimed.pop(sensor_id, ())
        for scope in stale:
            topic = self._topics.pop(scope, None)
            if topic is not None:  # its own entry goes on counting: its scope may be left in the lists
                self._cached -= len(topic.known) + len(topic.refused)
        # What was refused as another greenhouse's may be nobody's now.
        for scope in self._refusing & self._topics.keys():
            refused = self._topics[scope].refused
            self._cached -= len(refused)
            refused.clear()
        self._refusing.clear()

    def plain(self, readings: Iterable[tuple[Scope, Names, float, int]]) -> tuple[list[Row], list[Gateway]]:
        """Give the row and the gateway of each message that is one reading, in their order.

        The short cut of the hot path: it ends before the first whose names are not known, or whose value is
        out of range: `resolve` looks at those.
        """
        topics = self._topics
        rows: list[Row] = []
        gateways: list[Gateway] = []
        with contextlib.suppress(TypeError):  # a name that is a list or an object
            for scope, names, value, time_us in readings:
                topic = topics.get(scope)
                if topic is None or (known := topic.known.get(names)) is None:
                    break
                series, minimum, maximum, _, stored = known
                if not minimum <= value <= maximum:
                    break
                rows.append(_new(Row, (series, time_us, value, stored, "")))
                gateways.append(topic.gateway)
        return rows, gateways

    def plain_map(
        self, scope: Scope, labels: dict[str, Any], time_us: int
    ) -> tuple[list[Row], Gateway] | None:
        """Give the rows of a flat map where each of its labels is known and has a number in its range.

        As `plain`: None for everything else. 0.25 µs a row, against 0.9 the long way.
        """
        topic = self._topics.get(scope)
        if topic is None:
            return None
        known_names = topic.known
        rows: list[Row] = []
        slots: set[int] = set()
        for label, value in labels.items():
            known = known_names.get((label, None, None))
            if known is None:
                return None
            series, minimum, maximum, slot, stored = known
            if type(value) is not float:
                if type(value) is not int:
                    return None
                value = float(value)  # noqa: PLW2901 - the same number
            if not minimum <= value <= maximum:
                return None
            slots.add(slot)
            rows.append(_new(Row, (series, time_us, value, stored, label)))
        return (rows, topic.gateway) if len(slots) == len(rows) else None

    def resolve(self, decoded: Decoded) -> Resolved:
        """Give one row or one rejection for each of ``decoded.readings``, in their order; never raises.

        ``decoded.rejections`` are not copied. Never blocks. Known names take 9 µs for a flat map of 22, a
        name not seen before some 30 µs (CPython 3.11).
        """
        scope = decoded.scope
        readings = decoded.readings
        if scope is None:
            unrouted: tuple[Reason, str] = ("unknown_topic", "no route matches the topic")
            return Resolved((), [Rejection(reading.field, *unrouted) for reading in readings])
        topic = self._topics.get(scope)
        if topic is None:
            topic = self._enter(scope)
        known_names = topic.known
        rows: list[Row] = []
        rejections: list[Rejection] = []
        missing: list[str | None] = []
        taken: set[tuple[int, int]] | None = set() if len(readings) > 1 else None
        for reading in readings:
            field, sensor, sensor_type, unit, value, time_us, metadata = reading
            known = known_names.get((sensor, sensor_type, unit))
            if known is None:
                found = self._look_up(scope, topic, (sensor, sensor_type, unit))
                if isinstance(found, _Refusal):
                    rejections.append(Rejection(field, found.reason, found.detail))
                    missing.append(found.missing)
                    continue
                known = found
            series, minimum, maximum, slot, stored = known
            if metadata is not None or not minimum <= value <= maximum:
                settled = self._settle(reading, series, stored)
                if isinstance(settled, _Refusal):
                    refused = Row(series, time_us, value, None, field)
                    rejections.append(RejectedRow.of(refused, settled.reason, settled.detail))
                    continue
                stored = settled
            if taken is not None:
                key = (time_us, slot)
                if key in taken:
                    rejections.append(
                        _collision(reading, series)
                        if len(rejections) < DETAILED_REJECTIONS
                        else _FURTHER_COLLISION
                    )
                    continue
                taken.add(key)
            rows.append(_new(Row, (series, time_us, value, stored, field)))
        return Resolved(
            rows,
            rejections,
            topic.tenant_id,
            frozenset(filter(None, missing)) if missing else _NOTHING,
            topic.gateway,
        )

    def gateway_of(self, scope: Scope | None) -> Gateway:
        """Give the gateway of a topic whose message is not decoded; UNPLACED where no route fits."""
        return UNPLACED if scope is None else (self._topics.get(scope) or self._enter(scope)).gateway

    def _enter(self, scope: Scope) -> _Topic:
        place = place_of(self.catalog, scope)
        gateway = gateway_of(scope, place)
        topic = _Topic(place, self._gateways.setdefault(gateway.name, gateway))
        self._make_room()
        self._topics[scope] = topic
        if topic.tenant_id is not None:
            greenhouse = place.greenhouse
            owner = topic.tenant_id if greenhouse is None else greenhouse.greenhouse_id
            self._placed.setdefault(owner, []).append(scope)
        return topic

    def _forget_all(self) -> None:
        self._topics, self._gateways = {}, {}
        self._placed, self._unclaimed, self._refusing = {}, {}, set()
        self._cached = 0

    def _make_room(self, chars: int = 0) -> None:
        """Count one entry more, long ones as several; past the limit forget all of them.

        Hostile names must not grow the caches. A message under way keeps its own topic's entries
        until it is done.
        """
        weight = 1 + chars // CHARS_OF_ONE_NAME
        self._cached += weight
        if self._cached > CACHED_NAMES:
            self._forget_all()
            self._cached = weight

    def _look_up(self, scope: Scope, topic: _Topic, names: Names) -> _Known | _Refusal:
        """Give the remembered refusal of *names*, else place them and remember the answer."""
        refused = topic.refused.get(names)
        if refused is not None:
            return refused
        chars = sum(len(name) for name in names if name is not None)
        cacheable = chars <= CACHED_NAME_CHARS
        self._make_room(chars if cacheable else 0)  # one that is not kept still takes a slot
        try:
            known = self._known(scope, topic, names)
        except Refused as fault:
            refused = _Refusal(fault.reason, fault.detail, fault.missing)
            if cacheable:
                topic.refused[names] = refused
                self._refusing.add(scope)
            return refused
        if cacheable:
            topic.known[names] = known
            sensor_id = known[0].sensor_id
            if sensor_id not in self.catalog.sensors:
                self._unclaimed.setdefault(sensor_id.int, []).append(scope)
                self._cached += 1
        return known

    def _known(self, scope: Scope, topic: _Topic, names: Names) -> _Known:
        sensor, sensor_type, unit = names
        place = topic.place
        if place.refusal is not None:
            raise Refused(place.refusal.reason, place.refusal.detail, place.refusal.missing)
        if scope.format == "labels":
            series = series_of_label(self.catalog, self._rules, place, sensor or "")
        else:
            series = series_of_reading(self.catalog, scope, place, sensor, sensor_type, unit)
        key = (series.greenhouse_id, series.sensor_type_id, series.sensor_id)
        slot = topic.slots.setdefault(key, len(topic.slots))
        origin = None if series.origin is None else stored_metadata(series.origin)
        return (series, series.minimum, series.maximum, slot, origin)

    def _settle(self, reading: Reading, series: Series, origin: bytes | None) -> bytes | _Refusal | None:
        """Give the metadata to store with a reading that brings some or is out of range, or refuse it."""
        value = reading.value
        believable = series.minimum <= value <= series.maximum
        if not believable and self._out_of_range == "quarantine":
            unit = self.catalog.units[series.unit_id].symbol
            name = self.catalog.sensor_types[series.sensor_type_id].name
            limits = f"{series.minimum:g}..{series.maximum:g} {unit}"
            return _Refusal("out_of_range", f"{value:.15g} {unit} is outside {limits}, the range of {name}")
        flagged = not believable and self._out_of_range == "flag"
        if reading.metadata is None and not flagged:
            return origin
        merged: dict[str, Any] = {**(reading.metadata or {}), **(series.origin or {})}
        if flagged:
            merged["out_of_range"] = True
        try:
            return stored_metadata(merged)
        except UnstorableMetadata as fault:
            return _Refusal("bad_value", f"metadata cannot be stored: {fault}")


def _collision(reading: Reading, series: Series) -> Rejection:
    sensor = "" if reading.sensor is None else f" ({quoted(reading.sensor)})"
    detail = f"an earlier reading of this message has the same sensor{sensor}, type and time"
    row = Row(series, reading.time_us, reading.value, None, reading.field)
    return RejectedRow.of(row, "key_collision", detail)
