"""Deliveries become batches in arrival order, each with a receipt time of its own."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING
from uuid import UUID

from ingest.intake import Intake
from ingest.model import Delivery
from ingest.resolve import Resolver
from ingest.resolve.rows import Greenhouse
from tests.batches import NOW_US
from tests.unit.catalog_examples import SARA, SARA_01, default_rules, example_catalog
from tests.unit.examples import default_decoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.resolve import Catalog
    from ingest.write import Batch

RETAIN = 0x01
TOPIC = f"greenhouse/{SARA_01}/sensors/sensor"


def resolver_of(catalog: Catalog) -> Resolver:
    return Resolver(catalog, default_rules(), out_of_range="quarantine")


def intake_of(
    *,
    max_batch_rows: int = 1_000,
    ignore_retained: bool = True,
    on_set_back: Callable[[float], None] | None = None,
) -> Intake:
    return Intake(
        default_decoder(),
        resolver_of(example_catalog()),
        ignore_retained=ignore_retained,
        max_batch_rows=max_batch_rows,
        on_set_back=on_set_back,
    )


def sent(count: int, topic: str = TOPIC) -> list[Delivery]:
    return [Delivery(topic, b"%d" % number, 2, number + 1) for number in range(count)]


def batch_of(intake: Intake) -> Batch:
    batch = intake.next_batch()
    assert batch is not None
    return batch


def test_messages_read_in_one_go_have_strictly_increasing_times() -> None:
    intake = intake_of()
    intake.take_in(sent(3), NOW_US)
    intake.take_in(sent(2), NOW_US - 1_000_000)  # the clock was set back
    intake.take_in(sent(1), NOW_US + 1_000_000)
    batch = batch_of(intake)
    offsets = [time_us - NOW_US for time_us in batch.receipts_us]
    assert offsets == [0, 1, 2, 3, 4, 1_000_000]
    assert [each.time_us - NOW_US for each in batch.rows] == offsets


def test_two_of_a_share_group_never_give_the_same_time() -> None:
    taken: list[set[int]] = []
    for slot in (0, 5, 15):
        intake = intake_of()
        intake.take_in(sent(1), NOW_US)
        intake.share_clock(slot, 16)
        intake.take_in(sent(20), NOW_US)
        intake.take_in(sent(20), NOW_US + 1)
        intake.take_in(sent(1), NOW_US + 1_000_003)
        _, *times_us = batch_of(intake).receipts_us
        assert times_us == sorted(set(times_us))
        assert {time_us % 16 for time_us in times_us} == {slot}
        assert all(0 <= after_us - before_us - 16 < 16 for before_us, after_us in pairwise(times_us[:-1]))
        assert 0 <= times_us[-1] - NOW_US - 1_000_003 < 16
        taken.append(set(times_us))
    assert not set.intersection(*taken)


def test_all_rows_of_a_message_share_its_time() -> None:
    intake = intake_of()
    intake.take_in([Delivery("GREENHOUSE/SARA/01", b'{"SENSOR_01": 1, "SENSOR_02": 2}', 2, 1)], NOW_US)
    assert {each.time_us for each in batch_of(intake).rows} == {NOW_US}


def test_a_batch_is_cut_off_when_full_and_the_order_kept() -> None:
    intake = intake_of(max_batch_rows=4)
    intake.take_in(sent(10), NOW_US)
    assert (intake.messages, intake.readings) == (10, 10)
    assert intake.payload_bytes == 10 * (1 + len(TOPIC))
    sizes, values = [], []
    while (batch := intake.next_batch()) is not None:
        sizes.append(len(batch))
        values += [each.value for each in batch.rows]
    assert sizes == [4, 4, 2]
    assert values == [float(number) for number in range(10)]
    assert (intake.messages, intake.readings, intake.payload_bytes) == (0, 0, 0)


def test_ignored_messages_have_their_place_in_the_batch() -> None:
    intake = intake_of()
    intake.take_in(
        [
            Delivery("GREENHOUSE/RESPONSE", b"{}", 2, 1),
            Delivery(TOPIC, b"1", 2 | RETAIN, 2),
            Delivery(TOPIC, b"2", 2, 3),
        ],
        NOW_US,
    )
    batch = batch_of(intake)
    assert [each.packet_id for each in batch.deliveries] == [1, 2, 3], "they are acknowledged too"
    assert batch.ignored == 2
    assert [each.value for each in batch.rows] == [2.0]


def test_retained_messages_are_taken_when_asked_for() -> None:
    intake = intake_of(ignore_retained=False)
    intake.take_in([Delivery(TOPIC, b"1", 2 | RETAIN, 2)], NOW_US)
    assert len(batch_of(intake).rows) == 1


def test_a_second_look_under_a_newer_catalog_keeps_everything_else() -> None:
    intake = intake_of()
    new_topic = "GREENHOUSE/SARA/NEW"
    intake.take_in(
        [
            Delivery(TOPIC, b"1", 2, 1),
            Delivery(new_topic, b'{"SENSOR_01": 2, "SENSOR_02": null}', 2, 2),
            Delivery(TOPIC, b'"warm"', 2, 3),
            Delivery("GREENHOUSE/STATUS", b"{}", 2, 4),
            Delivery(TOPIC, b"3", 2, 5),
        ],
        NOW_US,
    )
    batch = batch_of(intake)
    assert list(batch.curable) == [1]
    assert not intake.is_outdated(batch)
    intake.resolver = resolver_of(
        example_catalog(greenhouses=(Greenhouse(UUID(int=0xBF), SARA, "NEW", is_active=True),))
    )
    assert intake.is_outdated(batch)
    revised = intake.look_again(batch)
    assert revised.batch_id == batch.batch_id
    assert revised.deliveries == batch.deliveries
    assert revised.receipts_us == batch.receipts_us
    assert [each.value for each in revised.rows] == [1.0, 2.0, 3.0]
    assert [revised.owner(number) for number in range(3)] == [0, 1, 4]
    assert list(revised.rejections) == [2]
    assert (revised.nulls, revised.ignored, revised.rejected) == (1, 1, 1)
    assert not revised.curable


def test_topics_count_against_what_may_wait() -> None:
    intake = intake_of()
    for topic in ("T" * 60_000, "\N{SEEDLING}" * 15_000):
        intake.take_in([Delivery(topic, b"1", 2, 1)], NOW_US)
    assert intake.payload_bytes == 2 * (60_000 + 1)
    while intake.next_batch() is not None:
        pass
    assert intake.payload_bytes == 0


def test_the_oldest_message_is_the_first_that_no_batch_was_handed_out_with() -> None:
    intake = intake_of(max_batch_rows=2)
    found = [intake.oldest_us]
    intake.take_in(sent(3), NOW_US)
    intake.hold(sent(1), NOW_US + 9)
    found.append(intake.oldest_us)
    for _ in range(2):
        batch_of(intake)
        found.append(intake.oldest_us)
    intake.release(1)
    batch_of(intake)
    found.append(intake.oldest_us)
    assert found == [None, NOW_US, NOW_US + 2, NOW_US + 9, None]
