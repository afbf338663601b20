"""The HTTP port over real sockets: three pages, and everything else refused within its bounds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingest.errors import ConfigurationError
from ingest.observe import http
from ingest.observe.http import Health, HttpServer
from ingest.observe.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Surroundings:
    """A running server and the health it reports."""

    def __init__(self) -> None:
        self.health = Health()
        self.metrics = Metrics()
        self.server = HttpServer("127.0.0.1", 0, self.metrics.registry, lambda: self.health)

    async def send(self, request: bytes, *, end: bool = False) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            writer.write(request)
            if end:
                writer.write_eof()
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()

    async def get(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        answer = await self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return int(status.split(" ")[1]), headers, body


@pytest.fixture
async def worker() -> AsyncIterator[Surroundings]:
    surroundings = Surroundings()
    await surroundings.server.start()
    yield surroundings
    await surroundings.server.stop()


async def test_metrics_are_served_as_prometheus_text(worker: Surroundings) -> None:
    worker.metrics.messages(received=7)
    status, headers, body = await worker.get("/metrics?x=1")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert int(headers["Content-Length"]) == len(body)
    assert b'ingest_messages_total{outcome="received"} 7.0' in body


async def test_health_and_readiness(worker: Surroundings) -> None:
    assert (await worker.get("/healthz"))[::2] == (200, b'{"live":true}\n')
    assert (await worker.get("/readyz"))[::2] == (200, b'{"ready":true,"reasons":[]}\n')
    worker.health = Health(reasons=["not subscribed", "no commit for 61 s\x1b"])
    status, headers, body = await worker.get("/readyz")
    assert (status, headers["Content-Type"]) == (503, "application/json; charset=utf-8")
    assert json.loads(body) == {"ready": False, "reasons": ["not subscribed", "no commit for 61 s\x1b"]}
    assert (await worker.get("/healthz"))[0] == 200
    worker.health = Health(live=False)
    assert (await worker.get("/healthz"))[0] == 503
    assert (await worker.get("/readyz"))[0] == 503


async def test_head_has_the_headers_of_get_and_no_body(worker: Surroundings) -> None:
    _, expected, body = await worker.get("/readyz")
    status, headers, nothing = await worker.get("/readyz", "HEAD")
    assert (status, headers, nothing) == (200, expected, b"")
    assert int(headers["Content-Length"]) == len(body)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/ HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"get /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /metrics HTTP/2\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\xff\xfe\x00 \x00 \x00\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    ],
)
async def test_other_requests_are_refused(worker: Surroundings, request_bytes: bytes, status: int) -> None:
    answer = await worker.send(request_bytes)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert (await worker.get("/healthz"))[0] == 200


async def test_a_peer_that_says_nothing_or_breaks_off_gets_nothing(
    worker: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REQUEST_TIMEOUT_S", 0.05)
    assert await worker.send(b"GET /metrics HT") == b""
    assert await worker.send(b"GET", end=True) == b""
    assert (await worker.get("/healthz"))[0] == 200


async def test_one_connection_too_many_closes_the_oldest(worker: Surroundings) -> None:
    """So that nobody keeps the probes out by opening connections and saying nothing."""
    silent = [
        await asyncio.open_connection("127.0.0.1", worker.server.port) for _ in range(http.MAX_CONNECTIONS)
    ]
    try:
        for _ in range(2):
            assert (await worker.get("/healthz"))[0] == 200
        ended = [reader.at_eof() for reader, _ in silent]
        assert ended == [True, *[False] * (http.MAX_CONNECTIONS - 1)]
    finally:
        for _, writer in silent:
            writer.close()


async def test_a_request_that_trickles_in_is_ended_in_time(
    worker: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REQUEST_TIMEOUT_S", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.server.port)
    sent, answer = 0, b""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):  # a reset is an end, too
            while not reader.at_eof():
                writer.write(b"GET /metrics HTTP/1.1\r\n"[sent : sent + 1] or b"a: b\r\n")
                await writer.drain()
                sent += 1
                await asyncio.sleep(0.01)
            answer = await reader.read()
    assert answer == b""
    writer.close()


async def test_a_request_line_without_end_is_cut_off(worker: Surroundings) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.server.port)
    sent = 0
    with contextlib.suppress(OSError):
        async with asyncio.timeout(10):
            while not reader.at_eof():
                writer.write(b"GET /" + b"a" * 65_536)
                await writer.drain()
                sent += 65_536
    assert sent < 32 * 1024 * 1024, "a MiB is read, the rest is what the system buffers"
    writer.close()
    assert (await worker.get("/healthz"))[0] == 200


async def test_an_answer_nobody_reads_is_given_up(
    worker: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REQUEST_TIMEOUT_S", 0.3)
    worker.health = Health(reasons=["x" * 16_000_000])  # more than the system buffers
    with socket.create_connection(("127.0.0.1", worker.server.port)) as peer:
        before = open_descriptors()
        peer.sendall(b"GET /readyz HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(10):
            while open_descriptors() == before:  # noqa: ASYNC110 - the system tells nobody
                await asyncio.sleep(0.01)
            while open_descriptors() > before:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_page_that_fails_is_a_500_and_not_the_end(worker: Surroundings) -> None:
    def broken() -> float:
        raise RuntimeError("gone")

    worker.metrics.read_gauge("ingest_catalog_age_seconds", broken)
    assert (await worker.get("/metrics"))[0] == 500
    assert (await worker.get("/healthz"))[0] == 200


async def test_stopping_closes_open_connections() -> None:
    surroundings = Surroundings()
    await surroundings.server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", surroundings.server.port)
    await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        await surroundings.server.stop()
        assert await reader.read() == b""
    writer.close()
    await surroundings.server.stop()


async def test_a_taken_port_is_a_configuration_error(worker: Surroundings) -> None:
    port = worker.server.port
    with pytest.raises(
        ConfigurationError, match=rf"observe.http_port: 127.0.0.1:{port} cannot be listened on"
    ):
        await HttpServer("127.0.0.1", port, Metrics().registry, Health).start()
