"""The page as a person sees it: a real worker, broker and messages, in Chromium at a phone's size."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.acceptance.conftest import Greenhouse
from tests.browser import Browser
from tests.gateways import Message, publish
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.conftest import WorkerMaker
    from tests.acceptance.workers import WorkerProcess
    from tests.servers import Mosquitto

PAGE_ON = {"observe": {"http_page": True}}
PHONE = (360, 740)
EVIL = "<img src=x onerror=alert(1)>"
TOO_WIDE = f"""
    [document.documentElement, ...document.body.querySelectorAll("*:not(.hidden-text)")]
        .filter((each) => Math.max(each.scrollWidth, each.getBoundingClientRect().right) > {PHONE[0]})
        .map((each) => each.outerHTML.slice(0, 100))
"""
"""Not innerWidth: a phone zooms out until everything fits."""
LINES = "[...document.querySelectorAll('figure .line')].map((each) => each.getAttribute('d'))"
INJECTED = """
    (() => {
        const script = document.createElement("script");
        try { script.text = "window.injected = true"; document.body.append(script); } catch { }
        const button = document.createElement("button");
        try { button.setAttribute("onclick", "window.injected = true"); button.click(); } catch { }
        try { document.body.innerHTML = "<p>"; return "parsed"; } catch { }
        return window.injected ? "run" : "refused";
    })()
"""
NAMELESS = """
    [...document.querySelectorAll("[role=img], section, table, figure, a")]
        .filter((each) => !(each.ariaLabel || each.innerText || each.getAttribute("aria-labelledby")))
        .map((each) => each.outerHTML.slice(0, 100))
"""


async def address_of(worker: WorkerProcess) -> str:
    await worker.ready()
    return f"http://127.0.0.1:{worker.events('http_listening')[0]['port']}/"


async def publish_until(
    enough: asyncio.Event, greenhouse: Greenhouse, broker: Mosquitto, numbers: Iterator[int]
) -> None:
    """Publish what a greenhouse does, four times a second: two thermometers, and one that is disconnected."""
    topic = f"greenhouse/{greenhouse.greenhouse_id}/sensors/temperature"
    for number in numbers:
        if enough.is_set():
            return
        values = {"T1": 20 + number % 3, "T2": 22 + number % 3, "LOOSE": 6484.1}
        payloads = [{"sensor_id": sensor, "value": value} for sensor, value in values.items()]
        await publish(broker.port, [Message(topic, json.dumps(each).encode()) for each in payloads])
        await asyncio.sleep(0.25)


async def test_a_phone_shows_what_a_worker_does_and_that_it_is_gone(
    plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    greenhouse = Greenhouse(plain_dsn)
    greenhouse.code = EVIL
    await greenhouse.register()
    worker = worker_of(greenhouse, plain_dsn, broker.url, settings=PAGE_ON)
    address = await address_of(worker)
    enough, numbers = asyncio.Event(), itertools.count()
    publishing = asyncio.create_task(publish_until(enough, greenhouse, broker, numbers))
    async with Browser() as browser:
        await browser.size(*PHONE, phone=True)
        await browser.prefer(prefers_color_scheme="dark")
        await browser.open(address)

        async def shows(selector: str, text: str) -> bool:
            return text in await browser.text(selector)

        async def moves(figure: str) -> bool:
            shown = await browser.text(f"#{figure}")
            return shown.endswith("/s") and float(shown.split()[0]) > 0

        await until(lambda: shows("#rejections-note", "out_of_range"), "a rejection shows")
        await until(lambda: shows("#greenhouses tbody tr", "2 sensors"), "two thermometers show")
        assert await browser.text("#status") == "ready"
        for figure in ("rate", "batches", "rejections"):
            await until(partial(moves, figure), f"{figure} is not zero")
        assert "in flight" in await browser.text("#lag-note")
        lines = await browser.evaluate(LINES)
        assert len(lines) == 4
        assert all(line.startswith("M") for line in lines)
        assert await browser.text("h3") == f"{EVIL} {greenhouse.prefix}"
        assert await browser.evaluate("document.querySelectorAll('img').length") == 0
        row = await browser.text("#greenhouses tbody tr")
        assert row.startswith("TEMPERATURE")
        mean = re.search(r"([\d.]+)\u00a0°C", row)
        assert mean is not None, row
        assert 20 <= float(mean[1]) <= 24, "without the one that is disconnected"
        assert await browser.evaluate(TOO_WIDE) == []
        assert await browser.evaluate(NAMELESS) == []
        ground = await browser.evaluate("getComputedStyle(document.body).backgroundColor")
        await browser.prefer(prefers_color_scheme="light")
        assert await browser.evaluate("getComputedStyle(document.body).backgroundColor") != ground
        assert (await browser.call("Network.getCookies"))["cookies"] == []
        assert browser.complaints == []
        assert await browser.evaluate(INJECTED) == "refused"
        assert browser.complaints, "and it complains of that"

        enough.set()
        await publishing
        broker.stop()
        await until(lambda: shows("#reasons", "broker: "), "it says why the worker is not ready")
        assert await browser.text("#status") == "not ready"
        await worker.stop()
        await until(lambda: shows("#gone", "The worker does not answer."), "it says that nobody answers")
        assert " ago, at " in await browser.text("#gone-since")
        assert await browser.text("#status") == "no answer"
        assert await browser.evaluate(TOO_WIDE) == []
    worker.never_traced_back()


async def test_a_supervisor_shows_the_conditions_that_its_workers_heard(
    plain_dsn: str, broker: Mosquitto, worker_of: WorkerMaker
) -> None:
    greenhouse = Greenhouse(plain_dsn)
    await greenhouse.register()
    supervisor = worker_of(greenhouse, plain_dsn, broker.url, settings={**PAGE_ON, "workers": {"count": 2}})
    await supervisor.ready()
    topic = f"greenhouse/{greenhouse.greenhouse_id}/sensors/humidity"
    payloads = [{"sensor_id": f"H{number}", "value": 50 + number} for number in range(10)]
    await publish(broker.port, [Message(topic, json.dumps(each).encode()) for each in payloads])
    states: list[dict[str, Any]] = []

    async def has_all() -> bool:
        status, body = await supervisor.get("/page.json")
        assert status == 200
        state = json.loads(body)
        states.append(state)
        return (state["numbers"]["ingest_readings_total"]["written"], state["conditions"]["of"]) == (10, 1)

    await supervisor.until(has_all, "readings and conditions are on the page")
    assert states[-1]["numbers"]["ingest_workers"] == 2
    (shown,) = states[-1]["conditions"]["shown"]
    assert (shown["greenhouse"], shown["sensor_type"], shown["unit"]) == (greenhouse.code, "HUMIDITY", "%")
    assert 50 <= shown["least"] <= shown["value"] <= shown["greatest"] < 60
    await supervisor.stop()
    supervisor.never_traced_back()
