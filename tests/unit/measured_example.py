"""What a replay might have measured, with names that are out for trouble."""

from __future__ import annotations

from typing import Any

from ingest.load.measured import DAY_US, Days, Measured, Meter, Missing, Number

HOSTILE = "GREENHOUSE/<script>alert('x')</script>&\"\x1b[31m"


def measured(**others: Any) -> Measured:  # noqa: ANN401 (fields of Measured)
    meter = Meter()
    for second in range(400):
        meter.total(float(second), second * 50, second * 49)
    for taken_us in [2_000] * 98 + [9_000, 70_000]:
        meter.took(0, taken_us)
    days = Days(0, DAY_US)
    for minute in range(1_440):
        days.add("TEMPERATURE", "°C", minute * 60_000_000, 20 + minute / 1_440)
        days.add(HOSTILE, "x", minute * 60_000_000, 5.0)
    fields: dict[str, Any] = {
        "title": f"Replay of {HOSTILE}",
        "verdict": HOSTILE,
        "ok": False,
        "facts": ((HOSTILE, HOSTILE),),
        "rates": meter.rates,
        "latencies": meter.latency("From PUBLISH to PUBACK"),
        "readings": days.readings,
        "days": days.days,
        "account": (
            Number("published", 1_234),
            Number("missing", 2, amiss=True),
            Number("refused", 0, amiss=True),
        ),
        "missing": (Missing("f.jsonl.gz, 0, 7", HOSTILE, HOSTILE, "no row"),),
        "missing_in_all": 2,
        "made": "now",
    }
    return Measured(**(fields | others))
