"""How names are compared and quoted: sensor types, units, UUIDs, derived sensor ids. Pure text.

`derived_sensor_id` is a sensor's identity in the table for as long as nobody registers it, and
`ingest catalog add sensor` registers it under the same id: a change here splits its history.
"""

from __future__ import annotations

import re
import unicodedata
from uuid import UUID, uuid5

from ingest.labels import normalise_label

_SEPARATORS = re.compile(r"[\s_-]+")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SHOWN_CHARS = 80


def sensor_type_key(name: str) -> str:
    """Give the form in which sensor type names and aliases are compared.

    Trimmed, upper case, without accents; runs of spaces, `-` and `_` are one `_`:
    ` Presión-atmosférica ` -> `PRESION_ATMOSFERICA`.
    """
    folded = name.strip().upper()
    if not folded.isascii():
        decomposed = unicodedata.normalize("NFD", folded)
        folded = "".join(character for character in decomposed if not unicodedata.combining(character))
    return _SEPARATORS.sub("_", folded)


def unit_key(name: str) -> str:
    """Give the form in which unit aliases are compared: trimmed, upper case."""
    return name.strip().upper()


def parse_uuid(text: str) -> UUID | None:
    """Read the 8-4-4-4-12 form in either case; anything else is a code and gives None.

    Python's `UUID()` also takes braces, `urn:uuid:` and 32 bare digits, which device codes may be.
    """
    return UUID(text) if _UUID.fullmatch(text) else None


def derived_sensor_id(greenhouse_id: UUID, name: str) -> UUID:
    """Give the id of an unregistered sensor: UUIDv5 of its normalised label, device code or type name.

    *name* must be encodable as UTF-8: `unstorable` says whether it is.
    """
    return uuid5(greenhouse_id, normalise_label(name))


def unstorable(text: str) -> str | None:
    """Say why PostgreSQL refuses *text*, None when it takes it (text and jsonb hold no NUL, no surrogate)."""
    if "\x00" in text:
        return "a NUL character"
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    return None


def quoted(text: str) -> str:
    """Quote *text* for a rejection's detail: control characters escaped, at most 80 characters."""
    shown = repr(text[:_SHOWN_CHARS])
    if len(text) <= _SHOWN_CHARS and len(shown) <= _SHOWN_CHARS:
        return shown
    return f"{shown[: _SHOWN_CHARS - 4]}...{shown[0]}"
