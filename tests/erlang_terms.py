"""Reads Erlang terms, as `file:consult` would, as far as EMQX's ACL files use them.

Tuples become tuples, lists lists, strings `str`, integers `int`, and atoms `Atom`; a term ends with a
full stop. Raises ValueError, with the place, at anything else.
"""

from __future__ import annotations

import re
from typing import TypeAlias

Term: TypeAlias = "Atom | str | int | tuple[Term, ...] | list[Term]"

_BLANK = re.compile(r"(?:\s|%[^\n]*)*")
_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*") | (?P<quoted>'(?:[^'\\]|\\.)*') | (?P<atom>[a-z][A-Za-z0-9_@]*)
    | (?P<integer>[+-]?\d+) | (?P<sign>[{}\[\],]) | (?P<end>\.(?=\s|%|$))""",
    re.VERBOSE,
)


class Atom(str):
    """An atom: its name."""

    __slots__ = ()


def read_terms(text: str) -> list[Term]:
    """Give the terms of a file, in their order."""
    tokens = _tokens(text)
    terms: list[Term] = []
    while tokens:
        terms.append(_term(tokens))
        _expect(tokens, ".")
    return terms


def _tokens(text: str) -> list[tuple[str, str]]:
    """Give (kind, text) of each token, the last first."""
    found: list[tuple[str, str]] = []
    at = _end(_BLANK.match(text))
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1}: {text[at : at + 20]!r} is no term")
        found.append((match.lastgroup, match.group()))
        at = _end(_BLANK.match(text, match.end()))
    return found[::-1]


def _end(match: re.Match[str] | None) -> int:
    assert match is not None
    return match.end()


def _term(tokens: list[tuple[str, str]]) -> Term:
    kind, text = tokens.pop() if tokens else ("", "the end of the file")
    match kind, text:
        case "string", _:
            return _unescaped(text)
        case "quoted", _:
            return Atom(_unescaped(text))
        case "atom", _:
            return Atom(text)
        case "integer", _:
            return int(text)
        case "sign", "{":
            return tuple(_sequence(tokens, "}"))
        case "sign", "[":
            return _sequence(tokens, "]")
        case _:
            raise ValueError(f"{text!r} where a term is expected")


def _sequence(tokens: list[tuple[str, str]], closing: str) -> list[Term]:
    items: list[Term] = []
    if tokens and tokens[-1][1] == closing:
        tokens.pop()
        return items
    while True:
        items.append(_term(tokens))
        if _expect(tokens, ",", closing) == closing:
            return items


def _expect(tokens: list[tuple[str, str]], *expected: str) -> str:
    _, text = tokens.pop() if tokens else ("", "the end of the file")
    if text not in expected:
        raise ValueError(f"{text!r} where {' or '.join(expected)} is expected")
    return text


def _unescaped(quoted: str) -> str:
    # Of Erlang's escapes only those of a quote and a backslash: no rule needs another.
    return re.sub(r"\\(.)", r"\1", quoted[1:-1])
