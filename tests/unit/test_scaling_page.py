"""docs/scaling.md: what it is reckoned from is what other files measured and set."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import scaling_arithmetic as arithmetic
from ingest.model import MOST_SESSIONS
from ingest.settings import Settings, option_names

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scaling.md").read_text()


def test_a_load_adds_up_by_hand() -> None:
    load = arithmetic.Load(10_000, 60)
    assert load.messages == pytest.approx(166.67, rel=1e-3)
    assert load.readings == pytest.approx(3_666.7, rel=1e-3)
    assert load.broker_mbit == pytest.approx(166.67 * 800 * 8 / 1e6, rel=1e-3)
    assert load.queued_gb_an_hour == pytest.approx(0.654, rel=1e-3)
    assert load.hot_gb == pytest.approx(3_666.7 * 259_200 * 226 / 1e9, rel=1e-3)
    assert load.year_gb == pytest.approx(3_666.7 * 31.536e6 * 1e-8 + 220_000 * 8_760 * 530 / 1e9, rel=1e-3)


def test_what_was_measured_is_what_the_files_say_that_are_named() -> None:
    broker = (ROOT / "config" / "mosquitto.conf").read_text()
    assert "18 000 with 1000" in broker
    assert "390 bytes more" in broker
    assert arithmetic.BROKER_MESSAGES == 18_000
    assert arithmetic.QUEUED_BYTES - arithmetic.PAYLOAD_BYTES == 390
    storage = (ROOT / "docs" / "storage.md").read_text()
    assert "| normalised: ids, one unique index | 225.7 |" in storage
    assert round(225.7) == arithmetic.HOT_BYTES
    for compressed in ("12.4", "8.0"):
        assert f"| normalised, compressed | {compressed} |" in storage
    assert all(8 <= each <= 12.4 for each in arithmetic.COMPRESSED_BYTES.values())
    for aggregates, rollups, an_hour in ((36.4, 8.8, 3600 / 315.36), (3.2, 0.8, 3600 / 26)):
        assert f"| five continuous aggregates of them | {aggregates} |" in storage
        assert f"| hourly, daily and monthly rollups of them | {rollups} |" in storage
        assert (aggregates + rollups) * an_hour == pytest.approx(arithmetic.AGGREGATED_BYTES, rel=0.05)


def test_the_page_says_what_the_settings_are() -> None:
    settings = Settings()
    assert settings.compress_after.sensor_readings == f"{arithmetic.HOT_DAYS} days"
    assert f"{MOST_SESSIONS} sessions a group" in PAGE
    assert settings.broker.session_expiry_s == 7 * 86_400
    named = set(
        re.findall(r"`(?:\w+ = )?((?:broker|workers|decode|write|compress_after|retain_for)\.\w+)", PAGE)
    )
    assert named <= set(option_names())


def test_the_sources_are_all_referred_to() -> None:
    listed = set(re.findall(r"(?m)^(\d)\. ", PAGE.partition("## Sources")[2]))
    used = {number for each in re.findall(r"\[(\d(?:, \d)*)\]", PAGE) for number in each.split(", ")}
    assert used == listed
