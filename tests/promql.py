"""What a PromQL expression asks for: its selectors, compared with the series that a worker really has.

Knows the names in this project's rules and dashboards (ingest_…, process_…, up, recorded names with a colon),
not the language: promtool and Prometheus judge the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SELECTOR = re.compile(r"\b((?:ingest_|process_)\w+|\w+(?::\w+)+|up\b)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
SCRAPED = frozenset({"job", "instance"})
"""Labels that Prometheus adds to what it scrapes."""


RULES_FILE = Path(__file__).parents[1] / "deploy" / "prometheus" / "alerts.yml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES_FILE.read_text())["groups"] for rule in group["rules"]
]
"""Every rule that is shipped: alerts, and what is recorded."""
RECORDED = {rule["record"] for rule in RULES if "record" in rule}


@dataclass(frozen=True, slots=True)
class Selector:
    """One `name{label="value", …}` of an expression."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]

    def selects(self, name: str, labels: Mapping[str, str]) -> bool:
        """Tell whether a series as scraped is one of these."""
        return name == self.name and all(
            label in SCRAPED or _matches(operator, value, labels.get(label, ""))
            for label, operator, value in self.matchers
        )


def selectors(expression: str) -> list[Selector]:
    """Give every selector of *expression*, in order."""
    return [
        Selector(name, tuple(_MATCHER.findall(matchers))) for name, matchers in _SELECTOR.findall(expression)
    ]


def without_series(
    wanted: Iterable[Selector], series: Iterable[tuple[str, Mapping[str, str]]]
) -> list[Selector]:
    """Give those *wanted* that select none of *series*: what they ask for does not exist."""
    held = list(series)
    return [each for each in wanted if not any(each.selects(name, labels) for name, labels in held)]


def _matches(operator: str, value: str, found: str) -> bool:
    equal = found == value if operator in {"=", "!="} else re.fullmatch(value, found) is not None
    return equal is not operator.startswith("!")
