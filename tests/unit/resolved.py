"""What the resolver made of one reading: its series, or the reason for which it has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.model import Resolved, Series


def series(resolved: Resolved) -> Series:
    assert resolved.rejections == []
    (row,) = resolved.rows
    return row.series


def reason(resolved: Resolved) -> str:
    assert resolved.rows == []
    (rejection,) = resolved.rejections
    assert rejection.detail
    return rejection.reason
