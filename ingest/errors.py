"""The error tree: who is to blame and whether trying again helps are types.

    IngestError
    ├── ConfigurationError      the settings are wrong: every fault listed, exit 2
    ├── CheckFailed             a check the operator asked for failed: exit 1
    ├── RecordingError          a recording cannot be written, or is none
    ├── EmbeddedError           an embedded part is missing or would not start
    ├── MigrationError          the schema is not what the files say
    ├── BrokerAway              no connection to the broker until the deadline
    ├── BrokerRefused           the broker answered no (credentials, QoS, protocol)
    ├── SessionTakenOver        another process owns this client id: stop, exit 2
    └── DatabaseFault           the database would not take a batch
        ├── Unavailable         down, failing over, full, cut off: try again
        ├── Misconfigured       table, column or grant missing: hold, say so, try again slowly
        ├── Poison              these rows are refused for what they hold: find the row
        └── BatchRefused        this batch fails whenever it is tried: commit it in parts

Driver errors (asyncpg, paho, OS) are translated where they enter, with `from`.
"""

from __future__ import annotations


class IngestError(Exception):
    """Base of every error this package raises on purpose; its text is meant for the operator."""

    exit_code = 1


class ConfigurationError(IngestError):
    """The configuration cannot be used. ``faults`` lists every fault found, one line each."""

    exit_code = 2

    def __init__(self, faults: list[str], advice: str = "") -> None:
        """Keep all *faults*; the text joins them, one a line, and *advice* on all of them."""
        super().__init__("\n".join([*faults, advice] if advice else faults))
        self.faults = faults
        self.advice = advice


class CheckFailed(IngestError):
    """Something the operator asked to be checked is not as it should be."""


class RecordingError(IngestError):
    """A recording cannot be written or read at all; damage within one is no error, but a value."""


class EmbeddedError(IngestError):
    """An embedded part (Node.js, its packages, the broker wheel) is missing or failed to start."""


class MigrationError(IngestError):
    """A migration file or the live schema's history contradicts the files shipped."""


class BrokerAway(IngestError):
    """Whoever publishes had no connection to the broker until the deadline, with retries."""


class BrokerRefused(IngestError):
    """The broker answered, and the answer was no; its reason code is in the text."""


class SessionTakenOver(IngestError):
    """Another process claimed this client id's delivery journal; this one must stop, and not come back."""

    exit_code = 2  # two workers with one client id is a fault of configuration


class DatabaseFault(IngestError):
    """A batch was not committed. ``sqlstate`` is PostgreSQL's code, None when none was given."""

    def __init__(self, text: str, sqlstate: str | None = None) -> None:
        """Keep *sqlstate* beside the *text*."""
        super().__init__(text)
        self.sqlstate = sqlstate


class Unavailable(DatabaseFault):
    """The server is down, failing over, out of something or cut off: the same batch may succeed later."""


class Misconfigured(DatabaseFault):
    """A table, column or grant is missing (SQLSTATE 42xxx and the like): somebody must act."""


class Poison(DatabaseFault):
    """The server refuses what these rows hold (22xxx, 23xxx, P0xxx): trying again never helps."""


class BatchRefused(DatabaseFault):
    """This batch fails whenever it is tried, though the database answers: commit it in parts."""
