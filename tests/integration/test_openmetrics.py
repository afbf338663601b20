"""/metrics in the format a scraper asks for, read with the parsers of Prometheus' own library."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as plain_text

from ingest.observe.http import Health, HttpServer
from ingest.observe.metrics import CATALOGUE, Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from prometheus_client import Metric

# What Prometheus 2.42 and 3.5 send; 3.x offers more formats than we have.
OLD_PROMETHEUS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
NEW_PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    metrics = Metrics()
    metrics.messages(received=7, committed=5)
    metrics.batch("straight", rows=500, commit_s=0.2, at_s=1_700_000_000.5)
    metrics.retry("57P01")
    server = HttpServer("127.0.0.1", 0, metrics.registry, Health)
    await server.start()
    yield server
    await server.stop()


def openmetrics(page: str) -> Iterable[Metric]:
    """Read *page* as OpenMetrics; raises ValueError where it is none."""
    families: Iterable[Metric] = openmetrics_parser.text_string_to_metric_families(page)  # type: ignore[no-untyped-call]
    return families


async def scraped(server: HttpServer, *accept: str) -> tuple[str, str]:
    """Give content type and body of /metrics, asked for with these Accept fields."""
    fields = "".join(f"aCCEPT: {each}\r\n" for each in accept)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET /metrics HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    found = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    return found["Content-Type"], body


@pytest.mark.parametrize("accept", [OLD_PROMETHEUS, NEW_PROMETHEUS])
async def test_prometheus_gets_openmetrics_and_can_read_all_of_it(server: HttpServer, accept: str) -> None:
    content_type, body = await scraped(server, accept)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    families = {family.name: family for family in openmetrics(body)}
    for each in CATALOGUE:
        family = families[each.name.removesuffix("_total") if each.type == "counter" else each.name]
        assert (family.type, family.documentation) == (each.type, each.help)
    received, committed, *_ = families["ingest_messages"].samples
    assert (received.name, received.value, committed.value) == ("ingest_messages_total", 7, 5)
    assert body.endswith("\n# EOF\n")


@pytest.mark.parametrize("accept", [[], ["*/*"], ["text/html", "text/plain;version=0.0.4"]])
async def test_everybody_else_gets_the_text_format(server: HttpServer, accept: list[str]) -> None:
    content_type, body = await scraped(server, *accept)
    assert content_type.startswith("text/plain; version=0.0.4")
    assert {each.name.removesuffix("_total") for each in CATALOGUE} <= {
        family.name for family in plain_text(body)
    }


async def test_both_formats_have_the_same_samples(server: HttpServer) -> None:
    pages = [(await scraped(server, OLD_PROMETHEUS))[1], (await scraped(server))[1]]
    samples = [
        {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in parse(page)
            for sample in family.samples
            if sample.name.startswith("ingest_")
        }
        for parse, page in zip((openmetrics, plain_text), pages, strict=True)
    ]
    assert samples[0] == samples[1]
