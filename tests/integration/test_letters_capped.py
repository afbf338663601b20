"""Dead letters that list the first hundred of their rejections: replayed whole, and counted to the last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import UUID

from tests.batches import stored
from tests.letters import left, letter, replay_all, store, under
from tests.unit.catalog_examples import SARA_01, example_catalog, sensor

if TYPE_CHECKING:
    import asyncpg

    from ingest.model import Reason

LABELLED = example_catalog(sensor(UUID(int=0xD2), SARA_01, "B", "SENSOR", label="BOMBA"))


async def test_a_letter_that_lists_a_part_is_replayed_whole(connection: asyncpg.Connection) -> None:
    payload = {f"CALDERA_{at:03}": at for at in range(150)} | {"BOMBA": 1, "TEMP_01": 6484}
    lost: list[tuple[str, Reason]] = [(label, "unknown_sensor_type") for label in payload]
    await store(connection, letter(payload, *lost[:-1], ("TEMP_01", "out_of_range")))
    assert [each[1:3] for each in await left(connection)] == [(["unknown_sensor_type"] * 100, 152)]
    replayed = await replay_all(connection, under(LABELLED))
    assert (replayed.written, dict(replayed.still)) == (1, {"unknown_sensor_type": 150, "out_of_range": 1})
    assert await stored(connection) == [(0, 1.0)]
    record = await connection.fetchrow("select * from iot.ingest_dead_letters")
    assert record is not None
    assert record["rejected_count"] == 151
    assert record["reasons"] == ["out_of_range", "unknown_sensor_type"]
    assert json.loads(record["reason_counts"]) == {"unknown_sensor_type": 150, "out_of_range": 1}
    assert len(json.loads(record["rejected"])) == 100
    again = await replay_all(connection, under(LABELLED))
    assert (again.written, again.duplicate) == (0, 1), "what it wrote before is met by its key"
    assert await connection.fetchrow("select * from iot.ingest_dead_letters") == record
