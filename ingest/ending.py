"""A session is emptied and ended, and the broker is held to shared subscriptions: the link in a share group.

A session that nobody connects to any more goes on receiving its share. So whoever takes its place for the
last time unsubscribes, takes what the broker still has for it, and has the broker forget it. Part of the
composition root, on the event loop; it decodes nothing and writes no row.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ingest.errors import BrokerRefused
from ingest.receive import ConnectionLost, Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ingest.receive import MqttVersion
    from ingest.settings import Settings

_QUIET_S: Final = 0.5
"""How long nothing may come before the broker is asked whether the session is empty: what one of EMQX's
processes has handed to a session before it was unsubscribed comes behind the UNSUBACK."""
_CLOSE_S: Final = 2.0


async def empty(
    session: Session,
    filters: Sequence[str],
    *,
    drained: asyncio.Event,
    taken: Callable[[], int | None],
    ask: Callable[[], Awaitable[None]],
) -> None:
    """Unsubscribe; return once everything that the broker had for *session* is committed and acknowledged.

    *drained* is set while nothing received waits; *taken* counts what was received, None while some of it is
    held back or none is taken any more; *ask* has a PINGREQ answered. The answer comes behind everything
    written before. If nothing waited when it was asked, and nothing came before it, nothing is queued: a
    broker fills its window as it reads our PUBACKs, before it reads the PINGREQ behind them. Raises
    ConnectionLost.
    """

    async def taking() -> None:
        await session.unsubscribe(filters)
        before: int | None = None
        while before is None or not drained.is_set() or before != taken():
            await drained.wait()
            before = taken()
            await asyncio.sleep(_QUIET_S)
            await ask()

    emptying = asyncio.create_task(taking())
    try:
        await asyncio.wait((emptying, session.closed), return_when=asyncio.FIRST_COMPLETED)
        if not emptying.done():
            raise session.closed.result() or ConnectionLost("the link was closed")
        await emptying
    finally:
        emptying.cancel()


async def end(emptied: Session, settings: Settings, version: MqttVersion) -> None:
    """Have the broker forget a session: connected anew it starts clean, and ends with the connection.

    Raises ConnectionLost, BrokerRefused.
    """
    await emptied.close(_CLOSE_S)
    last = Session(
        settings.broker_address,
        settings.broker,
        version=version,
        keep=False,
        on_deliveries=lambda _: None,
        on_ping=lambda: None,
        on_pong=lambda: None,
    )
    try:
        await last.open()
        await last.close(_CLOSE_S)
    finally:
        last.abort()


def check_sharing(settings: Settings, *, shares: bool) -> None:
    """Raise BrokerRefused where shared subscriptions are asked for, and the broker says it has none."""
    if settings.share_group is not None and not shares:
        raise BrokerRefused(
            f"the broker has no shared subscriptions, which group {settings.share_group!r} needs: "
            "switch them on there, or run one worker without table [workers]"
        )
