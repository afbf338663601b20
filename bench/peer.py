"""mq-bridge (PyPI) as a contender: one route from MQTT to the hypertable, by COPY.

    python -m bench.peer URL CLIENT DSN WORKLOAD

Configured for speed as its tuning page says: COPY instead of INSERT, batches of 8 192 (COPY "pays off from
roughly 8 000 rows"), acknowledgement after the write. It does less than the worker: no names are resolved
(greenhouse, tenant, type and unit are the columns' defaults), no limits and times are judged, no rejected
reading is kept, nothing is booked, and a redelivered reading ends its batch. Where readings come twice, COPY
would lose the batches that hold one; there it INSERTs with ON CONFLICT DO NOTHING.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final
from urllib.parse import urlsplit

from bench.backlog import FILTERS
from bench.workloads import BY_NAME, Workload

_BATCH: Final = 8_192
_AHEAD: Final = 65_536
"""Messages that a broker sends ahead at QoS 1, more than its window and the client's; at QoS 0 all there are.
With a shorter queue the route does not start: it takes none from it before the SUBACK, and that comes behind
them. A longer one than needed costs it memory and speed."""
_INSERT: Final = """
insert into iot.sensor_readings (time, value, sensor_id)
values (${payload:timestamp}, ${payload:value}, ${payload:sensor_id})
"""
_INSERT_NEW: Final = """
insert into iot.sensor_readings (time, value, sensor_id)
values (${payload:timestamp}::timestamptz, ${payload:value}, ${payload:sensor_id}::uuid)
on conflict do nothing
"""


def route(workload: Workload, url: str, client_id: str, dsn: str) -> dict[str, Any]:
    """Give the route's configuration. Pure."""
    broker = urlsplit(url)
    copies = not workload.duplicate_every
    return {
        "batch_size": _BATCH,
        "concurrency": 1,
        "startup_timeout_ms": 60_000,
        "input": {
            "mqtt": {
                "url": f"tcp://{broker.hostname}:{broker.port}",
                "topic": FILTERS[workload.shape],
                "client_id": client_id,
                "clean_session": False,
                "session_expiry_interval": 3600,
                "protocol": "v5" if workload.protocol == "5" else "v3",
                "qos": 1,
                "queue_capacity": _AHEAD if workload.qos else max(_AHEAD, workload.messages + 1),
                "max_inflight": 65_535,
            }
        },
        "output": {
            "sqlx": {
                "url": dsn,
                "table": "iot.sensor_readings",
                "insert_query": _INSERT if copies else _INSERT_NEW,
                "bulk_copy": copies,
                "max_connections": 2,
            }
        },
    }


def main() -> None:
    """Run the route until terminated."""
    from mq_bridge import Route  # noqa: PLC0415 (not where only the configuration is wanted)

    url, client_id, dsn, name = sys.argv[1:]
    made = Route.from_str(json.dumps(route(BY_NAME[name], url, client_id, dsn)))
    print("starting", flush=True)
    made.run()


if __name__ == "__main__":
    main()
