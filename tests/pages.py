"""The worker's own HTTP pages, asked for as a probe or a scraper asks."""

from __future__ import annotations

import contextlib
from http.client import HTTPConnection


def page(port: int, name: str) -> tuple[int, str]:
    """Give status and body of a page on the loopback. Raises OSError while nobody listens."""
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", f"/{name}")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def series(port: int) -> set[str]:
    """Give the name and labels of every series of /metrics."""
    status, body = page(port, "metrics")
    assert status == 200
    return {line.rpartition(" ")[0] for line in body.splitlines() if line and line[0] != "#"}
