"""Publishes single readings at a steady rate, each at its own moment, and says when each was due.

    python -m bench.steady URL RATE COUNT GREENHOUSE SENSOR     prints the moment of the first, s since 1970

Message number n is due n / RATE seconds after the first. One that goes out late counts as if it had not: the
wait is the sender's fault only if this process got no CPU, and a latency measured from a late send would hide
what it waited for.
"""

from __future__ import annotations

import json
import sys
import time

from bench.backlog import connected
from bench.workloads import iso
from tests.mqtt_packets import DISCONNECT, packet_id, publish

_AHEAD_S = 0.0002
"""Nearer moments are waited for in a loop: sleeping is no more exact than this."""


def main() -> None:
    """Publish at QoS 1; the broker's acknowledgements are read at the end."""
    url, rate, count, greenhouse, sensor = sys.argv[1:]
    every_s = 1 / float(rate)
    topic = f"greenhouse/{greenhouse}/sensors/temperature"
    with connected(url, "bench-steady", clean=True) as stream:
        first_s = time.time() + 0.2
        print(first_s, flush=True)
        for index in range(int(count)):
            due_s = first_s + index * every_s
            reading = {
                "sensor_id": sensor,
                "value": index % 1000 / 10,
                "unit": "°C",
                "timestamp": iso(int(due_s * 1e6)),
            }
            payload = json.dumps(reading, ensure_ascii=False).encode()
            packet = publish(topic, payload, qos=1, packet_id=packet_id(index))
            while (wait_s := due_s - time.time()) > 0:
                if wait_s > _AHEAD_S:
                    time.sleep(wait_s - _AHEAD_S)
            stream.sendall(packet)
        heard = 0
        while heard < 4 * int(count):
            heard += len(stream.recv(262_144))
        stream.sendall(DISCONNECT)


if __name__ == "__main__":
    main()
