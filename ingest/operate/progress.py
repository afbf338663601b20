"""Where a long command is; told by operate, shown by commands."""

from __future__ import annotations

from typing import NamedTuple


class Progress(NamedTuple):
    """What is being done, and how much is done of what there is (rows, letters; in a survey, chunks)."""

    doing: str
    done: int
    total: int
