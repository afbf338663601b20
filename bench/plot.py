"""The picture of docs/speed.md: how much of the lower limit each contender reaches, by workload. Pure.

SVG by hand: bars, a line at 100 %, colours that follow the reader's light or dark setting.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

from bench.figures import CONTENDERS, LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES: Final = {"worker": "greenhouse-ingest", "mq_bridge": "mq-bridge", "paho_executemany": "paho loop"}
_TITLE: Final = "Rows a second, as a share of the lower limit"
_WIDTH, _LEFT, _RIGHT = 800, 300, 100
_BAR, _GAP, _TOP = 13, 16, 56
_STYLE: Final = """
    .ground { fill: #ffffff }
    text { font: 12px system-ui, sans-serif; fill: #24292f }
    .title { font-size: 14px; font-weight: 600 }
    .faint { fill: #57606a }
    .worker { fill: #1a7f37 } .mq_bridge { fill: #8c959f } .paho_executemany { fill: #c9d1d9 }
    line { stroke: #57606a; stroke-dasharray: 3 3 }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #0d1117 }
      text { fill: #e6edf3 }
      .faint { fill: #9198a1 }
      .worker { fill: #3fb950 } .mq_bridge { fill: #6e7681 } .paho_executemany { fill: #484f58 }
      line { stroke: #9198a1 }
    }"""


def draw(workloads: dict[str, dict[str, Any]]) -> str:
    """Give the picture of *workloads* as SVG."""
    bars = [(name, workload, _contenders(workload)) for name, workload in workloads.items()]
    height = _TOP + sum(len(names) * _BAR + _GAP for _, _, names in bars) + 8
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            f"  <title>{_TITLE}</title>",
            f"  <style>{_STYLE}\n  </style>",
            f'  <rect class="ground" width="{_WIDTH}" height="{height}"/>',
            f'  <text class="title" x="12" y="22">{_TITLE}</text>',
            *_legend(),
            *_groups(bars, height),
            "</svg>\n",
        )
    )


def _contenders(workload: dict[str, Any]) -> list[str]:
    return [name for name in CONTENDERS if name in workload["rows_per_s"]]


def _legend() -> Iterator[str]:
    x = 12
    for name, said in _NAMES.items():
        yield f'  <rect class="{name}" x="{x}" y="33" width="10" height="10"/>'
        yield f'  <text x="{x + 15}" y="42">{said}</text>'
        x += 25 + 7 * len(said)


def _groups(bars: list[tuple[str, dict[str, Any], list[str]]], height: int) -> Iterator[str]:
    full = _WIDTH - _LEFT - _RIGHT
    yield f'  <line x1="{_LEFT + full}" x2="{_LEFT + full}" y1="{_TOP - 6}" y2="{height - 8}"/>'
    yield f'  <text class="faint" x="{_LEFT + full}" y="{_TOP - 12}" text-anchor="middle">the limit</text>'
    y = _TOP
    for _, workload, names in bars:
        rates = workload["rows_per_s"]
        limit = min(rates[name] for name in LIMITS)
        middle = y + len(names) * _BAR / 2 + 4
        said = escape(_short(workload["says"]))
        yield f'  <text x="{_LEFT - 8}" y="{middle:g}" text-anchor="end">{said}</text>'
        for name in names:
            width = full * min(rates[name] / limit, 1.1)
            yield f'  <rect class="{name}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR - 2}"/>'
            at = f'x="{_LEFT + width + 5:.1f}" y="{y + _BAR - 3}"'
            yield f'  <text class="faint" {at}>{rates[name]:,}/s</text>'
            y += _BAR
        y += _GAP


def _short(says: str) -> str:
    return says.replace("single readings", "single").replace("5 % of them sent twice", "5 % twice")
