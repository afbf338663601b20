"""Greenhouses whose tenant the catalog has not: refused by name, known again once it tells whose they are."""

from __future__ import annotations

import time

from structlog.testing import capture_logs

from ingest.intake import Intake
from ingest.model import Delivery, Gateway
from ingest.observe.logs import Repeats
from ingest.observe.metrics import Metrics
from ingest.quality_watch import QualityWatch, _directory
from ingest.resolve import Catalog, Resolver, is_known
from ingest.resolve.catalog import Draft
from ingest.resolve.rows import Greenhouse
from ingest.settings import Settings
from ingest.write import Batch, Outcome
from ingest.write.ledger import Booking
from tests.batches import NOW_US, row
from tests.unit.catalog_examples import HORTAMED, SARA, SARA_01, TENANTS, default_rules, example_catalog
from tests.unit.examples import default_decoder
from tests.unit.quality_stream import series_of

TOPIC = f"greenhouse/{SARA_01}/sensors/temperature"


def merged(*, told: bool) -> Catalog:
    """Give the example catalog once SARA's greenhouses are HORTAMED's, whether *told* of them or not."""
    catalog = example_catalog()
    draft = Draft(catalog)
    draft.put_tenants(each for each in TENANTS if each.tenant_id != SARA)
    strays = draft.strays()
    assert set(strays) == {each.greenhouse_id for each in catalog.greenhouses_of(SARA)}
    if told:
        for number, greenhouse_id in enumerate(strays):
            draft.put_greenhouse(Greenhouse(greenhouse_id, HORTAMED, f"M{number}", is_active=True))
        assert draft.strays() == []
    return draft.finished()


def taken_in(catalog: Catalog) -> tuple[Batch, list[str]]:
    """Take in a reading of the greenhouse; give the batch, and what was told as a fault of ours."""
    faults: list[str] = []
    intake = Intake(
        default_decoder(),
        Resolver(example_catalog(), default_rules(), out_of_range="quarantine"),
        ignore_retained=True,
        max_batch_rows=100,
        on_fault=lambda fault, _: faults.append(fault),
    )
    intake.take_in([Delivery(TOPIC, b"20", 2, 1)], NOW_US)  # so that it is remembered
    intake.resolver.follow(catalog)
    intake.next_batch()
    intake.take_in([Delivery(TOPIC, b"21", 2, 2)], NOW_US + 1)
    batch = intake.next_batch()
    assert batch is not None
    return batch, faults


def test_its_messages_are_dead_letters_that_heal() -> None:
    batch, faults = taken_in(merged(told=False))
    assert faults == []
    ((rejection,),) = batch.rejections.values()
    assert rejection.reason == "unknown_tenant"
    assert rejection.detail == "greenhouse '01' belongs to a tenant that is not in the catalog"
    (missing,) = batch.curable[0]
    assert not is_known(merged(told=False), missing)
    assert is_known(merged(told=True), missing)


def test_its_messages_are_the_new_tenants_once_that_is_told() -> None:
    batch, faults = taken_in(merged(told=True))
    assert (faults, batch.rejections) == ([], {})
    assert batch.rows[0].series.tenant_id == HORTAMED


def test_the_quality_watch_goes_on() -> None:
    watch = QualityWatch(
        Settings.model_validate({"metadata_dsn": "postgresql://nobody@127.0.0.1/none"}),
        metrics=Metrics(),
        repeats=Repeats(3_600),
    )
    watch.on_catalog(merged(told=False))
    batch = Batch()
    reading = row(series_of(greenhouse_id=SARA_01), 20.0, time.time_ns() // 1000 - NOW_US)
    gateway = Gateway("g", SARA, SARA_01)
    batch.add(Delivery(TOPIC, b"20", 2, 1), reading.time_us, [reading], gateway=gateway)
    outcome = Outcome(batch.counts(written=1, duplicate=0, refused=0), {}, staged=False, booking=Booking())
    with capture_logs() as logs:
        watch.on_committed(batch, outcome)
        watch.catch_up()
        assert watch.conditions is not None
    assert logs == []
    assert SARA_01 not in _directory(merged(told=False)).greenhouses
    assert SARA_01 in _directory(merged(told=True)).greenhouses
