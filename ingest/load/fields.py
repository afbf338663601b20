"""What the fields of a recorded message may hold: a hand, or another program, can write anything. Pure."""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ingest.load.recording import Recorded

END_US: Final = 253_370_764_800_000_000
"""The year 9999: the last that a clock has, and what is reckoned from it still has one."""
_QOS: Final = {0, 1, 2}
_MOST_CLIENT_ID_BYTES: Final = 65_535
"""A text of MQTT is no longer, and has no NUL (MQTT 5 1.5.4)."""


def usable(messages: list[Recorded]) -> bool:
    """Tell whether all *messages* hold what their types say, and what a clock and a client can have.

    A column at a time, 0.2 µs a message.
    """
    if not messages:
        return True
    received_us, topic, _, qos, retain, client_id, properties = zip(*messages, strict=True)
    return (
        set(map(type, received_us)) == {int}
        and 0 <= min(received_us) <= max(received_us) < END_US
        and set(map(type, topic)) == {str}
        and set(map(type, qos)) == {int}
        and {*qos} <= _QOS
        and set(map(type, retain)) == {bool}
        and set(map(type, client_id)) <= {str, NoneType}
        and all(map(_is_client_id, {*client_id}))
        and set(map(type, properties)) <= {dict, NoneType}
    )


def _is_client_id(name: str | None) -> bool:
    return name is None or ("\0" not in name and len(name.encode()) <= _MOST_CLIENT_ID_BYTES)
