"""An MQTT broker without a server: rumqttd from the wheel `iotcore`, in a process of its own.

Owns that process and its configuration file. rumqttd cannot be stopped from within, hence the process:
`python -m ingest.embedded.broker CONFIG`. It listens on 127.0.0.1 only, one port for MQTT 3.1.1 and one
for MQTT 5, keeps sessions in memory and forgets them when it ends. For demonstrations and tests only.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

from ingest.embedded.child import Child
from ingest.embedded.server import EmbeddedServer
from ingest.errors import EmbeddedError

# The largest PUBLISH taken, in bytes: four times what the worker takes by default.
MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
# Unacknowledged messages on their way to one subscriber. rumqttd takes no more, whatever the number here or
# the Receive Maximum of an MQTT 5 client: measured, 100 arrived of 20 000 while none was acknowledged.
MAX_INFLIGHT = 100
# rumqttd keeps a log for each filter, in segments, and drops the oldest segment when there are too many. This
# makes 1 GiB; 120 000 messages of 256 bytes, published with no subscriber connected, all arrived later.
MAX_SEGMENT_BYTES = 16 * 1024 * 1024
MAX_SEGMENTS = 64

CONFIGURATION = """\
id = 0

[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 1000
max_segment_size = {segment_bytes}
max_segment_count = {segments}
"""

LISTENER = """
[{version}.1]
name = "{version}"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1

[{version}.1.connections]
connection_timeout_ms = 10000
max_payload_size = {payload_bytes}
max_inflight_count = {inflight}
dynamic_filters = true
"""


class EmbeddedBroker(EmbeddedServer):
    """An MQTT broker on 127.0.0.1; ports 0 take free ones. ``async with`` or, without a loop, ``with``."""

    def __init__(self, port: int = 0, port_v5: int = 0) -> None:
        super().__init__("the embedded broker")
        self._ports = (port, port_v5)
        self._bound = (0, 0)

    @property
    def url(self) -> str:
        """Where MQTT 3.1.1 is spoken; rumqttd has a port for each version."""
        self._running()
        return f"mqtt://127.0.0.1:{self._bound[0]}"

    @property
    def url_v5(self) -> str:
        """Where MQTT 5 is spoken."""
        self._running()
        return f"mqtt://127.0.0.1:{self._bound[1]}"

    def _started(self) -> Child:
        if importlib.util.find_spec("iotcore") is None:
            raise EmbeddedError(
                "the embedded broker needs iotcore, which is not installed: "
                "pip install 'greenhouse-ingest[embedded]'"
            )
        ports = _free_ports(self._ports)
        with tempfile.TemporaryDirectory(prefix="greenhouse-broker-") as directory:
            config = Path(directory) / "rumqttd.toml"
            config.write_text(_configuration(ports), encoding="utf-8")
            command = [sys.executable, "-m", "ingest.embedded.broker", str(config), *map(str, ports)]
            # The child finds this package and the wheel where this process found them.
            path = os.pathsep.join(entry or os.curdir for entry in sys.path)
            child = Child(self._what, command, {**os.environ, "PYTHONPATH": path})
            child.start()  # it has read the file when it is ready
        self._bound = ports
        return child


def _configuration(ports: tuple[int, int]) -> str:
    head = CONFIGURATION.format(segment_bytes=MAX_SEGMENT_BYTES, segments=MAX_SEGMENTS)
    limits = {"payload_bytes": MAX_PAYLOAD_BYTES, "inflight": MAX_INFLIGHT}
    listeners = (
        LISTENER.format(version=version, port=port, **limits)
        for version, port in zip(("v4", "v5"), ports, strict=True)
    )
    return head + "".join(listeners)


def _free_ports(wanted: tuple[int, int]) -> tuple[int, int]:
    """Bind each port, 0 meaning any, and let go of it: rumqttd takes numbers, not sockets."""
    with socket.socket() as first, socket.socket() as second:
        for probe, port in zip((first, second), wanted, strict=True):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise EmbeddedError(
                    f"the embedded broker cannot listen on 127.0.0.1:{port}: {error.strerror}; give another "
                    "port, or 0 for a free one",
                ) from error
        return first.getsockname()[1], second.getsockname()[1]


def _serve(config: str, ports: list[int]) -> None:
    """Run the broker in this process until standard input closes."""
    from iotcore import IotCoreBroker  # noqa: PLC0415 -- starts Rust threads; only this process wants them

    # rumqttd logs a span at ERROR for every packet; its own errors come as exceptions.
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threading.Thread(target=_say_ready, args=(ports,), daemon=True).start()
    IotCoreBroker(config_path=config).run_forever()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _say_ready(ports: list[int]) -> None:
    for port in ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.02)  # nothing tells when a listener of rumqttd is up
            else:
                break
    sys.stdout.write(json.dumps({"ready": True, "ports": ports}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve(sys.argv[1], [int(port) for port in sys.argv[2:]])
