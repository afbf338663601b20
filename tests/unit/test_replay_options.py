"""`ingest replay` called wrongly: said before anything is read or connected, and no secret in it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from ingest.cli import app
from ingest.commands.broker_option import chosen_broker
from ingest.errors import ConfigurationError
from ingest.settings import Settings


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--speed", "2", "--rate", "1"), "exclude one another"),
        (("--fast", "--rate", "1"), "exclude one another"),
        (("--verify", "postgresql://ingest:s3cr3t@db/readings"), "--verify takes no DSN"),
        (("--gateways", "0"), "--gateways"),
        (("--direct", "--report", "x.html"), "--report does not go with --direct, which has no broker"),
        (("--direct", "--fast"), "no broker; --connections, --json, --rejected and --resume do"),
        (
            ("--direct", "--resume", "--speed", "2", "--patience", "9", "--loop"),
            "--loop, --patience, --speed do not go with --direct",
        ),
    ],
)
def test_wrong_calls(arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, ["replay", "day.jsonl.gz", *arguments], prog_name="ingest")
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())
    assert "s3cr3t" not in done.output


def test_another_broker_than_the_configured_one_without_a_login() -> None:
    settings = Settings(broker_url="mqtts://field.example:8884")
    assert chosen_broker(settings, None) == settings.broker_address
    assert chosen_broker(settings, "mqtt://127.0.0.1")[:3] == ("127.0.0.1", 1883, False)
    for url, said in (("mqtt://me:s3cr3t@127.0.0.1", "may hold no login"), ("http://x", "must begin with")):
        with pytest.raises(ConfigurationError, match=f"--broker: {said}") as caught:
            chosen_broker(settings, url)
        assert "s3cr3t" not in str(caught.value)
