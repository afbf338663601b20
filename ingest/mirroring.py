"""Mirroring: names and publishing intervals carried over to the readings' database, for its views and jobs.

Part of the composition root, one task on the event loop. It works through the writer's connection in pieces
of a few milliseconds, with COMMITs in between: everything at the start, for workers may have been away, then
the greenhouses whose sensors changed. Readings flow whether it succeeds or not; views lack a name meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ingest.errors import DatabaseFault
from ingest.write import Mirrored

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from uuid import UUID

    from ingest.resolve import Catalog
    from ingest.write import Writer

RETRY_S: Final = 30.0
PIECE_GREENHOUSES: Final = 32
PIECE_SENSORS: Final = 1_000
"""Of one piece, as far as its last greenhouse goes: some ms of the database, 3 ms of the event loop."""


class Mirroring:
    """Owns what the mirrors are known to hold; see the module's header."""

    def __init__(self, writer: Writer, on_fault: Callable[[DatabaseFault, float], None]) -> None:
        """Prepare; *on_fault* hears of a fault and of the wait (s) after it."""
        self._writer = writer
        self._on_fault = on_fault
        self._wanted = asyncio.Event()
        self._catalog: Catalog | None = None
        self._mirrored: Catalog | None = None

    def on_catalog(self, catalog: Catalog) -> None:
        """Take a newer catalog."""
        self._catalog = catalog
        self._wanted.set()

    async def run(self) -> None:
        """Bring the mirrors in step with each newer catalog, for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._catalog is None:
                continue
            try:
                await self._mirror(self._catalog)
            except DatabaseFault as fault:
                self._on_fault(fault, RETRY_S)
                await asyncio.sleep(RETRY_S)
                self._wanted.set()

    async def _mirror(self, catalog: Catalog) -> None:
        before = self._mirrored
        if before is None or before.vocabulary is not catalog.vocabulary:
            units = {unit_id: unit.symbol for unit_id, unit in catalog.units.items()}
            types = {type_id: each.name for type_id, each in catalog.sensor_types.items()}
            await self._writer.mirror(Mirrored(units, types))
        changed: Collection[UUID]
        if before is None:
            changed = [roster.greenhouse_id for roster in catalog.rosters.values()]
            await self._writer.mirror(Mirrored({}, {}, all_greenhouses=changed))
        else:
            changed = catalog.rosters_changed_since(before)
        for piece in _pieces(catalog, changed):
            await self._writer.mirror(piece)
        self._mirrored = catalog


def _pieces(catalog: Catalog, greenhouses: Iterable[UUID]) -> Iterator[Mirrored]:
    """Cut the intervals of *greenhouses* into pieces."""
    whose: list[UUID] = []
    intervals: list[tuple[UUID, UUID, int]] = []
    for greenhouse_id in greenhouses:
        whose.append(greenhouse_id)
        of_one = catalog.intervals_of(greenhouse_id)
        intervals += [(sensor_id, greenhouse_id, seconds) for sensor_id, seconds in of_one]
        if len(whose) >= PIECE_GREENHOUSES or len(intervals) >= PIECE_SENSORS:
            yield Mirrored({}, {}, whose, intervals)
            whose, intervals = [], []
    if whose:
        yield Mirrored({}, {}, whose, intervals)
