"""The settings: layers and their precedence, every fault at once, no secret in any text.

And config/ingest.toml, which must name every option with its real default.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from ingest.configuration import effective, load_settings, variable_of
from ingest.errors import ConfigurationError
from ingest.settings import BrokerSettings, RouteSettings, Settings, option_names

SHIPPED = Path(__file__).parents[2] / "config" / "ingest.toml"
SECRET = "s3cr3t-Zx"  # noqa: S105 (a value to look for in texts)


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [each for each in os.environ if each.upper().startswith("INGEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ingest.configuration.CONFIG_FILES", (Path("config/ingest.toml"),))


def write_toml(text: str, name: str = "test.toml") -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def values_of(settings: Settings) -> dict[str, Any]:
    return settings.model_dump()  # without the record of where they came from


def faults_of(config: Path | None = None, **require: tuple[str, ...]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config, **require)  # type: ignore[arg-type]  # the names are checked below
    assert caught.value.exit_code == 2
    return caught.value.faults


def test_without_any_layer_the_defaults_hold() -> None:
    settings = load_settings()
    assert values_of(settings) == values_of(Settings())
    assert settings.config_file is None
    assert {each["source"] for each in effective(settings).values()} == {"default"}


def test_environment_goes_before_secret_file_before_toml_before_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = write_toml(
        'timeseries_dsn = "postgresql://toml/x"\n[broker]\nkeepalive_s = 60\nclient_id = "a"\n'
    )
    Path("dsn").write_text("postgresql://file/x\n")
    assert load_settings(config).dsn("timeseries") == "postgresql://toml/x"
    monkeypatch.setenv("INGEST_TIMESERIES_DSN_FILE", "dsn")
    assert load_settings(config).dsn("timeseries") == "postgresql://file/x"
    monkeypatch.setenv("INGEST_TIMESERIES_DSN", "postgresql://env/x")
    monkeypatch.setenv("INGEST_BROKER__KEEPALIVE_S", "90")
    settings = load_settings(config)
    assert settings.dsn("timeseries") == "postgresql://env/x"
    assert (settings.broker.keepalive_s, settings.broker.client_id) == (90, "a")
    assert settings.source_of("broker.keepalive_s") == "INGEST_BROKER__KEEPALIVE_S"
    assert settings.source_of("broker.client_id") == "test.toml"
    assert settings.source_of("broker.filters") == "default"


def test_the_file_is_found_by_argument_then_variable_then_place(monkeypatch: pytest.MonkeyPatch) -> None:
    write_toml('[broker]\nclient_id = "place"\n', "config/ingest.toml")
    assert load_settings().broker.client_id == "place"
    monkeypatch.setenv("INGEST_CONFIG", str(write_toml('[broker]\nclient_id = "variable"\n', "b.toml")))
    assert load_settings().broker.client_id == "variable"
    assert (
        load_settings(write_toml('[broker]\nclient_id = "argument"\n', "c.toml")).broker.client_id
        == "argument"
    )


def test_lists_in_the_environment_are_json_or_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_BROKER__FILTERS", "a/+, b/#")
    monkeypatch.setenv("INGEST_DECODE__IGNORE", '["x,y/#"]')
    monkeypatch.setenv("INGEST_ROUTE", '[{"topic": "a/{greenhouse}", "format": "reading"}]')
    monkeypatch.setenv("INGEST_OBSERVE__HTTP_PORT", "off")
    settings = load_settings()
    assert settings.broker.filters == ("a/+", "b/#")
    assert settings.decode.ignore == ("x,y/#",)
    assert settings.route == (RouteSettings(topic="a/{greenhouse}", format="reading"),)
    assert settings.observe.http_port is None


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "INGEST_BROKER__USERNAME",
        "INGEST_METADATA_DSN",
        "INGEST_METADATA_DSN_FILE",
        "INGEST_CONFIG",
    ):
        monkeypatch.setenv(name, "")
    assert values_of(load_settings()) == values_of(Settings())


@pytest.mark.parametrize(
    ("toml", "fault"),
    [
        ("[broker]\nkeepalive_s = 2", "broker.keepalive_s: 2 is below 5 (test.toml)"),
        ("[broker]\nkeepalive_s = 'x'", "broker.keepalive_s: 'x' is no whole number (test.toml)"),
        ("[write]\nretry_min_s = inf", "write.retry_min_s: inf is no finite number (test.toml)"),
        ("[write]\nretry_min_s = 0", "write.retry_min_s: 0 is not above 0 (test.toml)"),
        ("[observe]\nhttp_port = 65536", "observe.http_port: 65536 is above 65535 (test.toml)"),
        ("[broker]\nprotocol = '4'", "broker.protocol: '4' is none of 'auto', '5' or '3.1.1' (test.toml)"),
        ("[broker]\nfilters = []", "broker.filters: is empty (test.toml)"),
        ("[broker]\nfilters = 3", "broker.filters: 3 is no list (test.toml)"),
        (
            "[broker]\nkeepalive = 3",
            "broker.keepalive: no such option; did you mean broker.keepalive_s? (test.toml)",
        ),
        (
            "[brokers]\nkeepalive_s = 30",
            "brokers.keepalive_s: no such option; did you mean broker.keepalive_s? (test.toml)",
        ),
        ("broker = 1", "broker: is a table: write [broker] and its options below it (test.toml)"),
        (
            "[[route]]\ntopic = 'a'\nformat = 'x'",
            "route[0].format: 'x' is none of 'reading', 'readings' or 'labels' (test.toml)",
        ),
        ("[[route]]\nformat = 'labels'", "route[0].topic: is missing (test.toml)"),
        (
            "[[route]]\ntopic = 'a/{foo}'\nformat = 'labels'",
            (
                "route[0].topic: 'a/{foo}': {foo} is unknown; "
                "known are tenant, greenhouse, greenhouse_code, sensor_type (test.toml)"
            ),
        ),
        (
            "[[route]]\ntopic = 'a/b'\nformat = 'reading'",
            "route[0].topic: 'a/b': format 'reading' needs {greenhouse} in the topic (test.toml)",
        ),
        (
            "[[route]]\ntopic = 'a/b'\nformat = 'labels'",
            (
                "route[0].topic: 'a/b': format 'labels' needs {tenant} in the topic, "
                "or the option tenant (test.toml)"
            ),
        ),
        (
            "[[route]]\ntopic = 'a/#'\nformat = 'labels'\ntenant = 'X'",
            "route[0].topic: 'a/#': level '#' is neither text, nor +, nor one name in braces (test.toml)",
        ),
        (
            "[[label_rule]]\ntokens = ['A']\nsensor_type = 'B'\nunit = 'c'\nminimum = 2\nmaximum = 1",
            "label_rule[0].minimum: 2 is above maximum 1 (test.toml)",
        ),
        (
            "[broker]\nfilters = ['a/#', 'a/b']",
            (
                "broker.filters: 'a/#' and 'a/b' overlap: a broker may deliver a message twice; "
                "keep one of them (test.toml)"
            ),
        ),
        ("[broker]\nfilters = ['a/#/b']", "broker.filters: 'a/#/b' is no MQTT topic filter (test.toml)"),
        (
            "[broker]\nfilters = ['$share/g/a/#']\n[workers]\ncount = 2",
            (
                "broker.filters: '$share/g/a/#' names a share group of its own; "
                "with table [workers], give the filter (test.toml)"
            ),
        ),
        (
            "[workers]\ngroup = 'a/b'",
            "workers.group: 'a/b' holds one of / + #, which no share group may (MQTT 5, 4.8.2) (test.toml)",
        ),
        ("[decode]\nignore = ['a#']", "decode.ignore: 'a#' is no MQTT topic filter (test.toml)"),
        (
            "[broker]\nreconnect_max_s = 0.1",
            "broker.reconnect_min_s: 0.5 is above broker.reconnect_max_s 0.1 (test.toml)",
        ),
        (
            "broker_url = 'http://x'",
            "broker_url: must begin with mqtt://, mqtts://, ws://, wss:// (test.toml)",
        ),
        (
            "metadata_dsn = 'mysql://x'",
            "metadata_dsn: must be a URL that begins with postgresql:// (test.toml)",
        ),
        ("x = [", "test.toml: is no TOML file: Invalid value (at end of document)"),
    ],
)
def test_each_fault_is_one_line_that_says_where(toml: str, fault: str) -> None:
    assert faults_of(write_toml(toml)) == [fault]


def test_certificates_must_be_readable_whole_and_used() -> None:
    Path("c.pem").write_text("x")
    tls = 'broker_url = "mqtts://h"\n'
    assert faults_of(write_toml(f'{tls}[broker]\ncert_file = "c.pem"')) == [
        "broker.cert_file: is set without broker.key_file (test.toml)"
    ]
    assert faults_of(write_toml(f'{tls}[broker]\nca_file = "none.pem"')) == [
        "broker.ca_file: none.pem cannot be read: No such file or directory (test.toml)"
    ]
    assert faults_of(write_toml('[broker]\nca_file = "c.pem"')) == [
        (
            "broker.ca_file: is set, but broker_url begins with mqtt://, which is not encrypted; "
            "use mqtts:// or wss:// (test.toml)"
        )
    ]


def test_every_fault_is_listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_WRITE__MAX_BATCH_ROWS", "many")
    monkeypatch.setenv("INGEST_METADATA_DSN_FILE", "missing")
    monkeypatch.setenv("INGEST_WRITE__MAX_BATCH_ROW", "3")
    config = write_toml('nope = 1\n[broker]\nkeepalive_s = 1\nfilters = ["a/#", "a/+"]\nreconnect_min_s = 50')
    faults = faults_of(config, require=("metadata", "timeseries"))
    assert [fault.partition(":")[0] for fault in faults] == [
        "metadata_dsn",
        "timeseries_dsn",
        "broker.filters",
        "broker.keepalive_s",
        "broker.reconnect_min_s",
        "write.max_batch_rows",
        "nope",
        "INGEST_WRITE__MAX_BATCH_ROW",
    ]
    assert (
        faults[0]
        == "metadata_dsn: missing cannot be read: No such file or directory (INGEST_METADATA_DSN_FILE)"
    )
    assert faults[1].startswith(
        "timeseries_dsn: not set; set INGEST_TIMESERIES_DSN or INGEST_TIMESERIES_DSN_FILE"
    )
    assert faults[-1].endswith("no such variable; did you mean INGEST_WRITE__MAX_BATCH_ROWS?")


def test_unknown_variables_are_refused_but_for_the_tests_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_TEST_TIMESERIES_DSN", "postgresql://x/y")
    load_settings()
    monkeypatch.setenv("ingest_broker_url", "mqtt://x")
    monkeypatch.setenv("INGEST_BROKER", "{}")
    assert [fault.partition(":")[0] for fault in faults_of()] == ["INGEST_BROKER", "ingest_broker_url"]


@pytest.mark.parametrize(
    "toml",
    [
        f'[broker]\npassword = "{SECRET}"',
        f'metadata_dsn = "postgresql://u:{SECRET}@h/x"',
        f'timeseries_dsn = "postgresql://u@h/x?password={SECRET}"',
        f'broker_url = "mqtt://u:{SECRET}@h"',
        f'broker_url = "mqtt://{SECRET}@h"',
    ],
)
def test_a_password_in_the_file_is_refused_and_not_repeated(toml: str) -> None:
    (fault,) = faults_of(write_toml(toml))
    assert "INGEST_" in fault
    assert "_FILE" in fault
    assert SECRET not in fault


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("INGEST_METADATA_DSN", f"mysql://u:{SECRET}@h/x"),
        ("INGEST_METADATA_DSN", f"postgresql://u:{SECRET}/x@h/x"),
        ("INGEST_METADATA_DSN", f"postgresql://u:{SECRET}#@h/x"),
        ("INGEST_METADATA_DSN", f"postgresql://[u:{SECRET}@h/x"),
        ("INGEST_BROKER_URL", f"http://u:{SECRET}@h"),
        ("INGEST_BROKER_URL", f"mqtt://u:{SECRET}/@h:x"),
        ("INGEST_BROKER_URL", f"mqtt://u:{SECRET}@[h"),
        ("INGEST_BROKER__PASSWORD", SECRET),  # without a user name
    ],
)
def test_no_fault_shows_a_secret(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert SECRET not in "\n".join(faults_of())


def test_secrets_come_from_files_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_BROKER__USERNAME", "u")
    monkeypatch.setenv("INGEST_BROKER__PASSWORD_FILE", "password")
    Path("password").write_bytes(b"p w \r\n")
    password = load_settings().broker.password
    assert password is not None
    assert password.get_secret_value() == "p w "
    for content in (b"", b"\n", b"a\nb\n", b"\xff\n", b"a\0\n", b"x" * 70_000):
        Path("password").write_bytes(content)
        (fault,) = faults_of()
        assert fault.startswith("broker.password: password ")


def test_credentials_leave_the_broker_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_BROKER_URL", f"wss://u:{SECRET}%40@h.example/path")
    settings = load_settings()
    assert settings.broker_url == "wss://h.example/path"
    assert settings.broker_address == ("h.example", 443, True, "/path")
    assert settings.broker.username == "u"
    assert settings.broker.password == SecretStr(f"{SECRET}@")
    assert settings.source_of("broker.password") == "INGEST_BROKER_URL"
    monkeypatch.setenv("INGEST_BROKER__USERNAME", "other")
    assert load_settings().broker.username == "other"


def test_nothing_that_prints_settings_prints_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_BROKER_URL", f"mqtt://u:{SECRET}@h")
    monkeypatch.setenv("INGEST_METADATA_DSN", f"postgresql://u:{SECRET}@h,i:6432/x?sslpassword={SECRET}")
    settings = load_settings()
    shown = effective(settings)
    assert SECRET not in f"{settings!r} {settings} {shown}"
    assert shown["metadata_dsn"]["value"] == "postgresql://u:***@h,i:6432/x?sslpassword=***"
    assert shown["broker.password"] == {"value": "***", "source": "INGEST_BROKER_URL"}
    assert tuple(shown) == option_names()


def test_a_validation_error_of_a_direct_construction_hides_the_input() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(metadata_dsn=SecretStr(f"mysql://u:{SECRET}@h"))
    assert SECRET not in str(caught.value)


def test_a_missing_dsn_is_said_when_it_is_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="timeseries_dsn: not set; set INGEST_TIMESERIES_DSN"):
        Settings().dsn("timeseries")


def shipped_options() -> dict[str, Any]:
    """Return what config/ingest.toml shows as defaults: the file with each leading `#` of code removed."""
    text = re.sub(r"(?m)^#(?=\S)", "", SHIPPED.read_text())
    tree = tomllib.loads(text)
    return {
        f"{name}.{option}" if isinstance(value, dict) else name: inner
        for name, value in tree.items()
        for option, inner in (value.items() if isinstance(value, dict) else [("", value)])
    }


def test_the_shipped_file_changes_nothing() -> None:
    settings = load_settings(SHIPPED)
    assert values_of(settings) == values_of(Settings())
    assert {each["source"] for each in effective(settings).values()} == {"default"}


def test_the_shipped_file_shows_every_option_with_its_default() -> None:
    shown = shipped_options()
    defaults = {name: each["value"] for name, each in effective(Settings()).items()}
    for option in ("route", "label_rule"):
        kept = [
            {key: each for key, each in entry.items() if each is not None} for entry in defaults.pop(option)
        ]
        assert shown.pop(option) == [
            {key: list(each) if isinstance(each, tuple) else each for key, each in entry.items()}
            for entry in kept
        ]
    examples = {
        f"{table}.{name}".removeprefix(".")
        for table, section in re.findall(r"(?ms)^(?:\[(\w+)\]|\A)(.*?)(?=^\[|\Z)", SHIPPED.read_text())
        for name in re.findall(r"(?m)^# example: (\w+) = ", section)
    }
    assert examples == {option for option, default in defaults.items() if default is None}
    assert shown == {
        option: list(default) if isinstance(default, tuple) else default
        for option, default in defaults.items()
        if default is not None
    }


def test_the_shipped_file_read_with_its_comments_removed_is_valid() -> None:
    config = write_toml(re.sub(r"(?m)^#(?=\S)", "", SHIPPED.read_text()))
    assert values_of(load_settings(config)) == values_of(Settings())


def test_each_option_has_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert variable_of("broker.keepalive_s") == "INGEST_BROKER__KEEPALIVE_S"
    for option in option_names():
        if option in {"route", "label_rule", "broker.password", "broker.ca_file", "broker.cert_file"}:
            continue
        value = effective(Settings())[option]["value"]
        if value is not None and not isinstance(value, tuple):
            monkeypatch.setenv(
                variable_of(option), str(value).lower() if isinstance(value, bool) else str(value)
            )
    assert values_of(load_settings()) == values_of(Settings())


def test_tables_can_be_built_by_hand() -> None:
    assert BrokerSettings(client_id="x").keepalive_s == 30
