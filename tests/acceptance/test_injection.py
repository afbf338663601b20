"""Text from outside stays text: in SQL, in log lines, on a terminal and among the metrics.

Hostile strings in every place where a gateway, a catalog or a configuration may put one, through the real
worker: Mosquitto, `ingest run`, TimescaleDB; then through every command that shows them.
"""

from __future__ import annotations

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

import pytest

from ingest.errors import CheckFailed, ConfigurationError
from ingest.operate.catalog import add_greenhouse
from ingest.operate.dead_letters import list_dead_letters
from ingest.operate.letter_filter import LetterFilter
from tests.gateways import Message, publish
from tests.pages import page, series
from tests.servers import free_port

if TYPE_CHECKING:
    from tests.acceptance.command_line import CommandLine
    from tests.acceptance.conftest import Greenhouse, WorkerMaker
    from tests.servers import Mosquitto

SQL = (
    "'; drop table iot.sensor_readings cascade; --",
    '"; drop schema metadata cascade; --',
    "$1",
    "$$; drop schema iot cascade; $$",
    "%s %(x)s {0} {x!r}",
    "\\'; select pg_sleep(600); --",
    "x') or 1=1 --",
    "a, b); truncate iot.ingest_dead_letters; --",
)
TERMINAL = (
    "\x1b[2J\x1b[31mred",
    "\x1b]0;title\x07",
    "\x9b2J",
    '{"event": "forged"}\n{"event": "worker_stopped"}',
    "a\rforged",
    "\u2028next line\u2029",
    "\u202edlrow",
    "[bold]markup[/bold] :skull: [link=file:///etc/passwd]x[/link]",
    "\x00nul",
    "\x7f\x08\x08",
    "\ud800",
)
STORABLE = [text for text in SQL + TERMINAL if not re.search("[\x00\ud800]", text)]
LOCAL_NAMES = ("sensor_id", "sensor_type", "unit", "value", "timestamp")
CLIENT_ID = "w'; drop table iot.ingest_sessions; --\u202e"
COUNT = "select count(*) from iot.sensor_readings"
SGR = re.compile(r"\x1b\[[0-9;]*m")
"""Bold and colours, which the program's own tables and log lines have on a terminal."""


def hostile_messages(house: Greenhouse) -> list[Message]:
    """Give each string in each place of a message that can hold it."""
    messages = []
    single, batch = house.topic, f"greenhouse/{house.greenhouse_id}/readings"
    for text in SQL + TERMINAL:
        reading = {"sensor_id": "S", "value": 1.0, "unit": "unit"}
        payloads = [
            *(json.dumps({**reading, name: text}) for name in LOCAL_NAMES),
            json.dumps({**reading, "metadata": {text: text}}),
            json.dumps({**reading, text: text}),
            json.dumps({**reading, "metadata": text}),
        ]
        messages += [Message(single, payload.encode()) for payload in payloads]
        messages += [
            Message(batch, json.dumps({"timestamp": text, "readings": [reading]}).encode()),
            Message(house.map_topic, json.dumps({f"SENSOR {text}": 1.0, text: 2.0, "SENSOR": text}).encode()),
            Message(single, text.encode("utf-8", "surrogatepass")),
        ]
    # Of the characters that do not print a broker lets few through in a topic, and no wildcard.
    in_topics = [text for text in SQL + TERMINAL if not re.search("[\x00-\x1f\x7f-\x9f\ud800+#/]", text)]
    for text in in_topics:
        messages += [
            Message(f"greenhouse/{text}/sensors/sensor", b"1"),
            Message(f"greenhouse/{house.greenhouse_id}/sensors/{text}", b"1"),
            Message(f"GREENHOUSE/{text}", b'{"SENSOR": 1}'),
            Message(f"{house.map_topic}/{text}", b'{"SENSOR": 1}'),
            Message(f"GREENHOUSE/{text}/a/b/c", b"1"),
        ]
    return messages


async def register_hostile_names(house: Greenhouse) -> None:
    """Fill a tenant's catalog with the strings, as an application with grants of its own might."""
    for text in STORABLE:
        tenant_id, greenhouse_id = uuid4(), uuid4()
        await house.fetch(
            "insert into metadata.tenants (id, name, email, company_name) values ($1, $2, $2, $2)",
            tenant_id,
            f"{text} {tenant_id}",
        )
        await house.fetch(
            "insert into metadata.greenhouses (id, tenant_id, name, greenhouse_code) values ($1, $2, $3, $3)",
            greenhouse_id,
            tenant_id,
            text[:50],
        )
        await house.fetch(
            "insert into metadata.sensors (greenhouse_id, tenant_id, sensor_code, device_id, mqtt_field_name,"
            " name, sensor_type) values ($1, $2, $3, $3, $3, $3, 'CO2')",
            greenhouse_id,
            tenant_id,
            text[:50],
        )


def on_a_terminal(ingest: CommandLine, environment: dict[str, str], *arguments: str) -> str:
    """Give what a command writes to a terminal, its own bold and colours taken off."""
    command = ingest.on_a_terminal(*arguments, environment=environment)
    assert command.ended() == 0, command.shown.decode()
    return SGR.sub("", command.shown.decode().replace("\r\n", "\n"))


async def is_ready(port: int) -> bool:
    try:
        return (await asyncio.to_thread(page, port, "readyz"))[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_text_stays_text(
    log_format: Literal["json", "console"],
    *,
    greenhouse: Greenhouse,
    database: str,
    broker: Mosquitto,
    worker_of: WorkerMaker,
    ingest: CommandLine,
) -> None:
    await register_hostile_names(greenhouse)
    messages = hostile_messages(greenhouse)
    port = free_port()
    client_id = f"{CLIENT_ID}{log_format}"
    worker = worker_of(
        greenhouse,
        database,
        broker.url,
        client_id=client_id,
        filters=["greenhouse/+/sensors/+", "greenhouse/+/readings", "GREENHOUSE/#"],
        settings={"observe": {"log_format": log_format, "log_level": "debug", "http_port": port}},
    )
    await worker.until(lambda: is_ready(port), "the worker is ready")
    before = await asyncio.to_thread(series, port)
    stored_before = await greenhouse.fetchval(COUNT)
    await publish(broker.port, messages)

    async def all_committed() -> bool:
        return (await greenhouse.counters(client_id))["committed"] == len(messages)

    await worker.until(all_committed, "every message is committed, and nothing slept in the database")
    assert await asyncio.to_thread(series, port) == before, "no name has become a metric or a label"
    counters = await greenhouse.counters(client_id)
    assert counters["decoded"] == counters["written"] + counters["duplicate"] + counters["rejected"]
    assert await greenhouse.fetchval(COUNT) - stored_before == counters["written"] > len(SQL + TERMINAL)
    worker.signal()
    assert await worker.exit_code() == 0
    lines = worker.log_text.splitlines()
    assert [line for line in lines if not SGR.sub("", line).isprintable()] == []
    assert len(lines) == worker.log_text.count("\n")
    assert not any(line.startswith('{"event": "forged"}') for line in lines)
    if log_format == "json":
        assert all(isinstance(json.loads(line)["event"], str) for line in lines)
    assert len(await greenhouse.dead_letters(client_id)) > len(SQL + TERMINAL)
    if log_format == "json":
        await commands_show_it(ingest, database, greenhouse, client_id)
    assert await greenhouse.fetchval(COUNT) - stored_before == counters["written"]


async def commands_show_it(ingest: CommandLine, database: str, house: Greenhouse, client_id: str) -> None:
    """Call what shows names and payloads: on a terminal, into a pipe and as JSON, two at a time."""
    environment = {"INGEST_TIMESERIES_DSN": database, "INGEST_METADATA_DSN": database}
    letters = await house.dead_letters(client_id)
    worst = [each for each in letters if b"\x1b" in each["payload"] or rb"\u001b" in each["payload"]]
    commands = [
        ("dead-letters", "list", "--limit", "1000"),
        *(("dead-letters", "show", str(each["dead_letter_id"])) for each in (worst[0], worst[-1])),
        ("catalog", "list", "tenants"),
        ("catalog", "list", "sensors"),
    ]
    with ThreadPoolExecutor(2) as pool:
        seen = pool.map(lambda each: on_a_terminal(ingest, environment, *each), commands)
        piped = pool.map(lambda each: ingest(*each, environment=environment).stdout, commands)
        as_json = pool.map(lambda each: ingest(*each, "--json", environment=environment).stdout, commands)
        outputs = [*seen, *piped, *as_json]
    assert [output for output in outputs if not output.replace("\n", "").isprintable()] == []
    assert ":skull:" in outputs[-2]
    for output in outputs[-len(commands) :]:
        assert json.loads(output)
    # What a person asks for by a hostile name is a value, too.
    for text in STORABLE:
        await list_dead_letters(database, LetterFilter(topic=text), limit=1)
        with pytest.raises((CheckFailed, ConfigurationError)):
            await add_greenhouse(database, tenant="NOBODY", code=text)
