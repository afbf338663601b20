"""What a batch adds to the ledgers by gateway and hour: it adds up, and each message counts for its own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.model import UNPLACED, ClockFault, Delivery, Gateway, Rejection, Row, Series
from ingest.write import Batch, Counts
from ingest.write.ledger import HOUR_US, GatewayHour, book
from tests.batches import NOW_US, series_of
from tests.fuzzing import examples

if TYPE_CHECKING:
    from ingest.write.ledger import Booking

HOUR_START_US = NOW_US - NOW_US % HOUR_US
SECOND_US = 1_000_000
HOUSES = [series_of() for _ in range(3)]
"""A series in each of three greenhouses."""
PLACED = [
    Gateway(f"greenhouse/{number}", each.tenant_id, each.greenhouse_id) for number, each in enumerate(HOUSES)
]
TENANT_WIDE = Gateway("GREENHOUSE/SARA", HOUSES[0].tenant_id)
GATEWAYS = [*PLACED, TENANT_WIDE, UNPLACED]


class Sent(NamedTuple):
    """One message of a made-up batch."""

    gateway: int
    after_us: int
    """Receipt, after the one before."""
    lags_us: list[int]
    """One row each, that much older than the receipt."""
    rejections: int = 0
    nulls: int = 0
    ignored: bool = False


MESSAGES = st.lists(
    st.builds(
        Sent,
        st.integers(0, len(GATEWAYS) - 1),
        st.sampled_from([1, 50, HOUR_US // 2, HOUR_US]),
        st.lists(st.sampled_from([0, 1, SECOND_US, -SECOND_US, HOUR_US, 30 * HOUR_US]), max_size=4),
        st.integers(0, 2),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=12,
)


def batch_of(messages: list[Sent], start_us: int = NOW_US) -> Batch:
    batch = Batch()
    receipt_us = start_us
    for number, each in enumerate(messages):
        receipt_us += each.after_us
        gateway = GATEWAYS[each.gateway]
        delivery = Delivery("t", b"%d" % number, 2, number + 1)
        if each.ignored:
            batch.ignore(delivery, receipt_us, gateway)
            continue
        # A placed gateway's rows are all in its greenhouse, the others' anywhere.
        houses = [HOUSES[each.gateway]] if each.gateway < len(HOUSES) else HOUSES
        rows = [
            Row(houses[at % len(houses)], receipt_us - lag_us, 1.0, None, "")
            for at, lag_us in enumerate(each.lags_us)
        ]
        rejections = [Rejection("f", "bad_value", "text")] * each.rejections
        batch.add(delivery, receipt_us, rows, rejections, gateway=gateway, nulls=each.nulls)
    return batch


def total_of(booking: Booking) -> Counts:
    total = Counts()
    for hour in booking.gateways.values():
        total = total.plus(hour.counts)
    return total


@settings(max_examples=examples(200), deadline=None)
@given(MESSAGES, st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.integers(0, 3))
def test_every_message_and_row_counts_once_and_for_its_own(
    messages: list[Sent], duplicates: set[int], refused: set[int], skips: int
) -> None:
    batch = batch_of(messages)
    count = len(batch.rows)
    duplicates = {row for row in duplicates if row < count}
    refused = {row for row in refused if row < count} - duplicates
    batch.skipped = Counter({(NOW_US, PLACED[1]): skips})
    booking = book(batch, duplicates=duplicates, refused=refused)
    written = count - len(duplicates) - len(refused)
    expected = batch.counts(written=written, duplicate=len(duplicates), refused=len(refused))
    assert total_of(booking) == expected.plus(Counts(received=len(batch) + skips, skipped=skips))
    for hour in booking.gateways.values():
        counts = hour.counts
        assert counts.received == counts.committed + counts.skipped + counts.ignored
        assert counts.decoded == counts.written + counts.duplicate + counts.rejected + counts.null
        assert min(counts.as_dict().values()) >= 0
    alone: Counter[tuple[int, str]] = Counter()
    for index, gateway in enumerate(batch.gateways):
        receipt_us = batch.receipts_us[index]
        alone[receipt_us - receipt_us % HOUR_US, gateway.name] += 1
    received = {key: hour.counts.received for key, hour in booking.gateways.items()}
    received[HOUR_START_US, PLACED[1].name] = received.get((HOUR_START_US, PLACED[1].name), 0) - skips
    assert +Counter(received) == alone


@settings(max_examples=examples(200), deadline=None)
@given(MESSAGES, st.sets(st.integers(0, 60)))
def test_written_rows_are_counted_where_a_count_of_the_table_finds_them(
    messages: list[Sent], absent: set[int]
) -> None:
    batch = batch_of(messages)
    absent = {row for row in absent if row < len(batch.rows)}
    expected = Counter(
        (row.time_us - row.time_us % HOUR_US, row.series.greenhouse_id, row.series.tenant_id)
        for number, row in enumerate(batch.rows)
        if number not in absent
    )
    assert +book(batch, duplicates=absent).written == expected
    assert +book(batch, refused=absent).written == expected


def only(booking: Booking) -> GatewayHour:
    (hour,) = booking.gateways.values()
    return hour


def test_nothing_adds_nothing() -> None:
    assert book(Batch()).gateways == {}
    assert +book(Batch()).written == {}


def test_a_row_belongs_to_the_hour_of_its_time_and_its_message_to_that_of_its_receipt() -> None:
    booking = book(batch_of([Sent(0, 1, [1])], HOUR_START_US - 1))
    assert list(booking.gateways) == [(HOUR_START_US, "greenhouse/0")]
    ((hour, greenhouse_id, tenant_id),) = +booking.written
    assert (hour, greenhouse_id) == (HOUR_START_US - HOUR_US, HOUSES[0].greenhouse_id)
    assert tenant_id == HOUSES[0].tenant_id


def test_a_gateway_known_under_two_catalogs_is_one() -> None:
    batch = batch_of([Sent(0, 1, [1])])
    again = Gateway(PLACED[0].name, PLACED[0].tenant_id, PLACED[0].greenhouse_id)
    row = Row(HOUSES[0], NOW_US, 1.0, None, "")
    batch.add(Delivery("t", b"1", 2, 2), NOW_US + 5, [row], gateway=again)
    assert only(book(batch)).counts == Counts(received=2, committed=2, decoded=2, written=2)


# clocks


def lag_of(*messages: Sent) -> int | None:
    return only(book(batch_of(list(messages)))).least_lag_us


def test_readings_without_a_time_say_nothing_of_a_clock() -> None:
    assert lag_of(Sent(0, 1, [0]), Sent(0, 1, [0, 0, 0])) is None
    assert lag_of(Sent(0, 1, [])) is None


def test_the_newest_message_of_a_batch_tells_how_far_the_clock_is_off() -> None:
    assert lag_of(Sent(0, 1, [90 * SECOND_US]), Sent(0, 1, [3 * SECOND_US])) == 3 * SECOND_US
    assert lag_of(Sent(0, 1, [-20 * SECOND_US])) == -20 * SECOND_US
    rejected = Sent(0, 1, [], rejections=1)
    assert lag_of(Sent(0, 1, [3 * SECOND_US]), rejected) == 3 * SECOND_US


def test_of_a_buffer_the_newest_reading_counts_in_whichever_order_it_comes() -> None:
    hours = [5 * HOUR_US, HOUR_US, SECOND_US]
    assert lag_of(Sent(0, 1, hours)) == lag_of(Sent(0, 1, hours[::-1])) == SECOND_US


def test_rejected_times_are_counted_by_kind_and_only_a_future_one_is_a_lag() -> None:
    batch = Batch()
    rejections = [
        Rejection("a", "bad_timestamp", ClockFault("ahead", "future", NOW_US + 400 * SECOND_US)),
        Rejection("b", "bad_timestamp", ClockFault("old", "ancient", NOW_US - 31 * 24 * HOUR_US)),
        Rejection("c", "bad_timestamp", ClockFault("never set", "unset", SECOND_US)),
        Rejection("d", "bad_timestamp", "no time at all"),
    ]
    batch.add(Delivery("t", b"1", 2, 1), NOW_US, (), rejections, gateway=PLACED[0])
    hour = only(book(batch))
    assert hour.clock_faults == {"future": 1, "ancient": 1, "unset": 1}
    assert hour.least_lag_us == -400 * SECOND_US
    assert hour.counts.rejected == 4


def test_a_tenant_wide_gateway_writes_where_its_labels_say() -> None:
    sibling = Series(UUID(int=5), HOUSES[0].tenant_id, UUID(int=6), 1, 1, -1.0, 1.0)
    batch = Batch()
    rows = [Row(each, NOW_US, 1.0, None, "") for each in (HOUSES[0], sibling, sibling)]
    batch.add(Delivery("t", b"1", 2, 1), NOW_US, rows, gateway=TENANT_WIDE)
    written = book(batch).written
    assert sorted(written.values()) == [1, 2]
    assert written[HOUR_START_US, UUID(int=5), HOUSES[0].tenant_id] == 2
