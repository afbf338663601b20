"""What the operator hears of COMMITs: a line for each kind of event, its repeats counted and not repeated.

Part of the composition root; `commits` says what happened. No payload is in a line, and no topic but a
gateway's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog

from ingest.errors import BatchRefused, DatabaseFault, Unavailable

if TYPE_CHECKING:
    from ingest.observe.logs import Repeats
    from ingest.observe.skew import ClockSkews
    from ingest.write import Division

_SKEW_REPEAT_S: Final = 3600.0
_SKEWS_AT_ONCE: Final = 5
"""Lines in a progress interval."""

log = structlog.get_logger()


class Announcer:
    """See the module's header."""

    def __init__(self, repeats: Repeats) -> None:
        """Share *repeats* with whoever else must not repeat itself."""
        self._repeats = repeats

    def fault(self, event: str, fault: DatabaseFault, wait_s: float, *, in_flight: int) -> None:
        """Tell of *fault* as *event*, with the wait (s) that follows."""
        if (held_back := self._admit(f"{event} {fault}")) is not None:
            level = log.warning if isinstance(fault, Unavailable) else log.error
            level(
                event,
                error=str(fault),
                retry_in_s=round(wait_s, 2),
                in_flight=in_flight,
                repeats=held_back,
            )

    def refused(self, fault: BatchRefused, messages: int) -> None:
        """Tell that the database does not take so many *messages* at once, or this one not at all."""
        if (held_back := self._admit(f"batch_refused {fault.sqlstate}")) is not None:
            action = "committed in halves" if messages > 1 else "dead-lettered whole as database_refused"
            log.error("batch_refused", error=str(fault), messages=messages, action=action, repeats=held_back)

    def overflow(self, letters: Division) -> None:
        """Tell that dead letters were only counted."""
        if (held_back := self._admit("dead_letters_only_counted")) is not None:
            log.warning(
                "dead_letters_only_counted",
                messages=letters.counted,
                reasons=sorted({counted.reason for counted in letters.messages}),
                action="see `ingest dead-letters list`; write.dead_letters_per_topic_per_hour is the budget",
                repeats=held_back,
            )

    def skews(self, skews: ClockSkews) -> None:
        """Name gateways whose clock is off, each once an hour: thousands when it is this machine's own."""
        now_s = time.monotonic()
        for each in skews.to_tell(now_s, every_s=_SKEW_REPEAT_S, at_most=_SKEWS_AT_ONCE):
            log.warning(
                "gateway_clock_skew",
                gateway=each.gateway,
                skew_s=None if each.skew_s is None else round(each.skew_s, 1),
                never_set=each.never_set,
                gateways=len(skews.off(now_s)),
                action="set the gateway's clock; see `ingest reconcile`",
            )

    def _admit(self, key: str) -> int | None:
        return self._repeats.admit(key, time.monotonic())
