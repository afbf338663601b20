"""The figures as a table on the terminal: ratios first."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from bench.figures import CONTENDERS, LIMITS, WORKER


def show(name: str, workload: dict[str, Any], target: str) -> None:
    """Print one workload's table."""
    size = f"{workload['messages']:,} messages, {workload['rounds']} round(s)"
    title = f"{name}: {workload['says']}\n{size}, {target}"
    table = Table(title=title)
    for heading in ("contender", "worker / it", "rows/s", "us CPU a message", "MiB", "exact"):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    for each in (*CONTENDERS, *LIMITS):
        if each in workload["rows_per_s"]:
            table.add_row(*_cells(each, workload))
    console = Console()
    console.print(table)
    console.print(
        f"of the lower limit {workload['ratio_to_limit']:.2f}; "
        f"with its start the worker took {workload['cpu_us_with_start']:.1f} us CPU a message\n"
    )


def _cells(name: str, workload: dict[str, Any]) -> tuple[str, ...]:
    spent = workload if name == WORKER else workload["peers"].get(name, {})
    cpu_us, rss_mb = spent.get("cpu_us_per_message"), spent.get("rss_mb")
    return (
        f"{name} (limit)" if name in LIMITS else name,
        "" if name == WORKER else f"{workload[f'ratio_to_{name}']:.2f}",
        f"{workload['rows_per_s'][name]:,}",
        "" if cpu_us is None else f"{cpu_us:.1f}",
        "" if rss_mb is None else f"{rss_mb:.0f}",
        "NO" if name in workload["inexact"] else "yes",
    )
