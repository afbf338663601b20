"""The last conditions: means by greenhouse and type, of what was stored lately, bounded."""

from __future__ import annotations

import sys
from uuid import UUID, uuid4

from ingest.model import Row
from ingest.quality import Condition, Conditions, Place, merged_conditions
from ingest.quality.conditions import MAX_SHOWN, RECENT_US
from tests.batches import NOW_US
from tests.unit.quality_stream import HUMIDITY, Stream, out_of_range, series_of

OTHER = UUID(int=0xC)


def placed(greenhouse_id: UUID) -> Place:
    return Place("Sara", f"{greenhouse_id.int:04}")


def of(stream: Stream) -> Conditions:
    return stream.survey.conditions(stream.now_us, placed)


def condition(greenhouse: str, value: float, time_us: int) -> Condition:
    return Condition("Sara", greenhouse, "TEMPERATURE", "°C", value, value, value, 1, time_us)


def test_sensors_of_a_type_are_one_and_greenhouses_and_types_are_apart() -> None:
    stream = Stream()
    for value in (20.0, 23.0):
        stream.send(series_of(), 18.0, value)
    stream.send(series_of(sensor_type_id=HUMIDITY), 60.0)
    stream.send(series_of(greenhouse_id=OTHER), 30.0)
    shown, count = of(stream)
    assert count == 3
    assert [(each.greenhouse, each.sensor_type, each.value, each.sensors) for each in shown] == [
        ("0011", "HUMIDITY", 60.0, 1),
        ("0011", "TEMPERATURE", 21.5, 2),
        ("0012", "TEMPERATURE", 30.0, 1),
    ]
    assert (shown[1].least, shown[1].greatest) == (20.0, 23.0)
    assert shown[1].time_us == NOW_US + 30_000_000, "of the newest"


def test_what_is_old_or_refused_or_out_of_range_is_no_condition_of_now() -> None:
    stream = Stream(flagged=True)
    old, refused, flagged = series_of(), series_of(), series_of()
    stream.send(old, 20.0)
    stream.wait(RECENT_US / 1e6)
    for series in (refused, flagged):
        stream.send(series, 20.0)
    assert of(stream).shown[0].sensors == 2
    stream.survey.rejections([out_of_range(refused, 6484.1, stream.now_us)])
    stream.send(flagged, 150.0)
    assert of(stream) == ([], 0)
    stream.send(refused, 21.0)
    stream.send(flagged, 22.0)
    assert of(stream).shown[0].value == 21.5


def test_only_flagged_values_so_far_are_none() -> None:
    stream = Stream(flagged=True)
    stream.batch(Row(series_of(), stream.now_us, 150.0, None, ""))
    assert of(stream) == ([], 0)


def test_what_the_catalog_no_longer_has_is_left_out() -> None:
    stream = Stream()
    stream.send(series_of(), 20.0)
    assert stream.survey.conditions(stream.now_us, lambda _: None) == ([], 0)


def test_the_first_are_shown_by_name_and_all_are_counted() -> None:
    stream = Stream()
    houses = [UUID(int=number) for number in range(MAX_SHOWN + 50, 0, -1)]
    stream.batch(*(Row(series_of(uuid4(), greenhouse_id=house), NOW_US, 20.0, None, "") for house in houses))
    shown, count = of(stream)
    assert count == MAX_SHOWN + 50
    assert [each.greenhouse for each in shown] == [f"{number:04}" for number in range(1, MAX_SHOWN + 1)]


def test_of_several_workers_the_newest_counts() -> None:
    one = Conditions([condition("01", 20.0, 5), condition("02", 30.0, 5)], 2)
    other = Conditions([condition("01", 21.0, 6), condition("03", 40.0, 1)], 900)
    merged = merged_conditions([one, other])
    assert [(each.greenhouse, each.value) for each in merged.shown] == [
        ("01", 21.0),
        ("02", 30.0),
        ("03", 40.0),
    ]
    assert merged.of == 900
    many = Conditions([condition(f"{number:04}", 1.0, 1) for number in range(MAX_SHOWN)], MAX_SHOWN)
    assert len(merged_conditions([many, other]).shown) == MAX_SHOWN
    assert merged_conditions([]) == ([], 0)


def test_values_that_no_float_can_sum_up_have_a_mean() -> None:
    stream = Stream()
    for value in (1e308, 1e308, 1.7e308):
        stream.send(series_of(minimum=-sys.float_info.max, maximum=sys.float_info.max), value)
    (shown,) = of(stream).shown
    assert 1e308 < shown.value < 1.7e308
    for _ in range(3):  # the mean of these is past the greatest, rounded
        stream.send(series_of(sensor_type_id=HUMIDITY, maximum=sys.float_info.max), sys.float_info.max)
    assert of(stream).shown[0].value == sys.float_info.max
