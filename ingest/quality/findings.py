"""Findings in words: of which kind a fault is, how grave, what is wrong and what to do. Pure text.

Makes issues that have counted nothing yet; who makes one enters it in the book, and counts there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from ingest.model import RejectedRow
from ingest.quality.issues import ABOUT_CHARS, Issue, Kind, Severity, Source, Subject, iso
from ingest.storable import storable

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from uuid import UUID

    from ingest.model import Reason, Rejection, Row, Series
    from ingest.quality.issues import OpenGap
    from ingest.quality.track import Spike

TOPIC_CHARS: Final = 200
MISSING_NAMES: Final = 100
HOUR_S: Final = 3_600.0
DAY_S: Final = 86_400.0
MANY: Final = 0.05
MOST: Final = 0.5
"""Shares of a sensor's readings from which an issue is MEDIUM, and HIGH."""

GapState: TypeAlias = Literal["silent", "back", "withdrawn"]
"""Still silent, heard again, or no longer expected."""
SHARED_KINDS: Final[frozenset[Kind]] = frozenset({"OUT_OF_RANGE", "SPIKE", "CONFLICTING_VALUE"})
"""Judged by the share of the sensor's readings."""

STORED: Final[Source] = "iot.sensor_readings"
REFUSED: Final[Source] = "iot.ingest_dead_letters"

_KINDS: Final[Mapping[Reason, Kind]] = {
    "bad_timestamp": "BAD_TIMESTAMP",
    "unknown_tenant": "UNMAPPED_NAME",
    "unknown_greenhouse": "UNMAPPED_NAME",
    "unknown_sensor_type": "UNMAPPED_NAME",
    "unknown_unit": "UNMAPPED_NAME",
    "out_of_range": "OUT_OF_RANGE",
    "key_collision": "DUPLICATE",
    "conflicting_value": "CONFLICTING_VALUE",
}
"""The other reasons are OTHER."""
_SEVERITIES: Final[Mapping[Reason, Severity]] = {
    "unknown_tenant": "HIGH",  # everything that is published there is lost to the table
    "unknown_greenhouse": "HIGH",
    "ambiguous_greenhouse": "HIGH",
    "database_refused": "HIGH",
    "out_of_range": "LOW",  # its share decides
    "key_collision": "LOW",
    "inactive": "LOW",
}
"""The other reasons begin as MEDIUM."""
_ADVICE: Final[Mapping[Reason, str]] = {
    "bad_timestamp": "times that cannot be: set the gateway's clock; the limits are in [decode]",
    "out_of_range": "values outside the range: look whether the probe is connected; if they are right, widen "
    "the range of the sensor type",
    "key_collision": "two readings of one message for one moment: give each sensor a name of its own",
    "conflicting_value": "another value for a moment that is stored already: two devices under one name, or "
    "a gateway that corrects itself (then see write.conflicting_value)",
    "inactive": "switched off in the catalog, and still publishing: switch it on there, or off here",
    "foreign_sensor": "registered in another greenhouse: correct the catalog, or the gateway's topic",
    "type_mismatch": "another sensor type than is registered: correct the catalog, or the gateway",
    "unit_mismatch": "a unit of another quantity: correct the gateway, or the sensor type",
    "ambiguous_greenhouse": "no single greenhouse fits: name it in the topic, or register the sensors",
    "database_refused": "the database refuses the rows: see the SQLSTATE in the example",
}


class Registered(Protocol):
    """What a sensor of the catalog says of itself."""

    @property
    def code(self) -> str:
        """Its sensor_code."""

    @property
    def is_active(self) -> bool:
        """Whether it should publish."""

    @property
    def expected_interval_s(self) -> int | None:
        """How often; None where nobody said."""


class Directory(NamedTuple):
    """What a catalog snapshot says that judging needs."""

    sensors: Mapping[UUID, Registered]
    greenhouses: Container[UUID]
    """Those switched on."""
    sensor_types: Mapping[int, str]
    units: Mapping[int, str]
    stepless: frozenset[int]
    """Sensor types whose values step as they like: set values, states."""

    def named(self, series: Series) -> str:
        """Name a series for people: `TEMPERATURE of DHT22-01`."""
        registered = self.sensors.get(series.sensor_id)
        if registered is not None:
            name = registered.code
        else:
            name = next(iter((series.origin or {}).values()), str(series.sensor_id))
        return f"{self.sensor_types.get(series.sensor_type_id, 'values')} of {name!r}"


EMPTY: Final = Directory({}, frozenset(), {}, {}, frozenset())


class Rejected(NamedTuple):
    """A rejection and where it came from; the ids as far as topic and catalog know them."""

    rejection: Rejection
    topic: str
    received_us: int
    tenant_id: UUID | None
    greenhouse_id: UUID | None
    missing: frozenset[str] = frozenset()
    """The names that its message lacked (`resolve.missing`): with all of them it would not be rejected."""


def subject_of_rejected(rejected: Rejected) -> Subject:
    """Tell what a rejection is an issue of: a series where it is known, else its place, and there a name."""
    rejection = rejected.rejection
    reason = rejection.reason
    kind = _KINDS.get(reason, "OTHER")
    if isinstance(rejection, RejectedRow):
        return subject_of_series(kind, rejection.row.series, reason if kind in {"OTHER", "DUPLICATE"} else "")
    about = storable(rejection.detail[:ABOUT_CHARS]) if kind == "UNMAPPED_NAME" else reason
    return Subject(kind, rejected.tenant_id, rejected.greenhouse_id, about=about)


def subject_of_series(kind: Kind, series: Series, about: str = "") -> Subject:
    """Give the subject of a fault of *series*."""
    return Subject(
        kind, series.tenant_id, series.greenhouse_id, series.sensor_id, series.sensor_type_id, about
    )


def rejected_issue(subject: Subject, rejected: Rejected, directory: Directory) -> Issue:
    """Make the issue that a rejection opens."""
    rejection = rejected.rejection
    reason = rejection.reason
    if subject.kind == "UNMAPPED_NAME":
        text = (
            f"{rejection.detail}: add the name, or an alias for it (`ingest catalog add`); the worker stores "
            "then what it kept of it"
        )
    else:
        text = _ADVICE.get(reason, rejection.detail)
        if isinstance(rejection, RejectedRow):
            text = f"{directory.named(rejection.row.series)}: {text}"
        text += f"; each is a dead letter: `ingest dead-letters list --reason {reason}`"
    facts: dict[str, Any] = {"reason": reason}
    if subject.kind == "UNMAPPED_NAME" and rejected.missing:
        facts["missing"] = sorted(rejected.missing)[:MISSING_NAMES]
    if isinstance(rejection, RejectedRow):
        facts |= _of_series(rejection.row.series, directory)
    severity = _SEVERITIES.get(reason, "MEDIUM")
    return Issue(subject, REFUSED, text, severity, rejected.received_us, rejected.received_us, facts=facts)


def rejected_example(rejected: Rejected) -> dict[str, Any]:
    """Show a rejection."""
    rejection = rejected.rejection
    shown = {
        "received_at": iso(rejected.received_us),
        "topic": rejected.topic[:TOPIC_CHARS],
        "field": rejection.field[:TOPIC_CHARS],
        "detail": rejection.detail[:ABOUT_CHARS],
    }
    if isinstance(rejection, RejectedRow):
        return row_example(rejection.row) | shown
    return shown


def distance_outside(row: Row) -> float:
    """Tell how far outside its range a value is."""
    return max(row.series.minimum - row.value, row.value - row.series.maximum, 0.0)


def flagged_issue(subject: Subject, series: Series, directory: Directory, at_us: int) -> Issue:
    """Make the issue of values out of range that are stored."""
    text = f"{directory.named(series)}: {_ADVICE['out_of_range']}; they are stored, marked out_of_range"
    facts = _of_series(series, directory) | {"reason": "out_of_range"}
    return Issue(subject, STORED, text, "LOW", at_us, at_us, facts=facts)


def row_example(row: Row) -> dict[str, Any]:
    """Show a reading."""
    return {"time": iso(row.time_us), "value": row.value}


def spike_issue(subject: Subject, series: Series, directory: Directory, at_us: int) -> Issue:
    """Make the issue of single values far off those before and after."""
    text = (
        f"{directory.named(series)}: values far off the ones before and after them, stored as they came: "
        "look at the probe's cable, plug and supply"
    )
    return Issue(subject, STORED, text, "LOW", at_us, at_us, facts=_of_series(series, directory))


def spike_example(spike: Spike) -> dict[str, Any]:
    """Show a spike between its neighbours."""
    return {
        "time": iso(spike.time_us),
        "value": spike.value,
        "before": spike.before,
        "after": spike.after,
        "thinkable_step": spike.limit,
    }


def gap_issue(subject: Subject, series: Series, directory: Directory, at_us: int) -> Issue:
    """Make the issue of a silence; `tell_gap` has to follow."""
    return Issue(subject, STORED, "", "LOW", at_us, at_us, facts=_of_series(series, directory))


def tell_gap(issue: Issue, gap: OpenGap, until_us: int, state: GapState, named: str) -> None:
    """Say in *issue* how it stands with *gap* of the series *named*; the newest word counts."""
    since, pace = iso(gap.since_us), f"one is expected every {gap.interval_us / 1e6:g} s"
    if state == "silent":
        issue.description = (
            f"{named}: no reading since {since}, {pace}: look at the sensor, its gateway and their network; "
            "if it is gone for good, switch it off in the catalog"
        )
    else:
        how = "readings are back" if state == "back" else "it was switched off or taken out of the catalog"
        issue.description = (
            f"{named}: no reading from {since} to {iso(until_us)}, {pace}; {how}: resolved by itself unless "
            "there is another gap"
        )
    issue.facts |= {
        "silent": state == "silent",
        "since": since,
        "interval_s": gap.interval_us / 1e6,
        "overdue": gap.overdue,
    }


def late_issue(subject: Subject, at_us: int) -> Issue:
    """Make the issue of readings that come days late."""
    text = (
        "readings arrive more than two days late; their hours are computed again: look at what keeps the "
        "gateway from publishing"
    )
    return Issue(subject, STORED, text, "LOW", at_us, at_us)


def repeat_issue(subject: Subject, at_us: int) -> Issue:
    """Make the issue of readings that come twice."""
    text = (
        "a tenth or more of the readings come twice, absorbed as duplicates: look at what the gateway sends "
        "again, and for a second one that sends the same"
    )
    return Issue(subject, STORED, text, "LOW", at_us, at_us)


def severity_by_share(count: int, of: int) -> Severity:
    """Judge by the share of a sensor's readings that are concerned."""
    share = count / max(count, of, 1)
    return "HIGH" if share >= MOST else "MEDIUM" if share >= MANY else "LOW"


def severity_by_silence(silent_s: float) -> Severity:
    """Judge a gap by its length."""
    return "HIGH" if silent_s >= DAY_S else "MEDIUM" if silent_s >= HOUR_S else "LOW"


def _of_series(series: Series, directory: Directory) -> dict[str, Any]:
    return {
        "sensor_type": directory.sensor_types.get(series.sensor_type_id),
        "sensor_type_id": series.sensor_type_id,
        "unit": directory.units.get(series.unit_id),
        **(series.origin or {}),
    }
