"""Caution: what a worker does that was started after others had ended over what they received.

A message that ends the process (a fault in a C extension, no memory left, a loop that a watchdog ends) comes
again with the next start, and ends that one too. Three starts in a row that committed nothing and did not
take leave, and the next worker takes its messages in one by one, each noted as suspect in the journal first.
If it ends, too, its successor finds the suspect, and dead-letters that message and its equals unread, for
a day. A COMMIT of messages that were not taken in alone shows that the trouble is over.

Pure: it decides; `commits` acts, `intake` holds what waits, `write.journal` remembers. Part of the
composition root.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from ingest.model import CutPayload
from ingest.receive import DUP

if TYPE_CHECKING:
    from ingest.model import Delivery

STARTS: Final = 3
"""Unfinished starts before one is careful: a machine may crash twice without any message's fault."""
MESSAGES_ALONE: Final = 1_000
"""Taken in alone at least, and all that are redelivered besides: two COMMITs each, some seconds."""


def digest_of(delivery: Delivery) -> bytes:
    """Give the SHA-256 of topic and payload: what equals a message that ended a worker would end it, too."""
    payload = delivery.payload
    digest = sha256(delivery.topic.encode("utf-8", "backslashreplace") + b"\0")
    digest.update(payload.sha256 if isinstance(payload, CutPayload) else payload)
    return digest.digest()


class Caution:
    """Whether messages are taken in alone; see the header."""

    def __init__(self) -> None:
        self._left: int | None = None

    def begin(self, earlier_starts: int) -> bool:
        """Hear of the *earlier_starts* that were not finished; True if there is reason to be careful."""
        if earlier_starts >= STARTS:
            self._left = MESSAGES_ALONE
        return self.careful

    @property
    def careful(self) -> bool:
        """Whether messages are taken in one by one."""
        return self._left is not None

    def takes_alone(self, delivery: Delivery) -> bool:
        """Tell whether *delivery*, the next, is still to be taken in alone; if not, the caution ends."""
        if self._left is not None:
            self._left -= 1
            if self._left < 0 and not delivery.flags & DUP:
                self._left = None
        return self.careful
