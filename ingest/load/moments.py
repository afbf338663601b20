"""The time of a historical reading: ISO 8601 in some zone, or an epoch number. Pure.

A gateway's naive time is UTC; of a file nobody knows, so it has to be said. An hour that a clock went
through twice, or never, is no time: which of the two it was, only whoever wrote the file can tell.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from ingest.decode.values import Fault, parse_time, quoted
from ingest.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import tzinfo

    from ingest.decode.values import TimeFault

NAIVE: Final = Fault("a time without a zone, and no --timezone says which it is in")
EARLIEST_US: Final = 31_536_000_000_000
"""1971-01-01, where nobody says otherwise: in 1970 begins a clock that was never set."""

_ISO = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d|\d{8}[Tt]\d\d")
_OFFSET = re.compile(r"(?:[Zz]|[+-]\d\d(?::?\d\d(?::?\d\d(?:\.\d+)?)?)?)$")


class Times:
    """Reads times as of one zone and one accepted range."""

    def __init__(self, zone: tzinfo | None, accepted_us: tuple[int, int]) -> None:
        """Take the *zone* of naive times, None where they have no business, and (earliest, latest)."""
        self._zone = zone
        self._accepted_us = accepted_us

    def read(self, cell: object) -> int | TimeFault:
        """Give µs since 1970-01-01 UTC, or a Fault: NAIVE for a naive time without a zone."""
        if type(cell) is not str:
            return parse_time(cell, self._accepted_us)
        text = cell.strip()
        if not _ISO.match(text) or _OFFSET.search(text, 10):
            return parse_time(text, self._accepted_us)
        if self._zone is None:
            return NAIVE
        if self._zone is UTC:
            return parse_time(text, self._accepted_us)
        return self._in_zone(text, self._zone)

    def _in_zone(self, text: str, zone: tzinfo) -> int | TimeFault:
        try:
            local = datetime.fromisoformat(text.upper()).replace(tzinfo=zone)
        except ValueError:
            return parse_time(text, self._accepted_us)  # which says what is wrong with it
        before, after = local.utcoffset(), local.replace(fold=1).utcoffset()
        if before != after and before is not None and after is not None:
            what = "was there twice" if before > after else "was never there"
            return Fault(f"timestamp {quoted(text)} {what} in {zone}: the clock was put; give the offset")
        return parse_time(local.astimezone(UTC).isoformat(), self._accepted_us)


def zone_named(name: str | None) -> tzinfo | None:
    """Find a time zone as the IANA database names it. ConfigurationError where there is none."""
    if name is None:
        return None
    if name.upper() in {"UTC", "Z"}:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    known = available_timezones()
    if not known:
        raise ConfigurationError(
            ["--timezone: this machine has no time zone database; install tzdata, or say UTC"]
        )
    folded = name.strip().casefold().replace(" ", "_")
    near = sorted(zone for zone in known if folded and folded in zone.casefold())[:5]
    hint = f"; there is {', '.join(near)}" if near else ", like Europe/Madrid"
    raise ConfigurationError([f"--timezone: {name!r} is no time zone of the IANA database{hint}"])
