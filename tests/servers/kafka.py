"""A real Kafka broker (KRaft) on loopback: start, stop, kill, freeze and start again with its data and ports.

`kafka` is the broker that all tests of a run share, `own_kafka` one that a test may break.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.servers.process import Server, free_ports, parts, started

__all__ = ["PASSWORD", "USER", "Broker", "kafka", "missing", "own_kafka"]

READY_SECONDS = 90.0
#: Who may log in at the SASL listener (SASL_PLAINTEXT, mechanism PLAIN).
USER, PASSWORD = "hackwatch", "correct-horse"

_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{sasl}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config={login} user_{user}="{password}";
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
message.max.bytes=67108864
replica.fetch.max.bytes=67108864
log.retention.check.interval.ms=500
log.segment.delete.delay.ms=100
log.initial.task.delay.ms=500
"""
_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


def missing() -> str | None:
    """Why no broker can run here; None if it can."""
    if shutil.which("java") is None or not (parts("kafka") / "made-from.xml").exists():
        return "the parts of a Kafka broker are not here; tools/servers/kafka fetches them"
    return None


class Broker(Server):
    """One broker with its data in `folder`; `start` after `stop` or `kill` finds the same data at the same ports."""

    def __init__(self, folder: Path, *, heap_mib: int = 384, properties: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self._heap = heap_mib
        self._plain, self._sasl, controller = free_ports(3)
        folder.mkdir(parents=True, exist_ok=True)
        text = _PROPERTIES.format(
            plain=self._plain,
            sasl=self._sasl,
            controller=controller,
            data=folder / "data",
            login=_LOGIN,
            user=USER,
            password=PASSWORD,
        )
        extra = "".join(f"{name}={value}\n" for name, value in (properties or {}).items())
        (folder / "broker.properties").write_text(text + extra)

    @property
    def address(self) -> str:
        """HOST:PORT for clients without a login."""
        return f"127.0.0.1:{self._plain}"

    @property
    def sasl_address(self) -> str:
        """HOST:PORT for clients that log in as USER with PASSWORD."""
        return f"127.0.0.1:{self._sasl}"

    def url(self, topic: str) -> str:
        """The address of a topic, as settings name it."""
        return f"kafka://{self.address}/{topic}"

    def create(self, topic: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Make a topic and wait until clients see it; its address."""
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        admin = AdminClient({"bootstrap.servers": self.address})
        made = admin.create_topics([NewTopic(topic, partitions, 1, config=dict(config or {}))])
        made[topic].result(30)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            found = admin.list_topics(topic, timeout=10).topics[topic]
            if found.error is None and len(found.partitions) == partitions:
                break
            time.sleep(0.05)
        return self.url(topic)

    def start(self) -> None:
        """Start and wait until clients can connect."""
        if not (self.folder / "data").exists():
            identity = self._java("kafka.tools.StorageTool", "random-uuid").stdout.decode().split()[-1]
            self._java("kafka.tools.StorageTool", "format", "--standalone", "-t", identity, "-c", self._properties)
        self._launch(self._command("kafka.Kafka", self._properties), cwd=self.folder)
        self._wait()

    @property
    def _properties(self) -> str:
        return str(self.folder / "broker.properties")

    def _command(self, *arguments: str) -> list[str]:
        memory = f"-Xmx{self._heap}m"
        return [
            "java",
            memory,
            f"-Xms{self._heap}m",
            "-XX:+UseSerialGC",
            "-cp",
            f"{parts('kafka') / 'jars'}/*",
            *arguments,
        ]

    def _java(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(self._command(*arguments), cwd=self.folder, check=True, capture_output=True, timeout=120)

    def _wait(self) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            assert self._runs(), self.log()
            if _listens(self._plain):
                admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
                with suppress(KafkaException):
                    if admin.list_topics(timeout=2).brokers:
                        return
            time.sleep(0.1)
        raise AssertionError(f"no broker after {READY_SECONDS:.0f} s: {self.log()}")


def _listens(port: int) -> bool:
    with closing(socket.socket()) as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The broker that all tests of a run share: name topics after the test, and do not stop it."""
    if why := missing():
        pytest.skip(why)
    with started(Broker(tmp_path_factory.mktemp("kafka"))) as broker:
        yield broker


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own, to be broken."""
    if why := missing():
        pytest.skip(why)
    with started(Broker(tmp_path / "own-kafka")) as broker:
        yield broker
