"""What has arrived and is not committed yet: deliveries become rows of the batch being filled.

Natural batching: a batch grows while the writer is busy with the one before, so its size follows the
load and no timer adds latency when idle. A bug of ours costs the message that shows it, not the worker.
Part of the composition root, on the event loop; the clock is an argument.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import deque
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from ingest.caution import digest_of
from ingest.decode import IGNORED, Decoder
from ingest.model import RETAIN, UNPLACED, Rejection
from ingest.write import Batch, message_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ingest.model import Delivery, Gateway, Reason
    from ingest.resolve import Resolver

_REACH: Final = 32
"""Messages tried as plain at once, twice as many each time: where none is, none is copied in vain often."""
_CLOCK_SLACK_US: Final = 1_000_000
"""By as much a clock may step back and receipt times go on; NTP slews what is less than 0.128 s."""


class Intake:
    """Decodes and resolves deliveries into batches, in arrival order; see the module's header."""

    def __init__(
        self,
        decoder: Decoder,
        resolver: Resolver,
        *,
        ignore_retained: bool,
        max_batch_rows: int,
        on_fault: Callable[[str, Exception], None] | None = None,
        on_set_back: Callable[[float], None] | None = None,
    ) -> None:
        """Start empty. A batch is cut off once it holds *max_batch_rows* rows.

        *on_fault* hears of each bug of ours that a message has shown: its kind and place, and the error.
        *on_set_back* hears by how many seconds the clock was set back, where receipt times follow it.
        """
        self._decoder = decoder
        self.resolver = resolver
        """Follows the newer catalogs."""
        self._ignore_retained = ignore_retained
        self._max_batch_rows = max_batch_rows
        self._on_fault = on_fault
        self._on_set_back = on_set_back
        self._clock_us = 0
        """The latest the clock has said since it was set back."""
        self._last_us = 0
        self._step_us, self._slot_us = 1, 0
        self._filling = Batch()
        self._full: deque[Batch] = deque()
        self.messages = 0
        """Messages taken in and not yet handed out by `next_batch`."""
        self._held_bytes = 0
        self.held: deque[tuple[Delivery, int]] = deque()
        """Messages taken in and not looked at yet, each with the µs it came; see `release`."""
        self.unread: dict[bytes, str] = {}
        """Digests of messages that ended a worker, with the detail under which they are rejected unread."""

    def take_in(self, deliveries: Sequence[Delivery], now_us: int) -> None:
        """Add *deliveries* to the batch being filled; never raises for what they hold.

        Receipt times (µs since 1970-01-01 UTC) increase strictly from message to message, so that
        two messages read in one go never share a key; but for a clock that is set back by more than a
        second: it was ahead, and they follow it. Within a batch they increase all the same.
        """
        step_us = self._step_us
        if now_us > self._clock_us:
            self._clock_us = now_us
        elif self._clock_us - now_us > _CLOCK_SLACK_US:  # not our own counting, which may be ahead too
            self._follow_back(now_us)
        first_us = max(self._last_us + step_us, now_us + (self._slot_us - now_us) % step_us)
        self.take_in_at(deliveries, range(first_us, first_us + len(deliveries) * step_us, step_us))
        self._last_us = first_us + (len(deliveries) - 1) * step_us

    def _follow_back(self, now_us: int) -> None:
        """Begin anew at *now_us*, with a batch of its own."""
        behind_us = self._clock_us - now_us
        self._clock_us, self._last_us = now_us, 0
        self._cut_off()
        if self._on_set_back is not None:
            self._on_set_back(behind_us / 1e6)

    def take_in_at(self, deliveries: Sequence[Delivery], receipts_us: Sequence[int]) -> None:
        """Add *deliveries* that came at *receipts_us*, as `take_in` does: those of a recording."""
        at = 0
        while at < len(deliveries):
            at = self._take_plain(deliveries, receipts_us, at)
            if at < len(deliveries) and not self._is_full(self._filling):
                if not self._take_map(deliveries[at], receipts_us[at]):
                    self._take(self._filling, deliveries[at], receipts_us[at])
                at += 1
            if self._is_full(self._filling):
                self._cut_off()
        self.messages += len(deliveries)

    def share_clock(self, slot: int, of: int) -> None:
        """Give only receipt times that are *slot* modulo *of*: the share group's others give the others."""
        self._step_us, self._slot_us = of, slot
        self._last_us += (slot - self._last_us) % of

    def hold(self, deliveries: Sequence[Delivery], now_us: int) -> None:
        """Keep *deliveries* without a look at them, for `release`."""
        self.held.extend((delivery, now_us) for delivery in deliveries)
        self.messages += len(deliveries)
        self._held_bytes += sum(map(message_bytes, deliveries))

    def release(self, count: int) -> None:
        """Take in the oldest *count* of what is held."""
        for _ in range(count):
            delivery, now_us = self.held.popleft()
            self.messages -= 1
            self._held_bytes -= message_bytes(delivery)
            self.take_in([delivery], now_us)

    def next_batch(self) -> Batch | None:
        """Hand out the oldest batch, the one being filled included; None when nothing waits."""
        if self._full:
            batch = self._full.popleft()
        elif self._filling.deliveries:
            batch, self._filling = self._filling, Batch()
        else:
            return None
        self.messages -= len(batch)
        return batch

    @property
    def payload_bytes(self) -> int:
        """Bytes of the payloads and topics of what is not handed out."""
        return self._held_bytes + sum(batch.payload_bytes for batch in self.waiting)

    @property
    def readings(self) -> int:
        """Its rows and rejections: a payload of 20 KB can hold 10 000 of either, 400 bytes each."""
        return sum(batch.readings for batch in self.waiting)

    @property
    def waiting(self) -> list[Batch]:
        """The batches not yet handed out, oldest first; without what is held."""
        return [*self._full, self._filling]

    @property
    def oldest_us(self) -> int | None:
        """When the oldest message not yet handed out by `next_batch` came; None without any.

        A batch before may be of later, where the clock was set back.
        """
        first_us = [batch.receipts_us[0] for batch in self.waiting if batch.deliveries]
        return min(first_us or [now_us for _, now_us in self.held], default=None)

    def is_outdated(self, batch: Batch) -> bool:
        """Whether a newer catalog came after a name of *batch* was found unknown."""
        return bool(batch.curable) and batch.catalog_version != self.resolver.catalog.version

    def look_again(self, batch: Batch) -> Batch:
        """Decode and resolve the curable messages of *batch* again, under the catalog of today."""
        revised = Batch(batch_id=batch.batch_id)
        for index, delivery in enumerate(batch.deliveries):
            receipt_us = batch.receipts_us[index]
            if index in batch.curable:
                self._take(revised, delivery, receipt_us)
            else:
                revised.add(
                    delivery,
                    receipt_us,
                    batch.rows_of(index),
                    batch.rejections.get(index),
                    batch.tenants.get(index),
                    gateway=batch.gateways[index],
                    nulls=batch.nulls_of.get(index, 0),
                )
        revised.ignored_at = batch.ignored_at
        return revised

    def gateway_of(self, topic: str) -> Gateway:
        """Give the gateway that publishes to *topic*, as the catalog of today knows it."""
        return self.resolver.gateway_of(self._decoder.scope_of(topic))

    def part(self, batch: Batch, start: int, stop: int) -> Batch:
        """Decode and resolve messages *start* to *stop* of *batch* again, as a batch of their own."""
        part = Batch()
        for delivery, receipt_us in zip(
            batch.deliveries[start:stop], batch.receipts_us[start:stop], strict=True
        ):
            self._take(part, delivery, receipt_us)
        return part

    def rejected(self, batch: Batch, reason: Reason, detail: str) -> Batch:
        """Give the messages of *batch* as dead letters, each rejected whole for *reason*."""
        rejected = Batch()
        for delivery, receipt_us in zip(batch.deliveries, batch.receipts_us, strict=True):
            self._reject(rejected, delivery, receipt_us, reason, detail)
        return rejected

    def _cut_off(self) -> None:
        """Put nothing more into the batch being filled, if there is anything in it."""
        if self._filling.deliveries:
            self._full.append(self._filling)
            self._filling = Batch()

    def _is_full(self, batch: Batch) -> bool:
        return batch.readings >= self._max_batch_rows

    def _take_plain(self, deliveries: Sequence[Delivery], receipts_us: Sequence[int], start: int) -> int:
        """Add those from *start* on that are plain to the batch being filled; give the first that is not.

        Nearly every message is: one reading, of known names. So it is half as costly as by `_take`, which
        finds out what else a message may be.
        """
        if self.unread:
            return start
        batch, reach = self._filling, _REACH
        end = min(len(deliveries), start + self._max_batch_rows - batch.readings)
        while start < end:
            stop = min(end, start + reach)
            try:
                rows, gateways = self.resolver.plain(
                    self._decoder.plain(deliveries[start:stop], receipts_us[start:stop])
                )
            except Exception:  # noqa: BLE001 - a bug of ours: `_take` meets it again, and says whose message it is
                break
            upto = start + len(rows)
            if rows:
                batch.add_plain(deliveries[start:upto], receipts_us[start:upto], rows, gateways)
            start = upto
            if upto < stop:
                break
            reach *= 2
        return start

    def _take_map(self, delivery: Delivery, receipt_us: int) -> bool:
        """Add a flat map to the batch being filled if it is plain; 12 µs of 22 labels, `_take` has 24."""
        topic, payload, flags, _ = delivery
        if flags & RETAIN or self.unread:
            return False
        with contextlib.suppress(Exception):  # as in _take_plain
            plain = self._decoder.plain_map(topic, payload, receipt_us)
            if plain is not None and (resolved := self.resolver.plain_map(*plain)) is not None:
                rows, gateway = resolved
                self._filling.add(delivery, receipt_us, rows, gateway=gateway)
                return True
        return False

    def _take(self, batch: Batch, delivery: Delivery, receipt_us: int) -> None:
        """Add one message, whatever it is, to *batch*; never raises."""
        topic, payload, flags, _ = delivery
        if self.unread and (detail := self.unread.get(digest_of(delivery))) is not None:
            self._reject(batch, delivery, receipt_us, "poison", detail)
            return
        try:
            decoded = (
                IGNORED
                if flags & RETAIN and self._ignore_retained
                else self._decoder.decode(topic, payload, receipt_us)
            )
            if decoded is IGNORED:
                batch.ignore(delivery, receipt_us, self.gateway_of(topic))
                return
            rows, rejections, tenant_id, missing, gateway = self.resolver.resolve(decoded)
        except Exception as error:  # noqa: BLE001 - whatever it is: the others go on
            fault = place_of(error)
            if self._on_fault is not None:
                self._on_fault(fault, error)
            self._reject(batch, delivery, receipt_us, "worker_fault", fault)
            return
        lost = [*decoded.rejections, *rejections]
        index = batch.add(delivery, receipt_us, rows, lost, tenant_id, gateway=gateway, nulls=decoded.nulls)
        if missing:
            if not batch.curable:
                batch.catalog_version = self.resolver.catalog.version
            batch.curable[index] = missing

    def _reject(self, batch: Batch, delivery: Delivery, receipt_us: int, reason: Reason, detail: str) -> None:
        rejection = Rejection("", reason, detail)
        gateway = UNPLACED
        with contextlib.suppress(Exception):  # the bug may be here, too
            gateway = self.gateway_of(delivery.topic)
        batch.add(delivery, receipt_us, (), [rejection], gateway.tenant_id, gateway=gateway)


def place_of(error: Exception) -> str:
    """Give the kind of *error* and where it was raised; not its text, which may hold a payload."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    file = "/".join(PurePath(frame.filename).parts[-2:])
    return f"{type(error).__name__} at {file}:{frame.lineno}, in {frame.name}"
