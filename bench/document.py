"""Puts the figures of bench/results/latest.json into three pages of docs/, and draws a picture.

    python -m bench.document
    python -m bench.document --report FILE     nothing of the docs; the figures as an HTML page

What stands between `<!-- bench: NAME -->` and `<!-- bench: end -->` is written by this, and between
`<!-- = NAME -->` and `<!-- = -->` within a line; the rest by hand. A test sees to it that the docs say what
the results say.
"""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench import record
from bench.direct import ROWS as DIRECT
from bench.figures import LIMITS, WORKER
from bench.page import render
from bench.plot import draw
from bench.targets import judge
from docs.scaling_arithmetic import TABLES, figures

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS: Final = Path(__file__).parents[1] / "docs"
PAGES: Final = (DOCS / "speed.md", DOCS / "scaling.md", DOCS / "backfill.md")
PICTURE: Final = DOCS / "speed.svg"
_PART: Final = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- bench: end -->)", re.DOTALL)
_FIGURE: Final = re.compile(r"(<!-- = (\w+) -->).*?(<!-- = -->)")
_MET: Final = {True: "met", False: "**missed**", None: "not measured"}


def written(page: str, kept: dict[str, Any]) -> str:
    """Give *page* with what *kept* says between its markers. Pure; KeyError for an unknown marker."""
    said = figures(kept)

    def part(found: re.Match[str]) -> str:
        begin, name, end = found.groups()
        return f"{begin}\n" + "\n".join(_PARTS[name](kept)) + f"\n\n{end}"

    return _FIGURE.sub(lambda found: found[1] + said[found[2]] + found[3], _PART.sub(part, page))


def _run(kept: dict[str, Any]) -> Iterator[str]:
    yield f"Measured on {kept['machine']}, shared with broker and database; {kept['target']}."


def _targets(kept: dict[str, Any]) -> Iterator[str]:
    yield "| target | wanted | measured | |"
    yield "|---|---:|---:|---|"
    for each in judge(kept):
        yield f"| {each.says} | {each.wanted} | {each.measured} | {_MET[each.met]} |"


def _workloads(kept: dict[str, Any]) -> Iterator[str]:
    yield (
        "| workload | rounds | rows/s | of mq-bridge | of the paho loop | of the lower limit | of raw COPY "
        "| µs CPU a message | MiB | exact |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|"
    for name, each in kept["workloads"].items():
        cells = [
            f"{each['rounds']}",
            f"{each['rows_per_s'][WORKER]:,}",
            *(
                f"{each[key]:.2f}" if key in each else ""
                for key in (
                    "ratio_to_mq_bridge",
                    "ratio_to_paho_executemany",
                    "ratio_to_limit",
                    "ratio_to_raw_copy",
                )
            ),
            f"{each['cpu_us_per_message']:.1f}",
            f"{each['rss_mb']:.0f}",
            "yes" if each["exact"] else "**NO**",
        ]
        yield f"| `{name}`: {each['says']} | {' | '.join(cells)} |"


def _contenders(kept: dict[str, Any]) -> Iterator[str]:
    yield "| workload | contender | rows/s | µs CPU a message | MiB | exact |"
    yield "|---|---|---:|---:|---:|---|"
    for name, each in kept["workloads"].items():
        for contender, rate in each["rows_per_s"].items():
            spent = each if contender == WORKER else each["peers"].get(contender, {})
            cpu_us, rss_mb = spent.get("cpu_us_per_message"), spent.get("rss_mb")
            cells = [
                f"{rate:,}",
                "" if cpu_us is None else f"{cpu_us:.1f}",
                "" if rss_mb is None else f"{rss_mb:.0f}",
                "**no**" if contender in each["inexact"] else "limit" if contender in LIMITS else "yes",
            ]
            yield f"| `{name}` | {contender} | {' | '.join(cells)} |"


def _latency(kept: dict[str, Any]) -> Iterator[str]:
    yield "| messages a second | p50 | p99 | p99.9 | of so many |"
    yield "|---:|---:|---:|---:|---:|"
    for rate, each in kept["latency_ms"].items():
        spent = " | ".join(f"{each[name]:.1f} ms" for name in ("p50_ms", "p99_ms", "p99_9_ms"))
        yield f"| {int(rate):,} | {spent} | {each['messages']:,} |"


def _stages(kept: dict[str, Any]) -> Iterator[str]:
    names = list(kept["stages_us"])
    yield f"| step | {' | '.join(f'`{name}`' for name in names)} |"
    yield f"|---|{'---:|' * len(names)}"
    for step in kept["stages_us"][names[0]]:
        spent = " | ".join(f"{kept['stages_us'][name][step]:.2f}" for name in names)
        yield f"| {step} | {spent} |"


def _direct(kept: dict[str, Any]) -> Iterator[str]:
    if "direct" not in kept:  # the other figures are of another machine, and newer
        yield "Not measured where the figures of [speed.md](speed.md) are."
        return
    direct = kept["direct"]
    yield (
        f"{direct['messages']:,} messages of one reading each, {direct['bytes_a_message']:.0f} bytes "
        f"of the file a message; {kept['machine']}, shared with the database; {kept['target']}."
    )
    yield ""
    yield "| | messages/s | of plain COPY |"
    yield "|---|---:|---:|"
    for name, says in DIRECT.items():
        yield f"| {says} | {direct[name]:,} | {direct[name] / direct['copy_1']:.2f} |"


def report(kept: dict[str, Any], path: Path) -> None:
    """Write the page of *kept* to *path*."""
    path.write_text(render(kept, f"bench/results, drawn {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"))


_PARTS: Final = {
    "run": _run,
    "targets": _targets,
    "workloads": _workloads,
    "contenders": _contenders,
    "latency": _latency,
    "stages": _stages,
    "direct": _direct,
    **TABLES,
}


def main() -> None:
    """Write pages and picture, or the page that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.document", description=__doc__)
    parser.add_argument("--report", type=Path, metavar="FILE", help="the figures as an HTML page, no more")
    options = parser.parse_args()
    kept = record.read()
    if options.report is not None:
        report(kept, options.report)
        return
    for page in PAGES:
        page.write_text(written(page.read_text(), kept))
    PICTURE.write_text(draw(kept["workloads"]))


if __name__ == "__main__":
    main()
