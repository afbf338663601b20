"""What a flat map's label says: its tokens, its greenhouse number, its normal form, its rule.

Pure text; decode cuts flat maps into labels, resolve and the catalog commands ask here what a
label means. `normalise_label` is part of a sensor's identity (UUIDv5 of it): a change to it gives
every unregistered sensor a new id, so it is frozen.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import TYPE_CHECKING

from ingest.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.settings import LabelRule

_TOKEN = re.compile(r"\d+|[^\W\d_]+")
"""A run of digits or a run of letters: `SOIL01` is SOIL and 01; all else separates."""


def label_tokens(label: str) -> tuple[str, ...]:
    """Cut *label* into upper-case tokens without accents: `Presión_01` -> `("PRESION", "01")`.

    Compatibility forms are unfolded, so `CO₂` is `CO2` (two tokens, `CO` and `2`).
    """
    if not label.isascii():
        decomposed = unicodedata.normalize("NFKD", label)
        label = "".join(character for character in decomposed if not unicodedata.combining(character))
    return tuple(_TOKEN.findall(label.upper()))


def normalise_label(label: str) -> str:
    """Give the form in which labels and device codes are compared and hashed.

    Space, `_` and `-` are alike and runs of them are one; case does not count; accents do:
    `TEMPERATURA  INVERNADERO-01` -> `temperatura_invernadero_01`. Idempotent. Empty only for an
    empty label, so that a label of separators alone still has a name.
    """
    if label.isascii():
        folded = label.lower()
    else:  # composed and decomposed accents are one text (Unicode 3.13, canonical caseless matching)
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", label).casefold())
    words = folded.replace("_", " ").replace("-", " ").split()
    return "_".join(words) or ("_" if label else "")


def greenhouse_number(label: str) -> str | None:
    """Give the number after INVERNADERO as written (`01`), None where the label has none."""
    tokens = label_tokens(label)
    for word, following in pairwise(tokens):
        if word == "INVERNADERO" and following.isdecimal():
            return following
    return None


class LabelRules:
    """The ordered label rules, their tokens cut once in the same way as the labels'."""

    def __init__(self, rules: Sequence[LabelRule]) -> None:
        """Compile *rules*; raise ConfigurationError naming every token without a letter or digit."""
        self._rules = tuple(rules)
        self._by_first_token: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
        faults: list[str] = []
        for position, rule in enumerate(self._rules):
            for token in rule.tokens:
                sequence = label_tokens(token)
                if sequence:
                    self._by_first_token.setdefault(sequence[0], []).append((position, sequence))
                else:
                    faults.append(f"label_rule {position + 1}: the token {token!r} has no letter or digit")
        if faults:
            raise ConfigurationError(faults)

    def match(self, label: str) -> LabelRule | None:
        """Give the first rule (in the rules' order) that names whole tokens of *label*, else None.

        A rule's token that is itself cut (`CO2`) matches where its pieces stand side by side.
        """
        tokens = label_tokens(label)
        first = min(
            (
                position
                for at, token in enumerate(tokens)
                for position, sequence in self._by_first_token.get(token, ())
                if tokens[at : at + len(sequence)] == sequence
            ),
            default=None,
        )
        return None if first is None else self._rules[first]
