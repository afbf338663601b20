"""What no worker can be faster than: the broker's delivery alone, and the database's COPY alone.

    python -m bench.limits URL CLIENT COUNT        reads, counts, acknowledges in blobs; decodes nothing

The drain is a process of its own; COPY gets rows that are packed already, in batches as large as the worker's
largest, over the connection of the benchmark.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from bench.contenders import Drained
from ingest.receive import answers_to
from ingest.receive.packets import PINGREQ, PINGRESP, PacketParser, answer_blob
from ingest.settings import Settings
from ingest.write.copy import copy_straight, parts
from tests.mqtt_packets import connect

if TYPE_CHECKING:
    from bench.contenders import Job

_ROOT: Final = Path(__file__).parents[1]
_READ_BYTES: Final = 262_144


async def socket_drain(job: Job) -> Drained:
    """Drain the whole backlog and store nothing."""
    count = len(job.backlog)
    done = subprocess.run(
        [sys.executable, "-m", "bench.limits", job.url, job.client_id, str(count)],
        cwd=_ROOT, check=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return Drained(count, float(done.stdout))


async def raw_copy(job: Job, packed: list[bytes]) -> Drained:
    """COPY the rows of the whole backlog, *packed*."""
    connection = job.target.connection
    size = Settings().write.max_batch_rows
    started_s = time.perf_counter()
    for start in range(0, len(packed), size):
        await copy_straight(connection, parts(packed[start : start + size]))
    return Drained(len(job.backlog), time.perf_counter() - started_s)


def drain(url: str, client_id: str, count: int, patience_s: float = 120.0) -> float:
    """Read and acknowledge *count* PUBLISHes; give the seconds from CONNECT to the last.

    Raises TimeoutError when nothing comes for *patience_s*.
    """
    parts = urlsplit(url)
    parser = PacketParser(mqtt5=False)
    started_s = time.perf_counter()
    with socket.create_connection((parts.hostname or "", parts.port or 1883), patience_s) as stream:
        stream.sendall(connect(client_id, clean=False))
        drained = 0
        while drained < count:
            deliveries, _ = parser.feed(_read(stream))
            if answers := answers_to(deliveries):
                stream.sendall(answer_blob(answers))
            drained += len(deliveries)
        seconds = time.perf_counter() - started_s
        # Once this is answered the broker has every acknowledgement.
        stream.sendall(PINGREQ)
        while PINGRESP not in parser.feed(_read(stream))[1]:
            pass
        return seconds


def _read(stream: socket.socket) -> bytes:
    data = stream.recv(_READ_BYTES)
    if not data:
        raise SystemExit("the broker closed the connection")
    return data


if __name__ == "__main__":
    broker, session, messages = sys.argv[1:]
    print(drain(broker, session, int(messages)))
