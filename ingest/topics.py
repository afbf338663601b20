"""MQTT topic filters: validity, matching and overlap (MQTT 3.1.1 and 5.0, section 4.7).

Pure functions on text; no stage, no settings. The settings refuse filters that overlap (a broker
may deliver such a message once per subscription), decode ignores topics by filter.
A shared filter `$share/group/filter` stands for the filter behind the group.
"""

from __future__ import annotations

from itertools import zip_longest

MAX_FILTER_BYTES = 65_535
"""Length field of an MQTT string (MQTT 5.0, 1.5.4)."""


def valid_filter(topic_filter: str) -> bool:
    """Tell whether a broker must accept *topic_filter* in SUBSCRIBE; never raises."""
    if not topic_filter or "\0" in topic_filter:
        return False
    try:
        if len(topic_filter.encode()) > MAX_FILTER_BYTES:
            return False
    except UnicodeEncodeError:  # a lone surrogate
        return False
    if topic_filter.startswith("$share/"):
        _, group, *behind = topic_filter.split("/", 2)
        if not group or "+" in group or "#" in group or not behind or not behind[0]:
            return False
    levels = _levels(topic_filter)
    return all(
        ("+" not in level and "#" not in level)
        or level == "+"
        or (level == "#" and position == len(levels) - 1)
        for position, level in enumerate(levels)
    )


def match(topic_filter: str, topic: str) -> bool:
    """Tell whether the valid *topic_filter* receives messages of *topic*.

    `a/#` receives its parent `a` too (4.7.1.2); a wildcard in the first level does not receive
    topics beginning with `$` (4.7.2).
    """
    wanted = _levels(topic_filter)
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for expected, found in zip_longest(wanted, topic.split("/")):
        if expected == "#":
            return True
        if expected != found and (expected != "+" or found is None):
            return False
    return True


def overlap(first: str, second: str) -> bool:
    """Tell whether some topic is received by both valid filters; symmetric."""
    left, right = _levels(first), _levels(second)
    for one, other in ((left[0], right[0]), (right[0], left[0])):
        if one.startswith("$") and other in ("+", "#"):
            return False
    for one_level, other_level in zip_longest(left, right):
        if one_level == "#" or other_level == "#":
            return True
        if one_level is None or other_level is None:
            return False
        if one_level != other_level and "+" not in (one_level, other_level):
            return False
    return True


def _levels(topic_filter: str) -> list[str]:
    if topic_filter.startswith("$share/"):
        topic_filter = topic_filter.split("/", 2)[-1]
    return topic_filter.split("/")
