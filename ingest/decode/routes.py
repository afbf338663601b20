"""Topic -> Scope: the configured routes and ignore filters, compiled once, answers remembered.

Owns the order of judgement (ignored topics first, then the first route that fits) and the bounded
memory of topics already seen. It reads no payload. Pure but for that memory; one Routes object
belongs to one task.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Final

from ingest import topics
from ingest.errors import ConfigurationError
from ingest.model import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ingest.settings import RouteSettings


class Ignored(Enum):
    """The type of IGNORED, so that `is` narrows it."""

    IGNORED = "ignored"


IGNORED: Final = Ignored.IGNORED
"""This message is not ours by rule: acknowledged, counted as ignored, never a dead letter."""

MAX_REMEMBERED_TOPICS: Final = 100_000
"""Ten times the largest installation; past it the memory is emptied, so invented topics cost time only."""

MAX_REMEMBERED_CHARS: Final = 200
"""Longer topics are judged anew each time: with the count above this bounds the memory at about 50 MB."""

_TENANT = re.compile(r"[A-Z0-9_]{1,20}")
CAPTURES = {
    "{tenant}": "tenant",
    "{greenhouse}": "greenhouse",
    "{greenhouse_code}": "greenhouse",
    "{sensor_type}": "sensor_type",
}
_PLACES = ("tenant", "greenhouse")


class _Scopes(dict[str, "Scope | Ignored | None"]):
    """The topics already seen; a topic that is not among them is judged. Looked up without a call of ours."""

    def __init__(self, judge: Callable[[str], Scope | Ignored | None]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, topic: str) -> Scope | Ignored | None:
        answer = self._judge(topic)
        if len(topic) <= MAX_REMEMBERED_CHARS:
            if len(self) >= MAX_REMEMBERED_TOPICS:
                self.clear()
            self[topic] = answer
        return answer


class Routes:
    """The routes in their order. A topic's Scope is one object for as long as it is remembered."""

    def __init__(self, routes: Sequence[RouteSettings], ignore: Sequence[str]) -> None:
        """Compile *routes* and the MQTT topic filters *ignore*; ConfigurationError lists every fault."""
        faults = [
            f"decode.ignore: {topic_filter!r} is no MQTT topic filter"
            for topic_filter in ignore
            if not topics.valid_filter(topic_filter)
        ]
        for route in routes:
            faults += _faults_of(route)
        if faults:
            raise ConfigurationError(faults)
        self._routes = tuple(
            (tuple(route.topic.split("/")), route, _gateway_of(route.topic.split("/"))) for route in routes
        )
        self._ignore = tuple(ignore)
        self.scopes: Mapping[str, Scope | Ignored | None] = _Scopes(self._judge)
        """What a topic is: its Scope, IGNORED, or None where no route fits. Has every topic, never raises."""

    def _judge(self, topic: str) -> Scope | Ignored | None:
        if any(topics.match(topic_filter, topic) for topic_filter in self._ignore):
            return IGNORED
        levels = topic.split("/")
        for pattern, route, gateway in self._routes:
            captured = capture(pattern, levels)
            if captured is not None:
                return Scope(
                    route.format,
                    captured.get("tenant", route.tenant),
                    captured.get("greenhouse"),
                    captured.get("sensor_type"),
                    gateway,
                )
        return None


def capture(pattern: tuple[str, ...], levels: list[str]) -> dict[str, str] | None:
    """Give what the braces of *pattern* hold in *levels*, None where the topic does not fit."""
    if len(pattern) != len(levels):
        return None
    captured: dict[str, str] = {}
    for expected, level in zip(pattern, levels, strict=True):
        name = CAPTURES.get(expected)
        if name is None:
            if expected not in ("+", level):
                return None
        elif not level or (name == "tenant" and not _TENANT.fullmatch(level)):
            return None
        else:
            captured[name] = level
    return captured


def _gateway_of(levels: list[str]) -> str:
    """Give the pattern up to its last level that names a place, all of it where none does.

    A level that is matched and not read stays `+`: whatever is published there, it is one gateway.
    """
    places = [number for number, level in enumerate(levels) if CAPTURES.get(level) in _PLACES]
    return "/".join(
        "+" if name == "sensor_type" else f"{{{name}}}" if name else level
        for level in levels[: places[-1] + 1 if places else None]
        for name in (CAPTURES.get(level),)
    )


def _faults_of(route: RouteSettings) -> list[str]:
    """List what makes *route* unusable, one line each."""
    levels = route.topic.split("/")
    captured = [CAPTURES[level] for level in levels if level in CAPTURES]
    place = f"route {route.topic!r}:"
    faults = [
        f"{place} the level {level!r} is neither text, + nor one of {', '.join(CAPTURES)}"
        for level in levels
        if level not in CAPTURES and level != "+" and set(level) & set("{}+#\0")
    ]
    faults += [
        f"{place} {name} is captured twice" for name in sorted(set(captured)) if captured.count(name) > 1
    ]
    if "tenant" in captured and route.tenant is not None:
        faults.append(f"{place} the topic names the tenant, so `tenant` has no meaning; remove it")
    if route.format != "labels" and "greenhouse" not in captured:
        faults.append(f"{place} the format {route.format!r} needs a level {{greenhouse}}")
    return faults
