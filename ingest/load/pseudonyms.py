"""Names become other names of the same kind, by a keyed hash: the same name always the same one. Pure.

Who has the key can map a name forth, and so tell whose recording it is; nobody can map one back, but by
trying. Names that the rest of the worker takes for the same (another case, other separators) stay the same.
"""

from __future__ import annotations

import re
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Final
from uuid import UUID

from ingest.labels import label_tokens, normalise_label
from ingest.resolve.names import parse_uuid

if TYPE_CHECKING:
    from collections.abc import Iterable

LEAST_KEY_BYTES: Final = 16
_REMEMBERED: Final = 100_000
"""Names; what is forgotten is reckoned again, to the same."""
_REMEMBERED_CHARS: Final = 200
"""Longer ones are no names that come again, and fill memory: these take 40 MB, 100 in 4-byte letters."""
_WORD: Final = re.compile(r"\d+|[^\W\d_]+")
"""A run of digits or letters, as `ingest.labels` cuts a label."""
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowel: nothing that reads like a word, or like a label rule's token."""
_LABEL_LETTERS: Final = 8
_NINE_DIGITS: Final = 900_000_000


class Pseudonyms:
    """See the module's header."""

    def __init__(self, key: bytes, kept_words: Iterable[str]) -> None:
        """Take the secret *key*, and the words of labels that say what is measured: those are kept."""
        self._key = sha256(key).digest()
        self._kept = {"INVERNADERO", *(token for word in kept_words for token in label_tokens(word))}
        self._known: dict[tuple[str, str], bytes] = {}

    def tenant(self, prefix: str) -> str:
        """Give a tenant's topic prefix."""
        return f"T{self._hex('tenant', prefix)}".upper()

    def greenhouse(self, name: str) -> str:
        """Give a UUID for a UUID, a number for a number (labels name them so), a code for a code."""
        if (found := parse_uuid(name)) is not None:
            return self.uuid(found)
        if name.isdecimal():
            return self.greenhouse_number(name)
        return f"G{self._hex('greenhouse', name.casefold())}".upper()

    def greenhouse_number(self, number: str) -> str:
        """Give another number; leading zeros do not count, as in a label."""
        digest = self._digest("number", number.lstrip("0"))
        return str(int.from_bytes(digest[:8]) % _NINE_DIGITS + _NINE_DIGITS // 9)

    def sensor(self, name: str) -> str:
        """Give a UUID for a UUID, a device code for any other name."""
        name = name.strip()
        if (found := parse_uuid(name)) is not None:
            return self.uuid(found)
        return f"D{self._hex('sensor', normalise_label(name))}".upper() if name else ""

    def uuid(self, found: UUID) -> str:
        """Give another UUID."""
        return str(UUID(bytes=self._digest("uuid", str(found)), version=4))

    def text(self, text: str) -> str:
        """Give some text; a UUID for a UUID, nothing for nothing."""
        if (found := parse_uuid(text)) is not None:
            return self.uuid(found)
        return f"x{self._hex('text', text)}" if text else ""

    def label(self, label: str) -> str:
        """Give a flat map's label: other names in it, the same words for what is measured.

        The number after INVERNADERO becomes that of the greenhouse; other numbers count sensors, and stay.
        """
        parts: list[str] = []
        end, before = 0, ""
        for found in _WORD.finditer(label):
            word = found.group()
            tokens = label_tokens(word)
            if not word.isdecimal():
                word = word if self._kept.intersection(tokens) else self._word(word)
            elif before == "INVERNADERO":
                word = self.greenhouse_number(word)
            parts += (label[end : found.start()], word)
            end, before = found.end(), tokens[-1] if tokens else ""
        return "".join(parts) + label[end:]

    def _word(self, word: str) -> str:
        number = int.from_bytes(self._digest("word", normalise_label(word))[:8])
        letters = ""
        for _ in range(_LABEL_LETTERS):
            number, letter = divmod(number, len(_LETTERS))
            letters += _LETTERS[letter]
        return letters.lower() if word.islower() else letters

    def _hex(self, kind: str, name: str) -> str:
        return self._digest(kind, name)[:6].hex()

    def _digest(self, kind: str, name: str) -> bytes:
        if kind == "text" or len(name) > _REMEMBERED_CHARS:  # a text may be any, and another each time
            return self._reckoned(kind, name)
        known = self._known.get((kind, name))
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[kind, name] = self._reckoned(kind, name)
        return known

    def _reckoned(self, kind: str, name: str) -> bytes:
        encoded = name.encode("utf-8", "surrogatepass")
        return blake2b(encoded, digest_size=16, key=self._key, person=kind.encode()).digest()
