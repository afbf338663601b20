"""A stream of readings against a simulated clock, for the tests of the survey."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID, uuid4

from ingest.model import RejectedRow, Rejection, Row, Series
from ingest.quality import Directory, Issue, Limits, Rejected, Survey
from tests.batches import NOW_US

if TYPE_CHECKING:
    from ingest.model import Reason
    from ingest.quality import Kind, OpenGap

TENANT, GREENHOUSE = UUID(int=0xA), UUID(int=0xB)
SECOND_US = 1_000_000
DAY_S = 86_400
TICK_S = 10.0
TEMPERATURE, HUMIDITY, SETPOINT, SENSOR = 1, 2, 10, 11
TYPES = {TEMPERATURE: "TEMPERATURE", HUMIDITY: "HUMIDITY", SETPOINT: "SETPOINT", SENSOR: "SENSOR"}


class Registration(NamedTuple):
    """A sensor of the catalog."""

    code: str = "DHT22-01"
    is_active: bool = True
    expected_interval_s: int | None = 10


def series_of(  # noqa: PLR0917 (a series, field by field)
    sensor_id: UUID | None = None,
    minimum: float = -50.0,
    maximum: float = 100.0,
    sensor_type_id: int = TEMPERATURE,
    unit_id: int = 1,
    greenhouse_id: UUID = GREENHOUSE,
) -> Series:
    """Make the series of a thermometer, of a new sensor unless it is named."""
    return Series(
        greenhouse_id, TENANT, sensor_id or uuid4(), sensor_type_id, unit_id, minimum, maximum, None
    )


def rejected(reason: Reason, detail: str = "", *, greenhouse_id: UUID | None = GREENHOUSE) -> Rejected:
    """Make a rejection of which no more is known than its place."""
    return Rejected(Rejection("", reason, detail), "GREENHOUSE/SARA", NOW_US, TENANT, greenhouse_id)


def out_of_range(series: Series, value: float, time_us: int = NOW_US) -> Rejected:
    """Make the rejection of a value that nobody believes."""
    row = Row(series, time_us, value, None, "")
    return Rejected(RejectedRow.of(row, "out_of_range", f"{value:g}"), "t", time_us, TENANT, GREENHOUSE)


class Stream:
    """A survey, its clock, and the issues it handed out so far."""

    def __init__(
        self,
        *,
        registered: dict[UUID, Registration] | None = None,
        window_s: float = 300.0,
        flagged: bool = False,
        gaps: bool = True,
    ) -> None:
        self.now_us = NOW_US
        self.handed_out: list[Issue] = []
        self.survey = Survey(
            Limits(10.0, 5.0, 60 * SECOND_US, flagged=flagged, gaps=gaps),
            window_us=int(window_s * SECOND_US),
            late_after_us=2 * DAY_S * SECOND_US,
            now_us=NOW_US,
        )
        self.hears = True
        self.register(registered or {})
        self.survey.hears(NOW_US, hears=True)

    def register(
        self, sensors: dict[UUID, Registration], greenhouses: frozenset[UUID] = frozenset({GREENHOUSE})
    ) -> None:
        """Load a catalog."""
        stepless = frozenset({SETPOINT, SENSOR})
        self.survey.know(Directory(sensors, greenhouses, TYPES, {1: "°C", 2: "°F", 3: "%"}, stepless))

    def send(self, series: Series, *values: float, every_s: float = 10.0, late_s: float = 0.0) -> None:
        """Have *values* arrive one after the other, *late_s* seconds after their time; then time goes on."""
        for value in values:
            self.batch(Row(series, self.now_us - int(late_s * SECOND_US), value, None, ""))
            self.wait(every_s)

    def steady(self, series: Series, count: int = 40, *, every_s: float = 10.0, value: float = 20.0) -> None:
        """Send *count* readings that step by a tenth."""
        self.send(series, *(value + 0.1 * (number % 2) for number in range(count)), every_s=every_s)

    def batch(self, *rows: Row) -> None:
        self.survey.rows(rows, self.now_us)

    def wait(self, seconds: float) -> None:
        """Let time go by, with a word every ten seconds; windows end meanwhile."""
        end_us = self.now_us + int(seconds * SECOND_US)
        while self.now_us < end_us:
            self.now_us = min(end_us, self.now_us + int(TICK_S * SECOND_US))
            self.survey.hears(self.now_us, hears=self.hears)
            self.handed_out += self.survey.due(self.now_us) or []

    def issues(self, kind: Kind | None = None) -> list[Issue]:
        """End the window; give the issues so far, of one kind or of all."""
        self.handed_out += self.survey.due(self.now_us, last=True) or []
        return [issue for issue in self.handed_out if kind in {None, issue.subject.kind}]

    def resume(self, *gaps: OpenGap) -> None:
        self.survey.resume(gaps)
