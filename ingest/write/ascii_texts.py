"""A message's texts in ASCII: how the database gets what it refused as it came. Pure.

In a database that is not in UTF8, or under an index of the installation's own, a dead letter can be refused
for its topic, or for a name that it tells of. Held for ever, it would hold up everything behind it. The
payload is bytes, and stays as it came.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ingest.model import ClockFault, Gateway, Rejection

if TYPE_CHECKING:
    from ingest.write.batch import Batch

TEXT_CHARS: Final = 2_000
"""Kept of each: an index takes 2 704 bytes a row."""


def ascii_text(text: str) -> str:
    r"""Give *text* with \xhh, \uhhhh or \Uhhhhhhhh for what is not ASCII, cut to TEXT_CHARS."""
    return text.encode("ascii", "backslashreplace").decode("ascii")[:TEXT_CHARS]


def in_ascii(batch: Batch) -> Batch:
    """Give *batch*, a message alone without rows, with every text of it in ASCII."""
    return replace(
        batch,
        deliveries=[each._replace(topic=ascii_text(each.topic)) for each in batch.deliveries],
        gateways=[_gateway(each) for each in batch.gateways],
        rejections={at: [_rejection(each) for each in found] for at, found in batch.rejections.items()},
        curable={at: frozenset(map(ascii_text, missing)) for at, missing in batch.curable.items()},
    )


def _gateway(gateway: Gateway) -> Gateway:
    return Gateway(ascii_text(gateway.name), gateway.tenant_id, gateway.greenhouse_id)


def _rejection(rejection: Rejection) -> Rejection:
    detail = ascii_text(rejection.detail)
    if isinstance(fault := rejection.detail, ClockFault):
        detail = ClockFault(detail, fault.kind, fault.time_us)
    return Rejection(ascii_text(rejection.field), rejection.reason, detail)
