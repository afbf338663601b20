"""Fixtures of the writer's tests (a plain PostgreSQL with the schema) and the session's (a Mosquitto)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.batches import WriterUnderTest
from tests.mqtt_client import Client, Transport
from tests.servers import Mosquitto, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from ingest.receive import MqttVersion
    from tests.certificates import Authority

Connection = asyncpg.Connection


@pytest.fixture
async def connection(timeseries_dsn: str) -> AsyncIterator[Connection]:
    """The test's own connection to a database with the timeseries schema."""
    opened = await asyncpg.connect(timeseries_dsn)
    yield opened
    await opened.close()


@pytest.fixture
async def writer(timeseries_dsn: str) -> AsyncIterator[WriterUnderTest]:
    async with WriterUnderTest(timeseries_dsn) as made:
        yield made


@pytest.fixture
async def client_of() -> AsyncIterator[Callable[..., Client]]:
    made: list[Client] = []

    def make(url: str, version: MqttVersion = "5", **settings: object) -> Client:
        made.append(Client(url, version, settings))
        return made[-1]

    yield make
    for client in made:
        client.session.abort()


@pytest.fixture(scope="module")
def ports() -> dict[Transport, int]:
    return {"mqtts": free_port(), "ws": free_port(), "wss": free_port()}


@pytest.fixture(scope="module")
def broker(authority: Authority, ports: dict[Transport, int]) -> Iterator[Mosquitto]:
    """One broker with a plain listener, and one each for TLS (client certificate wanted), ws and wss."""
    certificate, key = authority.issue("broker")
    tls = f"certfile {certificate}\nkeyfile {key}"
    settings: dict[str, str | int] = {
        "max_inflight_messages": 0,
        "listener": f"{ports['mqtts']} 127.0.0.1\n{tls}\ncafile {authority.certificate}\n"
        f"require_certificate true\n"
        f"listener {ports['ws']} 127.0.0.1\nprotocol websockets\n"
        f"listener {ports['wss']} 127.0.0.1\nprotocol websockets\n{tls}",
    }
    with Mosquitto(settings=settings) as mosquitto:
        yield mosquitto


@pytest.fixture
def topic() -> str:
    return f"test/{uuid.uuid4().hex}"
