"""The demonstration's gateways: one MQTT connection each, real network, half of them on MQTT 5.

Each gateway publishes from a thread of its own, in order, and waits for its PUBACKs.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from ingest.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ingest.demo.fleet import Message

T = TypeVar("T")

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
    versions = (MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5)

    def tell(message: Message) -> None:
        loop.call_soon_threadsafe(on_published, message)

    clients: list[paho.Client] = []
    with ThreadPoolExecutor(max(len(gateways), 1)) as threads:

        async def each(work: Callable[..., T], arguments: Iterable[tuple[object, ...]]) -> list[T]:
            return await asyncio.gather(*(loop.run_in_executor(threads, work, *some) for some in arguments))

        try:
            names = [name for name, _ in gateways]
            clients += await each(
                _connect, [(urls[index % 2], versions[index % 2], name) for index, name in enumerate(names)]
            )
            plans = [messages for _, messages in gateways]
            await each(_publish, [(*pair, tell) for pair in zip(clients, plans, strict=True)])
        finally:
            # All at the end: rumqttd was seen to drop connections while others close.
            await each(_disconnect, [(client,) for client in clients])


def _connect(url: str, version: MQTTProtocolVersion, name: str) -> paho.Client:
    connected = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=version)
    client.on_connect = lambda *_: connected.set()
    parts = urlsplit(url)
    client.connect(parts.hostname or "127.0.0.1", parts.port or 1883)
    client.loop_start()
    if not connected.wait(_TIMEOUT_S):
        client.loop_stop()
        raise EmbeddedError(f"{name} got no CONNACK from {url} within {_TIMEOUT_S:g} s")
    return client


def _publish(client: paho.Client, messages: Sequence[Message], tell: Callable[[Message], None]) -> None:
    name = client._client_id.decode()  # noqa: SLF001 - paho has no public name for it
    for start in range(0, len(messages), _WINDOW):
        window = messages[start : start + _WINDOW]
        sent = [client.publish(message.topic, message.payload, message.qos) for message in window]
        for info, message in zip(sent, window, strict=True):
            try:
                info.wait_for_publish(_TIMEOUT_S)
            except RuntimeError as error:
                raise EmbeddedError(f"{name} lost its connection to the embedded broker: {error}") from error
            if not info.is_published():
                raise EmbeddedError(f"{name}: no PUBACK within {_TIMEOUT_S:g} s; is the broker alive?")
            tell(message)


def _disconnect(client: paho.Client) -> None:
    client.disconnect()
    client.loop_stop()
