"""What a recording says of itself in the first line of its first block; `recording` writes and checks it."""

from __future__ import annotations

from typing import Final

NAME: Final = "greenhouse-ingest"
VERSION: Final = 1
FIELDS: Final = {
    "received_us": "arrival, in microseconds since 1970-01-01 UTC; strictly increasing within a recording",
    "topic": "topic it was published to",
    "qos": "QoS it was delivered with",
    "retain": "whether it was a retained message, sent because of the subscription",
    "payload": "payload, where it is UTF-8",
    "payload_base64": "payload in base64, where it is not UTF-8",
    "client_id": "who published it, where that is known: MQTT does not tell a subscriber",
    "properties": "MQTT 5 properties, where there are any; correlation_data_base64 in base64, "
    "user_properties a list of pairs",
}
HEADER: Final = {"recording": NAME, "version": VERSION, "fields": FIELDS}
