"""A stream of messages to a broker at its own pace: each when it is due, each gateway by its own connection.

Owns when a message is due, and the account of what became of it. It waits for the broker (`Fleet.publish`)
rather than let anything grow; being late is told, not hidden. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ingest.load.gateways import Fleet
    from ingest.load.recording import Recorded

_WORTH_WAITING_S: Final = 0.002
"""Shorter than the event loop's own delay under load."""


@dataclass(slots=True)
class Published:
    """What became of the messages of one run."""

    messages: int = 0
    acknowledged: int = 0
    refused: int = 0
    first_refusal: str | None = None
    behind_s: float = 0.0
    """By how much the latest message was late when it went out."""
    latency_ms: Counter[int] = field(default_factory=Counter)
    """How long PUBACKs took, counted by the millisecond."""

    def on_acknowledged(self, _gateway: int, _message: Recorded, sent_us: int, acked_us: int) -> None:
        """Count a PUBACK."""
        self.acknowledged += 1
        self.latency_ms[(acked_us - sent_us) // 1_000] += 1

    def on_refused(self, _gateway: int, _message: Recorded, why: str) -> None:
        """Count a message that the broker does not take."""
        self.refused += 1
        self.first_refusal = self.first_refusal or why

    def latency_at_ms(self, share: float) -> int | None:
        """Give the time within which *share* of the PUBACKs came; None without any."""
        rest = share * self.latency_ms.total()
        for taken_ms in sorted(self.latency_ms):
            rest -= self.latency_ms[taken_ms]
            if rest <= 0:
                return taken_ms
        return None


async def publish(
    messages: Iterable[Recorded],
    fleet: Fleet[Recorded],
    account: Published,
    *,
    gateway_of: Callable[[Recorded], int],
    start_us: int,
    speed: float,
    stop: asyncio.Event,
    on_published: Callable[[Recorded], None],
) -> None:
    """Publish *messages* until their end or *stop*, then wait for the PUBACKs that are still to come.

    One that is of *start_us* is due now, the others later by their own distance over *speed*. Raises
    BrokerAway.
    """
    began_s = time.monotonic()
    for message in messages:
        late_s = time.monotonic() - began_s - (message.received_us - start_us) / 1_000_000 / speed
        if late_s < -_WORTH_WAITING_S and await _stopped_within(-late_s, stop):
            break
        if stop.is_set():
            break
        account.behind_s = max(account.behind_s, late_s)
        await fleet.publish(gateway_of(message), message)
        account.messages += 1
        on_published(message)
    await fleet.drain()


async def _stopped_within(seconds: float, stop: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True
