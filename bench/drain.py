"""Two clients to compare the worker with; each runs as a process and drains one session's backlog.

    python -m bench.drain socket URL CLIENT COUNT        the limit: read, count, acknowledge in blobs
    python -m bench.drain paho URL CLIENT COUNT DSN      the usual loop: paho, json, batched executemany

Prints the seconds from CONNECT to the last PUBACK.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from datetime import datetime
from queue import SimpleQueue
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, UUID, uuid5

import asyncpg
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from ingest.receive.packets import PacketParser, answer_blob, answers_to

_INSERT = """
insert into iot.sensor_readings (time, value, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id)
values ($1, $2, $3, $4, $5, 1, 1)
on conflict do nothing
"""
_BATCH = 1000


def drain_socket(url: str, client_id: str, count: int) -> float:
    """Read *count* PUBLISHes from a socket and acknowledge them; decode nothing."""
    parts = urlsplit(url)
    name = client_id.encode()
    header = b"\x00\x04MQTT\x04\x00\x00\x3c" + len(name).to_bytes(2, "big") + name  # 3.1.1, session kept
    parser = PacketParser(mqtt5=False)
    started = time.perf_counter()
    with socket.create_connection((parts.hostname or "", parts.port or 1883)) as stream:
        stream.sendall(bytes([0x10, len(header)]) + header)
        drained = 0
        while drained < count:
            deliveries, _ = parser.feed(stream.recv(262_144))
            if deliveries:
                stream.sendall(answer_blob(answers_to(deliveries)))
                drained += len(deliveries)
        return time.perf_counter() - started


async def drain_paho(url: str, client_id: str, count: int, dsn: str) -> float:
    """Do what most scripts do: a paho thread, json, executemany, acknowledge after the commit."""
    parts = urlsplit(url)
    queue: SimpleQueue[paho.MQTTMessage] = SimpleQueue()
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False, manual_ack=True
    )
    client.on_message = lambda _client, _data, message: queue.put(message)
    connection = await asyncpg.connect(dsn)
    greenhouse = tenant = UUID(int=1)
    started = time.perf_counter()
    client.connect(parts.hostname or "", parts.port or 1883)
    client.loop_start()
    drained = 0
    while drained < count:
        messages = [await asyncio.to_thread(queue.get)]
        while len(messages) < _BATCH and not queue.empty():
            messages.append(queue.get())
        rows = []
        for message in messages:
            reading = json.loads(message.payload)
            moment = datetime.fromisoformat(reading["timestamp"])
            sensor_id = uuid5(NAMESPACE_URL, reading["sensor_id"])
            rows.append((moment, reading["value"], greenhouse, tenant, sensor_id))
        await connection.executemany(_INSERT, rows)
        for message in messages:
            client.ack(message.mid, message.qos)
        drained += len(messages)
    seconds = time.perf_counter() - started
    client.disconnect()
    client.loop_stop()
    await connection.close()
    return seconds


if __name__ == "__main__":
    kind, broker, session, messages = sys.argv[1:5]
    if kind == "socket":
        print(drain_socket(broker, session, int(messages)))
    else:
        print(asyncio.run(drain_paho(broker, session, int(messages), sys.argv[5])))
