"""A bug of ours costs the message that shows it; parts of a batch are what the batch was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from ingest.intake import Intake
from ingest.model import Decoded, Delivery, Gateway, Rejection, Resolved, Scope
from ingest.resolve import Resolver
from tests.batches import NOW_US
from tests.unit.catalog_examples import SARA, SARA_01, default_rules, example_catalog
from tests.unit.examples import default_decoder

if TYPE_CHECKING:
    from ingest.write import Batch

TOPIC = f"greenhouse/{SARA_01}/sensors/sensor"
LABELS = "GREENHOUSE/SARA/01"


class Buggy(Resolver):
    """A resolver with a bug that the value 13 shows."""

    def resolve(self, decoded: Decoded) -> Resolved:
        if any(reading.value == 13 for reading in decoded.readings):
            secret: dict[str, str] = {}
            return Resolved(tenant_id=secret["a text of the payload"])  # type: ignore[arg-type]
        return super().resolve(decoded)


class Hearing(Intake):
    """An intake over the example catalog that remembers the faults it told of."""

    def __init__(self, kind: type[Resolver] = Resolver) -> None:
        self.faults: list[str] = []
        super().__init__(
            default_decoder(),
            kind(example_catalog(), default_rules(), out_of_range="quarantine"),
            ignore_retained=True,
            max_batch_rows=1_000,
            on_fault=lambda fault, _: self.faults.append(fault),
        )

    def batch(self, *deliveries: Delivery) -> Batch:
        self.take_in(deliveries, NOW_US)
        batch = self.next_batch()
        assert batch is not None
        return batch


def test_a_bug_of_ours_costs_the_message_that_shows_it() -> None:
    intake = Hearing(Buggy)
    batch = intake.batch(
        Delivery(TOPIC, b"12", 2, 1), Delivery(TOPIC, b"13", 2, 2), Delivery(TOPIC, b"14", 2, 3)
    )
    assert [each.value for each in batch.rows] == [12.0, 14.0]
    (letter,) = batch.dead_letters({})
    assert (letter.payload, letter.tenant_id) == (b"13", SARA)
    (rejection,) = letter.rejections
    assert (rejection.field, rejection.reason) == ("", "worker_fault")
    assert rejection.detail.startswith("KeyError at unit/test_intake_faults.py:")
    assert rejection.detail.endswith(", in resolve")
    assert intake.faults == [rejection.detail]
    counts = batch.counts(written=2, duplicate=0, refused=0)
    assert (counts.committed, counts.decoded, counts.rejected) == (3, 3, 1)


def test_a_bug_that_even_the_topic_shows() -> None:
    class Worse(Resolver):
        def resolve(self, decoded: Decoded) -> Resolved:
            raise RecursionError(len(decoded.readings))

        def gateway_of(self, scope: Scope | None) -> Gateway:
            raise RecursionError(scope)

    (letter,) = Hearing(Worse).batch(Delivery(TOPIC, b"1", 2, 1)).dead_letters({})
    assert letter.tenant_id is None
    assert letter.rejections[0].reason == "worker_fault"


def test_a_batch_unread_is_its_dead_letters() -> None:
    intake = Hearing()
    batch = intake.batch(Delivery(LABELS, b'{"SENSOR_01": 1, "SENSOR_02": null}', 2, 1))
    unread = intake.rejected(batch, "database_refused", "hung up")
    assert (unread.deliveries, unread.receipts_us) == (batch.deliveries, batch.receipts_us)
    assert (unread.rows, unread.nulls) == ([], 0)
    (letter,) = unread.dead_letters({})
    assert letter.tenant_id == SARA
    assert letter.rejections == (Rejection("", "database_refused", "hung up"),)


PAYLOADS = st.sampled_from(
    [b"1", b'"warm"', b"[1, 2, null]", b"", b"{", b'{"SENSOR_01": 1, "SENSOR_02": null, "BOMBA": 2}']
)
TOPICS = st.sampled_from([TOPIC, LABELS, "GREENHOUSE/STATUS", "GREENHOUSE/NOBODY", "a/b"])


@given(messages=st.lists(st.tuples(TOPICS, PAYLOADS), min_size=1, max_size=12), cut=st.integers(0, 12))
def test_two_parts_are_the_batch(messages: list[tuple[str, bytes]], cut: int) -> None:
    intake = Hearing()
    batch = intake.batch(
        *(Delivery(topic, payload, 2, at + 1) for at, (topic, payload) in enumerate(messages))
    )
    parts = [intake.part(batch, 0, cut), intake.part(batch, cut, len(batch))]
    assert [each for part in parts for each in part.deliveries] == batch.deliveries
    assert [each for part in parts for each in part.receipts_us] == batch.receipts_us
    assert [each[1:] for part in parts for each in part.rows] == [each[1:] for each in batch.rows]
    assert [each for part in parts for each in part.dead_letters({})] == batch.dead_letters({})
    whole, *halves = (each.counts(written=len(each.rows), duplicate=0, refused=0) for each in (batch, *parts))
    assert halves[0].plus(halves[1]) == whole
    assert not intake.faults


@given(topic=TOPICS, payload=st.binary(max_size=60) | st.text('[]{}:,"0123456789.eE+-naulf\\u ', max_size=40))
def test_no_payload_shows_a_bug(topic: str, payload: bytes | str) -> None:
    intake = Hearing()
    intake.batch(Delivery(topic, payload.encode() if isinstance(payload, str) else payload, 2, 1))
    assert not intake.faults
