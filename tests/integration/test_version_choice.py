"""MQTT 5 is spoken with a broker that speaks it though something hung up once, and 3.1.1 with an old one.

The worker's link, a fleet and a recorder, each before a real Mosquitto behind what hangs up on some CONNECTs.
"""

from __future__ import annotations

import asyncio
import contextlib
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

import pytest
from structlog.testing import capture_logs

from ingest.addresses import broker_address
from ingest.load.gateways import Fleet
from ingest.load.record import Recorder
from ingest.load.rotation import Output
from ingest.settings import BrokerSettings, Settings
from tests.integration.committing import committing
from tests.proxy import Proxy
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from ingest.load.recording import Recorded
    from tests.servers import Mosquitto

LEVEL_AT = 8
"""Where a CONNECT of less than 128 bytes has its version (MQTT 3.1.2)."""


class Front(Proxy):
    """Stands before a broker; remembers the version of each CONNECT, and hangs up on some."""

    def __init__(self, target_port: int, *, hangs_up: Callable[[int, int], bool]) -> None:
        """Hang up where *hangs_up* says so of a CONNECT: the how manieth it is, and its version."""
        super().__init__(target_port)
        self.asked: list[int] = []
        """The versions so far: 4 is 3.1.1."""
        self.hangs_up = hangs_up

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        data = await super()._read(reader)
        if data[2:LEVEL_AT] != b"\x00\x04MQTT":
            return data
        self.asked.append(data[LEVEL_AT])
        return b"" if self.hangs_up(len(self.asked), data[LEVEL_AT]) else data

    def turns(self) -> list[int]:
        """Give what it was asked for, each version once as long as there was no other.

        A recorder connects once more, to end an earlier one's session.
        """
        return [version for version, _ in groupby(self.asked)]


Speaks: TypeAlias = "Callable[[str, str], AbstractAsyncContextManager[None]]"


BROKER = BrokerSettings(reconnect_min_s=0.05, reconnect_max_s=0.1, connect_timeout_s=5)


@pytest.fixture(params=["link", "fleet", "recorder"])
def speaks(request: pytest.FixtureRequest) -> Speaks:
    """Who keeps a connection to a URL, for a topic, as long as the block lasts."""
    one: Speaks = request.getfixturevalue(request.param)
    return one


@pytest.fixture
def link(timeseries_dsn: str) -> Speaks:
    @contextlib.asynccontextmanager
    async def speaking(url: str, topic: str) -> AsyncIterator[None]:
        async with committing(timeseries_dsn, url, topic) as committer:
            await until(lambda: committer.link.trouble is None)
            yield

    return speaking


@pytest.fixture
def fleet() -> Speaks:
    @contextlib.asynccontextmanager
    async def speaking(url: str, topic: str) -> AsyncIterator[None]:
        one: Fleet[Recorded] = Fleet(broker_address(url), BROKER, [topic[-12:]])
        async with one:
            yield

    return speaking


@pytest.fixture
def recorder(tmp_path: Path) -> Speaks:
    @contextlib.asynccontextmanager
    async def speaking(url: str, topic: str) -> AsyncIterator[None]:
        output = Output(tmp_path / "a.jsonl.gz", folder=False, about={})
        settings = Settings(broker_url=url, broker=BROKER)
        one = Recorder(settings, output, client_id=topic[-12:], topics=(topic,))
        with capture_logs() as lines:
            running = asyncio.create_task(one.run())
            await until(lambda: any(line["event"] == "broker_connected" for line in lines))
            yield
            one.end("signal")
            await running

    return speaking


async def test_a_broker_that_is_being_restarted_is_spoken_to_in_5(
    speaks: Speaks, broker: Mosquitto, topic: str
) -> None:
    async with (
        Front(broker.port, hangs_up=lambda number, _: number == 1) as front,
        speaks(front.url(broker.url), topic),
    ):
        assert front.turns() == [5, 4, 5]
        before = len(front.asked)
        front.hangs_up = lambda number, _: number <= before + 2  # restarted again
        front.cut()
        await until(lambda: len(front.asked) == before + 3)
        assert front.turns() == [5, 4, 5]


async def test_a_broker_that_hangs_up_on_5_is_served_in_3_1_1(
    speaks: Speaks, broker: Mosquitto, topic: str
) -> None:
    async with (
        Front(broker.port, hangs_up=lambda _, version: version == 5) as front,
        speaks(front.url(broker.url), topic),
    ):
        assert front.turns() == [5, 4, 5, 4]
        before = len(front.asked)
        front.cut()
        await until(lambda: len(front.asked) == before + 1)
        assert front.turns() == [5, 4, 5, 4]
