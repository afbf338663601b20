"""A stream of messages to a broker at its own pace: each when it is due, each gateway by its own connection.

Owns the account of what became of them. It waits for the broker (`Fleet.publish`) rather than let anything
grow; being late is told, not hidden. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ingest.load.gateways import Fleet
    from ingest.load.pace import Pace
    from ingest.load.recording import Recorded

_WORTH_WAITING_S: Final = 0.002
"""Shorter than the event loop's own delay under load."""


@dataclass(slots=True)
class Published:
    """What became of the messages of one run."""

    pace: Pace
    messages: int = 0
    acknowledged: int = 0
    refused: int = 0
    first_refusal: str | None = None

    def on_acknowledged(self, _gateway: int, _message: Recorded, _sent_us: int, _acked_us: int) -> None:
        """Count a PUBACK."""
        self.acknowledged += 1

    def on_refused(self, _gateway: int, _message: Recorded, why: str) -> None:
        """Count a message that the broker does not take."""
        self.refused += 1
        self.first_refusal = self.first_refusal or why


async def publish(
    messages: Iterable[Recorded],
    fleet: Fleet[Recorded],
    account: Published,
    *,
    gateway_of: Callable[[Recorded], int],
    stop: asyncio.Event,
    tell: Callable[[Recorded], None],
) -> None:
    """Publish *messages* until their end or *stop*, then wait for the PUBACKs that are still to come.

    *tell* hears of each one that was published. Raises BrokerAway.
    """
    for message in messages:
        wait_s = account.pace.wait_s(message.received_us, time.monotonic())
        if wait_s > _WORTH_WAITING_S:
            await _within(wait_s, stop)
        if stop.is_set():
            break
        if not await fleet.publish(gateway_of(message), message):
            break
        account.messages += 1
        tell(message)
    await fleet.drain()


async def _within(seconds: float, stop: asyncio.Event) -> None:
    """Wait so long, or until *stop*."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
