"""Flat maps: every key but the envelope's is a label, its value one reading.

Owns the envelope keys and the limits of a label. What a label means (sensor, type, greenhouse) is
resolve's, through `ingest.labels`. Pure.
"""

from __future__ import annotations

from typing import Final

from ingest.decode.values import INFINITY, MINUS_INFINITY, Fault, TimeFault, bad_time, parse_value, quoted
from ingest.model import Reading, Rejection
from ingest.storable import storable

ENVELOPE_KEYS: Final = ("timestamp", "greenhouseId", "tenantId")
"""Never sensors. The time is used; the ids are not believed, the topic says whose message it is."""


def read_labels(
    labels: dict[str, object],
    time_us: int | TimeFault,
    *,
    max_label_chars: int,
    escaped: bool,
) -> tuple[list[Reading], list[Rejection], int]:
    """Give one reading, rejection or null (counted) for each of *labels* (envelope keys removed).

    A Fault for the time rejects every label but the nulls. *escaped* says that the payload has
    Unicode escapes, the only way for a NUL or a lone surrogate to get into a label.
    """
    readings: list[Reading] = []
    rejections: list[Rejection] = []
    nulls = 0
    for label, value in labels.items():
        if value is None:
            nulls += 1
            continue
        field = storable(label) if escaped else label
        if not label or len(label) > max_label_chars:
            rejections.append(_unusable_label(label, field, max_label_chars))
            continue
        if not isinstance(time_us, int):
            rejections.append(bad_time(field, time_us))
            continue
        number: float | Fault | None
        if type(value) is float and MINUS_INFINITY < value < INFINITY:
            number = value
        elif type(value) is int:  # within 64 bits, see payload
            number = float(value)
        else:
            number = parse_value(value)
            if not isinstance(number, float):
                rejections.append(Rejection(field, "bad_value", str(number)))
                continue
        readings.append(tuple.__new__(Reading, (field, label, None, None, number, time_us, None)))
    return readings, rejections, nulls


def _unusable_label(label: str, field: str, max_label_chars: int) -> Rejection:
    if not label:
        return Rejection('""', "bad_value", "the label is empty")
    detail = f"the label {quoted(label)} has {len(label)} characters, the limit is {max_label_chars}"
    return Rejection(field[:max_label_chars], "bad_value", detail)
