"""`ingest run`, `ingest check` and `ingest demo`: the worker, its surroundings, and a show of both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from ingest.commands.report import print_json, print_line, print_table
from ingest.observe.logs import configure

if TYPE_CHECKING:
    from ingest.commands.invocation import Invocation
    from ingest.settings import Settings


def run(invocation: Invocation) -> int:
    """Run the worker; it installs its own signal handlers and returns its exit code."""
    from ingest.configuration import unprotected  # noqa: PLC0415 (the demonstration needs none of it)

    settings = invocation.settings("metadata", "timeseries", worker=True)
    for exposure in unprotected(settings):
        structlog.get_logger().warning("connection_unprotected", detail=exposure)
    return asyncio.run(_run(settings))


async def _run(settings: Settings) -> int:
    """Run the worker; stop it when the DSNs turn out to be exchanged, for then it would wait for ever."""
    from ingest import worker  # noqa: PLC0415 (the other two commands need not import paho)
    from ingest.operate.exchange import watch  # noqa: PLC0415 (as above)

    working = asyncio.create_task(worker.run(settings))
    watching = asyncio.create_task(watch(settings))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await watching
        return await working
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


def check(invocation: Invocation, *, as_json: bool) -> int:
    """Print each check's result, and what is not protected. Returns 1 when a check is not ok."""
    from ingest.configuration import unprotected  # noqa: PLC0415 (as above)
    from ingest.operate.check import check as run_checks  # noqa: PLC0415 (as above)

    settings = invocation.settings("metadata", "timeseries")
    results = asyncio.run(run_checks(settings))
    good = all(result.ok for result in results)
    warnings = unprotected(settings)
    if as_json:
        checks = [{"name": each.name, "ok": each.ok, "detail": each.detail} for each in results]
        print_json({"ok": good, "checks": checks, "warnings": warnings})
    else:
        rows = [("ok" if each.ok else "FAILED", each.name, each.detail) for each in results]
        print_table(("", "check", "detail"), rows, empty="nothing was checked")
        for warning in warnings:
            print_line(f"warning: {warning}")
    return 0 if good else 1


def demo(
    invocation: Invocation, *, keep: bool, gateways: int, seed: int, messages: int, as_json: bool
) -> int:
    """Run the demonstration; needs no configuration and no server."""
    from ingest.demo import run_demo  # noqa: PLC0415 (as above)

    configure("debug" if invocation.debug else "warning")
    return asyncio.run(run_demo(keep=keep, gateways=gateways, seed=seed, messages=messages, as_json=as_json))
