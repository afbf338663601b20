"""Settings of policies that are well-formed one by one and would lose or miss something together.

Pure, as `ingest.contradictions`. Two dangers: a window that does not reach back to what may still come,
so that an aggregate never hears of it; and a retention that drops readings of an hour, day or month that
something computes again later, from what is left of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.contradictions import Contradiction
from ingest.intervals import Interval
from ingest.policy_settings import BUCKETS, LATE_AFTER, OFF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.settings import Settings


def policy_contradictions(settings: Settings) -> Iterator[Contradiction]:
    """Yield what is wrong between the tables of policies, and between them and `decode.max_age_s`."""
    yield from _windows_too_small(settings)
    yield from _dropped_too_soon(settings)


def _windows_too_small(settings: Settings) -> Iterator[Contradiction]:
    ends = _spans(settings.refresh_end.model_dump())
    rhythms = _spans(settings.refresh_every.model_dump())
    for name, start in _spans(settings.refresh_start.model_dump()).items():
        options = (f"refresh_start.{name}", f"refresh_end.{name}", f"refresh_every.{name}")
        bucket = BUCKETS[name]
        if start.reckoned < ends[name].reckoned + 2 * bucket.reckoned:
            text = f"{start} must reach two buckets of {bucket} beyond {options[1]} {ends[name]}"
            yield Contradiction(options[:2], text)
        elif start.reckoned < LATE_AFTER.reckoned + bucket.reckoned + rhythms[name].reckoned:
            text = (
                f"{start} must cover {LATE_AFTER}, a bucket of {bucket} and {options[2]} {rhythms[name]}: "
                f"later readings are noted and computed again, earlier ones would be missed"
            )
            yield Contradiction((options[0], options[2]), text)
    rhythms = _spans(settings.job_every.model_dump())
    for name, window in _spans(settings.job_window.model_dump()).items():
        if window.reckoned < LATE_AFTER.reckoned + rhythms[name].reckoned:
            every = f"job_every.{name}"
            text = (
                f"{window} must cover {LATE_AFTER} and {every} {rhythms[name]}: "
                f"later readings are noted and computed again, earlier ones would be missed"
            )
            yield Contradiction((f"job_window.{name}", every), text)


def _dropped_too_soon(settings: Settings) -> Iterator[Contradiction]:
    compressions = _spans(settings.compress_after.model_dump())
    windows = _spans(settings.job_window.model_dump())
    for name, kept in _spans(settings.retain_for.model_dump()).items():
        option = f"retain_for.{name}"
        if kept <= compressions[name]:
            other = f"compress_after.{name}"
            yield Contradiction((option, other), f"{kept} is not above {other} {compressions[name]}")
        job = f"fill_{name}"
        if job in windows and kept.reckoned <= windows[job].reckoned + BUCKETS[job].reckoned:
            other = f"job_window.{job}"
            reach = f"{windows[job]} and a bucket of {BUCKETS[job]}"
            text = f"{kept} is not above {other} {reach}: the job would fill it again"
            yield Contradiction((option, other), text)
    readings = settings.retain_for.sensor_readings
    if readings != OFF:
        yield from _readings_dropped_too_soon(settings, Interval.parse(readings), windows)


def _readings_dropped_too_soon(
    settings: Settings, kept: Interval, windows: dict[str, Interval]
) -> Iterator[Contradiction]:
    """Judge the retention of the readings by the furthest that anything computed from them looks back."""
    option = "retain_for.sensor_readings"
    looks_back = [
        (start.reckoned, f"refresh_start.{name}", f"{start}")
        for name, start in _spans(settings.refresh_start.model_dump()).items()
    ]
    # A job's window is cut at the start of a bucket, and so reaches back by as much as one more.
    looks_back += [
        (
            window.reckoned + BUCKETS[name].reckoned,
            f"job_window.{name}",
            f"{window} and a bucket of {BUCKETS[name]}",
        )
        for name, window in windows.items()
    ]
    month = BUCKETS["cagg_sensor_readings_monthly"]
    late = Interval(microseconds=round(settings.decode.max_age_s * 1_000_000))
    looks_back.append(
        (
            late.reckoned + month.reckoned,
            "decode.max_age_s",
            f"{settings.decode.max_age_s:.0f} and a bucket of {month}",
        )
    )
    reach, other, text = max(looks_back)
    if kept.reckoned <= reach:
        yield Contradiction(
            (option, other),
            f"{kept} is not above {other} {text}: what was computed from whole buckets "
            "would be computed again from what is left of them",
        )


def _spans(table: dict[str, str]) -> dict[str, Interval]:
    return {name: Interval.parse(text) for name, text in table.items() if text != OFF}
