"""Writes docs/page.png: the page at a desk and on a phone, of a real worker at work.

    python -m docs.page_screenshot [SECONDS]

Starts Mosquitto, the embedded TimescaleDB and the worker on the loopback, registers the demonstration's
tenants, has five greenhouses publish for SECONDS (300: what the charts show), and looks at it in Chromium.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import random
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ingest.demo.fleet import CATALOG
from ingest.embedded.database import EmbeddedDatabase
from ingest.migrate import Database, migrate
from ingest.operate.catalog import import_catalog
from tests.acceptance.workers import WorkerProcess
from tests.browser import Browser
from tests.gateways import Message, publish
from tests.servers import Mosquitto

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET: Final = Path(__file__).with_name("page.png")
MOST_BYTES: Final = 150_000
FILTERS: Final = ["greenhouse/+/sensors/+", "greenhouse/+/readings", "GREENHOUSE/#"]
GREENHOUSES: Final = ("SARA/01", "SARA/02", "SARA/03", "HORTAMED/A1", "HORTAMED/A2")
DESK: Final = (700, 840)
PHONE: Final = (360, 840)
GAP: Final = 16
TICK_S: Final = 0.5
GROUND: Final = "#8a938b"
_SIDE_BY_SIDE: Final = """
(async (images, gap, ground) => {
    const bitmaps = await Promise.all(images.map(async (image) =>
        createImageBitmap(await (await fetch(`data:image/png;base64,${image}`)).blob())));
    const width = bitmaps.reduce((sum, each) => sum + each.width, gap * (bitmaps.length - 1));
    const canvas = new OffscreenCanvas(width, Math.max(...bitmaps.map((each) => each.height)));
    const context = canvas.getContext("2d");
    context.fillStyle = ground;
    context.fillRect(0, 0, canvas.width, canvas.height);
    bitmaps.reduce((left, each) => { context.drawImage(each, left, 0); return left + each.width + gap; }, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    let text = "";
    for (let at = 0; at < pixels.length; at += 4) text += String.fromCharCode(...pixels.slice(at, at + 3));
    return [canvas.width, btoa(text)];
})"""
"""Gives the width and the RGB bytes of several images beside each other."""


def climate(place: int, at_s: float, noise: random.Random) -> dict[str, float]:
    """Give what the four sensors of greenhouse number *place* say: a cloud goes by every two minutes."""
    sun = 0.6 + 0.4 * math.sin(at_s / 19 + place)
    return {
        "TEMPERATURE": round(19 + 1.5 * place + 3 * sun + noise.gauss(0, 0.1), 1),
        "HUMIDITY": round(78 - 3 * place - 12 * sun + noise.gauss(0, 0.4), 1),
        "CO2": round(640 - 180 * sun + noise.gauss(0, 4)),
        "LIGHT": round(max(0.0, 41_000 * sun + noise.gauss(0, 200))),
    }


def traffic(at_s: float, noise: random.Random) -> Iterator[Message]:
    """Give the messages of one moment: batches of readings, and now and then a probe that is disconnected."""
    for place, name in enumerate(GREENHOUSES):
        tenant, code = name.split("/")
        labels = {"TEMPERATURE": "TEMPERATURA", "HUMIDITY": "HUMEDAD", "CO2": "CO2", "LIGHT": "LUZ"}
        for probe in range(1 + (noise.random() < 0.5 + 0.5 * math.sin(at_s / 31))):
            fields = {f"{labels[kind]}_{probe}": value for kind, value in climate(place, at_s, noise).items()}
            yield Message(f"GREENHOUSE/{tenant}/{code}", json.dumps(fields).encode())
    if noise.random() < 0.3 + 0.2 * math.sin(at_s / 23):
        kind, value = noise.choice((("TEMPERATURA_9", 6484.1), ("TEMPERATURA_9", 6484.1), ("PRESENCIA", 1)))
        yield Message("GREENHOUSE/SARA/03", json.dumps({kind: value}).encode())


async def publish_for(seconds: float, port: int) -> None:
    """Publish the traffic of *seconds*."""
    noise = random.Random(7)  # noqa: S311 (a climate, not a secret)
    end_s = time.monotonic() + seconds
    while (now_s := time.monotonic()) < end_s:
        await publish(port, traffic(now_s, noise))
        await asyncio.sleep(TICK_S)


async def watched(browser: Browser, address: str, *, phone: bool) -> None:
    """Open the page as it is looked at at a desk, or on a phone by night."""
    width, height = PHONE if phone else DESK
    await browser.size(width, height, phone=phone)
    await browser.prefer(prefers_color_scheme="dark" if phone else "light")
    await browser.open(address)


async def side_by_side(*images: bytes) -> bytes:
    """Make one PNG of several, a fifth smaller than Chromium's: flat colours need no filter."""
    given = json.dumps([base64.b64encode(each).decode() for each in images])
    async with Browser() as browser:
        width, text = await browser.evaluate(f"{_SIDE_BY_SIDE}({given}, {GAP}, {json.dumps(GROUND)})")
    pixels, stride = base64.b64decode(text), 3 * width
    lines = [b"\0" + pixels[at : at + stride] for at in range(0, len(pixels), stride)]
    header = struct.pack(">IIBBBBB", width, len(lines), 8, 2, 0, 0, 0)  # 8 bits, RGB
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


async def main(seconds: float) -> None:
    """Write the image; fail when it is too large, or the page complains."""
    with tempfile.TemporaryDirectory(prefix="greenhouse-page-") as name, Mosquitto() as broker:
        folder = Path(name)
        async with EmbeddedDatabase() as database:
            for each in Database:
                await migrate(database.dsn, each)
            catalog = folder / "catalog.json"
            catalog.write_text(json.dumps(CATALOG), encoding="utf-8")
            await import_catalog(database.dsn, catalog, dry_run=False)
            settings = {"observe": {"http_page": True}}
            with WorkerProcess(
                folder, broker_url=broker.url, dsn=database.dsn, filters=FILTERS, settings=settings
            ) as worker:
                await worker.ready()
                address = f"http://127.0.0.1:{worker.events('http_listening')[0]['port']}/"
                async with Browser() as desk, Browser() as phone:
                    await watched(desk, address, phone=False)
                    await watched(phone, address, phone=True)
                    await publish_for(seconds, broker.port)
                    images = await desk.image(), await phone.image()
                    complaints = desk.complaints + phone.complaints
                await worker.stop()
    image = await side_by_side(*images)
    assert not complaints, complaints  # noqa: S101 (it would be an image of a broken page)
    assert len(image) <= MOST_BYTES, f"{len(image)} bytes"  # noqa: S101
    TARGET.write_bytes(image)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 300.0))
