"""The page over real sockets: off unless asked for, for loopback names alone, and what a browser may do."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from ingest.configuration import load_settings
from ingest.errors import ConfigurationError
from ingest.observe import page
from ingest.observe.http import Health, HttpServer, serve
from ingest.observe.metrics import CATALOGUE, Metrics
from ingest.quality import Condition, Conditions
from ingest.settings import ObserveSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOSTILE = "</script><script>alert(1)</script>\u2028\x1b[2J"
NOW_US = 1_763_374_560_000_000


class Surroundings:
    """A running server with the page on, and what it is told."""

    def __init__(self, server: HttpServer, metrics: Metrics) -> None:
        self.server = server
        self.metrics = metrics
        self.health = Health()
        self.conditions: Conditions | None = Conditions([], 0)

    async def get(self, path: str, *hosts: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Ask with these Host fields; with one of the loopback if none are given."""
        fields = "".join(f"Host: {host}\r\n" for host in hosts or (f"127.0.0.1:{self.server.port}",))
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\n{fields}\r\n".encode())
            async with asyncio.timeout(10):
                answer = await reader.read()
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        return int(status.split(" ")[1]), dict(line.split(": ", 1) for line in lines), body

    async def state(self) -> dict[str, Any]:
        status, headers, body = await self.get("/page.json")
        assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
        found: dict[str, Any] = json.loads(body)
        return found


@pytest.fixture
async def worker() -> AsyncIterator[Surroundings]:
    metrics = Metrics()
    made: list[Surroundings] = []
    server = await serve(
        ObserveSettings(http_port=0, http_page=True),
        metrics.registry,
        lambda: made[0].health,
        lambda: made[0].conditions,
    )
    assert server is not None
    made.append(Surroundings(server, metrics))
    yield made[0]
    await server.stop()


async def test_off_by_default() -> None:
    metrics = Metrics()
    server = await serve(ObserveSettings(http_port=0), metrics.registry, Health, lambda: None)
    assert server is not None
    worker = Surroundings(server, metrics)
    for path in ("/", "/page.json"):
        assert (await worker.get(path))[0] == 404
    assert (await worker.get("/healthz"))[0] == 200
    await server.stop()


async def test_the_page_may_run_its_own_script_and_nothing_else(worker: Surroundings) -> None:
    status, headers, body = await worker.get("/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = dict(each.partition(" ")[::2] for each in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["frame-ancestors"] == policy["trusted-types"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for kind in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", policy[kind])
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert not [name for name in headers if "cookie" in name.lower()]
    text = body.decode()
    assert not re.search(r"(?:src|href)=\"(?!data:|metrics|readyz)", text), "no asset but its own text"
    assert not re.search(r"\son\w+=|style=|innerHTML|insertAdjacent|document\.write|eval\(", text)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_it_is_read_and_nothing_else(worker: Surroundings, method: str) -> None:
    for path in ("/", "/page.json"):
        assert (await worker.get(path, method=method))[0] == 405
    assert (await worker.get("/", method="HEAD"))[2] == b""


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (("localhost",), 200),
        (("LocalHost:9108",), 200),
        (("127.0.0.1",), 200),
        (("127.8.9.1:80",), 200),
        (("[::1]",), 200),
        (("[::1]:9108",), 200),
        (("evil.example",), 421),
        (("localhost.evil.example:9108",), 421),
        (("127.0.0.1.evil.example",), 421),
        (("10.0.0.1:9108",), 421),
        (("0.0.0.0:9108",), 421),
        (("[::]:9108",), 421),
        (("",), 421),
        (("localhost", "evil.example"), 421),
    ],
)
async def test_only_loopback_names_are_answered(
    worker: Surroundings, hosts: tuple[str, ...], status: int
) -> None:
    for path in ("/", "/page.json"):
        found, _, body = await worker.get(path, *hosts)
        assert found == status
        assert (body == b"Misdirected Request\n") is (status == 421)
    assert (await worker.get("/metrics", *hosts))[0] == 200, "scrapers come by whatever name they like"


async def test_a_request_without_a_host_is_not_answered(worker: Surroundings) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.server.port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 421 ")
    writer.close()


async def test_the_state_is_what_the_page_reckons_with(worker: Surroundings) -> None:
    worker.metrics.messages(received=9, committed=7)
    worker.metrics.readings(decoded=10, written=6, rejected=4)
    worker.metrics.rejections({"out_of_range": 3, "bad_value": 1})
    worker.metrics.batch("straight", rows=6, commit_s=0.25, at_s=1000.0)
    worker.health = Health(reasons=["broker: away"])
    worker.conditions = Conditions(
        [Condition("Sara", "01", "CO2", "ppm", 500.0, 400.0, 600.0, 2, NOW_US)], 321
    )
    state = await worker.state()
    assert (state["ready"], state["reasons"]) == (False, ["broker: away"])
    numbers = state["numbers"]
    assert numbers["ingest_messages_total"]["received"] == 9
    assert numbers["ingest_readings_total"]["written"] == 6
    assert numbers["ingest_rejections_total"]["out_of_range"] == 3
    assert (numbers["ingest_batch_rows_sum"], numbers["ingest_commit_seconds_sum"]) == (6, 0.25)
    assert state["since_commit_s"] > 1e9
    assert state["conditions"]["of"] == 321
    (shown,) = state["conditions"]["shown"]
    assert (shown["greenhouse"], shown["value"], shown["sensors"]) == ("01", 500.0, 2)
    assert 0 <= shown["age_s"] < 1e10
    later = await worker.state()
    assert later["monotonic_s"] > state["monotonic_s"]


async def test_nothing_committed_and_no_conditions_kept(worker: Surroundings) -> None:
    worker.conditions = None
    state = await worker.state()
    assert (state["ready"], state["since_commit_s"], state["conditions"]) == (True, None, None)


async def test_hostile_names_are_json_text_and_nothing_more(worker: Surroundings) -> None:
    worker.conditions = Conditions(
        [Condition(HOSTILE, HOSTILE, HOSTILE, HOSTILE, 1.0, 1.0, 1.0, 1, NOW_US)], 1
    )
    worker.health = Health(reasons=[HOSTILE])
    _, headers, body = await worker.get("/page.json")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert body.decode().removesuffix("\n").isprintable()
    state = json.loads(body)
    assert state["reasons"] == [HOSTILE]
    assert state["conditions"]["shown"][0]["greenhouse"] == HOSTILE
    assert HOSTILE.encode() not in (await worker.get("/"))[2]


async def test_a_state_that_fails_is_a_500_and_not_the_end(worker: Surroundings) -> None:
    def broken() -> float:
        raise RuntimeError("gone")

    worker.metrics.read_gauge("ingest_lag_seconds", broken)
    with structlog.testing.capture_logs() as lines:
        assert (await worker.get("/page.json"))[0] == 500
    assert [line["path"] for line in lines] == ["/page.json"]
    assert (await worker.get("/"))[0] == 200


def test_every_number_shown_is_one_of_the_catalogue() -> None:
    names = {name.removesuffix("_sum").removesuffix("_count") for name in page.SHOWN}
    assert names <= {each.name for each in CATALOGUE}
    text = Path(page.__file__).with_name("page.html").read_text()
    asked = set(re.findall(r"numbers\.(ingest_\w+)", text))
    asked |= {f"ingest_{name}" for name in re.findall(r"of\(\"(\w+)\"", text)}
    assert asked == page.SHOWN - {"ingest_last_commit_timestamp_seconds"}


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (
            'http_host = "0.0.0.0"',
            "observe.http_page: the page has no login, and observe.http_host is '0.0.0.0', no loopback",
        ),
        ('http_host = "ingest.example"', "observe.http_host is 'ingest.example', no loopback address"),
        ('http_port = "off"', "observe.http_page: is on, but observe.http_port is off"),
        ('http_host = "::1"', None),
        ('http_host = "localhost"', None),
        ("http_port = 0", None),
    ],
)
def test_it_is_refused_at_the_start_off_the_loopback(tmp_path: Path, options: str, fault: str | None) -> None:
    config = tmp_path / "ingest.toml"
    config.write_text(f"[observe]\nhttp_page = true\n{options}\n")
    if fault is None:
        assert load_settings(config).observe.http_page
        return
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config)
    (text,) = caught.value.faults
    assert fault in text
    assert caught.value.exit_code == 2
