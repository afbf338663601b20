"""When the next message is due: at its own time or a multiple of it, at a rate, or at once. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Pace:
    """Begins with the first message it is asked about; at most one of *speed* and *rate*."""

    speed: float | None = None
    """Recorded seconds in a second. What is late is caught up with: the recording keeps its length."""
    rate: float | None = None
    """Messages in a second, never more: what is late is not caught up with."""
    late_s: float = 0.0
    """How far behind its own time the latest message was, at most."""
    _origin_s: float = 0.0
    _origin_us: int | None = None
    _due_s: float = 0.0

    def wait_s(self, received_us: int, now_s: float) -> float:
        """Give how long the message that was *received_us* has to wait at *now_s*; 0 and less: no more."""
        if self.rate is not None:
            wait_s = self._due_s - now_s
            self._due_s = max(self._due_s, now_s) + 1 / self.rate
            return wait_s
        if self.speed is None:
            return 0.0
        if self._origin_us is None:
            self._origin_us, self._origin_s = received_us, now_s
        wait_s = self._origin_s + (received_us - self._origin_us) / 1e6 / self.speed - now_s
        self.late_s = max(self.late_s, -wait_s)
        return wait_s

    def begin_again(self) -> None:
        """Take the next message for the first: a recording replayed once more."""
        self._origin_us = None
