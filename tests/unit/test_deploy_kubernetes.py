"""The Kubernetes manifests: valid by Kubernetes' own schemas, hardened, and true to the product."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from ingest.configuration import CONFIG_FILES, SECRETS, load_settings, variable_of
from ingest.model import MOST_SESSIONS
from ingest.settings import Settings, option_names
from ingest.topics import valid_filter
from tests.dockerfile import instructions
from tests.promql import RECORDED, RULES_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
NOT_OBJECTS = {"kustomization.yaml", "prometheus-adapter-values.yaml"}
OBJECTS: dict[str, dict[str, Any]] = {
    path.name: yaml.safe_load(path.read_text())
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.name not in NOT_OBJECTS
}
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
WORKER: dict[str, Any] = OBJECTS["stateful-set.yaml"]["spec"]["template"]["spec"]
MIGRATE: dict[str, Any] = OBJECTS["migrate-job.yaml"]["spec"]["template"]["spec"]
MAINTAIN: dict[str, dict[str, Any]] = {
    period: OBJECTS[f"maintain-{period}.yaml"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    for period in ("daily", "weekly", "monthly")
}
SETTINGS = Settings()
ADAPTER: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus-adapter-values.yaml").read_text())
LEAVING_S = 3 + 3 * 2
"""What a worker takes after its last COMMIT: quality issues 3 s; stored list, leave and close 2 s each."""

every_pod = pytest.mark.parametrize(
    "pod", [WORKER, MIGRATE, *MAINTAIN.values()], ids=["worker", "migrate", *MAINTAIN]
)


def container(pod: dict[str, Any]) -> dict[str, Any]:
    [only] = pod["containers"]
    assert isinstance(only, dict)
    return only


def variables(pod: dict[str, Any]) -> dict[str, str]:
    """Give the environment of a pod's container; what comes from a field is named in braces."""
    return {
        each["name"]: each["value"]
        if "value" in each
        else f"{{{each['valueFrom']['fieldRef']['fieldPath']}}}"
        for each in container(pod)["env"]
    }


def port_of(probe: str) -> int | str:
    port = container(WORKER)[probe]["httpGet"]["port"]
    [named] = [each for each in container(WORKER)["ports"] if each["name"] == port]
    assert isinstance(named["containerPort"], int)
    return named["containerPort"]


@pytest.mark.parametrize("release", ["1.27", "1.33", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("name", OBJECTS)
def test_kubernetes_takes_it(name: str, release: str) -> None:
    kubernetes_validate.validate(OBJECTS[name], release, strict=True)


def test_the_schemas_are_no_rubber_stamp() -> None:
    wrong = yaml.safe_load((FOLDER / "stateful-set.yaml").read_text())
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 60
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_the_kustomization_has_every_object_but_the_job() -> None:
    assert set(KUSTOMIZATION["resources"]) == set(OBJECTS) - {"migrate-job.yaml"}
    assert KUSTOMIZATION["namespace"] == OBJECTS["namespace.yaml"]["metadata"]["name"]
    assert OBJECTS["migrate-job.yaml"]["metadata"]["namespace"] == KUSTOMIZATION["namespace"]
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    [image] = KUSTOMIZATION["images"]
    assert image["newTag"] == version[1]
    for pod in (WORKER, MIGRATE, *MAINTAIN.values()):
        assert container(pod)["image"] == f"{image['name']}:{version[1]}"


@every_pod
def test_a_pod_has_no_rights_it_does_not_need(pod: dict[str, Any]) -> None:
    """What the namespace enforces (Pod Security Standards, restricted), and a read-only file system."""
    [user] = [arguments for name, arguments in instructions() if name == "USER"]
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(pod)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert "memory" in container(pod)["resources"]["limits"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert not any("hostPath" in volume for volume in pod["volumes"])


@every_pod
def test_every_variable_is_an_option_and_every_secret_a_file_that_is_mounted(pod: dict[str, Any]) -> None:
    known = {variable_of(option) for option in option_names()}
    files = {f"{variable_of(option)}_FILE" for option in SECRETS}
    given = variables(pod)
    assert given.keys() <= known | files
    assert not given.keys() & {variable_of(option) for option in SECRETS}
    mounts = {each["name"]: each["mountPath"] for each in container(pod)["volumeMounts"]}
    for name in given.keys() & files:
        assert given[name].startswith(f"{mounts['secrets']}/")
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}


def test_the_workers_have_a_login_of_their_own() -> None:
    names = [
        next(volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume)
        for pod in (WORKER, MIGRATE, *MAINTAIN.values())
    ]
    assert names == ["greenhouse-ingest", *["greenhouse-ingest-migrator"] * 4]
    assert variables(MIGRATE).keys() == {"INGEST_METADATA_DSN_FILE", "INGEST_TIMESERIES_DSN_FILE"}


@every_pod
def test_the_authority_of_the_databases_is_in_the_secret_that_a_dsn_finds_it_in(pod: dict[str, Any]) -> None:
    [secret] = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
    [mount] = [each["mountPath"] for each in container(pod)["volumeMounts"] if each["name"] == "secrets"]
    readme, job = ((FOLDER / name).read_text() for name in ("README.md", "migrate-job.yaml"))
    assert f"sslrootcert={mount}/db-ca.pem" in readme
    made = re.compile(rf"secret generic {secret} \\\n((?:.*\\\n)*.*)\n")
    described = [readme] if pod is WORKER else [readme, job]
    for text in described:
        found = made.search(text)
        assert found is not None
        assert "--from-file=db-ca.pem" in found[1]
    if pod is not WORKER:
        assert f"sslrootcert={mount}/db-ca.pem" in job


def settings_of(
    pod: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str = ""
) -> Settings:
    """Load the ConfigMap's file, and *more* in it, as a pod of this kind does, secrets included.

    A worker is called greenhouse-ingest-0. What is not mounted is not loaded.
    """
    mounts = {each["name"]: each["mountPath"] for each in container(pod)["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes["config"]["configMap"] == {"name": OBJECTS["config-map.yaml"]["metadata"]["name"]}
    assert Path(mounts["config"]) / "ingest.toml" in CONFIG_FILES
    config = tmp_path / "ingest.toml"
    config.write_text(OBJECTS["config-map.yaml"]["data"]["ingest.toml"] + more)
    for name, value in variables(pod).items():
        if name.endswith("_FILE"):
            secret = tmp_path / Path(value).name
            secret.write_text("postgresql://ingest_worker@db.example/x" if "DSN" in name else "s3cr3t")
            monkeypatch.setenv(name, str(secret))
        else:
            monkeypatch.setenv(name, value.replace("{metadata.name}", "greenhouse-ingest-0"))
    return load_settings(config, require=("metadata", "timeseries"))


def settings_of_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return settings_of(WORKER, tmp_path, monkeypatch)


@pytest.mark.parametrize("period", MAINTAIN)
def test_maintenance_goes_by_the_same_configuration(
    period: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = '\n[maintain]\npurge_dead_letters_after = "off"\n'
    settings = settings_of(MAINTAIN[period], tmp_path, monkeypatch, more)
    assert settings.maintain.purge_dead_letters_after == "off"


def test_the_configuration_is_one_that_the_worker_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of_the_worker(tmp_path, monkeypatch)
    assert settings.broker_address.tls
    assert settings.broker.client_id == "greenhouse-ingest-0"
    assert settings.share_group == "greenhouse-ingest"
    assert settings.workers.count is None, "one worker a pod: the autoscaler makes more of them"
    assert all(valid_filter(f"$share/{settings.share_group}/{each}") for each in settings.broker.filters)


def test_a_pod_is_given_longer_to_leave_than_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain_s = settings_of_the_worker(tmp_path, monkeypatch).write.drain_timeout_s
    assert WORKER["terminationGracePeriodSeconds"] > drain_s + LEAVING_S + 10
    assert drain_s == SETTINGS.write.drain_timeout_s


def test_probes_and_ports_are_the_workers_own() -> None:
    assert container(WORKER)["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container(WORKER)["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert port_of("readinessProbe") == port_of("livenessProbe") == SETTINGS.observe.http_port
    [port] = OBJECTS["service.yaml"]["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (SETTINGS.observe.http_port, "http")
    [rule] = OBJECTS["network-policy.yaml"]["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": SETTINGS.observe.http_port}]
    liveness = container(WORKER)["livenessProbe"]
    patience_s = liveness["periodSeconds"] * liveness["failureThreshold"]
    assert patience_s <= SETTINGS.observe.hang_s


def test_the_pods_run_what_the_image_is_for() -> None:
    found = dict(instructions())
    assert found["ENTRYPOINT"] == '["ingest"]'
    assert "command" not in container(WORKER)
    assert container(WORKER)["args"] == ["run"]
    assert container(MIGRATE)["args"] == ["schema", "migrate"]
    for period, pod in MAINTAIN.items():
        assert container(pod)["args"] == ["maintain", period, "--yes", "--json"]
    assert "INGEST_OBSERVE__HTTP_HOST=0.0.0.0" in found["ENV"]


def selected(*names: str) -> Iterator[dict[str, str]]:
    for name in names:
        spec = OBJECTS[name]["spec"]
        yield spec["selector"].get("matchLabels", spec["selector"])


def test_everything_selects_the_workers() -> None:
    labels = OBJECTS["stateful-set.yaml"]["spec"]["template"]["metadata"]["labels"]
    for wanted in selected("stateful-set.yaml", "service.yaml", "pod-disruption-budget.yaml"):
        assert wanted == labels
    policy = OBJECTS["network-policy.yaml"]["spec"]["podSelector"]["matchLabels"]
    assert policy.items() <= labels.items()
    assert policy.items() <= OBJECTS["migrate-job.yaml"]["spec"]["template"]["metadata"]["labels"].items()
    assert OBJECTS["stateful-set.yaml"]["spec"]["serviceName"] == OBJECTS["service.yaml"]["metadata"]["name"]
    assert OBJECTS["service.yaml"]["spec"]["clusterIP"] == "None"
    assert OBJECTS["stateful-set.yaml"]["spec"]["podManagementPolicy"] == "Parallel"


def test_the_autoscaler_goes_by_a_metric_that_is_recorded_and_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = OBJECTS["horizontal-pod-autoscaler.yaml"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == OBJECTS["stateful-set.yaml"]["metadata"]["name"]
    assert "replicas" not in OBJECTS["stateful-set.yaml"]["spec"]
    [metric] = scaler["metrics"]
    [rule] = ADAPTER["rules"]["custom"]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]
    assert rule["seriesQuery"].partition("{")[0] in RECORDED
    assert int(metric["pods"]["target"]["averageValue"]) * 4 == SETTINGS.broker.receive_maximum
    # Orphans count among the sessions of a group; each is adopted before the next pod goes.
    assert scaler["maxReplicas"] <= MOST_SESSIONS - 4
    [policy] = scaler["behavior"]["scaleDown"]["policies"]
    orphan_after_s = settings_of_the_worker(tmp_path, monkeypatch).workers.orphan_after_s
    assert policy["value"] == 1
    assert policy["periodSeconds"] >= 2 * orphan_after_s


def test_memory_is_what_the_alert_takes_it_for() -> None:
    limit = container(WORKER)["resources"]["limits"]["memory"].removesuffix("Mi")
    assert f"0.85 * {limit} * 1024 * 1024" in RULES_FILE.read_text()
