"""The survey: committed batches in, the issues of each window out. Pure: `now` is an argument.

Follows a bounded number of series (`track`), counts what is doubted of them and of what was rejected in a
bounded book (`issues`), and looks at the end of a window who is silent. What it must not do is cost: a
reading like the one before takes 0.2 µs. It never raises for what gateways send.

Silence is judged only for as long as this worker hears (`hears`): what its own absence made late, or the
broker's, is nobody's gap.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from ingest.model import RejectedRow
from ingest.quality import findings
from ingest.quality.conditions import last_conditions
from ingest.quality.findings import EMPTY, Directory, Rejected, subject_of_series
from ingest.quality.issues import Issue, IssueBook, OpenGap, Subject, iso, worse
from ingest.quality.track import LOOK_EVERY_US, NEVER, Limits, Track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from uuid import UUID

    from ingest.model import Row, Series
    from ingest.quality.conditions import Conditions, Place
    from ingest.quality.findings import GapState
    from ingest.quality.track import Spike

MAX_SERIES: Final = 50_000
"""Series followed, 600 bytes each; readings of further ones are counted as `unjudged`."""
MAX_SERIES_OF_GREENHOUSE: Final = 2_000
"""So that one gateway that invents sensor ids takes nobody else's place."""
MAX_KNOWN: Final = 100_000
"""Entries of the fast way from a Series to its track, emptied past that and at the end of a window."""
MAX_GAPS: Final = 10_000
DAY_US: Final = 86_400_000_000
FORGET_GAP_AFTER_US: Final = 30 * DAY_US
PAUSE_US: Final = 30_000_000
"""`hears` is told once a second; later than this, the process or the clock stood still or jumped."""
REPEATS_SHARE: Final = 0.1
REPEATS_MIN: Final = 10
"""A tenth of a gateway's readings, and ten: a restart of a gateway or broker repeats a few."""


@dataclass(slots=True)
class _Gap:
    since_us: int
    interval_us: int
    overdue: int = 0


@dataclass(slots=True)
class _Sent:
    """Readings of a gateway in this window."""

    tenant_id: UUID | None
    greenhouse_id: UUID | None
    count: int = 0
    repeated: int = 0


class Survey:
    """See the module's header; one to a worker, on its event loop."""

    def __init__(self, limits: Limits, *, window_us: int, late_after_us: int, now_us: int) -> None:
        """Begin at *now_us* (µs since 1970 UTC) with nothing known; `know` has to follow."""
        self._limits = limits
        self._window_us = window_us
        self._late_after_us = late_after_us
        self._window_end_us = now_us + window_us
        self._day_end_us = now_us + DAY_US
        self._directory = EMPTY
        self._version = 0
        self._known: dict[Series, Track] = {}
        self._tracks: dict[tuple[UUID, UUID, int], Track] = {}
        self._of_greenhouse: Counter[UUID] = Counter()
        self._gaps: dict[tuple[UUID, UUID, int], _Gap] = {}
        self._sent: dict[str, _Sent] = {}
        self._book = IssueBook()
        self._hears_since_us = NEVER
        self._told_us = now_us
        self._heard_us = 0
        self.unjudged = 0
        """Readings of series that there was no room to follow."""

    def __len__(self) -> int:
        """Count the issues of the window, those that wait to be written included."""
        return len(self._book)

    def conditions(self, now_us: int, placed: Callable[[UUID], Place | None]) -> Conditions:
        """Give what each greenhouse's sensors said last; 50 000 series take 15 to 85 ms (bench.survey)."""
        return last_conditions(self._tracks.values(), now_us, self._directory, placed)

    def know(self, directory: Directory) -> None:
        """Take a newer catalog."""
        self._directory = directory
        self._version += 1
        self._known.clear()

    def hears(self, now_us: int, *, hears: bool) -> None:
        """Be told, again and again, whether readings arrive at all; between two words far apart they did not.

        So a machine that slept, or whose clock was set, finds no gap.
        """
        if not 0 <= now_us - self._told_us <= PAUSE_US:
            self._hears_since_us = NEVER
        self._told_us = now_us
        if not hears:
            self._hears_since_us = NEVER
        elif self._hears_since_us == NEVER:
            self._hears_since_us = now_us

    def resume(self, gaps: Iterable[OpenGap]) -> None:
        """Take over the gaps that the table has open, so that whoever hears the sensor again can end them."""
        for gap in gaps:
            key = (gap.greenhouse_id, gap.sensor_id, gap.sensor_type_id)
            track = self._tracks.get(key)
            if track is not None and track.silent:
                continue
            self._keep_gap(key, _Gap(gap.since_us, gap.interval_us, gap.overdue))
            if track is not None:
                self._end_gap(track, track.first_us)

    # batches

    def rows(self, rows: Sequence[Row], heard_us: int) -> None:
        """Judge committed *rows*, the last of them received at *heard_us*."""
        if heard_us < self._heard_us:  # the clock was ahead, and is set back
            for each in self._tracks.values():
                each.set_back(heard_us)
        self._heard_us = heard_us
        known = self._known
        for row in rows:
            series, time_us, value, _, _ = row
            track = known.get(series)
            if track is None:
                track = self._enter(series)
                if track is None:
                    self.unjudged += 1
                    continue
            if (
                0 < time_us - track.last_us <= track.gap_us
                and track.low <= value <= track.high
                and heard_us < track.look_us
            ):
                track.rows += 1
                track.last_us = time_us
                track.last_value = value
            else:
                self._look(track, row, heard_us)

    def rejections(self, rejections: Iterable[Rejected]) -> None:
        """Count rejections; each in exactly one issue."""
        for rejected in rejections:
            subject = findings.subject_of_rejected(rejected)
            issue = self._book.of(
                subject, partial(findings.rejected_issue, subject, rejected, self._directory)
            )
            at_us, by = rejected.received_us, 0.0
            if isinstance(rejected.rejection, RejectedRow):
                row = rejected.rejection.row
                at_us, by = row.time_us, findings.distance_outside(row)
                self._note_alive(row, rejected.received_us)
            if issue.add(at_us, at_us, by=by):
                issue.show(findings.rejected_example(rejected), by)

    def repeats(
        self, gateway: str, tenant_id: UUID | None, greenhouse_id: UUID | None, *, repeated: int, of: int
    ) -> None:
        """Be told how many readings *of* those a gateway sent in a batch were stored already."""
        sent = self._sent.get(gateway)
        if sent is None:
            sent = self._sent[gateway] = _Sent(tenant_id, greenhouse_id)
        sent.count += of
        sent.repeated += repeated

    def _look(self, track: Track, row: Row, heard_us: int) -> None:
        """Judge a reading that may be the first, late, late in coming, out of range or far off."""
        series, time_us, value, _, _ = row
        track.rows += 1
        is_first = not track.last_us
        # Else the silence before it was this worker's.
        is_continuous = not is_first and self._hears_since_us <= track.seen_us
        track.seen_us = heard_us
        is_late = time_us < heard_us - self._late_after_us
        track.look_us = heard_us + LOOK_EVERY_US if track.is_settled and not is_late else 0
        if is_late:
            self._note_late(series, time_us)
        was_silent = track.silent
        if was_silent or (is_first and self._gaps):
            self._end_gap(track, time_us)
        interval_us = time_us - track.last_us
        if interval_us <= 0:
            return  # out of order, or sent again: no step, no interval
        is_gap = interval_us > track.gap_us
        if is_continuous:
            if is_gap and not was_silent:
                gap = _Gap(track.last_us, track.usual_interval_us)
                self._note_gap(track, gap, time_us, "back")
            track.learn_interval(interval_us)
        track.last_us = time_us
        if is_first:
            track.first_us = time_us
        if self._limits.flagged and not series.minimum <= value <= series.maximum:
            track.refused_us = time_us
            self._note_flagged(row)
            return
        for spike in track.value(time_us, value, is_adjacent=not is_first and not is_gap):
            self._note_spike(series, spike)

    def _enter(self, series: Series) -> Track | None:
        """Give the track of a Series object not seen since the last catalog or window; None without room."""
        key = (series.greenhouse_id, series.sensor_id, series.sensor_type_id)
        track = self._tracks.get(key)
        if track is None:
            if (
                len(self._tracks) >= MAX_SERIES
                or self._of_greenhouse[series.greenhouse_id] >= MAX_SERIES_OF_GREENHOUSE
            ):
                return None
            self._of_greenhouse[series.greenhouse_id] += 1
            self._tracks[key] = track = Track(series, self._limits)
        elif track.series.unit_id != series.unit_id:  # its values do not compare
            self._tracks[key] = track = Track(series, self._limits)
        registered = self._directory.sensors.get(series.sensor_id)
        expected_s = None if registered is None else registered.expected_interval_s
        track.adopt(
            series,
            expected_us=(expected_s or 0) * 1_000_000,
            is_spiky=series.sensor_type_id not in self._directory.stepless,
            is_registered=registered is not None,
            version=self._version,
        )
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[series] = track
        return track

    # what is found

    def _note_alive(self, row: Row, heard_us: int) -> None:
        """Take a reading that is refused as a sign of life: its sensor is not silent, whatever it says."""
        series = row.series
        key = (series.greenhouse_id, series.sensor_id, series.sensor_type_id)
        track = self._tracks.get(key)
        if track is None or not track.last_us:
            return
        track.rows += 1
        track.seen_us = heard_us
        track.last_us = track.refused_us = max(track.last_us, row.time_us)
        if track.silent:
            self._end_gap(track, row.time_us)

    def _note_flagged(self, row: Row) -> None:
        series, by = row.series, findings.distance_outside(row)
        subject = subject_of_series("OUT_OF_RANGE", series)
        issue = self._book.of(
            subject, partial(findings.flagged_issue, subject, series, self._directory, row.time_us)
        )
        if issue.add(row.time_us, row.time_us, by=by):
            issue.show(findings.row_example(row), by)

    def _note_spike(self, series: Series, spike: Spike) -> None:
        by = abs(spike.value - spike.before) / spike.limit
        subject = subject_of_series("SPIKE", series)
        issue = self._book.of(
            subject, partial(findings.spike_issue, subject, series, self._directory, spike.time_us)
        )
        if issue.add(spike.time_us, spike.time_us, by=by):
            issue.show(findings.spike_example(spike), by)

    def _note_late(self, series: Series, time_us: int) -> None:
        subject = Subject("LATE_DATA", series.tenant_id, series.greenhouse_id)
        issue = self._book.of(subject, partial(findings.late_issue, subject, time_us))
        if issue.add(time_us, time_us):
            issue.show({"time": iso(time_us), "sensor_id": str(series.sensor_id)})

    def _note_gap(self, track: Track, gap: _Gap, until_us: int, state: GapState) -> None:
        """Count what of *gap* is overdue at *until_us* and not counted yet."""
        series = track.series
        until_us = max(until_us, gap.since_us)
        intervals = (until_us - gap.since_us) / max(gap.interval_us, 1)
        overdue = max(0, round(intervals) - 1 if state == "back" else int(intervals))
        count, gap.overdue = max(0, overdue - gap.overdue), max(overdue, gap.overdue)
        subject = subject_of_series("MISSING_DATA", series)
        issue = self._book.of(
            subject, partial(findings.gap_issue, subject, series, self._directory, gap.since_us)
        )
        silent_s = (until_us - gap.since_us) / 1e6
        if issue.add(gap.since_us, until_us, count=count, by=silent_s):
            issue.show({"from": iso(gap.since_us), "to": iso(until_us), "seconds": silent_s}, silent_s)
        if issue.subject != subject:
            return  # merged with others: their texts are one
        issue.severity = worse(issue.severity, findings.severity_by_silence(silent_s))
        told = OpenGap(*track.key, gap.since_us, gap.interval_us, gap.overdue)
        findings.tell_gap(issue, told, until_us, state, self._directory.named(series))

    def _end_gap(self, track: Track, until_us: int) -> None:
        """Note that *track* is heard again; it may have been silent since before our time."""
        track.silent = False
        gap = self._gaps.pop(track.key, None)
        if gap is not None:
            self._note_gap(track, gap, until_us, "back")

    def _keep_gap(self, key: tuple[UUID, UUID, int], gap: _Gap) -> _Gap:
        """Keep *gap* until it ends; of too many the oldest is left for a person to close."""
        if len(self._gaps) >= MAX_GAPS:
            del self._gaps[next(iter(self._gaps))]
        self._gaps[key] = gap
        return gap

    # windows

    def due(self, now_us: int, *, last: bool = False) -> list[Issue] | None:
        """Hand out the issues of the window if it is over, or of the *last* one as far as it came."""
        self._window_end_us = min(self._window_end_us, now_us + self._window_us)  # a clock may be set back
        if now_us < self._window_end_us and not last:
            return None
        self._window_end_us = now_us + self._window_us
        self._note_repeats(now_us)
        self._judge_shares()
        if not last:
            for track in list(self._tracks.values()):
                self._close(track, now_us)
        self._known.clear()
        self._day_end_us = min(self._day_end_us, now_us + DAY_US)
        if now_us >= self._day_end_us:
            self._day_end_us = now_us + DAY_US
            self._book.forget_told()
        return self._book.take()

    def put_back(self, issues: Iterable[Issue]) -> None:
        """Take back what could not be written; it goes out with the next window."""
        self._book.put_back(issues)

    def _judge_shares(self) -> None:
        for issue in self._book:
            subject = issue.subject
            _, _, greenhouse_id, sensor_id, sensor_type_id, _ = subject
            if subject.kind not in findings.SHARED_KINDS:
                continue
            if greenhouse_id is None or sensor_id is None or sensor_type_id is None:
                continue  # merged with others
            track = self._tracks.get((greenhouse_id, sensor_id, sensor_type_id))
            issue.of += 0 if track is None else track.rows
            issue.severity = worse(issue.severity, findings.severity_by_share(issue.count, issue.of))

    def _note_repeats(self, now_us: int) -> None:
        for gateway, sent in self._sent.items():
            if sent.repeated < max(REPEATS_MIN, sent.count * REPEATS_SHARE):
                continue
            subject = Subject("DUPLICATE", sent.tenant_id, sent.greenhouse_id, about=gateway)
            issue = self._book.of(subject, partial(findings.repeat_issue, subject, now_us))
            issue.add(now_us - self._window_us, now_us, count=sent.repeated)
            issue.facts |= {"gateway": gateway, "readings_of_window": sent.count}
        self._sent.clear()

    def _close(self, track: Track, now_us: int) -> None:
        """End the window of *track*: note whether it is silent, forget it when nothing is to be expected."""
        if track.rows:
            track.windows += 1
            track.rows = 0
        unheard_us = now_us - track.seen_us
        silent_us = now_us - max(track.seen_us, self._hears_since_us)
        if silent_us <= track.gap_us + LOOK_EVERY_US:
            if unheard_us > DAY_US and (track.gap_us == NEVER or track.gap_us < DAY_US):
                self._forget(track)
            return
        if self._is_withdrawn(track):
            if (gap := self._gaps.pop(track.key, None)) is not None:
                self._note_gap(track, gap, now_us, "withdrawn")
            self._forget(track)
        elif track.is_registered or track.version == self._version:  # else its readings may have a new sensor
            gap = self._gaps.get(track.key) or self._keep_gap(
                track.key, _Gap(track.last_us, track.usual_interval_us)
            )
            track.silent = True
            track.look_us = 0
            self._note_gap(track, gap, now_us, "silent")
            if unheard_us > FORGET_GAP_AFTER_US:
                self._forget(track)

    def _is_withdrawn(self, track: Track) -> bool:
        if track.series.greenhouse_id not in self._directory.greenhouses:
            return True
        registered = self._directory.sensors.get(track.series.sensor_id)
        return track.is_registered if registered is None else not registered.is_active

    def _forget(self, track: Track) -> None:
        del self._tracks[track.key]
        greenhouse_id = track.series.greenhouse_id
        self._of_greenhouse[greenhouse_id] -= 1
        if not self._of_greenhouse[greenhouse_id]:
            del self._of_greenhouse[greenhouse_id]
