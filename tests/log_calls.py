"""Reads from the package's source what it logs: event, level and fields of every call, without running one.

A function that is handed the event's name or further fields is followed to its callers. A call that cannot be
followed fails; so does a mention of the log that is no call.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeGuard

from ingest.resolve import Catalog
from ingest.workers.child import ending_of
from ingest.write import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PACKAGE = Path(__file__).parents[1] / "ingest"
FOREIGN: Final = PACKAGE / "observe" / "logs.py"
"""It logs what other libraries' loggers say, under any name."""
LEVELS: Final = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "critical": "critical",
    "exception": "error",
}
LOGS: Final = {"log", "self._log", "structlog.get_logger()"}
SPREAD: Final[dict[str, Mapping[str, object]]] = {
    "self._commits.totals.as_dict()": Counts().as_dict(),
    "last.as_dict()": Counts().as_dict(),
    "catalog.counts()": Catalog.build().counts(),
    "ending_of(code)": {**ending_of(1), **ending_of(-9)},
}
"""Fields that come from a call, by its text."""

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Emission(NamedTuple):
    """What one way through one call logs."""

    event: str
    level: str
    fields: frozenset[str]


@dataclass(frozen=True)
class Site:
    """A call, and the function it is in."""

    call: ast.Call
    function: Function | None
    path: Path
    name: str
    """The bare name of what is called."""


@dataclass(frozen=True)
class Frame:
    """A function with the arguments that one caller gives it."""

    function: Function | None
    arguments: dict[str, ast.expr]
    more: list[ast.keyword]
    """What it gets as **keywords."""
    caller: Frame | None


class Source:
    """Every call in the package."""

    def __init__(self, package: Path = PACKAGE) -> None:
        self._sites: list[Site] = []
        self._mentions: dict[int, str] = {}
        self._aliases: set[str] = set()
        """Local names that a log method was given to."""
        for path in sorted(package.rglob("*.py")):
            if "node_modules" not in path.parts and path != FOREIGN:
                self._walk(ast.parse(path.read_text(encoding="utf-8")), None, path)

    def emissions(self) -> set[Emission]:
        found = {each for site in self._sites for each in self._emitted_at(site)}
        assert not self._mentions, f"a log method that is not called where it stands: {self._mentions}"
        return found

    def _walk(self, node: ast.AST, function: Function | None, path: Path) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call):
                self._sites.append(Site(child, function, path, called(child)))
            if (
                isinstance(child, (ast.Assign, ast.AnnAssign))
                and child.value is not None
                and makes_log(child.value)
            ):
                targets = child.targets if isinstance(child, ast.Assign) else [child.target]
                assert {ast.unparse(each) for each in targets} <= LOGS, f"{path.name}:{child.lineno}"
            if is_method(child):
                self._mentions[id(child)] = f"{path.name}:{child.lineno}"
            if isinstance(child, ast.Assign) and any(is_method(each) for each in ast.walk(child.value)):
                self._aliases |= {each.id for each in child.targets if isinstance(each, ast.Name)}
            self._walk(child, child if isinstance(child, Function) else function, path)

    def _emitted_at(self, site: Site) -> Iterator[Emission]:
        methods = method_of(site, self._aliases)
        if methods is None or not site.call.args:
            return
        event = site.call.args[0]
        spreads = [each.value for each in site.call.keywords if each.arg is None]
        here = Frame(site.function, {}, [], None)
        handed = any(is_parameter(each, site.function) for each in (event, *methods, *spreads))
        for frame in self._frames(site) if handed else [here]:
            fields = frozenset(fields_of(site.call.keywords, frame))
            for method in self._values(methods, frame):
                told = fields | {"exception"} if method == "exception" else fields
                for name in self._values([event], frame):
                    yield Emission(name, LEVELS[method], told)

    def _frames(self, site: Site) -> Iterator[Frame]:
        """Give the function that *site* is in, once for each way it is called."""
        function = site.function
        assert function is not None
        for caller in self._sites:
            if caller.name != function.name:
                continue
            if function.name.startswith("_") and caller.path != site.path:
                continue
            bound = bind(function, caller.call)
            if bound is None:
                continue
            handed = any(is_parameter(each, caller.function) for each in bound[0].values())
            if handed and "event" in names_of(caller.function):
                outers = list(self._frames(caller))
            else:
                outers = [Frame(caller.function, {}, [], None)]
            for outer in outers:
                yield Frame(function, *bound, outer)

    def _values(self, expressions: list[ast.expr], frame: Frame) -> Iterator[str]:
        """Give the names that *expressions* can stand for: of events, or of log methods."""
        for each in expressions:
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield each.value
            elif isinstance(each, ast.IfExp):
                yield from self._values([each.body, each.orelse], frame)
            elif isinstance(each, ast.Attribute) and is_method(each):
                self._mentions.pop(id(each), None)
                yield each.attr
            elif isinstance(each, ast.Name) and each.id in frame.arguments and frame.caller is not None:
                yield from self._values([frame.arguments[each.id]], frame.caller)
            else:
                assert isinstance(each, ast.Name), ast.unparse(each)
                assigned = assigned_to(each.id, frame.function)
                assert assigned, f"{each.id}: neither assigned nor handed over"
                yield from self._values(assigned, frame)


def makes_log(node: ast.expr) -> bool:
    return any(isinstance(each, ast.Attribute) and each.attr == "get_logger" for each in ast.walk(node))


def is_method(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and node.attr in LEVELS and ast.unparse(node.value) in LOGS


def method_of(site: Site, aliases: set[str]) -> list[ast.expr] | None:
    """Give which log methods a call may call; None when it is no call of a log."""
    function = site.call.func
    if is_method(function):
        return [function]
    if isinstance(function, ast.Call) and called(function) == "getattr" and len(function.args) > 1:
        target, name = function.args[:2]
        return [name] if ast.unparse(target) in LOGS else None
    if isinstance(function, ast.Name):
        return assigned_to(function.id, site.function) or None if function.id in aliases else None
    return None


def called(call: ast.Call) -> str:
    """Give the bare name of what is called."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def names_of(function: Function | None) -> list[str]:
    """Give the parameters that have a name, without self."""
    if function is None:
        return []
    arguments = function.args
    return [each.arg for each in (*arguments.args, *arguments.kwonlyargs) if each.arg != "self"]


def is_parameter(node: ast.expr, function: Function | None) -> bool:
    if not isinstance(node, ast.Name) or function is None:
        return False
    keywords = function.args.kwarg
    return node.id in names_of(function) or (keywords is not None and keywords.arg == node.id)


def bind(function: Function, call: ast.Call) -> tuple[dict[str, ast.expr], list[ast.keyword]] | None:
    """Give what *call* hands to each parameter, and its further keywords; None when it calls another."""
    names = names_of(function)
    bound = dict(zip(names, call.args, strict=False))
    bound |= {each.arg: each.value for each in call.keywords if each.arg in names and each.arg is not None}
    more = [each for each in call.keywords if each.arg not in names]
    needed = [each.arg for each in function.args.args if each.arg != "self"]
    needed = needed[: len(needed) - len(function.args.defaults)]
    only = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    needed += [each.arg for each, default in only if default is None]
    return (bound, more) if set(needed) <= set(bound) else None


def fields_of(keywords: list[ast.keyword], frame: Frame) -> Iterator[str]:
    """Give the fields of a line; `exc_info` becomes `exception` when it is true."""
    for each in keywords:
        if each.arg == "exc_info":
            value = each.value
            if isinstance(value, ast.Name):
                value = frame.arguments.get(value.id, ast.Constant(value=False))
            assert isinstance(value, ast.Constant), ast.unparse(value)
            if value.value:
                yield "exception"
        elif each.arg is not None:
            yield each.arg
        elif is_parameter(each.value, frame.function):
            assert frame.caller is not None
            yield from fields_of(frame.more, frame.caller)
        else:
            yield from SPREAD[ast.unparse(each.value)]


def assigned_to(name: str, function: Function | None) -> list[ast.expr]:
    """Give what a function assigns to a local name."""
    if function is None:
        return []
    found = []
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            found += [node.value for each in node.targets if isinstance(each, ast.Name) and each.id == name]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            found += [node.value] if node.value is not None else []
    return found
