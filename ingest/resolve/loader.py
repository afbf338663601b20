"""Keeps the catalog in step with the metadata database, and learns when it is out of date.

One connection, kept open outside a transaction for LISTEN `catalog_changed` and used for each read; opened
again when it breaks. An announcement comes with the COMMIT of what it announces and names the greenhouse, and
that one is read again. Announcements are heard from before the first read, and after a lost connection
everything is read, so that no change goes unnoticed, however late its COMMIT. What nobody announced (triggers
switched off) is found within `refresh_interval_s`, in which all greenhouses are read again, page by page.
With the database away the last snapshot stays in use: names that were known go on being resolved. `run` is a
task of the worker; it never changes a row.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from ingest.errors import DatabaseFault, Misconfigured, Unavailable
from ingest.resolve.catalog import EMPTY
from ingest.resolve.names import parse_uuid
from ingest.resolve.reading import PAGE_GREENHOUSES, Reader, Wanted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from structlog.typing import FilteringBoundLogger

    from ingest.resolve.catalog import Catalog
    from ingest.settings import ResolveSettings

CHANNEL = "catalog_changed"
"""NOTIFY channel of the statement triggers in `schema/metadata/V12_1`."""
QUIET_S = 0.2
"""A change is read once no other has followed for this long, so that a bulk import is one refresh."""
QUIET_MAX_S = 1.0
"""Changes without a pause are read this often all the same."""
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
"""For one statement: a page of greenhouses, some milliseconds."""
MISS_WAIT_S = 3.0
"""How long an unknown name may hold up its message while the database is asked."""
RETRY_MAX_S = 30.0
CLOSE_TIMEOUT_S = 1.0

_EACH_TIME: Final = {"tenants", "units", "sensor_types", "unit_aliases", "sensor_type_aliases"}
"""Tables that a refresh reads in any case."""


class CatalogLoader:
    """Keeps ``catalog`` current; ``on_change`` is called in the event loop with each newer snapshot."""

    def __init__(
        self,
        dsn: str,
        settings: ResolveSettings,
        on_change: Callable[[Catalog], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        """Take the metadata DSN; *clock* gives monotonic seconds. Connects at the first `load`."""
        self._dsn = dsn
        self._settings = settings
        self._on_change = on_change
        self._clock = clock
        self._log: FilteringBoundLogger = structlog.get_logger() if log is None else log
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._changed = asyncio.Event()
        self._wanted = Wanted()
        self._reader = Reader()
        self._page_due_s = -math.inf
        self._refreshing: asyncio.Task[Catalog] | None = None
        self._asked: dict[str, float] = {}
        self._last_miss_s = -math.inf
        self._started_s = -math.inf
        self._read_at_s = -math.inf
        self.catalog: Catalog | None = None
        self.last_error: str | None = None
        """Why the last read failed; None when it did not."""
        self.refreshes = 0
        self.failures = 0

    @property
    def age_s(self) -> float:
        """Seconds since the database was last read; inf before the first time."""
        return self._clock() - self._read_at_s

    async def load(self) -> Catalog:
        """Read everything now and make it current.

        Raises Misconfigured (credentials, schema not migrated) or Unavailable.
        """
        return await self._read(Wanted(everything=True))

    async def run(self) -> None:
        """Read again after each change, interval and lost connection, until cancelled; the worker's task."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(DatabaseFault),
            wait=wait_random_exponential(multiplier=0.5, max=RETRY_MAX_S),
        )
        while True:
            if self._connected():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, self._page_due_s - self._clock())):
                        await self._changed.wait()
                if self._changed.is_set() and self._connected():
                    await self._quiet()
            await retrying(self._read, Wanted(page=self._clock() >= self._page_due_s))

    async def refresh_on_miss(self, names: Iterable[str]) -> bool:
        """Ask the database once for *names* the snapshot lacks; True if a newer snapshot is now in use.

        A name asked for within `miss_memory_s` is not asked again, and refreshes are at least
        `miss_refresh_min_interval_s` apart; callers at the same time share one. A read holds its
        callers up for MISS_WAIT_S at most, one that `run` retries for an absent database not at all.
        Never raises for the database.
        """
        before = None if self.catalog is None else self.catalog.version
        now_s = self._clock()
        if self.last_error is not None:
            return False
        is_reading = self._refreshing is not None and not self._refreshing.done()
        fresh = [name for name in names if self._expired(name, now_s)]
        if now_s - self._last_miss_s < self._settings.miss_refresh_min_interval_s:
            fresh = []
        if fresh:
            self._last_miss_s = now_s
            self._remember(fresh, now_s)
        elif not is_reading:
            return False
        if not is_reading:
            self._started_s = now_s
        with contextlib.suppress(DatabaseFault, TimeoutError):
            async with asyncio.timeout(max(0.0, self._started_s + MISS_WAIT_S - now_s)):
                if fresh or self._refreshing is None:
                    await self._read(Wanted(names=set(fresh)))
                else:  # of a read under way the outcome is enough
                    await asyncio.shield(self._refreshing)
        return self.catalog is not None and self.catalog.version != before

    async def close(self) -> None:
        """Stop a read under way and close the connection; `run` is the caller's to cancel."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])
        connection = self._connection
        if connection is not None and not connection.is_closed():
            connection.remove_termination_listener(self._note_end)
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await connection.close()
        self._drop_connection()

    def _connected(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    def _expired(self, name: str, now_s: float) -> bool:
        asked_s = self._asked.get(name)
        return asked_s is None or now_s - asked_s >= self._settings.miss_memory_s

    def _remember(self, names: Sequence[str], now_s: float) -> None:
        for name in names:
            self._asked.pop(name, None)  # to the end: the dict stays ordered by time
            self._asked[name] = now_s
        while len(self._asked) > self._settings.miss_memory_names:
            del self._asked[next(iter(self._asked))]

    async def _quiet(self) -> None:
        """Wait until changes pause for QUIET_S, QUIET_MAX_S at most."""
        deadline_s = self._clock() + QUIET_MAX_S
        while self._changed.is_set() and self._clock() < deadline_s:
            self._changed.clear()
            await asyncio.sleep(QUIET_S)

    async def _read(self, wanted: Wanted) -> Catalog:
        """Read what is *wanted*, with what others want; where a read has begun without it, wait for the next.

        Raises as `load`.
        """
        mine = self._wanted
        mine.add(wanted)
        while True:
            if self._refreshing is None or self._refreshing.done():
                self._refreshing = asyncio.create_task(self._refresh(), name="catalog refresh")
                # Its outcome is in last_error, also when every caller has stopped waiting for it.
                self._refreshing.add_done_callback(lambda task: task.cancelled() or task.exception())
            catalog = await asyncio.shield(self._refreshing)
            if self._wanted is not mine:
                return catalog

    async def _refresh(self) -> Catalog:
        wanted, self._wanted = self._wanted, Wanted()
        self._changed.clear()  # before the read: a change during it is read again
        self._started_s = self._clock()
        if not self._connected():  # nobody has told what changed meanwhile
            wanted.everything = True
        try:
            async with translated("read the catalog"):
                catalog = await self._reader.read(await self._listening(), self.catalog or EMPTY, wanted)
        except DatabaseFault as fault:
            self._drop_connection()
            self.failures += 1
            if self.last_error is None:
                self._log.warning("catalog_refresh_failed", error=str(fault), sqlstate=fault.sqlstate)
            self.last_error = str(fault)
            raise
        if self.last_error is not None:
            self._log.info("catalog_refresh_recovered", failures=self.failures)
        self.last_error = None
        self._read_at_s = self._clock()
        if wanted.page or wanted.everything:
            pages = max(1.0, len(catalog.greenhouses) / PAGE_GREENHOUSES)
            self._page_due_s = self._read_at_s + self._settings.refresh_interval_s / pages
        self.refreshes += 1
        if self.catalog is not None and self.catalog.version == catalog.version:
            return self.catalog
        self.catalog = catalog
        self._log.info("catalog_loaded", version=catalog.version, **catalog.counts())
        self._on_change(catalog)
        return catalog

    async def _listening(self) -> asyncpg.Connection[asyncpg.Record]:
        """Give the open connection, else open one; LISTEN comes first, so no change falls between."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        connection = await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=READ_TIMEOUT_S,
            statement_cache_size=0,  # a migration may change a table under a prepared statement
            server_settings={"application_name": "greenhouse-ingest catalog"},
        )
        self._connection = connection
        connection.add_termination_listener(self._note_end)
        await connection.add_listener(CHANNEL, self._note_change)
        return connection

    def _note_end(self, _: object) -> None:
        self._changed.set()

    def _note_change(self, _: object, __: int, ___: str, payload: object) -> None:
        """Take an announcement: `greenhouse` and the id of one, or the name of a table."""
        what, _, name = str(payload).partition(" ")
        greenhouse_id = parse_uuid(name) if what == "greenhouse" else None
        if greenhouse_id is not None:
            self._wanted.greenhouses.add(greenhouse_id)
        elif what not in _EACH_TIME:
            self._wanted.everything = True
        self._changed.set()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.remove_termination_listener(self._note_end)
            self._connection.terminate()
            self._connection = None


async def read_catalog(dsn: str, settings: ResolveSettings) -> Catalog:
    """Read one snapshot, for a command. Raises as `CatalogLoader.load`."""
    loader = CatalogLoader(dsn, settings, lambda _: None)
    try:
        return await loader.load()
    finally:
        await loader.close()


@contextlib.asynccontextmanager
async def translated(doing: str) -> AsyncIterator[None]:
    """Turn what asyncpg and the network raise into Unavailable or Misconfigured, saying what was *doing*."""
    try:
        yield
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        text = f"cannot {doing} in the metadata database: {error} (SQLSTATE {state})"
        if state in {"42P01", "42703", "42883", "3F000"}:
            raise Misconfigured(f"{text}; run `ingest schema migrate`", state) from error
        if state[:2] in {"28", "3D", "42"}:
            raise Misconfigured(f"{text}; check the metadata DSN and the role's grants", state) from error
        raise Unavailable(text, state) from error
    except asyncpg.InterfaceError as error:
        if isinstance(error, ValueError):  # the DSN or its options make no sense
            raise Misconfigured(f"cannot {doing}: {error}; check the metadata DSN") from error
        raise Unavailable(f"cannot {doing} in the metadata database: {error}") from error
    except asyncpg.InternalClientError as error:  # what asyncpg says when the server dies within a statement
        raise Unavailable(f"cannot {doing} in the metadata database: {error}") from error
    except (OSError, TimeoutError) as error:
        cause = str(error) or type(error).__name__
        raise Unavailable(f"cannot {doing}: the metadata database does not answer: {cause}") from error
