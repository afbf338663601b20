"""docker-compose.yml without an engine: what it names exists, and what it promises in hardening is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest.configuration import SECRETS, variable_of
from ingest.settings import Settings, option_names

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

every_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def directives(path: Path) -> dict[str, list[str]]:
    """Return option -> values of a mosquitto.conf."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, value = line.partition(" ")
            found.setdefault(name, []).append(value)
    return found


def seconds(text: str) -> float:
    assert re.fullmatch(r"\d+s", text), text
    return float(text.removesuffix("s"))


@every_service
def test_images_are_pinned_to_a_release(service: dict[str, Any]) -> None:
    _, _, tag = service["image"].partition(":")
    assert re.match(r"v?\d+\.\d+", tag), service["image"]


@every_service
def test_services_are_hardened_and_bounded(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] <= 200
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


@every_service
def test_nobody_runs_as_root(service: dict[str, Any]) -> None:
    if "build" in service:
        assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    else:
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])


@every_service
def test_ports_are_published_on_loopback_only(service: dict[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@every_service
def test_what_is_mounted_exists(service: dict[str, Any]) -> None:
    for mount in service.get("volumes", []):
        source = mount.split(":")[0]
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert mount.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])


def test_every_volume_and_secret_is_used() -> None:
    mounted = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert set(COMPOSE["volumes"]) <= mounted
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert set(COMPOSE["secrets"]) == used


@every_service
def test_what_is_waited_for_can_come_true(service: dict[str, Any]) -> None:
    for name, wait in service.get("depends_on", {}).items():
        match wait["condition"]:
            case "service_healthy":
                assert "test" in SERVICES[name]["healthcheck"]
            case "service_completed_successfully":
                assert SERVICES[name]["restart"] == "no"
            case other:
                pytest.fail(f"{name}: {other}")


@every_service
def test_secrets_are_read_from_the_files_they_are_mounted_as(service: dict[str, Any]) -> None:
    for variable, value in service.get("environment", {}).items():
        assert not re.search("PASSWORD|DSN", variable) or variable.endswith("_FILE"), variable
        if variable.endswith("_FILE"):
            assert value.removeprefix("/run/secrets/") in service["secrets"]


@every_service
def test_every_variable_of_ours_is_an_option(service: dict[str, Any]) -> None:
    known = {variable_of(option) for option in option_names()}
    known |= {f"{variable_of(option)}_FILE" for option in SECRETS}
    ours = {name for name in service.get("environment", {}) if name.startswith("INGEST_")}
    assert ours <= known


def dsns(service: str) -> dict[str, str]:
    """Return variable -> secret of the DSNs that *service* is given."""
    given = SERVICES[service]["environment"]
    return {name: value.removeprefix("/run/secrets/") for name, value in given.items() if "_DSN" in name}


def test_each_service_has_the_database_login_of_its_task_and_no_other() -> None:
    for service, login in (("migrate", "migrator"), ("worker", "worker"), ("operator", "operator")):
        assert dsns(service) == {
            "INGEST_METADATA_DSN_FILE": f"metadata_{login}_dsn",
            "INGEST_TIMESERIES_DSN_FILE": f"timeseries_{login}_dsn",
        }
        databases = set(SERVICES[service]["secrets"]) - {"broker_password"}
        assert databases == set(dsns(service).values())


def test_a_superusers_password_is_its_containers_alone() -> None:
    for database in ("metadata", "timeseries"):
        for secret in (f"{database}_password", f"{database}_logins"):
            mounted = [name for name, service in SERVICES.items() if secret in service.get("secrets", [])]
            assert mounted == [database]


def test_dashboards_have_the_readers_passwords_and_no_login_is_left_at_its_default() -> None:
    grafana = SERVICES["grafana"]
    given = grafana["environment"]
    assert given["GF_SECURITY_ADMIN_PASSWORD__FILE"].endswith("/grafana_admin_password")
    assert given["GF_AUTH_ANONYMOUS_ENABLED"] == given["GF_USERS_ALLOW_SIGN_UP"] == "false"
    assert set(grafana["secrets"]) == {
        "grafana_admin_password",
        "metadata_reader_password",
        "timeseries_reader_password",
    }


def test_the_worker_is_given_longer_to_stop_than_it_takes_to_drain() -> None:
    assert seconds(SERVICES["worker"]["stop_grace_period"]) > Settings().write.drain_timeout_s + 5


def test_the_databases_are_out_of_the_gateways_reach() -> None:
    assert COMPOSE["networks"]["databases"]["internal"] is True
    for name in ("metadata", "timeseries"):
        assert SERVICES[name]["networks"] == ["databases"]
        assert "ports" not in SERVICES[name]
    assert SERVICES["mosquitto"]["networks"] == ["gateways"]


def test_the_containers_broker_has_the_options_of_the_one_shipped() -> None:
    shipped = directives(ROOT / "config" / "mosquitto.conf")
    container = directives(ROOT / "deploy" / "compose" / "mosquitto.conf")
    places = {"listener", "persistence_location", "password_file", "acl_file"}
    for name in places:
        assert shipped.pop(name), name
        assert container.pop(name), name
    assert container == shipped


def test_the_broker_takes_larger_payloads_than_the_worker_and_keeps_sessions_longer() -> None:
    shipped = directives(ROOT / "config" / "mosquitto.conf")
    settings = Settings()
    assert int(shipped["message_size_limit"][0]) > settings.decode.max_payload_bytes
    days = int(shipped["persistent_client_expiration"][0].removesuffix("d"))
    assert days * 86_400 > settings.broker.session_expiry_s
    assert shipped["max_queued_messages"] == ["0"]


def test_the_release_is_the_packages() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert SERVICES["worker"]["image"] == f"greenhouse-ingest:{version[1]}"
    assert f'image.version="{version[1]}"' in (ROOT / "Dockerfile").read_text()
