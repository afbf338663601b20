"""Garbage: when its collector looks for circles, in a process that moves rows by the million."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Have the garbage collector look seldom, and never at what is there by now: the catalog.

    A batch leaves 100 000 objects, none of them in a circle; to look for circles took a quarter of the time.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(1_000_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
