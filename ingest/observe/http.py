"""The worker's own HTTP port: GET /metrics, /healthz, /readyz, the page if it is on, and nothing else.

A server of a few read-only pages in the worker's event loop, so that a probe also proves the loop
turns. Every request is bounded in bytes, time and number; each connection answers one request and
closes. No TLS, no authentication: it binds the loopback unless the settings say otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from prometheus_client.exposition import choose_encoder

from ingest.addresses import is_loopback
from ingest.errors import ConfigurationError
from ingest.observe.page import Page
from ingest.observe.terminal import json_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prometheus_client import CollectorRegistry

    from ingest.quality import Conditions
    from ingest.settings import ObserveSettings

MAX_HEAD_BYTES = 8192
"""Request line and headers; what nginx and Apache allow for one line, and a probe sends 200 bytes."""

MAX_CONNECTIONS = 32
"""A scraper and two probes need three. One more, and the oldest is closed unanswered: who opens connections
and says nothing uses up no descriptors, and keeps no probe out."""

REQUEST_TIMEOUT_S = 5.0
"""For the request to arrive, and again for the answer to leave; probes give up sooner."""

LINGER_TIMEOUT_S = 1.0
"""For the rest of a request that was refused unread: closing on it would reset the answer away."""

LINGER_READS = 128
"""And so many reads of it, 1 MiB at most: a peer that never ends must not keep the event loop busy."""

_UNREAD = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
)
"""Answers that may leave a part of the request unread."""

_JSON = "application/json; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Health:
    """`live`: the process works at all. `reasons`: why it is not ready, empty when it is."""

    live: bool = True
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    content_type: str
    body: bytes
    headers: tuple[str, ...] = ()


class HttpServer:
    """Serves the metrics of *registry*, and *health* (asked at each request, must not block), on one port.

    /metrics is OpenMetrics 1.0 for a scraper whose Accept header names it, as Prometheus' does; its text
    format for the others. The *page* answers on loopback names alone: else a website whose own name leads to
    127.0.0.1 could have its visitor's browser read it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        health: Callable[[], Health],
        page: Page | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._registry = registry
        self._health = health
        self._own_page = page
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        """Oldest first. Ended by cutting them, not by cancelling: asyncio would log that as an error."""
        self._log = structlog.get_logger()

    @property
    def port(self) -> int:
        """The port listened on: the one the system chose when 0 was asked for."""
        if self._server is None:
            return self._port
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises ConfigurationError when the port cannot be had."""
        try:
            self._server = await asyncio.start_server(
                self._serve, self._host, self._port, limit=MAX_HEAD_BYTES
            )
        except OSError as error:
            text = f"{self._host}:{self._port} cannot be listened on: {error.strerror or error}"
            raise ConfigurationError(
                [f"observe.http_port: {text}; choose another, 0 for any free one, or off"]
            ) from error

    async def stop(self) -> None:
        """Close the port and every open connection; returns when they are closed."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for writer in self._connections.values():
            writer.transport.abort()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:  # asyncio runs this callback as a task of its own
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            oldest = next(iter(self._connections))
            self._connections.pop(oldest).transport.abort()
        self._connections[task] = writer
        try:
            # A peer that breaks off, or says nothing for too long, gets no answer and no log line.
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self._connections.pop(task, None)
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # a peer that reads nothing would keep the descriptor for ever
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, answer = await self._asked(reader)
        head = _head(answer)
        writer.transport.set_write_buffer_limits(0)  # drained means: handed to the system
        writer.write(head if method == "HEAD" else head + answer.body)
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            await writer.drain()
        if answer.status in _UNREAD:
            writer.write_eof()
            async with asyncio.timeout(LINGER_TIMEOUT_S):
                for _ in range(LINGER_READS):
                    if not await reader.read(MAX_HEAD_BYTES):
                        break

    async def _asked(self, reader: asyncio.StreamReader) -> tuple[str, _Answer]:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return "GET", _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        request_line, *fields = head.decode("latin-1").split("\r\n")
        match request_line.split(" "):
            case [method, target, "HTTP/1.1" | "HTTP/1.0"] if method in {"GET", "HEAD"}:
                return method, self._page(target.partition("?")[0], fields)
            case [_, _, "HTTP/1.1" | "HTTP/1.0"]:
                return "GET", _plain(HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET, HEAD")
            case _:
                return "GET", _plain(HTTPStatus.BAD_REQUEST)

    def _page(self, path: str, fields: Sequence[str]) -> _Answer:
        try:
            match path:
                case "/metrics":
                    encode, content_type = choose_encoder(",".join(_said(fields, "accept")))
                    return _Answer(HTTPStatus.OK, content_type, encode(self._registry))
                case "/healthz":
                    live = self._health().live
                    return _report(ok=live, report={"live": live})
                case "/readyz":
                    health = self._health()
                    ready = health.live and not health.reasons
                    return _report(ok=ready, report={"ready": ready, "reasons": health.reasons})
                case "/" | "/page.json" if self._own_page is not None:
                    return _of_page(self._own_page, path, _said(fields, "host"))
                case _:
                    return _plain(HTTPStatus.NOT_FOUND)
        except Exception:  # noqa: BLE001 (a page that fails must say 500, and must not end the worker)
            self._log.exception("http_page_failed", path=path)
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR)


async def serve(
    observe: ObserveSettings,
    registry: CollectorRegistry,
    health: Callable[[], Health],
    conditions: Callable[[], Conditions | None],
) -> HttpServer | None:
    """Start the server that the settings ask for; None where they say off. Raises as `HttpServer.start`.

    *conditions* is asked while somebody looks at the page.
    """
    if observe.http_port is None:
        return None
    page = Page(registry, health, conditions) if observe.http_page else None
    server = HttpServer(observe.http_host, observe.http_port, registry, health, page)
    await server.start()
    structlog.get_logger().info("http_listening", host=observe.http_host, port=server.port)
    return server


def _of_page(page: Page, path: str, hosts: Sequence[str]) -> _Answer:
    if not _is_local(hosts):
        return _plain(HTTPStatus.MISDIRECTED_REQUEST)
    if path == "/":
        return _Answer(HTTPStatus.OK, _HTML, page.html, page.headers)
    return _report(ok=True, report=page.state())


def _said(fields: Sequence[str], name: str) -> list[str]:
    """Give what the request's fields of this *name* say, in order."""
    split = (each.partition(":") for each in fields)
    return [value.strip() for said, _, value in split if said.strip().lower() == name]


def _is_local(hosts: Sequence[str]) -> bool:
    """Tell whether a request's Host is one loopback name, any port: there may be a tunnel in front."""
    if len(hosts) != 1:
        return False
    host, colon, port = hosts[0].rpartition(":")
    if not colon or "]" in port:  # no port; the colon is within an IPv6 address
        host = hosts[0]
    return is_loopback(host)


def _report(*, ok: bool, report: dict[str, object]) -> _Answer:
    status = HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE
    return _Answer(status, _JSON, f"{json_line(report)}\n".encode())


def _plain(status: HTTPStatus, *headers: str) -> _Answer:
    return _Answer(status, _TEXT, f"{status.phrase}\n".encode(), headers)


def _head(answer: _Answer) -> bytes:
    lines = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        *answer.headers,
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")
