"""The alert rules: evaluated by promtool against series, each firing and silent, and true to the product."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from ingest.cli import app
from ingest.model import NAME_REASONS, REASONS
from ingest.observe.metrics import CATALOGUE
from ingest.settings import Settings
from tests.promql import RULES, RULES_FILE, selectors

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
TRIED: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())

every_alert = pytest.mark.parametrize("alert", ALERTS)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool, from the environment of the tests or from the PATH."""
    program = shutil.which("promtool", path=str(Path(sys.executable).parent)) or shutil.which("promtool")
    assert program, "promtool is missing: sh requirements/promtool.sh"
    return subprocess.run([program, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments",
    [("test", "rules", "alerts_test.yml"), ("check", "config", "prometheus.yml")],
    ids=" ".join,
)
def test_promtool_finds_no_fault(arguments: tuple[str, ...]) -> None:
    done = promtool(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_workers_in_kubernetes_are_scraped_under_the_name_and_labels_that_the_rules_know(
    tmp_path: Path,
) -> None:
    """Debian's promtool knows no kubernetes_sd_configs: they are judged here, the rest of the file by it."""
    config = yaml.safe_load((PROMETHEUS / "prometheus-kubernetes.yml").read_text())
    [job] = config["scrape_configs"]
    assert job["job_name"] == "greenhouse-ingest"
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod", "namespaces": {"names": ["greenhouse"]}}]
    labels = {
        each["target_label"]: each["source_labels"]
        for each in job["relabel_configs"]
        if "target_label" in each
    }
    assert labels["namespace"] == ["__meta_kubernetes_namespace"]
    assert labels["pod"] == labels["instance"] == ["__meta_kubernetes_pod_name"]
    job["static_configs"] = [{"targets": ["127.0.0.1:9108"]}]
    shutil.copy(RULES_FILE, tmp_path)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    done = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_is_no_rubber_stamp(tmp_path: Path) -> None:
    """One of the tests against a rule whose threshold somebody moved."""
    text = RULES_FILE.read_text()
    moved = text.replace("expr: ingest_lag_seconds > 120", "expr: ingest_lag_seconds > 1200")
    assert moved != text
    (tmp_path / "alerts.yml").write_text(moved)
    [case] = [each for each in TRIED if each["name"] == "commits stand still"]
    tests = {"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": [case]}
    (tmp_path / "alerts_test.yml").write_text(yaml.safe_dump(tests))
    done = promtool("test", "rules", str(tmp_path / "alerts_test.yml"))
    assert done.returncode != 0
    assert "IngestCommitsStalled" in done.stdout + done.stderr


@every_alert
def test_every_alert_is_tried_firing_and_waiting(alert: str) -> None:
    found = [check for case in TRIED for check in case["promql_expr_test"] if f'"{alert}"' in check["expr"]]
    assert any(check["exp_samples"] for check in found), "never seen firing"
    assert any(not check["exp_samples"] for check in found), "never seen silent"


def test_a_worker_that_works_has_every_series_that_an_alert_asks_for() -> None:
    """Else its silence would say nothing."""
    healthy = {selectors(each["series"])[0].name for each in TRIED[0]["input_series"]}
    recorded = {rule.get("record") for rule in RULES}
    asked = {each.name for rule in RULES for each in selectors(rule["expr"])}
    assert asked - recorded == healthy
    assert TRIED[0]["promql_expr_test"][0]["expr"] == 'ALERTS{alertstate="firing"}'


@every_alert
def test_what_an_alert_says_is_complete(alert: str) -> None:
    rule = ALERTS[alert]
    assert alert.startswith("Ingest")
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert all(text.strip() for text in rule["annotations"].values())


def reasons_of(alert: str) -> set[str]:
    """Give the reject reasons that an alert is about; Prometheus' expressions match a whole label."""
    [(sign, pattern)] = re.findall(r'reason(=|=~|!~)"([^"]+)"', ALERTS[alert]["expr"])
    return {each for each in REASONS if (re.fullmatch(pattern, each) is None) == (sign == "!~")}


def test_every_reason_belongs_to_one_alert() -> None:
    assert reasons_of("IngestUnknownNames") == NAME_REASONS
    alerts = ("IngestWorkerFault", "IngestRowsRefused", "IngestDeadLetters", "IngestUnknownNames")
    told = [reason for alert in alerts for reason in reasons_of(alert)]
    assert sorted(told) == sorted(REASONS)


@every_alert
def test_the_commands_of_a_runbook_exist(alert: str) -> None:
    text = " ".join(ALERTS[alert]["annotations"].values())
    for call in re.findall(r"`(ingest [^`]*)`", text):
        command: Any = typer.main.get_command(app)
        for word in call.replace("{{ $labels.reason }}", "poison").split()[1:]:
            if word.startswith("-"):
                assert word in [name for parameter in command.params for name in parameter.opts], call
            elif hasattr(command, "commands"):
                assert word in command.commands, call
                command = command.commands[word]


@every_alert
def test_the_settings_that_an_alert_names_exist(alert: str) -> None:
    text = " ".join(ALERTS[alert]["annotations"].values())
    tables = Settings().model_dump()
    for table, option in re.findall(r"\b(broker|decode|resolve|write|observe)\.(\w+)", text):
        assert option in tables[table], f"{table}.{option}"


def test_thresholds_follow_the_settings_they_are_about() -> None:
    settings = Settings()
    assert (
        str(3 * settings.resolve.refresh_interval_s).removesuffix(".0")
        in ALERTS["IngestCatalogStale"]["expr"]
    )
    assert f"> {settings.broker.receive_maximum // 2}" in ALERTS["IngestBacklog"]["expr"]
    memory = COMPOSE["services"]["worker"]["mem_limit"].removesuffix("m")
    assert f"0.85 * {memory} * 1024 * 1024" in ALERTS["IngestMemoryNearLimit"]["expr"]


def test_the_document_lists_every_alert_with_its_severity() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    listed = dict(re.findall(r"(?m)^\| `(Ingest\w+)` \| (\w+) \|", text))
    assert listed == {name: rule["labels"]["severity"] for name, rule in ALERTS.items()}


def test_the_metrics_are_in_the_catalogue() -> None:
    known = {each.name for each in CATALOGUE} | {f"{each.name}_bucket" for each in CATALOGUE if each.buckets}
    asked = {each.name for rule in RULES for each in selectors(rule["expr"])}
    assert {name for name in asked if name.startswith("ingest_")} <= known
