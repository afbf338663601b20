"""Whose clock is off: each gateway's least lag of late, and what to say of it.

The lag of a reading is its receipt minus its own time. Nothing arrives before it was measured, so a lag
below 0 is a clock that is ahead. A large one may be a clock that is behind, or a reading that waited: in a
gateway's buffer, at the broker while the worker was away. Readings wait once in a while, a clock is wrong
all the time: so a clock counts as behind only by the least lag of a whole window. A gateway that sends
nothing but old readings for that long looks the same; that is said where it is shown.

Pure: the caller brings the time. As large as there are gateways in the catalog.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW_S: Final = 900.0
"""Long enough for a buffer of hours to be sent and live readings to follow, or a backlog to be drained."""


class Skew(NamedTuple):
    """One gateway whose clock is off by more than the limit, or was never set."""

    gateway: str
    skew_s: float | None
    """Above 0 it is ahead, below 0 behind; None when all that is known is that it was never set."""
    never_set: int
    """Its readings from 1970."""


class ClockSkews:
    """The least lags of the window under way and of the one before; see the module's header."""

    def __init__(self, limit_s: float, window_s: float = WINDOW_S) -> None:
        """Judge a clock that is off by more than *limit_s*."""
        self._limit_s = limit_s
        self._window_s = window_s
        self._began_s: float | None = None
        self._now: dict[str, float] = {}
        self._before: dict[str, float] = {}
        self._never_set: dict[str, int] = {}
        self._never_set_before: dict[str, int] = {}
        self._told_s: dict[str, float] = {}

    def note(self, gateway: str, lag_s: float | None, never_set: int, now_s: float) -> None:
        """Add what a batch showed of *gateway*; *now_s* is monotonic."""
        self._roll(now_s)
        if lag_s is not None and lag_s < self._now.get(gateway, float("inf")):
            self._now[gateway] = lag_s
        if never_set:
            self._never_set[gateway] = self._never_set.get(gateway, 0) + never_set

    def worst_s(self, now_s: float) -> float:
        """Give how far the worst clock is off, either way; 0 when none is known."""
        self._roll(now_s)
        return max((abs(skew_s) for _, skew_s in self._known()), default=0.0)

    def off(self, now_s: float) -> list[Skew]:
        """Give the clocks that are off by more than the limit or were never set, the worst first."""
        self._roll(now_s)
        known = {gateway: skew_s for gateway, skew_s in self._known() if abs(skew_s) > self._limit_s}
        never_set = {
            gateway: self._never_set.get(gateway, 0) + self._never_set_before.get(gateway, 0)
            for gateway in {**self._never_set, **self._never_set_before}
        }
        found = [
            Skew(gateway, known.get(gateway), never_set.get(gateway, 0)) for gateway in {**known, **never_set}
        ]
        return sorted(found, key=lambda each: (-abs(each.skew_s or 0), -each.never_set, each.gateway))

    def to_tell(self, now_s: float, *, every_s: float, at_most: int) -> list[Skew]:
        """Give those of `off` that were not given within *every_s*: a few at a time, the worst first."""
        self._told_s = {
            gateway: told_s for gateway, told_s in self._told_s.items() if now_s - told_s < every_s
        }
        fresh = [each for each in self.off(now_s) if each.gateway not in self._told_s][:at_most]
        self._told_s.update((each.gateway, now_s) for each in fresh)
        return fresh

    def _known(self) -> Iterator[tuple[str, float]]:
        for gateway in {**self._before, **self._now}:
            least_s = min(self._before.get(gateway, float("inf")), self._now.get(gateway, float("inf")))
            if least_s < 0 or gateway in self._before:
                yield gateway, -least_s

    def _roll(self, now_s: float) -> None:
        """Begin another window once the one under way is over; what is older than two is forgotten."""
        if self._began_s is None:
            self._began_s = now_s
        passed = int((now_s - self._began_s) // self._window_s)
        if passed < 1:
            return
        self._began_s += passed * self._window_s
        self._before, self._now = (self._now if passed == 1 else {}), {}
        self._never_set_before, self._never_set = (self._never_set if passed == 1 else {}), {}
