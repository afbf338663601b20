"""Healing: dead letters that lacked a name are replayed once the catalog knows it, without being asked.

Part of the composition root, one task on the event loop with a database connection of its own, open only
while it works. It keeps in memory which names letters lack, so that a catalog change that cures nothing costs
one query for the names of late; several workers share the letters, each passing over what another has locked.
Commits come first: it waits while they have trouble, and rests as long as it worked.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from ingest.errors import DatabaseFault
from ingest.replaying import look_again
from ingest.resolve import is_known
from ingest.write import letters
from ingest.write.replay import Replayed, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ingest.decode import Decoder
    from ingest.resolve import Catalog, Resolver
    from ingest.settings import Settings

MAX_NAMES: Final = 10_000
"""Names kept, 2 MB of them. The first look reads all that are missing: 0.4 s for 500 000 letters; the next
ones read those of late, under 1 ms."""
NAMES_AT_ONCE: Final = 200
"""Looked up in the catalog: 2 ms."""
PAGE_LETTERS: Final = 200
MAX_ROWS: Final = 2_000
"""Of one transaction: 20 ms with messages of one reading, for which it may hold up a commit that brings the
same one; 9 000 letters a second on two cores."""
OVERLAP: Final = timedelta(minutes=10)
"""Names are read again this far back: letters become visible at the COMMIT of a batch, not when it began."""
RETRY_S: Final = 30.0
PEACE_S: Final = 0.5
"""How often it looks whether the trouble with commits is over."""

log = structlog.get_logger()


class Healer:
    """Owns the names that are missed, and the work on the letters; see the module's header."""

    def __init__(
        self,
        settings: Settings,
        decoder: Decoder,
        resolver: Callable[[], Resolver],
        *,
        in_trouble: Callable[[], bool],
        on_healed: Callable[[int], None],
        on_fault: Callable[[DatabaseFault, float], None],
    ) -> None:
        """Prepare; `run` heals. *resolver* gives a new one for the catalog of now.

        *in_trouble* tells whether commits do not go well, *on_healed* hears of readings stored, *on_fault* of
        a fault and of the wait (s) after it.
        """
        self._settings = settings
        self._decoder = decoder
        self._resolver = resolver
        self._in_trouble = in_trouble
        self._on_healed = on_healed
        self._on_fault = on_fault
        self._wanted = asyncio.Event()
        self._names: set[str] = set()
        self._read_since = datetime(1970, 1, 1, tzinfo=UTC)

    def look(self) -> None:
        """Have it look, soon: the catalog has changed, or letters were written that a newer one may cure."""
        self._wanted.set()

    async def run(self) -> None:
        """Look each time it is wanted, for ever; a database that does not serve it is asked again later."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._heal()
            except DatabaseFault as fault:
                self._on_fault(fault, RETRY_S)
                self._wanted.set()
                await asyncio.sleep(RETRY_S)

    async def _heal(self) -> None:
        """Replay the letters that lack a name which the catalog has by now."""
        await self._peace()
        resolver = self._resolver()
        total = Replayed()
        known: list[str] = []
        try:
            async with letters.connected(
                self._settings.dsn("timeseries"),
                self._settings.write,
                f"greenhouse-ingest healing {self._settings.broker.client_id}",
            ) as connection:
                names, asked_at = await letters.missing_names(connection, self._read_since, MAX_NAMES)
                if self._learn(names):
                    self._read_since = asked_at - OVERLAP
                known = await _known(resolver.catalog, list(self._names))
                after = 0
                while known and (page := await letters.lacking(connection, known, after, PAGE_LETTERS)):
                    after = page[-1]
                    while page:
                        await self._peace()
                        began_s = time.monotonic()
                        replayed, page = await replay(
                            connection,
                            page,
                            partial(look_again, self._decoder, resolver),
                            policy=self._settings.write.conflicting_value,
                            max_rows=MAX_ROWS,
                            now_us=time.time_ns() // 1000,
                        )
                        total.add(replayed)
                        self._on_healed(replayed.written)
                        await asyncio.sleep(time.monotonic() - began_s)
            self._names.difference_update(known)
        finally:
            if total.letters:
                log.info(
                    "dead_letters_healed",
                    names=len(known),
                    letters=total.letters,
                    settled=total.settled,
                    written=total.written,
                    duplicate=total.duplicate,
                    null=total.null,
                    rejected=total.still.total(),
                )
            for fault, count in total.faults.items():
                log.error("worker_fault", fault=fault, dead_letters=count)

    def _learn(self, names: list[str]) -> bool:
        """Add *names*, as far as the bound allows; give whether it did."""
        room = MAX_NAMES - len(self._names)
        new = [name for name in names if name not in self._names]
        self._names.update(new[:room])
        if len(new) <= room and len(names) < MAX_NAMES:
            return True
        action = "letters that lack others wait for `ingest dead-letters replay`, or until these are fewer"
        log.warning("missing_names_bound", names=MAX_NAMES, action=action)
        return False

    async def _peace(self) -> None:
        while self._in_trouble():  # noqa: ASYNC110 -- a state of the commits, told by no event
            await asyncio.sleep(PEACE_S)


async def _known(catalog: Catalog, names: Sequence[str]) -> list[str]:
    """Give those of *names* that *catalog* has; lets others run in between."""
    known: list[str] = []
    for start in range(0, len(names), NAMES_AT_ONCE):
        known += [name for name in names[start : start + NAMES_AT_ONCE] if is_known(catalog, name)]
        await asyncio.sleep(0)
    return known
