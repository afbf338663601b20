"""Times as an operator writes them: ISO 8601, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from ingest.errors import ConfigurationError

_DURATION = re.compile(r"(\d{1,6})([smhd])")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def moment(text: str, now: datetime, option: str) -> datetime:
    """Read ISO 8601 (naive is UTC), or a time before *now*: 30m, 12h, 7d.

    Raises ConfigurationError naming the *option*, before the year 1 too.
    """
    try:
        if duration := _DURATION.fullmatch(text):
            return now - timedelta(seconds=int(duration[1]) * _SECONDS[duration[2]])
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ConfigurationError([f"{option}: {text!r} is neither ISO 8601 nor like 30m, 12h, 7d"]) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def iso_us(time_us: int) -> str:
    """Write µs since 1970 as ISO 8601 with a Z."""
    return (EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")
