"""`--report` of simulate and replay as an operator has it: a page with what the database holds."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ingest.load.page import number
from ingest.load.report import render
from tests.acceptance.command_line import CommandLine, report
from tests.acceptance.workers import WorkerProcess
from tests.browser import Browser
from tests.outline import Outline
from tests.unit.measured_example import measured
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Mosquitto


PHONE = (360, 740)
TOO_WIDE = f"""
    [...document.querySelectorAll("body *")]
        .filter((each) => !each.closest(".table *") && each.getBoundingClientRect().right > {PHONE[0]})
        .map((each) => each.outerHTML.slice(0, 100))
"""
"""What stands in a table may be scrolled to."""
COLOURS = """
    ["body", ".chart .ground", ".chart text", ".chart .line"]
        .map((each) => getComputedStyle(document.querySelector(each)))
        .map((each) => [each.backgroundColor, each.fill, each.stroke].join())
"""


@pytest.fixture
def ingest(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def headings(page: str) -> list[str]:
    return [part.partition("</h2>")[0] for part in page.split("<h2>")[1:]]


def cells(page: str, caption: str) -> list[list[str]]:
    """Give the rows of the table with *caption*."""
    begin = page.index(f"<caption>{caption}</caption>")
    body = page[page.index("<tbody>", begin) : page.index("</tbody>", begin)]
    return [[cell.partition("</td>")[0] for cell in row.split("<td>")[1:]] for row in body.split("<tr>")[1:]]


async def test_a_simulated_day_replayed_and_verified_is_on_the_page_as_the_table_has_it(
    ingest: CommandLine, plain_dsn: str, broker: Mosquitto, tmp_path: Path
) -> None:
    start = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    simulated = ("--gateways", "8", "--interval", "60", "--duration", "7200", "--start", start)
    options = ("--output", "day.jsonl.gz", "--catalog", "catalog.json", "--report", "simulated.html")
    done = await asyncio.to_thread(lambda: ingest("simulate", *simulated, *options, "--json"))
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "simulated.html").read_text()
    Outline(page)
    assert headings(page) == ["Account", "Readings by sensor type", "A day of each sensor type"]
    said = {name: int(count.replace(",", "")) for name, count, _ in cells(page, "Readings by sensor type")}

    ingest.environment |= {
        "INGEST_BROKER_URL": broker.url,
        "INGEST_TIMESERIES_DSN": plain_dsn,
        "INGEST_METADATA_DSN": plain_dsn,
    }
    done = await asyncio.to_thread(lambda: ingest("catalog", "import", "catalog.json"))
    assert done.returncode == 0, done.stderr
    filters = ["greenhouse/+/sensors/+", "greenhouse/+/readings", "GREENHOUSE/#"]
    worker = WorkerProcess(tmp_path, broker_url=broker.url, dsn=plain_dsn, filters=filters)
    with worker:
        await worker.ready()
        replay = ("replay", "day.jsonl.gz", "--fast", "--verify", "--report", "replayed.html", "--json")
        done = await asyncio.to_thread(lambda: ingest(*replay))
        assert done.returncode == 0, done.stderr
        await worker.stop()
    page = (tmp_path / "replayed.html").read_text()
    Outline(page)
    assert headings(page) == [
        "Account",
        "Rate over time",
        "Latency",
        "Rows by sensor type",
        "A day of each sensor type",
    ]
    account = {name: count for name, count, _ in cells(page, "The account")}
    assert account["landed once"] == f"{report(done)['verify']['landed_once']:,}"
    assert account["missing"] == "0"
    latency = dict(cells(page, "From PUBLISH to PUBACK"))
    assert number(report(done)["puback_p50_ms"]) == latency["p50"]
    connection = await asyncpg.connect(plain_dsn)
    try:
        counted = await connection.fetch(
            "select t.name, count(*) as rows from iot.sensor_readings as r"
            " join iot.sensor_types as t on t.id = r.sensor_type_id group by t.name"
        )
    finally:
        await connection.close()
    rows = {record["name"]: record["rows"] for record in counted}
    shown = {name: int(count.replace(",", "")) for name, count, _ in cells(page, "Rows by sensor type")}
    assert shown == rows
    assert said.keys() >= rows.keys()
    assert said["TEMPERATURE"] >= rows["TEMPERATURE"] > 900, "what a gateway sent twice is one row"
    days = page.partition("A day of each sensor type</h2>")[2]
    for name in rows:
        assert f"<caption>{name}, " in days


def test_what_is_published_is_on_the_page_with_rate_and_latency(
    ingest: CommandLine, broker: Mosquitto, tmp_path: Path
) -> None:
    simulate = ("simulate", "--gateways", "4", "--interval", "1", "--duration", "60", "--speed", "60")
    done = ingest(*simulate, "--broker", broker.url, "--report", "live.html", "--json")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "live.html").read_text()
    Outline(page)
    assert {"Rate over time", "Latency", "Readings by sensor type"} <= set(headings(page))
    latency = dict(cells(page, "From PUBLISH to PUBACK"))
    assert float(latency["max"].replace(",", "")) > 0
    assert [number(report(done)[f"puback_{share}_ms"]) for share in ("p50", "p99")] == [
        latency["p50"],
        latency["p99"],
    ]
    assert dict(row[:2] for row in cells(page, "The account"))["acknowledged by the broker"] == (
        f"{report(done)['acknowledged']:,}"
    )


def test_a_page_that_cannot_be_written_is_said_before_anything_is_done(
    ingest: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("folder", "nowhere/x.html"):
        done = ingest("simulate", "--output", "x.jsonl.gz", "--duration", "1", "--report", name)
        assert done.returncode == 2
        assert f"--report: {name}" in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


async def test_a_page_fits_a_telephone_and_a_dark_room_and_complains_of_nothing(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(measured()))
    colours = []
    async with Browser() as browser:
        for scheme in ("light", "dark"):
            await browser.size(*PHONE, phone=True)
            await browser.prefer(prefers_color_scheme=scheme)
            await browser.open(page.as_uri())
            await until_loaded(browser)
            assert await browser.evaluate(TOO_WIDE) == []
            colours.append(await browser.evaluate(COLOURS))
        assert browser.complaints == []
    assert all(light != dark for light, dark in zip(*colours, strict=True)), colours


async def until_loaded(browser: Browser) -> None:
    async def loaded() -> bool:
        return bool(
            await browser.evaluate("document.readyState === 'complete' && !!document.querySelector('footer')")
        )

    await until(loaded, "the page is loaded")
