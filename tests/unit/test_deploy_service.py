"""The systemd unit: hardened, given its secrets as credentials, and told the worker's own exit codes."""

from __future__ import annotations

import re
from pathlib import Path

from ingest.configuration import CONFIG_VARIABLE, SECRETS, variable_of
from ingest.errors import ConfigurationError
from ingest.settings import Settings, option_names

UNIT = Path(__file__).parents[2] / "deploy" / "greenhouse-ingest.service"
HARDENED = [
    "DynamicUser",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NoNewPrivileges",
    "PrivateDevices",
    "PrivateTmp",
    "PrivateUsers",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
]


def service() -> dict[str, list[str]]:
    """Return option -> values of the [Service] section; systemd allows an option several times."""
    section = UNIT.read_text().partition("[Service]\n")[2].partition("[Install]")[0]
    found: dict[str, list[str]] = {}
    for line in section.splitlines():
        if line and not line.startswith("#"):
            name, separator, value = line.partition("=")
            assert separator, line
            found.setdefault(name, []).append(value)
    return found


def test_it_is_hardened() -> None:
    options = service()
    for name in HARDENED:
        assert options[name] == ["yes"], name
    assert options["ProtectSystem"] == ["strict"]
    assert options["CapabilityBoundingSet"] == [""]
    assert options["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert options["RestrictAddressFamilies"] == ["AF_INET AF_INET6 AF_UNIX"]
    assert options["UMask"] == ["0077"]


def test_every_variable_is_an_option_and_every_secret_a_credential() -> None:
    options = service()
    known = {variable_of(option) for option in option_names()} | {CONFIG_VARIABLE}
    files = {f"{variable_of(option)}_FILE" for option in SECRETS}
    variables = dict(setting.split("=", 1) for setting in options["Environment"])
    assert {name for name in variables if name.startswith("INGEST_")} <= known | files
    assert files <= set(variables)
    credentials = {credential.partition(":")[0] for credential in options["LoadCredential"]}
    assert {variables[name] for name in files} == {f"%d/{credential}" for credential in credentials}


def test_a_wrong_configuration_is_not_started_again_and_a_stop_leaves_time_to_drain() -> None:
    options = service()
    assert options["RestartPreventExitStatus"] == [str(ConfigurationError.exit_code)]
    assert float(options["TimeoutStopSec"][0]) > Settings().write.drain_timeout_s + 5
    [memory] = options["MemoryMax"]
    gigabytes = re.fullmatch(r"(\d+)G", memory)
    assert gigabytes is not None
    assert int(gigabytes[1]) * 2**30 > 8 * Settings().write.max_buffered_bytes
