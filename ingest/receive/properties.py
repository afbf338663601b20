"""MQTT 5 properties of a PUBLISH: their bytes as a JSON object. Pure; the worker skips them unread.

paho reads them (MQTT 5 3.3.2.3). The names are those of a recording's field `properties`.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.receive.packets import as_length


def publish_properties(raw: bytes) -> dict[str, Any]:
    """Give the properties in *raw* by name: those that a publisher chooses, so none of the subscription's.

    What paho cannot read is kept whole, as `unreadable_base64`.
    """
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    try:
        properties.unpack(as_length(len(raw)) + raw)  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001 - paho raises whatever its parsing stumbles over
        return {"unreadable_base64": b64encode(raw).decode()}
    found: dict[str, Any] = {
        name: getattr(properties, attribute)
        for name, attribute in (
            ("payload_format_indicator", "PayloadFormatIndicator"),
            ("message_expiry_interval", "MessageExpiryInterval"),
            ("content_type", "ContentType"),
            ("response_topic", "ResponseTopic"),
        )
        if hasattr(properties, attribute)
    }
    if hasattr(properties, "CorrelationData"):
        found["correlation_data_base64"] = b64encode(properties.CorrelationData).decode()
    if hasattr(properties, "UserProperty"):
        found["user_properties"] = [list(pair) for pair in properties.UserProperty]
    return found
