"""What a step of `ingest maintain` is, and what is told of it. Values only.

A step looks first, changing nothing, and gives what it found and the tasks there are; then it does one task
after the other. Doing a task twice does no more than once, and an interrupted one leaves nothing that the
next run does not find.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from ingest.migration_connection import Connection
    from ingest.operate.rights import Login
    from ingest.settings import Settings

Period: TypeAlias = Literal["daily", "weekly", "monthly"]
StepName: TypeAlias = Literal[
    "audit",
    "quality",
    "names",
    "compress",
    "jobs",
    "aggregates",
    "recompress",
    "statistics",
    "dead-letters",
    "indexes",
    "retention",
]


@dataclass(frozen=True, slots=True)
class Ground:
    """What every step works with; the connections are its own, one statement at a time."""

    settings: Settings
    timeseries: Connection
    metadata: Connection
    now: datetime
    stop: asyncio.Event
    """Once it is set, the task under way is finished and no other begun."""


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to do; ``arguments`` are for the step that gave it."""

    what: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """What a step found: lines for people, and what it would do."""

    findings: list[str] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``do`` returns what is worth telling of a task, and raises what went wrong with it.

    Where ``settle`` is there, it says so of each task once all of them are done; it gets the loop's time of
    then: what they have to wait for, they wait for together.
    """

    name: StepName
    title: str
    look: Callable[[Ground], Awaitable[Look]]
    do: Callable[[Ground, Task], Awaitable[str | None]] | None = None
    login: Login = "ingest_migrator"
    """The least that has the rights for it."""
    settle: Callable[[Ground, Task, float], Awaitable[str | None]] | None = None


@dataclass(slots=True)
class StepReport:
    """What became of one step."""

    name: StepName
    title: str
    findings: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    """What there was to do."""
    done: int = 0
    told: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def left(self) -> int:
        """Tasks that were not done."""
        return len(self.tasks) - self.done


@dataclass(slots=True)
class MaintenanceReport:
    """One run, or in a dry run what it would do."""

    period: Period
    dry_run: bool
    steps: list[StepReport] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def tasks(self) -> int:
        """Everything there was to do."""
        return sum(len(each.tasks) for each in self.steps)

    @property
    def faults(self) -> list[str]:
        """Everything that went wrong, by step."""
        return [f"{step.name}: {fault}" for step in self.steps for fault in step.faults]

    def as_json(self) -> dict[str, Any]:
        """Give the report as one JSON object."""
        return {
            "period": self.period,
            "dry_run": self.dry_run,
            "ok": not self.faults,
            "interrupted": self.interrupted,
            "seconds": round(self.seconds, 3),
            "steps": [
                asdict(each) | {"left": each.left, "seconds": round(each.seconds, 3)} for each in self.steps
            ],
        }
