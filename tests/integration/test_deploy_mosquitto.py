"""The broker configuration as shipped, under a real Mosquitto: who may do what, and what it keeps.

Follows config/mosquitto.conf and config/mosquitto.acl; only where things are (listener, paths) is the test's.
The logins are made by deploy/make-secrets.sh. One more login, `plant`, may do anything: it plays the rest
of the installation.
"""

from __future__ import annotations

import os
import queue
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.settings import BrokerSettings
from tests.servers import Mosquitto, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paho.mqtt.reasoncodes import ReasonCode

ROOT = Path(__file__).parents[2]
WORKER = "greenhouse-ingest"
GREENHOUSE = "7f0c1e2a-58a4-4f5e-9c1b-2f4de0a41c11"
ANSWER_S = 10.0
NOT_AUTHORIZED = 135
GATEWAYS_OPTION = "use_username_as_clientid true"
FILTERS_AS_NAMES = ("+", "SARA/+", "x#")


class Party:
    """One MQTT 5 client with a persistent session; acknowledges what it receives only when told to."""

    def __init__(self, port: int, login: str | None, password: str | None, client_id: str) -> None:
        self.received: queue.SimpleQueue[MQTTMessage] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[list[ReasonCode]] = queue.SimpleQueue()
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        self._client.max_inflight_messages_set(0)
        if login is not None:
            self._client.username_pw_set(login, password)
        self._client.on_connect = lambda _c, _u, _f, code, _p: self._answers.put([code])
        self._client.on_publish = lambda _c, _u, _m, code, _p: self._answers.put([code])
        self._client.on_subscribe = lambda _c, _u, _m, codes, _p: self._answers.put(list(codes))
        self._client.on_message = lambda _c, _u, message: self.received.put(message)
        expiry = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own
        expiry.SessionExpiryInterval = 3600
        expiry.ReceiveMaximum = 20_000
        self._client.connect("127.0.0.1", port, clean_start=False, properties=expiry)
        self._client.loop_start()
        self.connected = self._answer()[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _answer(self) -> list[ReasonCode]:
        return self._answers.get(timeout=ANSWER_S)

    def subscribe(self, *filters: str) -> None:
        self._client.subscribe([(each, SubscribeOptions(qos=1)) for each in filters])
        assert [code.value for code in self._answer()] == [1] * len(filters)

    def publish(self, topic: str, payload: bytes = b"1") -> int:
        """Publish at QoS 1 and return the PUBACK's reason code."""
        self._client.publish(topic, payload, qos=1)
        return self._answer()[0].value

    def publish_many(self, topic: str, count: int, *, qos: int = 1) -> None:
        """Publish the numbers up to *count*, and wait until the broker has them all."""
        for number in range(count):
            self._client.publish(topic, str(number), qos=qos)
        for _ in range(count):
            assert not self._answer()[0].is_failure

    def take(self, count: int) -> list[str]:
        """Wait for *count* messages and return their payloads."""
        return [self.received.get(timeout=ANSWER_S).payload.decode() for _ in range(count)]


class Installation:
    """A running broker, and the passwords its logins were given."""

    def __init__(self, directory: Path, passwords: dict[str, str]) -> None:
        self._passwords = passwords
        logins, rights = directory / "mosquitto_passwords", directory / "rights.acl"
        self.gateways_port = free_port()
        """A second listener, for gateways, with the option that config/mosquitto.conf has for theirs."""
        self.broker = Mosquitto(
            ROOT / "config" / "mosquitto.conf",
            {
                "password_file": str(logins),
                "acl_file": str(rights),
                "listener": f"{self.gateways_port} 127.0.0.1\n{GATEWAYS_OPTION}",
            },
        )

    def join(self, login: str, client_id: str | None = None, *, port: int | None = None) -> Party:
        """Connect as *login*, to the session *client_id*; without one, to a new session."""
        client_id = client_id or uuid.uuid4().hex
        return Party(port or self.broker.port, login, self._passwords[login], client_id)


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The logins as deploy/make-secrets.sh makes them, and the rights as shipped plus the plant's."""
    directory = tmp_path_factory.mktemp("secrets")
    environment = {"SECRETS_DIR": str(directory), "PATH": os.environ["PATH"]}
    given = {}
    for login in ("SARA", GREENHOUSE, "DEFAULT", "plant"):
        output = subprocess.check_output(
            [ROOT / "deploy" / "make-secrets.sh", "gateway", login], env=environment, text=True
        )
        given[login] = output.rpartition(": ")[2].strip()
    for login in FILTERS_AS_NAMES:  # which the script refuses; somebody may have made them by hand
        given[login] = uuid.uuid4().hex
        command = ["mosquitto_passwd", "-b", str(directory / "mosquitto_passwords"), login, given[login]]
        subprocess.run(command, check=True)
    given[WORKER] = (directory / "broker_password").read_text().strip()
    shipped = (ROOT / "config" / "mosquitto.acl").read_text()
    (directory / "rights.acl").write_text(f"{shipped}\nuser plant\ntopic readwrite #\n")
    return directory, given


@pytest.fixture(scope="module")
def shared_installation(passwords: tuple[Path, dict[str, str]]) -> Iterator[Installation]:
    installation = Installation(*passwords)
    with installation.broker:
        yield installation


@pytest.fixture
def installation(passwords: tuple[Path, dict[str, str]]) -> Iterator[Installation]:
    """One that a test may stop or kill."""
    installation = Installation(*passwords)
    with installation.broker:
        yield installation


def test_nobody_enters_without_a_login(shared_installation: Installation) -> None:
    port = shared_installation.broker.port
    with Party(port, None, None, "anonymous") as anonymous:
        assert anonymous.connected.value == NOT_AUTHORIZED
    with Party(port, WORKER, "guessed", "impostor") as impostor:
        assert impostor.connected.value == NOT_AUTHORIZED


@pytest.mark.parametrize(
    ("login", "own", "not_own"),
    [
        (
            "SARA",
            ["GREENHOUSE/SARA", "GREENHOUSE/SARA/01", "greenhouse/SARA/readings"],
            [
                "GREENHOUSE",
                "GREENHOUSE/HORTAMED",
                "GREENHOUSE/HORTAMED/A1",
                "GREENHOUSE/SARA/01/more",
                "GREENHOUSE/RESPONSE",
                "SYSTEM/commands",
            ],
        ),
        (
            GREENHOUSE,
            [f"greenhouse/{GREENHOUSE}/sensors/temperature", f"greenhouse/{GREENHOUSE}/readings"],
            [
                "greenhouse/SARA01/sensors/temperature",
                "greenhouse/SARA01/readings",
                f"greenhouse/{GREENHOUSE}",
                f"greenhouse/{GREENHOUSE}/sensors/temperature/raw",
                "GREENHOUSE/SARA",
            ],
        ),
        ("DEFAULT", ["GREENHOUSE"], ["GREENHOUSE/SARA", "GREENHOUSE/SARA/01"]),
        (
            WORKER,
            [],
            [
                "GREENHOUSE/SARA",
                f"GREENHOUSE/{WORKER}",
                f"GREENHOUSE/{WORKER}/01",
                f"greenhouse/{WORKER}/readings",
                f"greenhouse/{WORKER}/sensors/temperature",
                "GREENHOUSE/RESPONSE",
            ],
        ),
    ],
)
def test_each_login_publishes_to_its_own_topics_only(
    shared_installation: Installation, login: str, own: list[str], not_own: list[str]
) -> None:
    with shared_installation.join("plant") as plant:
        plant.subscribe("#")
        for topic in not_own:
            with shared_installation.join(login) as party:  # Mosquitto 2.0.11 hangs up after a refusal
                assert party.publish(topic) == NOT_AUTHORIZED, topic
        with shared_installation.join(login) as party:
            for topic in own:
                assert party.publish(topic) == 0, topic
        plant.publish("the/end")
        arrived = [plant.received.get(timeout=ANSWER_S).topic for _ in range(len(own) + 1)]
    assert arrived == [*own, "the/end"]


@pytest.mark.parametrize("login", FILTERS_AS_NAMES)
def test_a_login_named_like_a_filter_may_do_nothing(shared_installation: Installation, login: str) -> None:
    with shared_installation.join("plant") as plant:
        plant.subscribe("#")
        for topic in ("GREENHOUSE/SARA", "greenhouse/SARA01/readings", "GREENHOUSE/SARA/01"):
            with shared_installation.join(login) as party:
                assert party.publish(topic) == NOT_AUTHORIZED, topic
        plant.publish("the/end")
        assert plant.received.get(timeout=ANSWER_S).topic == "the/end"


def test_a_gateway_that_knows_the_workers_client_id_cannot_take_its_session(
    shared_installation: Installation,
) -> None:
    """Without the option any login can, and Mosquitto throws what is queued away when it leaves."""
    assert f"#{GATEWAYS_OPTION}" in (ROOT / "config" / "mosquitto.conf").read_text().splitlines()
    with shared_installation.join(WORKER, "known") as worker:
        worker.subscribe("GREENHOUSE/#")
    with shared_installation.join("plant") as plant:
        plant.publish_many("GREENHOUSE/HORTAMED", 5)
    with shared_installation.join("SARA", "known", port=shared_installation.gateways_port) as thief:
        assert not thief.connected.is_failure
        assert thief.publish("GREENHOUSE/SARA", b"5") == 0  # and its own messages go through
    with shared_installation.join(WORKER, "known") as worker:
        assert worker.take(6) == [*map(str, range(5)), "5"]


def test_gateways_read_nothing(shared_installation: Installation) -> None:
    with shared_installation.join("plant") as plant, shared_installation.join("SARA") as gateway:
        gateway.subscribe("#", "$SYS/#")
        for topic in ("GREENHOUSE/SARA", "GREENHOUSE/HORTAMED", "greenhouse/SARA/readings"):
            plant.publish(topic)
        time.sleep(0.3)
        assert gateway.received.empty()


@pytest.mark.parametrize("group", ["", "$share/greenhouse-ingest/"])
def test_the_worker_reads_the_sensor_topics_and_no_others(
    shared_installation: Installation, group: str
) -> None:
    ours = ["greenhouse/SARA01/sensors/temperature", "greenhouse/SARA01/readings", "GREENHOUSE",
            "GREENHOUSE/SARA", "GREENHOUSE/SARA/01"]  # fmt: skip
    others = ["GREENHOUSE/RESPONSE", "GREENHOUSE/STATUS", "GREENHOUSE/MOBILE/01", "SYSTEM/status",
              "greenhouse/SARA01/actuators/fan", "GREENHOUSE/SARA/01/commands"]  # fmt: skip
    filters = BrokerSettings().filters
    with shared_installation.join("plant") as plant, shared_installation.join(WORKER) as worker:
        worker.subscribe(*(group + each for each in filters), "SYSTEM/#", "$SYS/#")
        for topic in [*others, *ours]:
            plant.publish(topic)
        arrived = {worker.received.get(timeout=ANSWER_S).topic for _ in ours}
        assert arrived == set(ours)
        assert worker.received.empty()


def test_more_than_the_default_thousand_wait_for_an_absent_worker_and_arrive_without_an_acknowledgement(
    shared_installation: Installation,
) -> None:
    with shared_installation.join(WORKER, "absent") as worker:
        worker.subscribe("GREENHOUSE/#")
    with shared_installation.join("SARA") as gateway:
        gateway.publish_many("GREENHOUSE/SARA", 1500)
    with shared_installation.join(WORKER, "absent") as worker:
        assert worker.take(1500) == [str(number) for number in range(1500)]


def test_what_is_published_at_qos_0_waits_too(shared_installation: Installation) -> None:
    with shared_installation.join(WORKER, "absent-0") as worker:
        worker.subscribe("GREENHOUSE/#")
    with shared_installation.join("SARA") as gateway:
        gateway.publish_many("GREENHOUSE/SARA", 50, qos=0)
        gateway.publish("GREENHOUSE/SARA", b"end")
    with shared_installation.join(WORKER, "absent-0") as worker:
        assert worker.take(51) == [*map(str, range(50)), "end"]


def test_a_payload_above_the_workers_limit_still_arrives(shared_installation: Installation) -> None:
    with shared_installation.join(WORKER) as worker, shared_installation.join("SARA") as gateway:
        worker.subscribe("GREENHOUSE/#")
        gateway.publish("GREENHOUSE/SARA", b"x" * 1_048_576)
        assert len(worker.received.get(timeout=ANSWER_S).payload) == 1_048_576


def test_a_killed_broker_loses_at_most_one_autosave_of_what_it_queued(installation: Installation) -> None:
    with installation.join(WORKER, "absent") as worker:
        worker.subscribe("GREENHOUSE/#")
    with installation.join("SARA") as gateway:
        gateway.publish_many("GREENHOUSE/SARA", 2500)
        installation.broker.kill9()
    installation.broker.start()
    with installation.join(WORKER, "absent") as worker:
        assert worker.take(1500) == [str(number) for number in range(1500)]


def test_a_stopped_broker_loses_nothing(installation: Installation) -> None:
    with installation.join(WORKER, "absent") as worker:
        worker.subscribe("GREENHOUSE/#")
    with installation.join("SARA") as gateway:
        gateway.publish_many("GREENHOUSE/SARA", 300)
    installation.broker.restart()
    with installation.join(WORKER, "absent") as worker:
        assert worker.take(300) == [str(number) for number in range(300)]
