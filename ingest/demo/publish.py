"""The demonstration's gateways: one MQTT connection each, real network, half of them on MQTT 5.

Each gateway publishes from a thread of its own, in order, and waits for its PUBACKs.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from ingest.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ingest.demo.fleet import Message

_WINDOW: Final = 50
"""Unacknowledged messages a gateway allows itself."""
_TIMEOUT_S: Final = 30.0


async def publish_all(
    urls: tuple[str, str],
    gateways: Sequence[tuple[str, Sequence[Message]]],
    on_published: Callable[[Message], None],
) -> None:
    """Publish every gateway's messages, all gateways at once; *urls* are for MQTT 3.1.1 and 5.

    *on_published* is called on the event loop, after the broker's PUBACK for QoS 1. Raises EmbeddedError
    when a gateway cannot connect or is not acknowledged in time.
    """
    loop = asyncio.get_running_loop()
    connections = tuple(zip(urls, (MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5), strict=True))

    def tell(message: Message) -> None:
        loop.call_soon_threadsafe(on_published, message)

    await asyncio.gather(
        *(
            asyncio.to_thread(_publish, *connections[index % 2], name, messages, tell)
            for index, (name, messages) in enumerate(gateways)
        )
    )


def _publish(
    url: str,
    version: MQTTProtocolVersion,
    name: str,
    messages: Sequence[Message],
    tell: Callable[[Message], None],
) -> None:
    connected = threading.Event()
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=name,
        protocol=version,
    )
    client.on_connect = lambda *_: connected.set()
    parts = urlsplit(url)
    client.connect(parts.hostname or "127.0.0.1", parts.port or 1883)
    client.loop_start()
    try:
        if not connected.wait(_TIMEOUT_S):
            raise EmbeddedError(f"{name} got no CONNACK from {url} within {_TIMEOUT_S:g} s")
        for start in range(0, len(messages), _WINDOW):
            window = messages[start : start + _WINDOW]
            sent = [client.publish(message.topic, message.payload, message.qos) for message in window]
            for info, message in zip(sent, window, strict=True):
                info.wait_for_publish(_TIMEOUT_S)
                if not info.is_published():
                    raise EmbeddedError(f"{name}: no PUBACK within {_TIMEOUT_S:g} s; is the broker alive?")
                tell(message)
        client.disconnect()
    finally:
        client.loop_stop()
