"""JSON values as bytes that `parse_payload` reads back, whatever it read them from. Pure."""

from __future__ import annotations

import json

import orjson


def dumped(tree: object) -> bytes:
    """Give *tree* as JSON; what only the standard library reads (NaN, half a surrogate) it writes."""
    try:
        written = orjson.dumps(tree)
        if b"null" not in written or orjson.loads(written) == tree:  # orjson writes null for NaN
            return written
    except (TypeError, orjson.JSONDecodeError):
        pass
    return json.dumps(tree).encode()
