"""The page for people, at / of the HTTP port when `observe.http_page` is on: page.html and what it polls.

The page is one file, script and style in it, allowed by their hashes and nothing else: no other source, no
inline handler, no form, no frame, and, where the browser knows Trusted Types, no text parsed as HTML. Names
in it are of the catalog, and not believed either. Its state is counters and the last conditions; rates are
the page's to reckon, so that nothing is kept here for those who look.
"""

from __future__ import annotations

import time
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from ingest.release import release

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    from ingest.observe.http import Health
    from ingest.quality import Conditions

SHOWN: Final = frozenset(
    {
        "ingest_messages_total",
        "ingest_readings_total",
        "ingest_rejections_total",
        "ingest_batches_total",
        "ingest_batch_rows_sum",
        "ingest_batch_rows_count",
        "ingest_commit_seconds_sum",
        "ingest_in_flight_messages",
        "ingest_lag_seconds",
        "ingest_workers",
        "ingest_last_commit_timestamp_seconds",
    }
)
"""The samples that the page has."""

Number: TypeAlias = float | dict[str, float]
"""One sample; with a label, one a value of it."""


class Page:
    """See the module's header; *health* and *conditions* are asked at each poll, and must not block."""

    def __init__(
        self,
        registry: CollectorRegistry,
        health: Callable[[], Health],
        conditions: Callable[[], Conditions | None],
    ) -> None:
        self._registry = registry
        self._health = health
        self._conditions = conditions
        self.html = Path(__file__).with_name("page.html").read_bytes()
        self.headers = (
            f"Content-Security-Policy: {_policy(self.html)}",
            "Cross-Origin-Resource-Policy: same-origin",
            "Cross-Origin-Opener-Policy: same-origin",
            "Referrer-Policy: no-referrer",
        )

    def state(self) -> dict[str, object]:
        """Give what the page polls."""
        health, conditions = self._health(), self._conditions()
        now_s = time.time()
        numbers = self._numbers()
        last_commit_s = numbers.pop("ingest_last_commit_timestamp_seconds", 0.0)
        assert isinstance(last_commit_s, float)  # noqa: S101 -- the catalogue has no label for it
        return {
            "version": release(),
            "monotonic_s": time.monotonic(),
            "ready": health.live and not health.reasons,
            "reasons": health.reasons,
            "numbers": numbers,
            "since_commit_s": max(0.0, now_s - last_commit_s) if last_commit_s else None,
            "conditions": None if conditions is None else _told(conditions, now_s),
        }

    def _numbers(self) -> dict[str, Number]:
        numbers: dict[str, Number] = {}
        for family in self._registry.collect():
            for sample in family.samples:
                if sample.name not in SHOWN:
                    continue
                if not sample.labels:
                    numbers[sample.name] = float(sample.value)
                    continue
                by_value = numbers.setdefault(sample.name, {})
                assert isinstance(by_value, dict)  # noqa: S101 -- a metric has a label or has none
                by_value[next(iter(sample.labels.values()))] = float(sample.value)
        return numbers


def _told(conditions: Conditions, now_s: float) -> dict[str, object]:
    shown = [
        {
            "tenant": each.tenant,
            "greenhouse": each.greenhouse,
            "sensor_type": each.sensor_type,
            "unit": each.unit,
            "value": each.value,
            "least": each.least,
            "greatest": each.greatest,
            "sensors": each.sensors,
            "age_s": max(0.0, now_s - each.time_us / 1e6),
        }
        for each in conditions.shown
    ]
    return {"of": conditions.of, "shown": shown}


def _policy(html: bytes) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash_of(html, b'script')}",
            f"style-src {_hash_of(html, b'style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hash_of(html: bytes, element: bytes) -> str:
    """Name the text of the page's one *element* as CSP does."""
    _, found, rest = html.partition(b"<" + element + b">")
    text, ended, _ = rest.partition(b"</" + element + b">")
    assert found, f"page.html has no {element.decode()}"  # noqa: S101 -- a file of this package
    assert ended  # noqa: S101
    return f"'sha256-{b64encode(sha256(text).digest()).decode()}'"
