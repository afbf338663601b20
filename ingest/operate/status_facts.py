"""What `ingest status` found, as values: filled by status.py, judged by status_judge.py, shown by commands.

Nothing here reads or decides. What could not be read is None or empty, and a fault says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from ingest.operate.policy_plan import Plan
    from ingest.operate.reading import DatabaseName
    from ingest.operate.status_forecast import Forecast


def floor2(share: float) -> float:
    """Round a share down to two digits: 99.999 % is not all of them."""
    return int(share * 100) / 100


@dataclass(frozen=True, slots=True)
class Fault:
    """A database, or a part of it, that could not be looked at."""

    database: DatabaseName
    what: str
    sqlstate: str | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """The readings' database."""

    postgresql: str
    timescaledb: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Hypertable:
    """One hypertable of schema iot; sizes in bytes, with indexes and TOAST."""

    name: str
    chunks: int
    compressed: int
    overdue: int
    """Chunks that should be compressed and are not."""
    outlived: int
    """Chunks that should have been dropped."""
    oldest: datetime | None
    """Start of the first chunk."""
    newest: datetime | None
    """End of the last one."""
    retain_for: str | None
    retain_for_s: float | None
    packed_rows: int
    """Rows in compressed chunks, when they were compressed."""
    before_bytes: int
    after_bytes: int
    total_bytes: int

    @property
    def saved_pct(self) -> float | None:
        """What compression saved, in per cent; None where nothing is compressed."""
        return None if not self.before_bytes else 100 * (1 - self.after_bytes / self.before_bytes)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One continuous aggregate, and how its policy's last run went where the server keeps a record."""

    name: str
    watermark: datetime | None
    """Up to where it is materialised; None: nothing is."""
    wanted: datetime
    """Up to where it should be, if there are readings."""
    job_id: int | None
    scheduled: bool | None
    last_run_started_at: datetime | None
    status: str | None
    duration_s: float | None
    runs: int
    failures: int
    total_bytes: int = 0
    stale: bool = False
    """Readings wait that it should have by now."""


PORTAL_FAULT: Final = "cannot drop portal"
"""What every background run ends with on TimescaleDB 2.28.3 with PostgreSQL 15.20, its work done. Its
SQLSTATE, 24000, is that of other faults too."""


@dataclass(frozen=True, slots=True)
class Job:
    """One background job of schema iot, and its record, which a server without a scheduler does not keep."""

    job_id: int
    procedure: str
    subject: str
    scheduled: bool
    every_s: float
    last_run_started_at: datetime | None
    status: str | None
    duration_s: float | None
    next_start: datetime | None
    runs: int
    failures: int
    running: bool | None
    missed: bool | None
    """Whether its start is long overdue."""
    error: str | None
    """Of the last failure; only its owner may see it."""

    @property
    def failed(self) -> bool:
        """Whether its last run failed, and it has another before it."""
        return self.status == "Failed" and self.scheduled

    @property
    def misrecorded(self) -> bool:
        """Whether only the record of its failed run is bad: its work was done."""
        return self.failed and (self.error or "").startswith(PORTAL_FAULT)

    @property
    def failure_pct(self) -> float | None:
        """Failed runs in per cent of all."""
        return 100 * self.failures / self.runs if self.runs else None


@dataclass(frozen=True, slots=True)
class Coverage:
    """Rows of a table that carry names, and how many of those lack an id for one."""

    table_name: str
    rows: int
    lacking: int

    @property
    def pct(self) -> float:
        """Rows that have all their ids, in per cent."""
        return 100.0 if not self.rows else 100 * (self.rows - self.lacking) / self.rows


@dataclass(frozen=True, slots=True)
class Unmapped:
    """A name in the metadata database without an id, or beside an id that says ``mapped_to``."""

    table_name: str
    column_name: str
    value: str
    mapped_to: str | None
    rows: int


@dataclass(frozen=True, slots=True)
class LegacyName:
    """Readings without ids that carry these names."""

    sensor_type: str | None
    unit: str | None
    no_type: int
    no_unit: int
    no_tenant: int
    rows: int


@dataclass(slots=True)
class ReadingsCoverage:
    """How many of the readings have their ids, as far as they were counted."""

    chunks: int = 0
    counted: int = 0
    """Chunks that were counted."""
    rows: int = 0
    lacking: int = 0
    names: list[LegacyName] = field(default_factory=list)
    """Most rows first."""
    enforced: bool = False
    """The columns are NOT NULL: there was nothing to count."""

    @property
    def pct(self) -> float:
        """Rows that have all their ids, of those counted, in per cent."""
        return Coverage("sensor_readings", self.rows, self.lacking).pct


@dataclass(frozen=True, slots=True)
class SilentSensor:
    """A registered sensor that should have sent something by now."""

    sensor_id: UUID
    greenhouse_id: UUID
    expected_interval_s: int
    last_at: datetime | None
    """Its last reading of the last 30 days, as iot.sensor_performance_daily has it."""


@dataclass(frozen=True, slots=True)
class LateHours:
    """Hours that wait for their aggregates to be computed again, and since when."""

    hours: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Session:
    """A worker's session, as the delivery journal has it."""

    client_id: str
    host: str | None
    process_id: int | None
    share_group: str | None
    pending_entries: int
    unfinished_starts: int
    claimed_at: datetime | None
    committed_at: datetime | None
    age_s: float | None
    """Since its last COMMIT."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What was received in this hour and the one before."""

    messages: int
    readings: int
    seconds: float | None
    lag_s: float | None
    """From the time of a reading to its receipt, at the gateway where that is least, in the later hour."""

    @property
    def messages_per_s(self) -> float | None:
        """None where nothing came."""
        return self.messages / self.seconds if self.seconds else None

    @property
    def readings_per_s(self) -> float | None:
        """Likewise."""
        return self.readings / self.seconds if self.seconds else None


@dataclass(frozen=True, slots=True)
class LetterReason:
    """Dead letters that are kept, by one of their reasons."""

    reason: str
    kept: int
    last_day: int
    newest: datetime


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Dead letters in all, each once."""

    kept: int
    last_day: int
    reasons: list[LetterReason]
    only_counted: int
    """Readings of the last day that were past a budget: counted, and not kept."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Open issues of one kind."""

    type: str
    severity: str
    issues: int
    oldest: datetime


@dataclass(slots=True)
class Findings:
    """Everything; a part that could not be read is None."""

    at: datetime
    seconds: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    server: Server | None = None
    hypertables: list[Hypertable] | None = None
    aggregates: list[Aggregate] | None = None
    jobs: list[Job] | None = None
    policies: Plan | None = None
    invalid_indexes: list[str] | None = None
    readings: ReadingsCoverage | None = None
    silent: list[SilentSensor] | None = None
    sensors_watched: int = 0
    late: LateHours | None = None
    sessions: list[Session] | None = None
    rate: Rate | None = None
    rows_a_day: float | None = None
    forecast: Forecast | None = None
    dead_letters: DeadLetters | None = None
    coverage: list[Coverage] | None = None
    unmapped: list[Unmapped] | None = None
    quality: list[Quality] | None = None

    @property
    def seen(self) -> bool:
        """Whether there is anything of ours in what could be read: a database that is migrated has some."""
        return bool(self.hypertables or self.jobs or self.coverage or self.dead_letters)
