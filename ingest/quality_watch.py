"""The quality watch: what was committed goes through the survey, what it finds into the metadata database.

Part of the composition root, on the event loop: `on_committed` is called by the committer after each COMMIT,
`catch_up` while the database is busy with the next; `run` is a task of its own, with a short connection at
the end of a window. With the metadata database away the issues wait, bounded, and go out with a later window.
Nothing here holds up a batch, and no fault of it stops one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Container
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from uuid import UUID

import structlog

from ingest.errors import DatabaseFault, Poison, Unavailable
from ingest.model import RejectedRow
from ingest.quality import Conditions, Directory, Limits, Place, Rejected, Survey
from ingest.resolve import is_known
from ingest.resolve.units import ANY_UNIT_TYPES
from ingest.write.late import LATE_AFTER_US
from ingest.write.quality_log import QualityLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ingest.observe.logs import Repeats
    from ingest.observe.metrics import Metrics
    from ingest.quality import Issue
    from ingest.resolve import Catalog
    from ingest.settings import Settings
    from ingest.write import Batch, Outcome

_TICK_S: Final = 1.0
_BUSY_S: Final = 10.0
"""Messages that wait without a COMMIT for this long: the worker hears nobody."""
_CONDITIONS_SHARE: Final = 100
"""Times what it took, and conditions are gathered again: a hundredth of the time at most goes into them."""
_SHARED_FILTER: Final = "$share/"
_NOTHING: Final[frozenset[str]] = frozenset()

Level: TypeAlias = Literal["warning", "error"]

log = structlog.get_logger()


class QualityWatch:
    """See the module's header."""

    def __init__(self, settings: Settings, *, metrics: Metrics, repeats: Repeats) -> None:
        """Prepare; `on_catalog` has to follow. Raises ConfigurationError when the DSN is missing."""
        quality = settings.quality
        self._enabled = quality.enabled
        self._tick_s = min(_TICK_S, quality.window_s)
        self._metrics = metrics
        self._repeats = repeats
        self._catalog: Catalog | None = None
        self._log = QualityLog(
            settings.dsn("metadata"), settings.broker.client_id, resolve_after_s=quality.resolve_after_s
        )
        self._survey = Survey(
            Limits(
                quality.spike_factor,
                quality.gap_factor,
                int(quality.min_gap_s * 1e6),
                flagged=settings.resolve.out_of_range == "flag",
                gaps=not any(each.startswith(_SHARED_FILTER) for each in settings.broker.filters),
            ),
            window_us=int(quality.window_s * 1e6),
            late_after_us=LATE_AFTER_US,
            now_us=_now_us(),
        )
        self._committed_s = time.monotonic()
        self._unseen: tuple[Batch, Outcome] | None = None
        self._resumed = False
        self._failing = False
        self._unjudged = 0
        self._writing = asyncio.Lock()
        self._conditions = Conditions([], 0)
        self._conditions_until_s = 0.0

    @property
    def waiting(self) -> int:
        """Issues found and not written yet."""
        return len(self._survey)

    @property
    def conditions(self) -> Conditions | None:
        """What the sensors of each greenhouse said last; None where `quality.enabled` is false.

        Never raises.
        """
        if not self._enabled:
            return None
        started_s = time.monotonic()
        if started_s >= self._conditions_until_s:
            try:
                self._conditions = self._survey.conditions(_now_us(), self._place_of)
            except Exception:  # noqa: BLE001 (the page lacks them, and a worker's report must not end with them)
                self._conditions = Conditions([], 0)
                self._tell("quality_survey_failed", "error", exc_info=True)
            ended_s = time.monotonic()
            self._conditions_until_s = ended_s + _CONDITIONS_SHARE * (ended_s - started_s)
        return self._conditions

    def on_catalog(self, catalog: Catalog) -> None:
        """Take a newer catalog."""
        self._catalog = catalog
        self._survey.know(_directory(catalog))

    def on_committed(self, batch: Batch, outcome: Outcome) -> None:
        """Keep a batch that is committed for `catch_up`; never raises.

        To survey 20 000 rows takes 5 ms, in which the next COMMIT would wait.
        """
        self.catch_up()
        self._committed_s = time.monotonic()
        if self._enabled and batch.readings:
            self._unseen = batch, outcome

    def catch_up(self) -> None:
        """Survey the last batch, unless that is done; never raises."""
        if self._unseen is None:
            return
        (batch, outcome), self._unseen = self._unseen, None
        try:
            self._look_at(batch, outcome)
        except Exception:  # noqa: BLE001 (a doubt about data must not stop the data)
            self._tell("quality_survey_failed", "error", exc_info=True)

    async def run(self, hears: Callable[[], bool], in_flight: Callable[[], int]) -> None:
        """Write at the end of each window, for ever. *hears* tells whether readings reach this worker."""
        if self._enabled:
            await self._try(self._take_over)
        while True:
            await asyncio.sleep(self._tick_s)
            if not self._enabled:
                continue
            self.catch_up()
            busy = in_flight() > 0 and time.monotonic() - self._committed_s > _BUSY_S
            self._survey.hears(_now_us(), hears=hears() and not busy)
            await self._try(self._write_due)

    async def leave(self, patience_s: float) -> None:
        """Write what was found since the last window, if the database takes it within *patience_s*."""
        if not self._enabled:
            return
        self.catch_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._try(lambda: self._write_due(last=True))
        if self.waiting:
            log.warning("quality_issues_lost", issues=self.waiting, reason="the database did not take them")

    def _look_at(self, batch: Batch, outcome: Outcome) -> None:
        heard_us = batch.receipts_us[-1]
        refused = outcome.refused
        rows = [row for at, row in enumerate(batch.rows) if at not in refused] if refused else batch.rows
        self._survey.rows(rows, heard_us)
        for (_, gateway), hour in outcome.booking.gateways.items():
            if stored := hour.counts.written + hour.counts.duplicate:
                self._survey.repeats(
                    gateway, hour.tenant_id, hour.greenhouse_id, repeated=hour.counts.duplicate, of=stored
                )
        if refused or batch.rejections:
            self._survey.rejections(self._rejected(batch, outcome))

    def _rejected(self, batch: Batch, outcome: Outcome) -> list[Rejected]:
        """Give what was rejected, before the database and by it."""
        found: list[Rejected] = []
        for index, rejections in batch.rejections.items():
            topic, received_us = batch.deliveries[index].topic, batch.receipts_us[index]
            gateway, missing = batch.gateways[index], batch.curable.get(index, _NOTHING)
            found += [
                Rejected(rejection, topic, received_us, gateway.tenant_id, gateway.greenhouse_id, missing)
                for rejection in rejections
            ]
        for number, rejection in outcome.refused.items():
            row, index = batch.rows[number], batch.owner(number)
            known = RejectedRow.of(row, rejection.reason, rejection.detail)
            topic, received_us = batch.deliveries[index].topic, batch.receipts_us[index]
            found.append(Rejected(known, topic, received_us, row.series.tenant_id, row.series.greenhouse_id))
        return found

    def _place_of(self, greenhouse_id: UUID) -> Place | None:
        catalog = self._catalog
        if catalog is None or (house := catalog.greenhouses.get(greenhouse_id)) is None:
            return None
        tenant = catalog.tenants.get(house.tenant_id)
        return None if tenant is None else Place(tenant.name, house.code)

    def _is_cured(self, missing: Sequence[str]) -> bool:
        """Tell whether the catalog has every name of *missing* by now."""
        catalog = self._catalog
        return catalog is not None and all(is_known(catalog, name) for name in missing)

    async def _write_due(self, *, last: bool = False) -> None:
        async with self._writing:
            issues = self._survey.due(_now_us(), last=last)
            if issues is None or (last and not issues):
                return
            refused: list[tuple[Issue, Poison]] | None = None
            try:
                await self._take_over()
                refused = await self._log.write(issues, self._is_cured)
            finally:
                if refused is None:
                    self._survey.put_back(issues)
            self._account(issues, refused)

    async def _take_over(self) -> None:
        """Read once which gaps an earlier process left open. Raises DatabaseFault."""
        if self._resumed:
            return
        try:
            self._survey.resume(await self._log.open_gaps())
        except Poison as fault:  # somebody edited a row: its gap is left to a person
            self._tell("quality_gaps_unreadable", "error", error=str(fault))
        self._resumed = True

    async def _try(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do *work*; a fault is told, and the next window tries again."""
        try:
            await work()
        except DatabaseFault as fault:
            self._failing = True
            level: Level = "warning" if isinstance(fault, Unavailable) else "error"
            self._tell("quality_log_failed", level, error=str(fault), waiting=self.waiting)
        except Exception:  # noqa: BLE001 (a doubt about data must not stop the data)
            self._tell("quality_survey_failed", "error", exc_info=True)

    def _account(self, issues: list[Issue], refused: list[tuple[Issue, Poison]]) -> None:
        if self._failing:
            self._failing = False
            log.info("quality_log_recovered")
        for issue, fault in refused:
            self._tell("quality_issue_refused", "error", error=str(fault), issue=issue.subject.key)
        lost = {issue.subject for issue, _ in refused}
        kinds = Counter(issue.subject.kind for issue in issues if issue.subject not in lost)
        self._metrics.quality_issues(kinds)
        if kinds:
            log.debug("quality_issues_written", kinds=dict(kinds))
        if self._survey.unjudged > self._unjudged:
            unjudged, self._unjudged = self._survey.unjudged - self._unjudged, self._survey.unjudged
            self._tell("quality_series_unjudged", "warning", readings=unjudged, reason="too many series")

    def _tell(self, event: str, level: Level, *, exc_info: bool = False, **told: object) -> None:
        """Log *event*; repeats are counted, not repeated."""
        if (held_back := self._repeats.admit(event, time.monotonic())) is not None:
            getattr(log, level)(event, repeats=held_back, exc_info=exc_info, **told)


class _Active(Container["UUID"]):
    """The greenhouses of a catalog that are switched on; ten thousand, so it looks when it is asked."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def __contains__(self, greenhouse_id: object) -> bool:
        house = self._catalog.greenhouses.get(greenhouse_id) if isinstance(greenhouse_id, UUID) else None
        if house is None or not house.is_active:
            return False
        tenant = self._catalog.tenants.get(house.tenant_id)
        return tenant is not None and tenant.is_active


def _directory(catalog: Catalog) -> Directory:
    """Cut a snapshot to what judging needs."""
    return Directory(
        catalog.sensors,
        _Active(catalog),
        {each.sensor_type_id: each.name for each in catalog.sensor_types.values()},
        {each.unit_id: each.symbol for each in catalog.units.values()},
        frozenset(
            each.sensor_type_id for each in catalog.sensor_types.values() if each.name in ANY_UNIT_TYPES
        ),
    )


def _now_us() -> int:
    return time.time_ns() // 1000
