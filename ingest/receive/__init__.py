"""Receive: one MQTT session, its packets and what its acknowledgements mean.

`session` speaks MQTT (paho), `transport` carries its bytes; `packets`, `acks`, `versions` and `retransmitted`
are pure.
"""

from ingest.receive.acks import (
    DUP,
    QOS,
    AckLedger,
    Entry,
    Redelivery,
    Verdict,
    entries_of,
    entry_of,
    packet_id_of,
)
from ingest.receive.losses import ConnectionLost, HungUp, ProtocolUnsupported, Undecided
from ingest.receive.opened import Opened
from ingest.receive.packets import WHOLE_PACKET_BYTES, answers_to
from ingest.receive.properties import publish_properties
from ingest.receive.retransmitted import without_retransmitted
from ingest.receive.session import MqttVersion, Session
from ingest.receive.versions import Attempt, VersionChoice

__all__ = [
    "DUP",
    "QOS",
    "WHOLE_PACKET_BYTES",
    "AckLedger",
    "Attempt",
    "ConnectionLost",
    "Entry",
    "HungUp",
    "MqttVersion",
    "Opened",
    "ProtocolUnsupported",
    "Redelivery",
    "Session",
    "Undecided",
    "Verdict",
    "VersionChoice",
    "answers_to",
    "entries_of",
    "entry_of",
    "packet_id_of",
    "publish_properties",
    "without_retransmitted",
]
