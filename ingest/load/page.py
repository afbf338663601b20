"""A report as one HTML file: headings, facts, charts with their figures in a table beside them. Pure.

Nothing is fetched and nothing runs: no script, no font, no image; the page forbids both to itself, in case a
name from outside should ever get past the escaping. It follows the reader's light or dark setting, becomes
one column on a telephone, and prints with its tables unrolled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ingest.load.charts import STYLE, text

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONG: Final = 1e15
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
    :root { color-scheme: light dark; --ink: #24292f; --faint: #57606a; --ground: #ffffff; --edge: #d0d7de;
      --good: #1a7f37; --bad: #cf222e }
    @media screen and (prefers-color-scheme: dark) {
      :root { --ink: #e6edf3; --faint: #9198a1; --ground: #0d1117; --edge: #30363d;
        --good: #3fb950; --bad: #ff7b72 }
    }
    body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--ground); color: var(--ink);
      font: 16px/1.5 system-ui, sans-serif }
    h1 { font-size: 1.5rem; overflow-wrap: anywhere } h2 { font-size: 1.15rem; margin-top: 2.5rem }
    .verdict { border-left: .35rem solid var(--faint); padding: .2rem .8rem; font-weight: 600 }
    .good { border-color: var(--good) } .bad { border-color: var(--bad) }
    dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem }
    dt, caption, footer { color: var(--faint) } dd { margin: 0; overflow-wrap: anywhere }
    figure { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 1rem;
      align-items: start; margin: 1rem 0 }
    figure svg { box-sizing: border-box; width: 100%; height: auto;
      border: 1px solid var(--edge); border-radius: 6px }
    .table { max-height: 22rem; overflow: auto; border: 1px solid var(--edge); border-radius: 6px }
    table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums }
    caption { text-align: left; padding: .3rem .5rem }
    th, td { padding: .15rem .5rem; text-align: right; vertical-align: top }
    .words td { overflow-wrap: anywhere; min-width: 5em }
    .table + .table { margin-top: 1rem }
    th:first-child, td:first-child, .words th, .words td { text-align: left }
    tr + tr { border-top: 1px solid var(--edge) }
    @media (max-width: 46rem) { figure { grid-template-columns: minmax(0, 1fr) } dl { display: block } }
    @media print {
      body { max-width: none } .table { max-height: none; overflow: visible }
      figure, tr { break-inside: avoid } h2 { break-after: avoid }
    }"""


@dataclass(frozen=True, slots=True)
class Table:
    """Figures; None is an empty cell. *words*: most cells are text."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    words: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart of `charts`, and its figures."""

    chart: str
    table: Table


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    heading: str
    remark: str = ""
    parts: tuple[Figure | Table, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that is said."""

    title: str
    verdict: str
    ok: bool | None
    """None: nothing was judged."""
    facts: tuple[tuple[str, object], ...]
    sections: tuple[Section, ...]
    made: str
    """When, and by what."""


def html(page: Page) -> str:
    """Give *page* as the text of a file."""
    return "\n".join(_lines(page)) + "\n"


def number(value: float | None) -> str:
    """Give *value* as a person reads it: three digits that count, thousands apart; NaN stays."""
    if value is None:
        return ""
    if math.isfinite(value) and abs(value) < _LONG and (abs(value) >= 100 or value == int(value)):  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _lines(page: Page) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{text(page.title)}</title>"
    yield f"<style>{_STYLE}{STYLE}\n</style>\n</head>\n<body>\n<main>"
    look = {True: " good", False: " bad", None: ""}[page.ok]
    yield f'<h1>{text(page.title)}</h1>\n<p class="verdict{look}">{text(page.verdict)}</p>'
    yield "<dl>"
    for name, said in page.facts:
        yield f"<dt>{text(name)}</dt><dd>{text(said)}</dd>"
    yield "</dl>"
    for section in page.sections:
        yield f"<section>\n<h2>{text(section.heading)}</h2>"
        if section.remark:
            yield f"<p>{text(section.remark)}</p>"
        for part in section.parts:
            if isinstance(part, Figure):
                yield f"<figure>\n{part.chart}"
                yield from _table(part.table)
                yield "</figure>"
            else:
                yield from _table(part)
        yield "</section>"
    yield f"</main>\n<footer>{text(page.made)}</footer>\n</body>\n</html>"


def _table(table: Table) -> Iterator[str]:
    words = ' class="words"' if table.words else ""
    yield f'<div class="table" tabindex="0" role="region" aria-label="{text(table.caption)}"><table{words}>'
    yield f"<caption>{text(table.caption)}</caption>"
    heads = "".join(f'<th scope="col">{text(column)}</th>' for column in table.columns)
    yield f"<thead><tr>{heads}</tr></thead>\n<tbody>"
    for row in table.rows:
        cells = "".join(f"<td>{'' if cell is None else text(cell)}</td>" for cell in row)
        yield f"<tr>{cells}</tr>"
    yield "</tbody></table></div>"
