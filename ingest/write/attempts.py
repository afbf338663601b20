"""The attempts at one batch: when trying it again as it is does not help, and it has to come in parts.

Pure. A batch that a slow database cannot take before the deadline is too large; one that the server hangs up
on, time after time, holds a row it does not survive. Either way the parts are smaller, and each has its own
transaction, journal entry and PUBACKs. A message alone whose texts are refused is tried with them in ASCII.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ingest.errors import BatchRefused, DatabaseFault, Misconfigured, Poison, Unavailable

TRIES_WHOLE: Final = 2
"""Transactions begun and not finished before a batch is given back: one may be bad luck."""
TRIES_ALONE: Final = 10
"""Connections that end in a row while the rows of one message are on their way, before it is blamed."""
_OF_TEXTS: Final = ("22", "54")
"""SQLSTATE classes: a character that the database cannot hold, a text longer than an index takes."""


@dataclass(slots=True)
class Attempts:
    """See the module's header; one for each `Writer.commit`."""

    messages: int
    rows: int
    begun: bool = False
    """Whether the attempt under way has reached the database."""
    writing: bool = False
    """Whether its rows are on their way."""
    unfinished: int = 0
    hung_up: int = 0
    in_ascii: bool = False
    """Whether the texts go in as ASCII: as they came, the database refused them."""
    last: DatabaseFault | None = None

    def failed(self, fault: DatabaseFault) -> None:
        """Note how an attempt ended: a server that is away, or a missing table, says nothing of the batch."""
        if self.begun and isinstance(fault, Unavailable):
            self.unfinished += 1
            self.hung_up = self.hung_up + 1 if self.writing and _hung_up(fault) else 0
            self.last = fault
        self.begun = self.writing = False

    def check(self) -> None:
        """Raise BatchRefused if another attempt is not worth it.

        A message alone is tried for ever while it is only slow, and so is one without rows.
        """
        if self.last is None:
            return
        if self.unfinished >= TRIES_WHOLE if self.messages > 1 else self.rows and self.hung_up >= TRIES_ALONE:
            tries = self.unfinished if self.messages > 1 else self.hung_up
            raise BatchRefused(f"{tries} attempts ended with: {self.last}", self.last.sqlstate) from self.last

    def poisoned(self, fault: Poison) -> DatabaseFault:
        """Give what to raise for a refusal that names no row: in parts, down to one message without rows.

        That one has nothing but texts that a gateway chose: told, and tried with them in ASCII from now on.
        """
        if self.messages > 1 or self.rows:
            return BatchRefused(str(fault), fault.sqlstate)
        self.in_ascii = self.in_ascii or (fault.sqlstate or "").startswith(_OF_TEXTS)
        return Misconfigured(str(fault), fault.sqlstate)


def _hung_up(fault: DatabaseFault) -> bool:
    """Whether the server ended the connection, rather than being slow, full or in the way of itself."""
    if fault.sqlstate is None:
        return not isinstance(fault.__cause__, TimeoutError)
    return fault.sqlstate.startswith(("08", "57P"))
