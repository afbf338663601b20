"""What the broker sends twice on one connection, impatient for a PUBACK.

Pure: no socket, no clock. MQTT 3.1.1 4.4 does not forbid it, and EMQX does it after `retry_interval` (30 s).
DUP and a packet id that waits for its PUBACK are not enough to know it by: Mosquitto numbers messages as it
queues them and, where nothing bounds what is in flight, gives two of them one id (over 65 535 in flight;
before 2.0.13 it kept to no Receive Maximum either). After a reconnect all of them come with DUP, and one
that was left out here would never get its PUBACK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ingest.receive.acks import DUP, QOS, Entry, entry_of, packet_id_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.model import Delivery

_LAST_ID: Final = 65_535


def without_retransmitted(
    deliveries: Sequence[Delivery], outstanding: Sequence[Entry | Delivery], *, window: int
) -> list[Delivery]:
    """Give *deliveries* without those that the broker has sent on this connection before.

    *outstanding*: the QoS 1 deliveries of this connection that the broker may have no PUBACK for, oldest
    first. *window*: how many it may have in flight, our Receive Maximum. PUBACKs go out in order, so all that
    came since the message it waits for is in flight, too: a copy comes at most *window* deliveries after it.
    Another message under its id, numbered upwards, comes 65 535 after it. In doubt it is another: a duplicate
    is the lesser evil.
    """
    reach = min(window, _LAST_ID - 1)
    recent = outstanding[-reach:]
    asked = {delivery.packet_id for delivery in deliveries if delivery.flags & DUP}
    known = {
        packet_id: (place, each)
        for place, each in enumerate(recent)
        if (packet_id := packet_id_of(each) if isinstance(each, int) else each.packet_id) in asked
    }
    place = len(recent)
    fresh: list[Delivery] = []
    for delivery in deliveries:
        if delivery.flags & QOS:
            if delivery.flags & DUP and (earlier := known.get(delivery.packet_id)) is not None:
                since, first = earlier
                if place - since <= reach and _entry(first) == entry_of(delivery):
                    continue
            known[delivery.packet_id] = (place, delivery)
            place += 1
        fresh.append(delivery)
    return fresh


def _entry(earlier: Entry | Delivery) -> Entry:
    return earlier if isinstance(earlier, int) else entry_of(earlier)
