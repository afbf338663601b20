"""What `ingest normalize` did, would do, and could not do: counts that add up. Values only.

    found = mapped + merged + differing + unmapped + pending + arrived

Filled by normalize.py, printed by commands/normalizing.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ingest.operate.normalize_names import WHAT_TO_DO

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from ingest.operate.normalize_names import Counted, Meaning, Unknown

EXAMPLES_KEPT = 20
"""Differing readings shown; all are counted."""


class Differing(NamedTuple):
    """A legacy row left alone: another row of its time, greenhouse, type and sensor has another value."""

    time: str
    greenhouse_id: UUID
    sensor_id: str
    sensor_type: str
    unit: str
    value: float | None
    kept_value: float | None


@dataclass(slots=True)
class UnknownName:
    """A name (or greenhouse) that the catalog does not know, in rows that stay without an id for it."""

    reason: Unknown
    name: str
    rows: int
    first: datetime
    last: datetime

    @property
    def what_to_do(self) -> str:
        """What gives these rows their id."""
        return WHAT_TO_DO[self.reason]


@dataclass(slots=True)
class Report:
    """Counts of legacy rows: those that lack tenant, type or unit id."""

    dry_run: bool
    mapped: int = 0
    """Have all their ids now."""
    merged: int = 0
    """Deleted: the same reading was there, in another spelling or with ids."""
    differing: int = 0
    """Left: another reading has their key."""
    unmapped: int = 0
    """Lack an id because the catalog does not know a name; what it knows of them is filled in."""
    pending: int = 0
    """Not got at: it was interrupted."""
    arrived: int = 0
    """Known names that an old writer inserted meanwhile; the next run maps them."""
    no_sensor: int = 0
    """Of the mapped, those without a sensor id; it stays NULL."""
    chunks: int = 0
    recompressed: int = 0
    """Chunks decompressed for it, and compressed again."""
    hours_noted: int = 0
    """Notes for the aggregates that wait for recompute_late_buckets."""
    hours_computed: int | None = None
    """Of the notes, those whose aggregates were computed again at the end; None: that was not asked for."""
    seconds: float = 0.0
    interrupted: bool = False
    remarks: list[str] = field(default_factory=list)
    """What the operator has to know besides."""
    unknown: dict[tuple[Unknown, str], UnknownName] = field(default_factory=dict)
    examples: list[Differing] = field(default_factory=list)

    @property
    def found(self) -> int:
        """All legacy rows met."""
        left = self.differing + self.unmapped + self.pending + self.arrived
        return self.mapped + self.merged + left

    @property
    def rows_per_second(self) -> float:
        """Rows written a second."""
        return (self.mapped + self.merged) / self.seconds if self.seconds else 0.0

    @property
    def clean(self) -> bool:
        """Whether every row it met has its ids; what arrived meanwhile is for the next run."""
        return not (self.differing or self.unmapped or self.pending)

    def note_unknown(self, counted: Counted, meaning: Meaning) -> None:
        """Count the rows of a census group under each name of theirs that the catalog does not know."""
        for key in meaning.unknown:
            known = self.unknown.get(key)
            if known is None:
                self.unknown[key] = UnknownName(*key, counted.rows, counted.first, counted.last)
            else:
                known.rows += counted.rows
                known.first = min(known.first, counted.first)
                known.last = max(known.last, counted.last)

    def as_json(self) -> dict[str, Any]:
        """Give the report as one JSON object."""
        return {
            "dry_run": self.dry_run,
            "found": self.found,
            "mapped": self.mapped,
            "merged": self.merged,
            "differing": self.differing,
            "unmapped": self.unmapped,
            "pending": self.pending,
            "arrived": self.arrived,
            "no_sensor": self.no_sensor,
            "chunks": self.chunks,
            "recompressed": self.recompressed,
            "hours_noted": self.hours_noted,
            "hours_computed": self.hours_computed,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows_per_second),
            "interrupted": self.interrupted,
            "unknown": [
                {
                    "reason": unknown.reason,
                    "name": unknown.name,
                    "rows": unknown.rows,
                    "first": unknown.first.isoformat(),
                    "last": unknown.last.isoformat(),
                    "what_to_do": unknown.what_to_do,
                }
                for unknown in self.most_rows_first()
            ],
            "examples": [
                {**example._asdict(), "greenhouse_id": str(example.greenhouse_id)}
                for example in self.examples
            ],
        }

    def most_rows_first(self) -> list[UnknownName]:
        """Give the unknown names, those of most rows first."""
        return sorted(self.unknown.values(), key=lambda one: (-one.rows, one.reason, one.name))
