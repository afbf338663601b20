"""The picture of docs/speed.md: how much of the lower limit each contender reaches, by workload. Pure."""

from __future__ import annotations

from typing import Any, Final

from bench.figures import CONTENDERS, LIMITS
from ingest.load.charts import WIDTH, Bar, Title, alone, bar_chart

_NAMES: Final = {
    "worker": ("s0", "greenhouse-ingest"),
    "mq_bridge": ("q0", "mq-bridge"),
    "paho_executemany": ("q1", "paho loop"),
}
"""How each is drawn, and what it is called."""
_TITLE: Final = "Rows a second, as a share of the lower limit"
_SIZE: Final = (800, 300, 100)


def draw(workloads: dict[str, dict[str, Any]]) -> str:
    """Give the picture of *workloads* as SVG."""
    return alone(chart(workloads, _SIZE))


def chart(workloads: dict[str, dict[str, Any]], size: tuple[int, int, int]) -> str:
    """Give it as a part of a page; where that has no room for more, the workloads' names stand beside it."""
    groups = [
        (_short(each["says"]) if size[0] > WIDTH else name, _bars(each["rows_per_s"]))
        for name, each in workloads.items()
    ]
    limits = " and ".join(LIMITS).replace("_", " ")
    return bar_chart(
        Title("speed", _TITLE, f"For each workload, against the slower of {limits}; the longer the faster."),
        groups,
        legend=list(_NAMES.values()),
        mark="the limit",
        size=size,
    )


def _bars(rates: dict[str, int]) -> list[Bar]:
    limit = min(rates[name] for name in LIMITS)
    return [
        Bar(rates[name] / limit, f"{rates[name]:,}/s", _NAMES[name][0])
        for name in CONTENDERS
        if name in rates
    ]


def _short(says: str) -> str:
    return says.replace("single readings", "single").replace("5 % of them sent twice", "5 % twice")
