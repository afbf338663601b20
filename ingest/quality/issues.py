"""Issues: what is doubted, of whom, since when, how often, with the first and the worst example. Pure.

An issue is about a subject; subjects of one key are one, in this window, in later ones and in the table.
The book of a window is bounded: past its limits subjects are merged by greenhouse, then by kind. Nothing
that was counted is lost by merging.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from uuid import UUID

Kind: TypeAlias = Literal[
    "UNMAPPED_NAME",
    "MISSING_DATA",
    "OUT_OF_RANGE",
    "SPIKE",
    "DUPLICATE",
    "CONFLICTING_VALUE",
    "LATE_DATA",
    "BAD_TIMESTAMP",
    "OTHER",
]
"""The check constraint of `quality_issue_type` in `schema/metadata/V14`."""
KINDS: tuple[Kind, ...] = get_args(Kind)

Severity: TypeAlias = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
Source: TypeAlias = Literal["iot.sensor_readings", "iot.ingest_dead_letters"]
"""The table with the readings in doubt: stored, or refused."""
Example: TypeAlias = dict[str, Any]
"""One reading or gap, as JSON."""
Identity: TypeAlias = "tuple[Kind, UUID | None, UUID | None, int | None, str]"
"""Kind, place, sensor, sensor type and what else the subject is about."""

MAX_ISSUES: Final = 2_000
"""Told one by one in a window: 3 MB, and one INSERT of 0.1 s. Further subjects are merged by greenhouse."""
MAX_MERGED: Final = 500
"""Greenhouses merged into; from then on by kind alone."""
MAX_SUBJECTS: Final = 500
"""Of one kind and greenhouse, told one by one in a day: more sensors than any greenhouse has."""
MAX_NAMES: Final = 50
"""Unmapped names of one greenhouse (or topic prefix) a day: a gateway that invents names fills no table."""
MAX_TOLD: Final = 50_000
"""Subjects remembered for those two, about 10 MB."""
ABOUT_CHARS: Final = 300
OTHERS: Final = "others"
_OTHERS_TEXT: Final = (
    "more sensors or names than are told one by one: mend what the other issues of this kind tell, then see "
    "what is left"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Subject(NamedTuple):
    """What an issue is about."""

    kind: Kind
    tenant_id: UUID | None
    greenhouse_id: UUID | None
    sensor_id: UUID | None = None
    sensor_type_id: int | None = None
    about: str = ""
    """What tells it from others of the same place: a reason, a name."""

    @property
    def identity(self) -> Identity:
        """What the key tells, at a tenth of its cost. A greenhouse may change its tenant: it is no part."""
        return (
            self.kind,
            self.greenhouse_id or self.tenant_id,
            self.sensor_id,
            self.sensor_type_id,
            self.about,
        )

    @property
    def key(self) -> str:
        """The same in every worker and window; `sample_data ->> 'key'` in the table."""
        place = self.greenhouse_id or self.tenant_id or "-"
        parts = (self.kind, place, self.sensor_id or "-", self.sensor_type_id or "-", self.about or "-")
        return "/".join(str(part) for part in parts)


@dataclass(slots=True)
class Issue:
    """One row of `metadata.data_quality_log` to be, or what one window adds to it."""

    subject: Subject
    data_source: Source
    description: str
    severity: Severity
    first_us: int
    """Time of the first reading concerned, µs since 1970 UTC; last_us the last's."""
    last_us: int
    count: int = 0
    of: int = 0
    """Readings of the subject in the same windows, where its share is judged."""
    first: Example | None = None
    worst: Example | None = None
    worst_by: float = 0.0
    """By which measure `worst` is the worst; the kind says which."""
    facts: Example = field(default_factory=dict)
    """What else the row tells."""

    def add(self, first_us: int, last_us: int, *, count: int = 1, by: float = 0.0) -> bool:
        """Count *count* readings between both times; tell whether an example of them is wanted."""
        self.count += count
        self.first_us = min(self.first_us, first_us)
        self.last_us = max(self.last_us, last_us)
        return self.first is None or by > self.worst_by

    def show(self, example: Example, by: float = 0.0) -> None:
        """Keep *example* as the first, and as the worst so far."""
        if self.first is None:
            self.first = example
        if by > self.worst_by:
            self.worst, self.worst_by = example, by

    def absorb(self, other: Issue) -> None:
        """Add what *other* counted; its text and facts are not taken."""
        self.add(other.first_us, other.last_us, count=other.count)
        self.of += other.of
        self.first = self.first or other.first
        if other.worst is not None and other.worst_by > self.worst_by:
            self.worst, self.worst_by = other.worst, other.worst_by
        self.severity = worse(self.severity, other.severity)


class OpenGap(NamedTuple):
    """An open MISSING_DATA issue of a sensor that was silent when it was written."""

    greenhouse_id: UUID
    sensor_id: UUID
    sensor_type_id: int
    since_us: int
    interval_us: int
    overdue: int
    """Readings of this gap that are counted already."""


def worse(one: Severity, other: Severity) -> Severity:
    """Give the graver of both."""
    return max(one, other, key=SEVERITIES.index)


def iso(time_us: int) -> str:
    """Give µs since 1970 UTC as ISO 8601."""
    return (_EPOCH + timedelta(microseconds=time_us)).isoformat()


class IssueBook:
    """The issues of a window by subject, bounded; see the module's header."""

    def __init__(self) -> None:
        self._issues: dict[Identity, Issue] = {}
        self._told: dict[tuple[Kind, UUID | None], set[Identity]] = {}
        self._told_count = 0

    def __len__(self) -> int:
        """Count the issues of the window."""
        return len(self._issues)

    def __iter__(self) -> Iterator[Issue]:
        """Give the issues of the window."""
        return iter(self._issues.values())

    def of(self, subject: Subject, make: Callable[[], Issue]) -> Issue:
        """Give the issue to count *subject* in: its own, which *make* makes, or one it is merged into."""
        identity = subject.identity
        issue = self._issues.get(identity)
        if issue is not None:
            issue.subject = subject  # its greenhouse may have another tenant by now
            return issue
        if self._is_told(subject, identity):
            self._issues[identity] = issue = make()
            return issue
        merged = Subject(subject.kind, subject.tenant_id, subject.greenhouse_id, about=OTHERS)
        if merged.identity not in self._issues and len(self._issues) >= MAX_ISSUES + MAX_MERGED:
            merged = Subject(subject.kind, None, None, about=OTHERS)
        issue = self._issues.get(merged.identity)
        if issue is None:
            one = make()
            issue = Issue(merged, one.data_source, _OTHERS_TEXT, one.severity, one.first_us, one.last_us)
            self._issues[merged.identity] = issue
        issue.subject = merged
        return issue

    def take(self) -> list[Issue]:
        """Hand out the issues, in the order of their keys, and begin anew."""
        issues, self._issues = self._issues, {}
        return sorted(issues.values(), key=lambda issue: issue.subject.key)

    def put_back(self, issues: Iterable[Issue]) -> None:
        """Merge what could not be written into the window of today; what this one says is the newer."""
        for issue in issues:
            self._put_back(issue)

    def forget_told(self) -> None:
        """Let every kind and greenhouse have its subjects told one by one again; once a day."""
        self._told.clear()
        self._told_count = 0

    def _put_back(self, issue: Issue) -> None:
        found = self._issues.get(issue.subject.identity) or self.of(issue.subject, lambda: issue)
        if found is not issue:
            found.absorb(issue)
            found.first = issue.first or found.first

    def _is_told(self, subject: Subject, identity: Identity) -> bool:
        if len(self._issues) >= MAX_ISSUES:
            return False
        told = self._told.setdefault((subject.kind, subject.greenhouse_id or subject.tenant_id), set())
        if identity in told:
            return True
        limit = MAX_NAMES if subject.kind == "UNMAPPED_NAME" else MAX_SUBJECTS
        if len(told) >= limit or self._told_count >= MAX_TOLD:
            return False
        told.add(identity)
        self._told_count += 1
        return True
