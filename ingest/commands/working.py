"""`ingest run`, `ingest check` and `ingest demo`: the worker, its surroundings, and a show of both."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import structlog

from ingest.commands.report import print_json, print_line, print_table
from ingest.observe.logs import configure

if TYPE_CHECKING:
    from ingest.commands.invocation import Invocation
    from ingest.settings import Settings
    from ingest.workers.line import Line
    from ingest.workers.order import Order


def run(invocation: Invocation, *, workers: int | None) -> int:
    """Run the worker, or the supervisor of several; it handles signals itself, and gives its exit code."""
    from ingest.configuration import unprotected, variable_of  # noqa: PLC0415 (not needed by `demo`)

    if workers is not None:  # so it is judged with the other settings, and the workers have a group, too
        os.environ[variable_of("workers.count")] = str(workers)
    settings = invocation.settings("metadata", "timeseries", worker=True)
    for exposure in unprotected(settings):
        structlog.get_logger().warning("connection_unprotected", detail=exposure)
    if settings.share_group is None:
        return asyncio.run(_run(settings))
    from ingest.workers.supervisor import Supervisor  # noqa: PLC0415 (one worker needs none of it)

    supervisor = Supervisor(settings, config=settings.config_file, debug=invocation.debug)
    return asyncio.run(supervisor.run())


def run_member(invocation: Invocation, order: Order, line: int) -> int:
    """Run one of a supervisor's workers; *line* is the open file that it has to the supervisor."""
    from ingest.workers.line import Line  # noqa: PLC0415 (as above)
    from ingest.workers.order import settings_of  # noqa: PLC0415 (as above)

    settings = settings_of(invocation.settings("metadata", "timeseries", worker=True), order)
    structlog.contextvars.bind_contextvars(worker=order.client_id)
    return asyncio.run(_run(settings, Line(line), ending=order.ending))


async def _run(settings: Settings, line: Line | None = None, *, ending: bool = False) -> int:
    """Run the worker; stop it when the DSNs turn out to be wrong, for then it would wait for ever."""
    from ingest import worker  # noqa: PLC0415 (the other two commands need not import paho)
    from ingest.operate.exchange import watch  # noqa: PLC0415 (as above)

    working = asyncio.create_task(worker.run(settings, line, ending=ending))
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
