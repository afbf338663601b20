"""When messages are taken in one by one, and which are not read at all."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from ingest.caution import MESSAGES_ALONE, STARTS, Caution, digest_of
from ingest.intake import Intake
from ingest.model import CutPayload, Delivery
from ingest.receive import DUP
from ingest.resolve import Resolver
from tests.batches import NOW_US
from tests.unit.catalog_examples import SARA, SARA_01, default_rules, example_catalog
from tests.unit.examples import default_decoder

if TYPE_CHECKING:
    from uuid import UUID

    from ingest.model import Reason

FRESH = Delivery("t", b"1", 2, 1)
AGAIN = FRESH._replace(flags=2 | DUP)
TOPIC = f"greenhouse/{SARA_01}/sensors/sensor"


@pytest.mark.parametrize(("starts", "careful"), [(0, False), (STARTS - 1, False), (STARTS, True), (9, True)])
def test_three_starts_that_were_not_finished_are_a_reason(starts: int, careful: bool) -> None:  # noqa: FBT001 (a case)
    caution = Caution()
    assert not caution.careful
    assert caution.begin(starts) is careful
    assert caution.takes_alone(FRESH) is careful


def test_caution_ends_after_so_many_messages_but_not_within_what_is_redelivered() -> None:
    caution = Caution()
    caution.begin(STARTS)
    assert all(caution.takes_alone(FRESH) for _ in range(MESSAGES_ALONE))
    assert all(caution.takes_alone(AGAIN) for _ in range(5))
    assert not caution.takes_alone(FRESH)
    assert not caution.careful
    assert not caution.takes_alone(AGAIN), "and does not come back"


def test_the_digest_is_of_topic_and_payload_alone() -> None:
    digest = digest_of(FRESH)
    assert digest == digest_of(AGAIN._replace(packet_id=9))
    assert len({digest, digest_of(FRESH._replace(topic="t1")), digest_of(FRESH._replace(payload=b"2"))}) == 3
    assert digest_of(Delivery("t", b"", 0, 0)) != digest_of(Delivery("", b"t", 0, 0))
    assert digest_of(Delivery("\udcff", b"1", 2, 1)) != digest
    large = b"x" * 9_000
    cut = CutPayload.of(large)
    other = CutPayload(large, 9_000, sha256(b"another").digest())
    assert digest_of(Delivery("t", cut, 2, 1)) != digest_of(Delivery("t", other, 2, 1))


def intake() -> Intake:
    return Intake(
        default_decoder(),
        Resolver(example_catalog(), default_rules(), out_of_range="quarantine"),
        ignore_retained=True,
        max_batch_rows=1_000,
    )


def test_what_is_held_counts_and_keeps_its_order_and_time() -> None:
    waiting = intake()
    messages = [Delivery(TOPIC, b"%d" % at, 2, at + 1) for at in range(5)]
    waiting.hold(messages, NOW_US)
    assert (waiting.messages, waiting.payload_bytes) == (5, 5 * (1 + len(TOPIC)))
    assert waiting.next_batch() is None
    waiting.release(1)
    first = waiting.next_batch()
    assert first is not None
    assert first.deliveries == messages[:1]
    waiting.release(4)
    rest = waiting.next_batch()
    assert rest is not None
    assert rest.deliveries == messages[1:]
    assert [*first.receipts_us, *rest.receipts_us] == [NOW_US + at for at in range(5)]
    assert (waiting.messages, waiting.payload_bytes, len(waiting.held)) == (0, 0, 0)


@pytest.mark.parametrize(("topic", "tenant_id"), [(TOPIC, SARA), ("GREENHOUSE/NOBODY", None), ("a/b", None)])
def test_what_ended_a_worker_is_rejected_unread(topic: str, tenant_id: UUID | None) -> None:
    poison = Delivery(topic, b"1", 2, 1)
    careful = intake()
    careful.unread[digest_of(poison)] = "ended 4"
    careful.take_in([poison, Delivery(topic, b"2", 2, 2), poison._replace(packet_id=3)], NOW_US)
    batch = careful.next_batch()
    assert batch is not None
    reasons: list[Reason] = [batch.rejections[index][0].reason for index in (0, 2)]
    assert reasons == ["poison", "poison"]
    assert {letter.tenant_id for letter in batch.dead_letters({})} == {tenant_id}
    assert batch.rejections[0][0].detail == "ended 4"
