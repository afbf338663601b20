"""Makes text from outside safe to print: gateways choose topics, labels and payloads freely.

Pure. A control character, an escape sequence, a bidirectional override or a lone surrogate must
never reach a terminal or split a log line, or a payload could forge either.
"""

from __future__ import annotations

import json

import orjson


def printable(text: str) -> str:
    """Return *text* with each character that does not print, line breaks too, as a hex escape."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def printable_lines(text: str) -> str:
    """Return *text* with everything but line feeds escaped as `printable` does: for tracebacks."""
    return "\n".join(printable(line) for line in text.split("\n"))


def json_line(tree: object) -> str:
    """Return *tree* as one line of JSON, also where JSON has no word for something.

    What orjson refuses (large integers, odd keys, lone surrogates) the standard library writes;
    an unknown object becomes its repr. Characters that do not print are hex escapes.
    """
    try:
        line = orjson.dumps(tree, default=_described, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):
        line = json.dumps(tree, default=_described, skipkeys=True)
    if line.isprintable():
        return line
    # orjson leaves DEL, C1 controls and line separators as they are; they can only stand in strings.
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in line)


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:  # noqa: PLR2004 (one byte: \xNN)
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 (the basic plane: \uNNNN)


def _described(thing: object) -> object:
    if isinstance(thing, (set, frozenset, tuple)):
        return list(thing)
    return repr(thing)
