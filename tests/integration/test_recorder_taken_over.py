"""What a recorder that was killed leaves at the broker is nothing to the next one of its name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from ingest.load.record import Recorder
from ingest.load.rotation import Output
from ingest.settings import BrokerSettings, Settings
from tests.gateways import Message, publish
from tests.proxy import Proxy
from tests.unit.test_recording import read_all
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Mosquitto


def recorder(url: str, path: Path, topic: str) -> Recorder:
    broker = BrokerSettings(protocol="5", reconnect_min_s=0.05, reconnect_max_s=0.1, connect_timeout_s=5)
    return Recorder(
        Settings(broker_url=url, broker=broker),
        Output(path, folder=False, about={}),
        client_id="recorder-taken-over",
        topics=(topic,),
        most_messages=1,
    )


async def test_a_recorder_whose_first_connections_fail_subscribes_to_what_it_was_asked(
    broker: Mosquitto, topic: str, tmp_path: Path
) -> None:
    """Not only it, but its attempt to end the session that is there too."""
    path = tmp_path / "new.jsonl.gz"
    async with Proxy(broker.port) as proxy:
        url = f"mqtt://127.0.0.1:{proxy.port}"
        with capture_logs() as logged:
            killed = asyncio.create_task(recorder(url, tmp_path / "old.jsonl.gz", f"{topic}/old").run())
            await until(lambda: any(each["event"] == "broker_connected" for each in logged), "a session")
            proxy.refuse(refusing=True)
            killed.cancel()
            await asyncio.wait([killed])
        await publish(broker.port, [Message(f"{topic}/old", b"old")])
        with capture_logs() as logged:
            recording = asyncio.create_task(recorder(url, path, f"{topic}/new").run())
            await until(lambda: any(each["event"] == "broker_unavailable" for each in logged), "a failure")
            proxy.refuse(refusing=False)
            await until(lambda: any(each["event"] == "broker_connected" for each in logged), "a connection")
        await publish(broker.port, [Message(f"{topic}/old", b"later"), Message(f"{topic}/new", b"new")])
        async with asyncio.timeout(20):
            await recording
    assert [(each.topic, each.payload) for each in read_all(path)[0]] == [(f"{topic}/new", b"new")]
