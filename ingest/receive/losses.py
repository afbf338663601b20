"""How a connection to the broker is lost; `session` raises these, the composition root acts on them."""

from __future__ import annotations

from ingest.errors import IngestError


class ConnectionLost(IngestError):
    """The network connection could not be made or is gone; connecting again may help."""


class ProtocolUnsupported(ConnectionLost):
    """The broker does not speak this protocol version."""


class HungUp(ProtocolUnsupported):
    """The broker hung up on CONNECT: it may not speak this version, or be about to stop."""


class Undecided(ConnectionLost):
    """The broker answered, and is to be asked for another version at once; see `versions`."""
