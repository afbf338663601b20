"""A dead letter looked at again: what of it is rows by now, and what still stays behind. Pure.

Runs the worker's decode and resolve with the receipt time of then as "now", so that times are judged by it
and readings without one get the key they would have had. One piece for `ingest dead-letters replay` and for
the worker that heals (healing.py); the transaction around it is in write/letters.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.decode import IGNORED
from ingest.intake import place_of
from ingest.model import Rejection
from ingest.storable import storable
from ingest.write.replay import LookedAt

if TYPE_CHECKING:
    from ingest.decode import Decoder
    from ingest.resolve import Resolver
    from ingest.write.letters import StoredLetter


def look_again(decoder: Decoder, resolver: Resolver, letter: StoredLetter) -> LookedAt:
    """Give the rows and rejections of the fields that *letter* lost; of its other fields nothing.

    A topic ignored by rule by now leaves neither. Never raises: a bug of ours leaves the letter as it is.
    """
    try:
        decoded = decoder.decode(letter.topic, letter.payload, letter.receipt_us)
        if decoded is IGNORED:
            return LookedAt(ignored=True)
        resolved = resolver.resolve(decoded)
    except Exception as error:  # noqa: BLE001 - as at receipt: the other letters go on
        return LookedAt(rejections=letter.rejections, fault=place_of(error))
    rejections = [*decoded.rejections, *resolved.rejections]
    lost = lost_fields(letter)
    if lost is None:
        return LookedAt(
            resolved.rows, rejections, resolved.missing, decoded.nulls, tenant_id=resolved.tenant_id
        )
    rows = [row for row in resolved.rows if storable(row.field) in lost]
    still = [each for each in rejections if storable(each.field) in lost]
    judged = {storable(row.field) for row in rows} | {storable(each.field) for each in still}
    # Read in another format, or under other limits, than then: a field that is not met again is not lost.
    whole = next((each for each in decoded.rejections if not each.field), None)
    unmet = [old for old in letter.rejections if old.field not in judged]
    still += unmet if whole is None else [Rejection(old.field, whole.reason, whole.detail) for old in unmet]
    return LookedAt(rows, still, resolved.missing, tenant_id=resolved.tenant_id)


def lost_fields(letter: StoredLetter) -> frozenset[str] | None:
    """Give the places of the readings that were rejected; None for all of the message's.

    All of them where it was rejected whole, and where the letter keeps a sample of its rejections only: what
    was stored at the time has its key there, and is met as a duplicate.
    """
    fields = frozenset(rejection.field for rejection in letter.rejections)
    if "" in fields or len(letter.rejections) < letter.rejected_count:
        return None
    return fields
