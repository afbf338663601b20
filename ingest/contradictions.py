"""Settings that are well-formed one by one and wrong together, and topics that cannot work.

Pure: no file is looked at, nothing is connected. `ingest.configuration` reports what is found
here beside the values pydantic refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from ingest.addresses import is_loopback
from ingest.topics import overlap, valid_filter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.settings import RouteSettings, Settings

CAPTURES = ("tenant", "greenhouse", "greenhouse_code", "sensor_type")
"""What a route's topic may capture in braces."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Options that are well-formed one by one and wrong together; the first is blamed."""

    options: tuple[str, ...]
    text: str


def contradictions(settings: Settings) -> Iterator[Contradiction]:
    """Yield what two or more options say against each other, and topics that cannot work."""
    yield from _tls_contradictions(settings)
    yield from _filter_contradictions(settings)
    yield from _page_contradictions(settings)
    for number, route in enumerate(settings.route):
        fault = _route_fault(route)
        if fault:
            yield Contradiction((f"route[{number}].topic",), fault)
    for number, rule in enumerate(settings.label_rule):
        if rule.minimum is not None and rule.maximum is not None and rule.minimum > rule.maximum:
            text = f"{rule.minimum:g} is above maximum {rule.maximum:g}"
            yield Contradiction((f"label_rule[{number}].minimum", f"label_rule[{number}].maximum"), text)
    for least, most in (
        ("broker.reconnect_min_s", "broker.reconnect_max_s"),
        ("write.retry_min_s", "write.retry_max_s"),
    ):
        table, option = least.split(".")
        low = getattr(getattr(settings, table), option)
        high = getattr(getattr(settings, table), most.split(".")[1])
        if low > high:
            yield Contradiction((least, most), f"{low:g} is above {most} {high:g}")


def _tls_contradictions(settings: Settings) -> Iterator[Contradiction]:
    broker = settings.broker
    if broker.password is not None and broker.username is None:
        text = "a password without broker.username; MQTT 3.1.1 allows none (3.1.2.9)"
        yield Contradiction(("broker.password", "broker.username"), text)
    for one, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if getattr(broker, one) is not None and getattr(broker, other) is None:
            yield Contradiction((f"broker.{one}", f"broker.{other}"), f"is set without broker.{other}")
    if settings.broker_address.tls:
        return
    for option in ("ca_file", "cert_file", "key_file"):
        if getattr(broker, option) is not None:
            scheme = settings.broker_url.partition(":")[0]
            text = f"is set, but broker_url begins with {scheme}://, which is not encrypted; use mqtts:// or wss://"
            yield Contradiction((f"broker.{option}", "broker_url"), text)


def _filter_contradictions(settings: Settings) -> Iterator[Contradiction]:
    filters = settings.broker.filters
    for topic_filter in filters:
        if not valid_filter(topic_filter):
            yield Contradiction(("broker.filters",), f"{topic_filter!r} is no MQTT topic filter")
    for one, other in combinations([each for each in filters if valid_filter(each)], 2):
        if overlap(one, other):
            text = f"{one!r} and {other!r} overlap: a broker may deliver a message twice; keep one of them"
            yield Contradiction(("broker.filters",), text)
    if settings.share_group is not None:
        for topic_filter in filters:
            if topic_filter.startswith("$share/"):
                text = (
                    f"{topic_filter!r} names a share group of its own; with table [workers], give the filter"
                )
                yield Contradiction(("broker.filters", "workers.group", "workers.count"), text)
    for topic_filter in settings.decode.ignore:
        if not valid_filter(topic_filter):
            yield Contradiction(("decode.ignore",), f"{topic_filter!r} is no MQTT topic filter")


def _page_contradictions(settings: Settings) -> Iterator[Contradiction]:
    observe = settings.observe
    if not observe.http_page:
        return
    if observe.http_port is None:
        yield Contradiction(("observe.http_page", "observe.http_port"), "is on, but observe.http_port is off")
    elif not is_loopback(observe.http_host):
        text = (
            f"the page has no login, and observe.http_host is {observe.http_host!r}, no loopback address; "
            f"use 127.0.0.1, and a tunnel or a proxy with a login (docs/page.md)"
        )
        yield Contradiction(("observe.http_page", "observe.http_host"), text)


def _route_fault(route: RouteSettings) -> str | None:
    levels = route.topic.split("/")
    captured = [level[1:-1] for level in levels if level.startswith("{") and level.endswith("}")]
    for level in levels:
        plain = level.strip("{}") if level[:1] == "{" and level[-1:] == "}" else level
        if level != "+" and any(sign in plain for sign in "+#{}\0"):
            return f"{route.topic!r}: level {level!r} is neither text, nor +, nor one name in braces"
    unknown = [name for name in captured if name not in CAPTURES]
    if unknown:
        return f"{route.topic!r}: {{{unknown[0]}}} is unknown; known are {', '.join(CAPTURES)}"
    return _capture_fault(route, captured)


def _capture_fault(route: RouteSettings, captured: list[str]) -> str | None:
    greenhouses = sum(name in {"greenhouse", "greenhouse_code"} for name in captured)
    if len(set(captured)) < len(captured) or greenhouses > 1:
        return f"{route.topic!r} captures the same thing twice"
    if "tenant" in captured and route.tenant is not None:
        return f"{route.topic!r} names the tenant, so the option tenant has no meaning; remove it"
    if route.format != "labels" and not greenhouses:
        return f"{route.topic!r}: format {route.format!r} needs {{greenhouse}} in the topic"
    if route.format == "labels" and "tenant" not in captured and route.tenant is None:
        return f"{route.topic!r}: format 'labels' needs {{tenant}} in the topic, or the option tenant"
    return None
