"""What resolve lets through as metadata, jsonb really takes: one refused value would cost a batch."""

from __future__ import annotations

import contextlib
from typing import Any

import asyncpg
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.resolve.stored_metadata import UnstorableMetadata, stored_metadata

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=6,
)


async def test_jsonb_takes_what_is_not_refused(postgres_dsn: str) -> None:
    texts: list[str] = []

    @settings(max_examples=300, database=None)
    @given(st.dictionaries(st.text(st.characters(), max_size=8), values, max_size=4))
    def collect(metadata: dict[str, Any]) -> None:
        with contextlib.suppress(UnstorableMetadata):
            texts.append(stored_metadata(metadata).decode())

    collect()
    nested: list[Any] = []
    for _ in range(198):  # the deepest that the settings allow a payload
        nested = [nested]
    extremes = {"a": [1.7976931348623157e308, 5e-324, 2**64, -(10**4000), "\x01\x7f\\u0000\\"], "b": nested}
    texts.append(stored_metadata(extremes).decode())
    connection = await asyncpg.connect(postgres_dsn)
    try:
        objects = await connection.fetchval(
            "select count(*) from unnest($1::text[]) as text where jsonb_typeof(text::jsonb) = 'object'",
            texts,
        )
    finally:
        await connection.close()
    assert objects == len(texts) > 100
