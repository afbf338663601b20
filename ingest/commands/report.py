"""Prints reports: one JSON object on stdout, or tables and lines for people.

What it prints may come from gateways (topics, labels, payloads): nothing of it reaches a terminal
unescaped, and nothing of it is taken for rich's markup. Remarks go to stderr.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ingest.observe.terminal import json_line, printable, printable_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PIPE_WIDTH = 10_000
"""Columns of a table that goes to a pipe or file: no cell is wrapped, so that grep finds it."""


def print_json(report: object) -> None:
    """Print *report* as one line of JSON."""
    sys.stdout.write(json_line(report) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print *rows* under *columns*; None is an empty cell. Without rows, print the sentence *empty*."""
    table = Table(*columns, box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("" if cell is None else printable(str(cell)), overflow="fold") for cell in row))
    if table.row_count:
        console = _console()
        with console.capture() as capture:
            console.print(table)
        sys.stdout.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())
    else:
        print_line(empty)


def print_line(text: str) -> None:
    """Print *text* and end the line; its own line feeds stay."""
    sys.stdout.write(printable_lines(text) + "\n")


def print_at_once(text: str) -> None:
    """Print *text* as print_line does, and let no buffer hold it: there is more to do."""
    print_line(text)
    sys.stdout.flush()


def print_counts(lines: Iterable[tuple[int, str]]) -> None:
    """Print each count that is not 0 before its text, in a column."""
    for count, text in lines:
        if count:
            print_line(f"{count:>12} {text}")


def remark(text: str) -> None:
    """Print *text* on stderr, beside the report."""
    sys.stderr.write(f"ingest: {printable_lines(text)}\n")


def _console() -> Console:
    if sys.stdout.isatty():
        return Console(highlight=False, markup=False)
    return Console(highlight=False, markup=False, width=PIPE_WIDTH)
