"""The indexes that `ingest status` names are those that `ingest maintain` mends, and no others."""

from __future__ import annotations

from ingest.operate.maintain import maintain, survey
from tests.acceptance.maintained_rows import Rows, breaches, settings_of

INDEX_OF = "select indexrelid::regclass::text from pg_index where indrelid = $1::text::regclass limit 1"
SPOIL = "update pg_index set indisvalid = not indisvalid where indexrelid = $1::text::regclass"


async def test_status_promises_what_maintain_mends(rows: Rows, database: str) -> None:
    settings = settings_of(database)
    connection = rows.connection
    await rows.add(2)
    chunk = await connection.fetchval("select show_chunks('iot.sensor_readings')::text limit 1")
    whole, part = [await connection.fetchval(INDEX_OF, table) for table in ("iot.sensor_readings", chunk)]
    # A hypertable's own index holds nothing: its chunks' do.
    await connection.execute(SPOIL, whole)
    assert "indexes" not in await breaches(settings)
    assert (await survey(settings, "monthly", ["indexes"])).tasks == 0
    await connection.execute(SPOIL, part)
    assert (await breaches(settings))["indexes"].command == "ingest maintain monthly --only indexes --yes"
    done = await maintain(settings, "monthly", ["indexes"])
    assert (done.faults, done.tasks) == ([], 1)
    assert "indexes" not in await breaches(settings)
    await connection.execute(SPOIL, whole)
