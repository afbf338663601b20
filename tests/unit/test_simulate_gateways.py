"""Simulated probes and gateways: what they publish is what real ones do, faults included."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.decode import IGNORED, Decoder, Routes
from ingest.load.simulate.formats import STATUS_TOPIC
from ingest.load.simulate.gateway import Plan, interval_of, number_of
from ingest.load.simulate.installation import FORMATS, Format, installation
from ingest.load.simulate.probes import FAILURES, MODELS, SILENT, Probe
from ingest.load.simulate.randomness import chance
from ingest.load.simulate.stream import catalog_of, messages
from ingest.model import Decoded
from ingest.operate.catalog_entries import LISTS, checked
from ingest.settings import Settings
from tests.fuzzing import examples

if TYPE_CHECKING:
    from ingest.load.recording import Recorded
    from ingest.load.simulate.probes import FaultLevel

START_US = 1_767_225_600_000_000
HOUR_US = 3_600_000_000
SETTINGS = Settings()
DECODER = Decoder(Routes(SETTINGS.route, SETTINGS.decode.ignore), SETTINGS.decode)


def plan(**changes: Any) -> Plan:  # noqa: ANN401 (of each field its own type)
    return Plan(seed=1, gateways=16, start_us=START_US, duration_us=HOUR_US, faults="none")._replace(
        **changes
    )


def decoded(message: Recorded) -> Decoded | None:
    """Give what the worker makes of it; None where it ignores it by rule."""
    outcome = DECODER.decode(message.topic, message.payload, message.received_us)
    return None if outcome is IGNORED else outcome


def probe(quantity: str, faults: FaultLevel, *, seed: int = 1, null: bool = False) -> Probe:
    return Probe(MODELS[quantity], chance(seed, quantity), faults=faults, start_s=0.0, null=null)


# probes


@pytest.mark.parametrize(("quantity", "truth"), [("temperature", 21.37), ("light", 30_000.0), ("rain", 1.3)])
def test_a_sound_probe_is_as_exact_as_its_data_sheet(quantity: str, truth: float) -> None:
    model = MODELS[quantity]
    shown: list[object] = []
    for seed in range(20):
        one = probe(quantity, "none", seed=seed)
        shown = [one.read(truth, second) for second in range(50)]
        worst = (model.accuracy + model.repeatability) * (truth if model.relative else 1)
        worst += model.notch or 10.0**-model.decimals
        for value in shown:
            assert isinstance(value, float | int)
            assert abs(value - truth) <= worst
            assert round(value, model.decimals) == value
    assert len(set(shown)) > 1 or quantity == "rain"


def test_a_probe_shows_no_more_than_its_range() -> None:
    assert probe("humidity", "none").read(120.0, 0) == 99.9
    assert probe("light", "none").read(0.0, 0) == 0
    assert probe("pressure", "none").read(0.0, 0) == 800


def test_each_known_failure_occurs_and_ends() -> None:
    seen: Counter[str | None] = Counter()
    stuck: dict[float, set[object]] = defaultdict(set)
    drifted_k = 0.0
    for seed in range(6):
        one = probe("temperature", "many", seed=seed, null=seed % 2 == 1)
        spell = 0.0
        for minute in range(2_500):
            before = one.failure
            value = one.read(20.0 + minute % 7, minute * 60.0)
            spell += one.failure != before
            seen[one.failure] += 1
            if one.failure == "lost":
                assert value == (None if seed % 2 else 6484.1)
            elif one.failure == "gap":
                assert value is SILENT
            else:
                assert isinstance(value, float)
                error_k = abs(value - 20 - minute % 7)
                if one.failure is None:
                    assert error_k < 0.8
                elif one.failure == "drifting":
                    drifted_k = max(drifted_k, error_k)
                elif before == "stuck":
                    stuck[seed * 10_000 + spell].add(value)
    assert set(seen) == {None, *FAILURES}
    assert seen[None] > 5_000
    assert drifted_k > 1.5
    assert max(len(values) for values in stuck.values()) == 1


def test_few_faults_are_few() -> None:
    failed = 0
    for seed in range(30):
        one = probe("co2", "few", seed=seed)
        for minute in range(1_440):
            one.read(600.0, minute * 60.0)
            failed += one.failure is not None
    assert 0 < failed < 0.2 * 30 * 1_440


# formats


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("interval_s", [0.5, 10.0])
def test_the_worker_takes_every_format_whole(kind: Format, interval_s: float) -> None:
    """No faults: no rejection, and no two readings with one key."""
    kept = plan(formats=(kind,), interval_s=interval_s, duration_us=round(60_000_000 * interval_s))
    types: set[str | None] = set()
    keys: Counter[tuple[object, ...]] = Counter()
    for message in messages(kept):
        outcome = decoded(message)
        if outcome is None:
            assert message.topic == STATUS_TOPIC
            continue
        assert not outcome.rejections
        assert outcome.readings
        assert not outcome.nulls
        assert outcome.scope is not None
        types |= {reading.sensor_type or outcome.scope.sensor_type for reading in outcome.readings}
        keys.update(
            (message.topic, reading.sensor, reading.time_us)
            for reading in outcome.readings
            if outcome.scope.format != "labels" or b"timestamp" in message.payload
        )
    assert len(types) >= (1 if kind in {"plc", "labels", "legacy"} else 3)
    assert all(count == 1 for count in keys.values())


def test_times_numbers_and_names_are_spelled_as_gateways_do() -> None:
    summer = plan(gateways=300, start_us=START_US + 190 * 24 * HOUR_US + 12 * HOUR_US, duration_us=70_000_000)
    payloads = [message.payload for message in messages(summer)]
    for piece in (
        *(b'"value":"', b'"unit":"C"', b'"unit":"\xc2\xb0F"', b'"battery_v"', b":true", b'"ON"', b'"OFF"'),
        *(b'Z"', b'+01:00"', b'"timestamp":"178', b'"timestamp":17836', b"greenhouseId"),
        *(b'"RESERVA":0', b"SENSOR_01", b"SETPOINT_01", b"_CO2_01_valor", b"INVERNADERO_03_SECTOR_04"),
    ):
        assert any(piece in payload for payload in payloads), piece
    assert any(payload.replace(b".", b"").isdigit() for payload in payloads)
    plc = next(payload for payload in payloads if b"RESERVA" in payload)
    assert plc.count(b":") == 22


def test_every_sensor_type_of_the_catalog_is_simulated() -> None:
    document = catalog_of(plan(gateways=200))
    sensors = [
        sensor
        for tenant in document["tenants"]
        for house in tenant["greenhouses"]
        for sensor in house["sensors"]
    ]
    assert {sensor["sensor_type"] for sensor in sensors} == {
        *("TEMPERATURE", "HUMIDITY", "LIGHT", "SOIL_MOISTURE", "CO2", "PRESSURE", "WIND_SPEED"),
        *("PRECIPITATION", "SOLAR_RADIATION", "SETPOINT", "SENSOR"),
    }


def test_the_catalog_is_what_import_takes_and_names_are_unique() -> None:
    document = catalog_of(plan(gateways=300))
    prefixes, codes, ids = [], [], []
    for tenant in document["tenants"]:
        houses = tenant.pop("greenhouses")
        checked(LISTS["tenants"], tenant)
        prefixes.append(tenant["prefix"])
        ids.append(tenant["tenant_id"])
        for house in houses:
            sensors = house.pop("sensors")
            checked(LISTS["greenhouses"], house | {"tenant": tenant["prefix"]})
            ids.append(house["greenhouse_id"])
            codes += [house["code"]] if "P" not in tenant["prefix"] else []
            for sensor in sensors:
                owner = {"tenant": tenant["prefix"], "greenhouse": house["code"]}
                checked(LISTS["sensors"], sensor | owner)
            labels = [sensor["label"] for sensor in sensors if "label" in sensor]
            assert len(set(labels)) == len(labels)
    for names in (prefixes, codes, ids):
        assert len(set(names)) == len(names)
    assert not set(prefixes) & set(codes)


def test_the_longest_seed_still_gives_valid_prefixes() -> None:
    for kind in FORMATS:
        assert len(installation(2**31 - 1, 9_999, (kind,)).prefix) <= 20


# gateways


def by_gateway(simulated: Plan) -> dict[int, list[Recorded]]:
    result: dict[int, list[Recorded]] = defaultdict(list)
    for message in messages(simulated):
        result[number_of(message)].append(message)
    return result


def test_the_same_plan_gives_the_same_and_another_seed_something_else() -> None:
    kept = plan(faults="many", duration_us=HOUR_US // 6)
    assert list(messages(kept)) == list(messages(kept))
    assert list(messages(kept)) != list(messages(kept._replace(seed=2)))


def test_a_gateway_does_not_notice_the_others_nor_when_it_ends() -> None:
    kept = plan(faults="many", duration_us=HOUR_US // 6)
    few, many = by_gateway(kept._replace(gateways=5)), by_gateway(kept)
    assert {number: many[number] for number in range(5)} == few
    longer = by_gateway(kept._replace(duration_us=HOUR_US // 4))
    for number, sent in many.items():
        assert longer[number][: len(sent)] == sent
    assert installation(1, 3, FORMATS) == installation(1, 3, FORMATS)


def test_each_gateway_reports_at_its_interval_and_all_come_in_the_order_of_time() -> None:
    simulated = plan(formats=("legacy",), duration_us=HOUR_US // 4)
    times = [message.received_us for message in messages(simulated)]
    assert times == sorted(times)
    assert START_US <= times[0] < times[-1] < simulated.end_us
    for number, sent in by_gateway(simulated).items():
        interval_us = interval_of(simulated, number) * 1_000_000
        readings = [message.received_us for message in sent if message.topic != STATUS_TOPIC]
        assert all(
            abs(after - before - interval_us) < 0.1 * interval_us for before, after in pairwise(readings)
        )
        assert len(readings) == pytest.approx(HOUR_US / 4 / interval_us, abs=2)
    assert {interval_of(simulated, number) for number in range(16)} == {3.0, 5.0, 10.0}
    assert interval_of(simulated._replace(interval_s=7.5), 3) == 7.5


@pytest.mark.parametrize(("qos", "expected"), [("0", {0}), ("1", {1}), ("mixed", {0, 1})])
def test_qos_is_the_one_asked_for(qos: str, expected: set[int]) -> None:
    assert {message.qos for message in messages(plan(qos=qos, duration_us=20_000_000))} == expected


def test_a_gateway_that_comes_back_sends_again_and_delivers_what_it_buffered() -> None:
    """Over five hours of outages: repeats at QoS 1, bursts of old readings, silence without a time."""
    simulated = plan(faults="many", gateways=8, duration_us=5 * HOUR_US, interval_s=30.0)
    repeats, late_s = Counter[int](), Counter[int]()
    for number, sent in by_gateway(simulated).items():
        kind = FORMATS[number]
        recent: dict[tuple[str, bytes], int] = {}
        for message in sent:
            key = (message.topic, message.payload)
            if message.topic != STATUS_TOPIC and b"timestamp" in message.payload:
                repeats[number] += recent.get(key, 0) > message.received_us - 3_600_000_000
                recent[key] = message.received_us
            outcome = decoded(message)
            if outcome is not None and outcome.readings and kind in {"reading", "array", "envelope"}:
                newest_us = max(reading.time_us for reading in outcome.readings)
                late_s[number] = max(late_s[number], (message.received_us - newest_us) // 1_000_000)
        gaps_us = [after.received_us - before.received_us for before, after in pairwise(sent)]
        assert max(gaps_us) > 40_000_000
        assert min(gaps_us) > 0
    assert sum(repeats.values()) > 5
    assert max(late_s.values()) > 60
    assert not any(
        repeats_at_qos_0
        for number, sent in by_gateway(simulated._replace(qos="0", duration_us=2 * HOUR_US)).items()
        if FORMATS[number] in {"reading", "array", "envelope"}
        for repeats_at_qos_0 in [len(sent) - len({(each.topic, each.payload) for each in sent})]
        if sent[0].topic != STATUS_TOPIC
    )


def test_clocks_are_wrong_within_reason_or_hopelessly() -> None:
    def offsets_s(faults: FaultLevel) -> list[float]:
        simulated = plan(
            faults=faults, gateways=120, formats=("envelope",), duration_us=30_000_000, interval_s=5.0
        )
        offsets: dict[int, float] = {}
        for message in messages(simulated):
            outcome = DECODER.decode(
                message.topic, message.payload, message.received_us, time_range_us=(0, 2 * START_US)
            )
            assert isinstance(outcome, Decoded)
            time_us = outcome.readings[0].time_us if outcome.readings else message.received_us
            offsets.setdefault(number_of(message), (time_us - message.received_us) / 1e6)
        return list(offsets.values())

    assert all(abs(offset) < 1.2 for offset in offsets_s("none"))
    few = offsets_s("few")
    assert 3 < sum(abs(offset) > 3 for offset in few) < 30
    assert max(abs(offset) for offset in few) < 95
    many = offsets_s("many")
    assert any(offset > 3_000 for offset in many), "a time zone ahead"
    assert any(offset < -1e9 for offset in many), "in 1970"


@settings(max_examples=examples(10))
@given(
    seed=st.integers(0, 2**31 - 1),
    faults=st.sampled_from(["none", "few", "many"]),
    interval_s=st.one_of(st.none(), st.floats(0.1, 4_000)),
    latitude_deg=st.floats(-90, 90),
    kinds=st.sets(st.sampled_from(FORMATS), min_size=1),
    qos=st.sampled_from(["0", "1", "mixed"]),
)
def test_whatever_is_asked_for_the_worker_finds_only_the_faults_that_were_made(
    *,
    seed: int,
    faults: FaultLevel,
    interval_s: float | None,
    latitude_deg: float,
    kinds: set[Format],
    qos: str,
) -> None:
    simulated = plan(
        seed=seed,
        gateways=5,
        duration_us=300_000_000,
        faults=faults,
        interval_s=interval_s,
        latitude_deg=latitude_deg,
        formats=tuple(kind for kind in FORMATS if kind in kinds),
        qos=qos,
    )
    last_us: dict[str | None, int] = {}
    for number, message in enumerate(messages(simulated)):
        if number > 400:
            break
        assert last_us.get(message.client_id, 0) < message.received_us < simulated.end_us
        last_us[message.client_id] = message.received_us
        outcome = decoded(message)
        if outcome is not None:
            assert {fault.reason for fault in outcome.rejections} <= (
                {"bad_timestamp"} if faults == "many" else set()
            )
            assert outcome.readings or outcome.nulls or outcome.rejections


def test_formats_are_those_documented() -> None:
    assert get_args(Format) == FORMATS
    assert len(FORMATS) == 8


@pytest.mark.parametrize(("interval_s", "duration_s"), [(86_400.0, 3_600), (3.0, 1), (0.1, 0.1)])
def test_nothing_is_published_outside_the_plan(interval_s: float, duration_s: float) -> None:
    whole = plan(gateways=400, faults="few", interval_s=interval_s, duration_us=round(duration_s * 1_000_000))
    times_us = [message.received_us for message in messages(whole)]
    assert times_us
    assert whole.start_us <= times_us[0] <= times_us[-1] < whole.end_us
