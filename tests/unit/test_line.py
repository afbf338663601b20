"""The line from a worker to its supervisor: it reports, it is asked to leave, and it outlives neither end."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from ingest.quality import Condition, Conditions
from ingest.workers import line as line_module
from ingest.workers.line import Line, Report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

READY = Report(subscribed=True, reasons=[], metrics=[])
SHOWN = Condition("Sara", "01", "TEMPERATURE", "°C", 21.5, 20.0, 23.0, 2, 1_763_374_560_000_000)
WATCHED = READY._replace(conditions=Conditions([SHOWN], 7))


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "INTERVAL_S", 0.01)


@asynccontextmanager
async def working() -> AsyncIterator[tuple[socket.socket, Line, asyncio.Event]]:
    """Give the supervisor's end, the worker's, and what is set when that is asked to leave."""
    ours, theirs = socket.socketpair()
    line = Line(theirs.detach())
    asked = asyncio.Event()
    serving = asyncio.create_task(line.serve(lambda looks: WATCHED if looks else READY, asked.set))
    async with asyncio.timeout(10):
        yield ours, line, asked
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert serving.cancelled() or serving.exception() is None
    await line.close(Report(subscribed=False, reasons=["last"], metrics=[]))
    ours.close()


async def test_it_reports_until_its_end_and_is_asked_once_the_other_end_is_closed() -> None:
    async with working() as (ours, line, asked):
        reader, writer = await asyncio.open_connection(sock=ours)
        for _ in range(2):
            assert Report.of(await reader.readline()) == READY
        assert not asked.is_set()
        writer.write_eof()
        await asked.wait()
        for _ in range(2):
            assert Report.of(await reader.readline()) == READY, "it goes on while it leaves"
        await line.close(Report(subscribed=False, reasons=["last"], metrics=[]))
        *_, last = (await reader.read()).splitlines()
        assert Report.of(last).reasons == ["last"]
        writer.close()


async def test_it_says_the_last_conditions_for_a_while_after_somebody_looked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line_module, "WATCHED_S", 0.1)
    async with working() as (ours, _, asked):
        reader, writer = await asyncio.open_connection(sock=ours)
        assert Report.of(await reader.readline()) == READY
        writer.write(b"\n")
        while Report.of(await reader.readline()) != WATCHED:
            pass
        while Report.of(await reader.readline()) != READY:
            pass
        assert not asked.is_set()
        writer.close()


async def test_a_supervisor_that_is_gone_asks_it_to_leave() -> None:
    async with working() as (ours, _, asked):
        await asyncio.to_thread(ours.recv, 1)  # the rest stays unread: the worker's end is reset
        ours.close()
        await asked.wait()
        await asyncio.sleep(0.05)  # several reports that nobody hears


async def test_one_that_never_served_closes_its_end() -> None:
    ours, theirs = socket.socketpair()
    line = Line(theirs.detach())
    await line.close(READY)
    assert ours.recv(1) == b""
    ours.close()
