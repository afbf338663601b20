"""The JSON text of a row's `metadata` column, and what PostgreSQL's jsonb would refuse in it. Pure.

jsonb holds no NUL character, no half of a surrogate pair, no NaN or Infinity; one such value in a
COPY would take the whole batch down, so it is found here, where only its reading suffers.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import orjson

from ingest.resolve.names import quoted, unstorable

if TYPE_CHECKING:
    from collections.abc import Mapping


class UnstorableMetadata(ValueError):
    """The metadata of one reading cannot be stored; the text says what in it."""


def stored_metadata(metadata: Mapping[str, Any]) -> bytes:
    """Encode *metadata* as UTF-8 JSON that jsonb accepts; raise UnstorableMetadata if there is none."""
    try:
        # A copy: orjson 3.13 leaves 4 KiB behind every bytes it gives, and rows wait by the ten thousand.
        text = b"%b" % orjson.dumps(metadata)
    except TypeError:  # orjson's JSONEncodeError: integers over 64 bit, surrogates, too deep
        text = _standard_library(metadata)
    # orjson writes NUL as the escape \u0000 and NaN as null: only a text that holds one is looked through.
    if b"\\u0000" in text or b"null" in text:
        _refuse_unstorable(metadata)
    return text


def _standard_library(metadata: Mapping[str, Any]) -> bytes:
    try:
        _refuse_unstorable(metadata)
        return json.dumps(metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnstorableMetadata:
        raise
    except RecursionError as error:
        raise UnstorableMetadata("it is nested too deep") from error
    except (TypeError, ValueError) as error:  # no JSON, or an integer of more digits than Python prints
        raise UnstorableMetadata(str(error)[:80]) from error


def _refuse_unstorable(value: object) -> None:
    """Walk *value* and raise at the first part that jsonb does not take."""
    if isinstance(value, str):
        fault = unstorable(value)
        if fault is not None:
            raise UnstorableMetadata(f"{quoted(value)} holds {fault}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise UnstorableMetadata(f"{value} is no JSON number")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_unstorable(key)
            _refuse_unstorable(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_unstorable(item)
