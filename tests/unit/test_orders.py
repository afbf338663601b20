"""What a worker process is told by its supervisor: in its arguments, and in the settings that follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.settings import Settings
from ingest.workers.child import ending_of
from ingest.workers.order import Order, is_member, member, settings_of
from ingest.workers.supervisor import ends_all

SECRET = "s3cr3t-Zx"  # noqa: S105 (a value to look for in texts)


def settings_with(**tables: dict[str, object]) -> Settings:
    return Settings.model_validate(
        {"timeseries_dsn": f"postgresql://w:{SECRET}@h/d", "broker_url": f"mqtt://u:{SECRET}@h", **tables}
    )


def test_a_worker_by_itself_has_no_group() -> None:
    assert settings_with().share_group is None


def test_the_group_is_the_client_id_unless_it_has_a_name() -> None:
    assert settings_with(workers={"count": 1}).share_group == "greenhouse-ingest"
    assert settings_with(workers={"count": 3, "group": "g"}, broker={"client_id": "a"}).share_group == "g"
    assert settings_with(workers={"group": "g"}).share_group == "g"


def test_a_worker_has_a_client_id_and_a_share_of_its_own() -> None:
    settings = settings_with(
        workers={"count": 3},
        broker={"client_id": "host", "filters": ["a/+", "b/#"]},
        write={"dead_letters_per_topic_per_hour": 100},
    )
    own = settings_of(settings, Order("host-2", of=3, ending=False))
    assert own.broker.client_id == "host-2"
    assert own.broker.filters == ("$share/host/a/+", "$share/host/b/#")
    assert own.share_group == "host", "although its client id is another"
    assert own.write.dead_letters_per_topic_per_hour == 34
    assert own.observe.http_port is None
    assert own.dsn("timeseries") == settings.dsn("timeseries")


@pytest.mark.parametrize("ending", [False, True])
def test_its_arguments_say_who_it_is_and_hold_no_secret(*, ending: bool) -> None:
    order = Order("host-0", of=2, ending=ending)
    command = order.command(7, config=Path("/etc/x.toml"), debug=True)
    assert command[1:] == [
        *("-m", "ingest", "--config", "/etc/x.toml", "--debug", "run"),
        *("--member", "host-0", "--of", "2", "--line", "7"),
        *(["--end"] if ending else []),
    ]
    assert Order("host-0", of=2, ending=ending).command(7, config=None, debug=False)[3] == "run"


def test_a_member_is_told_by_its_number() -> None:
    assert member("host", 12) == "host-12"
    assert is_member("host-12", "host")
    for other in ("host", "host-", "host-a", "host-1-0", "hosts-1", "xhost-1", "host-\u0661"):
        assert not is_member(other, "host"), other
    assert is_member("a.b+-3", "a.b+")
    assert not is_member("aXb+-3", "a.b+")


def test_only_an_early_end_with_code_2_is_the_settings_fault() -> None:
    assert ends_all(2, 1.0)
    assert not ends_all(2, 100.0)
    assert not ends_all(1, 1.0)
    assert not ends_all(-9, 1.0)


def test_how_a_process_ended_is_told_by_code_or_signal() -> None:
    assert ending_of(1) == {"exit_code": 1}
    assert ending_of(-9) == {"signal": "SIGKILL"}
    assert ending_of(-250) == {"signal": "250"}
