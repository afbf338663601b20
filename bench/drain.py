"""The loop that most people write, as a contender: a paho thread, json, batched executemany.

    python -m bench.drain URL CLIENT DSN WORKLOAD COUNT

Acknowledges after the commit. It does less than the worker: the ids come ready-made from a dictionary or the
payload, and nothing is judged, booked or kept of what is wrong.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from bench.fleet import TENANT
from bench.workloads import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.workloads import Workload

_Row = tuple[datetime, float, UUID, UUID, UUID, int, int]
_INSERT: Final = """
insert into iot.sensor_readings (time, value, greenhouse_id, tenant_id, sensor_id, sensor_type_id, unit_id)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict do nothing
"""
_BATCH: Final = 1000


def reader(workload: Workload) -> Callable[[paho.MQTTMessage], Iterator[_Row]]:
    """Give what turns a message of *workload* into rows."""
    channels = workload.fleet().channels
    by_id = {str(each.sensor_id): each for each in channels}
    by_label = {each.label: each for each in channels}
    received = [datetime.now(UTC)]

    def read(message: paho.MQTTMessage) -> Iterator[_Row]:
        payload = json.loads(message.payload)
        if workload.shape == "map":
            received[0] = max(datetime.now(UTC), received[0] + timedelta(microseconds=1))
            found = [(by_label[label], received[0], value) for label, value in payload.items()]
        else:
            readings = payload if isinstance(payload, list) else [payload]
            found = [
                (by_id[each["sensor_id"]], datetime.fromisoformat(each["timestamp"]), each["value"])
                for each in readings
            ]
        for channel, moment, value in found:
            kind, sensor_id = channel.kind, channel.sensor_id
            yield (
                moment,
                value,
                channel.greenhouse_id,
                TENANT.tenant_id,
                sensor_id,
                kind.type_id,
                kind.unit_id,
            )

    return read


async def drain(url: str, client_id: str, dsn: str, workload: Workload, count: int) -> None:
    """Drain *count* messages of the session of *client_id*."""
    parts = urlsplit(url)
    queue: SimpleQueue[paho.MQTTMessage] = SimpleQueue()
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False, manual_ack=True
    )
    client.on_message = lambda _client, _data, message: queue.put(message)
    connection = await asyncpg.connect(dsn)
    await connection.execute("set timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
    read = reader(workload)
    print("starting", flush=True)
    client.connect(parts.hostname or "", parts.port or 1883)
    client.loop_start()
    drained = 0
    while drained < count:
        messages = [await asyncio.to_thread(queue.get)]
        while (
            len(messages) < min(_BATCH // workload.rows_a_message or 1, count - drained) and not queue.empty()
        ):
            messages.append(queue.get())
        await connection.executemany(_INSERT, [row for message in messages for row in read(message)])
        for message in messages:
            client.ack(message.mid, message.qos)
        drained += len(messages)
    print("drained", flush=True)
    time.sleep(3600)  # it is looked at, and then ended


if __name__ == "__main__":
    broker, session, database, name, wanted = sys.argv[1:]
    asyncio.run(drain(broker, session, database, BY_NAME[name], int(wanted)))
