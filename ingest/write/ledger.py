"""Both ledgers by gateway and hour, and the rows by the hour they belong to: what one COMMIT adds to each.

Pure. `book` reads a batch whose rows have been inserted and says whose they were; `journal.record`
stores it in the batch's transaction, so that both tables are exact after any crash (a replay books its
rows in the second, too):

    iot.ingest_gateway_hours   by the hour of receipt: messages and readings of each gateway, its clock
    iot.ingest_written_hours   by the hour of the readings' own times: new rows of each greenhouse, which
                               a count of iot.sensor_readings can be compared with
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ingest.model import ClockFault, ClockFaultKind
from ingest.write.batch import Counts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from uuid import UUID

    from ingest.model import Gateway, Row
    from ingest.write.batch import Batch

HOUR_US: Final = 3_600_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Hour: TypeAlias = int
"""Its start, in µs since 1970-01-01 UTC."""


@dataclass(slots=True)
class GatewayHour:
    """What one gateway adds to both ledgers in one hour of receipt, and what its clock says."""

    tenant_id: UUID | None = None
    greenhouse_id: UUID | None = None
    counts: Counts = field(default_factory=Counts)
    least_lag_us: int | None = None
    """Receipt time minus reading time, the least of what was sent with a time; below 0 its clock is ahead."""
    clock_faults: Counter[ClockFaultKind] = field(default_factory=Counter)
    """Its readings that were rejected for what its clock said."""

    def note_lag(self, lag_us: int) -> None:
        """Keep the least."""
        if self.least_lag_us is None or lag_us < self.least_lag_us:
            self.least_lag_us = lag_us


@dataclass(frozen=True, slots=True)
class Booking:
    """What one COMMIT adds to the two tables."""

    gateways: dict[tuple[Hour, str], GatewayHour] = field(default_factory=dict)
    """By hour of receipt and name of the gateway."""
    written: Counter[tuple[Hour, UUID, UUID]] = field(default_factory=Counter)
    """New rows by hour of the readings, greenhouse and tenant."""

    def hour_of(self, gateway: Gateway, receipt_us: int) -> GatewayHour:
        """Give what *gateway* has in the hour of *receipt_us*, made when it has nothing yet."""
        key = (receipt_us - receipt_us % HOUR_US, gateway.name)
        hour = self.gateways.get(key)
        if hour is None:
            hour = self.gateways[key] = GatewayHour(gateway.tenant_id, gateway.greenhouse_id)
        return hour


def book(batch: Batch, *, duplicates: Collection[int] = (), refused: Collection[int] = ()) -> Booking:
    """Give whose the messages, readings and rows of *batch* were; *duplicates* and *refused* are row numbers.

    What every message has is added up by gateway, 0.2 µs each (CPython 3.11); what is out of the ordinary
    is then looked at one by one.
    """
    booking = Booking()
    rows_of: Counter[Gateway] = Counter()
    for numbers in _by_hour(batch.receipts_us):
        rows_of.update(_book_messages(booking, batch, numbers))
    for (receipt_us, gateway), messages in batch.skipped.items():
        counts = booking.hour_of(gateway, receipt_us).counts
        counts.received += messages
        counts.skipped += messages
    for index in batch.ignored_at:
        counts = _of_message(booking, batch, index).counts
        counts.committed -= 1
        counts.ignored += 1
    for index, nulls in batch.nulls_of.items():
        counts = _of_message(booking, batch, index).counts
        counts.decoded += nulls
        counts.null += nulls
    _book_rejected(booking, batch)
    for row in duplicates:
        counts = _of_message(booking, batch, batch.owner(row)).counts
        counts.written -= 1
        counts.duplicate += 1
    for row in refused:
        counts = _of_message(booking, batch, batch.owner(row)).counts
        counts.written -= 1
        counts.rejected += 1
    booking.written.update(_all_rows(batch, rows_of))
    booking.written.subtract(rows_by_hour([batch.rows[row] for row in (*duplicates, *refused)]))
    return booking


def rows_by_hour(rows: Iterable[Row]) -> Counter[tuple[Hour, UUID, UUID]]:
    """Count *rows* by hour of their own time, greenhouse and tenant, as `Booking.written` has them."""
    found: Counter[tuple[Hour, UUID, UUID]] = Counter()
    for (series, hour), count in Counter([(row[0], row[1] // HOUR_US) for row in rows]).items():
        found[hour * HOUR_US, series.greenhouse_id, series.tenant_id] += count
    return found


def times_of(hours_us: Sequence[Hour]) -> list[datetime]:
    """Give *hours_us* as times; only one where all are the same, as nearly always."""
    if hours_us and min(hours_us) == max(hours_us):
        hours_us = hours_us[:1]
    return [_EPOCH + timedelta(microseconds=hour_us) for hour_us in hours_us]


def columns_of(written: Counter[tuple[Hour, UUID, UUID]]) -> list[list[Any]]:
    """Give hours (see `times_of`), greenhouses, tenants and counts, as the statements unnest them."""
    booked = [(key, rows) for key, rows in written.items() if rows]
    return [
        times_of([hour_us for (hour_us, _, _), _ in booked]),
        [greenhouse_id for (_, greenhouse_id, _), _ in booked],
        [tenant_id for (_, _, tenant_id), _ in booked],
        [rows for _, rows in booked],
    ]


def _of_message(booking: Booking, batch: Batch, index: int) -> GatewayHour:
    return booking.hour_of(batch.gateways[index], batch.receipts_us[index])


def _by_hour(receipts_us: Sequence[int]) -> Iterator[Sequence[int]]:
    """Give the message numbers of each hour of receipt: nearly always all of them at once."""
    if receipts_us and min(receipts_us) // HOUR_US == max(receipts_us) // HOUR_US:
        yield range(len(receipts_us))
        return
    hours: dict[Hour, list[int]] = {}
    for number, receipt_us in enumerate(receipts_us):
        hours.setdefault(receipt_us // HOUR_US, []).append(number)
    yield from hours.values()


def _book_messages(booking: Booking, batch: Batch, numbers: Sequence[int]) -> dict[Gateway, int]:
    """Add messages of one hour as if all were good; give the rows of each gateway."""
    gateways, receipts_us = batch.gateways, batch.receipts_us
    starts, ends = batch.row_starts, [*batch.row_starts[1:], len(batch.rows)]
    if len(numbers) < len(batch):
        gateways, receipts_us = [gateways[each] for each in numbers], [receipts_us[each] for each in numbers]
        starts, ends = [starts[each] for each in numbers], [ends[each] for each in numbers]
    messages_of = Counter(gateways)
    # Where message number n has row number n, of as many rows as messages, each has one: the common case.
    if len(batch.rows) == len(batch) and batch.row_starts == list(range(len(batch))):
        rows_of: dict[Gateway, int] = messages_of
        newest_of = dict(zip(gateways, range(len(gateways)), strict=True))
    else:
        rows_of, newest_of = {}, {}
        for number, (gateway, start, end) in enumerate(zip(gateways, starts, ends, strict=True)):
            if start < end:
                rows_of[gateway] = rows_of.get(gateway, 0) + end - start
                newest_of[gateway] = number
    for gateway, messages in messages_of.items():
        hour = booking.hour_of(gateway, receipts_us[0])
        hour.counts.received += messages
        hour.counts.committed += messages
        hour.counts.decoded += rows_of.get(gateway, 0)
        hour.counts.written += rows_of.get(gateway, 0)
        if (newest := newest_of.get(gateway)) is not None:
            _note_lag(hour, receipts_us[newest], batch.rows[starts[newest] : ends[newest]])
    return rows_of


def _note_lag(hour: GatewayHour, receipt_us: int, rows: Sequence[Row]) -> None:
    """Compare the clock behind a gateway's newest rows in the batch: all of them would cost 0.3 µs a message.

    Of its readings the first and the last are looked at: gateways send a buffer in order. A reading without
    a time has the receipt's, a lag of exactly 0, which says nothing of a clock.
    """
    for row in (rows[0], rows[-1]):
        if row.time_us != receipt_us:
            hour.note_lag(receipt_us - row.time_us)


def _book_rejected(booking: Booking, batch: Batch) -> None:
    for index, rejections in batch.rejections.items():
        hour = _of_message(booking, batch, index)
        hour.counts.decoded += len(rejections)
        hour.counts.rejected += len(rejections)
        for rejection in rejections:
            if isinstance(fault := rejection.detail, ClockFault):
                hour.clock_faults[fault.kind] += 1
                if fault.kind == "future":
                    hour.note_lag(batch.receipts_us[index] - fault.time_us)


def _all_rows(batch: Batch, rows_of: Counter[Gateway]) -> Counter[tuple[Hour, UUID, UUID]]:
    """Count the rows of *batch* as `rows_by_hour` does; *rows_of* spares a look at each where it can."""
    found: Counter[tuple[Hour, UUID, UUID]] = Counter()
    if not batch.rows:
        return found
    times_us = list(map(itemgetter(1), batch.rows))
    hour = min(times_us) // HOUR_US
    if hour != max(times_us) // HOUR_US:
        return rows_by_hour(batch.rows)
    if all(gateway.greenhouse_id is not None for gateway in rows_of):
        for gateway, rows in rows_of.items():
            if gateway.greenhouse_id is not None and gateway.tenant_id is not None:
                found[hour * HOUR_US, gateway.greenhouse_id, gateway.tenant_id] += rows
    else:
        for series, rows in Counter(map(itemgetter(0), batch.rows)).items():
            found[hour * HOUR_US, series.greenhouse_id, series.tenant_id] += rows
    return found
