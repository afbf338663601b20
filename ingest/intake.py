"""What has arrived and is not committed yet: deliveries become rows of the batch being filled.

Natural batching: a batch grows while the writer is busy with the one before, so its size follows the
load and no timer adds latency when idle. Part of the composition root, on the event loop; the clock
is an argument.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from ingest.decode import IGNORED, Decoder
from ingest.write import Batch, message_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.model import Delivery, Gateway
    from ingest.resolve import Resolver

_RETAIN: Final = 0x01


class Intake:
    """Decodes and resolves deliveries into batches, in arrival order; see the module's header."""

    def __init__(
        self, decoder: Decoder, resolver: Resolver, *, ignore_retained: bool, max_batch_rows: int
    ) -> None:
        """Start empty. A batch is cut off once it holds *max_batch_rows* rows."""
        self._decoder = decoder
        self.resolver = resolver
        """Replaced whole when a newer catalog is loaded."""
        self._ignore_retained = ignore_retained
        self._max_batch_rows = max_batch_rows
        self._last_us = 0
        self._filling = Batch()
        self._full: deque[Batch] = deque()
        self.messages = 0
        """Messages taken in and not yet handed out by `next_batch`."""
        self.payload_bytes = 0
        """Bytes of their payloads and topics."""
        self.readings = 0
        """Their rows and rejections: a payload of 20 KB can hold 10 000 of either, 400 bytes each."""

    def take_in(self, deliveries: Sequence[Delivery], now_us: int) -> None:
        """Add *deliveries* to the batch being filled; never raises for what they hold.

        Receipt times (µs since 1970-01-01 UTC) increase strictly from message to message, so that
        two messages read in one go never share a key.
        """
        batch = self._filling
        for delivery in deliveries:
            receipt_us = self._last_us + 1
            receipt_us = max(receipt_us, now_us)
            self._last_us = receipt_us
            before = batch.readings
            self._add(batch, delivery, receipt_us)
            self.payload_bytes += message_bytes(delivery)
            self.readings += batch.readings - before
            if batch.readings >= self._max_batch_rows:
                self._full.append(batch)
                batch = self._filling = Batch()
        self.messages += len(deliveries)

    def next_batch(self) -> Batch | None:
        """Hand out the oldest batch, the one being filled included; None when nothing waits."""
        if self._full:
            batch = self._full.popleft()
        elif self._filling.deliveries:
            batch, self._filling = self._filling, Batch()
        else:
            return None
        self.messages -= len(batch)
        self.payload_bytes -= batch.payload_bytes
        self.readings -= batch.readings
        return batch

    @property
    def waiting(self) -> list[Batch]:
        """The batches not yet handed out, oldest first."""
        return [*self._full, self._filling]

    def is_outdated(self, batch: Batch) -> bool:
        """Whether a newer catalog came after a name of *batch* was found unknown."""
        return bool(batch.curable) and batch.catalog_version != self.resolver.catalog.version

    def look_again(self, batch: Batch) -> Batch:
        """Decode and resolve the curable messages of *batch* again, under the catalog of today."""
        revised = Batch(batch_id=batch.batch_id)
        for index, delivery in enumerate(batch.deliveries):
            receipt_us = batch.receipts_us[index]
            if index in batch.curable:
                self._add(revised, delivery, receipt_us)
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

    def _add(self, batch: Batch, delivery: Delivery, receipt_us: int) -> None:
        topic, payload, flags, _ = delivery
        decoded = (
            IGNORED
            if flags & _RETAIN and self._ignore_retained
            else self._decoder.decode(topic, payload, receipt_us)
        )
        if decoded is IGNORED:
            batch.ignore(delivery, receipt_us, self.gateway_of(topic))
            return
        resolved = self.resolver.resolve(decoded)
        if not decoded.rejections and not resolved.rejections:
            batch.add(delivery, receipt_us, resolved.rows, gateway=resolved.gateway, nulls=decoded.nulls)
            return
        index = batch.add(
            delivery,
            receipt_us,
            resolved.rows,
            decoded.rejections + resolved.rejections,
            resolved.tenant_id,
            gateway=resolved.gateway,
            nulls=decoded.nulls,
        )
        if resolved.missing:
            if not batch.curable:
                batch.catalog_version = self.resolver.catalog.version
            batch.curable[index] = resolved.missing
