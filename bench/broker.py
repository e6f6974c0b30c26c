"""A Kafka broker for benchmarks: the one that HACKWATCH_BENCH_KAFKA=HOST:PORT names, or one of its own on loopback.

Its own one is made of the jars that tools/servers/kafka fetches; nothing of it is left afterwards.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from bench.support import say

__all__ = ["ADDRESS", "broker", "cpu_of_tree", "free_ports", "missing", "parts"]

ADDRESS = "HACKWATCH_BENCH_KAFKA"
READY_SECONDS = 90.0
_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
"""


def parts(name: str) -> Path:
    """Where tools/servers/NAME puts what it fetches."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HACKWATCH_TEST_PARTS") or cache / "hackwatch-test-parts") / name


def missing() -> str | None:
    """Why there is no broker, with what helps; None if there is one."""
    if find_spec("confluent_kafka") is None:
        return "Kafka is left out: its client is not installed (pip install 'hackwatch[kafka]')"
    if ADDRESS in os.environ:
        return None
    if shutil.which("java") is None:
        return f"Kafka is left out: there is no java, and {ADDRESS} names no broker"
    if not (parts("kafka") / "jars").is_dir():
        return f"Kafka is left out: tools/servers/kafka has not been run, and {ADDRESS} names no broker"
    return None


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """HOST:PORT of the broker, as long as the context lasts."""
    if ADDRESS in os.environ:
        yield os.environ[ADDRESS]
        return
    folder.mkdir(parents=True)
    plain, controller = free_ports(2)
    properties = folder / "broker.properties"
    properties.write_text(_PROPERTIES.format(plain=plain, controller=controller, data=folder / "data"))
    identity = _java("kafka.tools.StorageTool", "random-uuid").split()[-1]
    _java("kafka.tools.StorageTool", "format", "--standalone", "-t", identity, "-c", str(properties))
    with (folder / "broker.log").open("wb") as log:
        process = subprocess.Popen(_command("kafka.Kafka", str(properties)), stdout=log, stderr=log)
    try:
        _wait(process, plain, folder / "broker.log")
        say("Kafka broker started")
        yield f"127.0.0.1:{plain}"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _command(*arguments: str) -> list[str]:
    return ["java", "-Xmx512m", "-Xms512m", "-cp", f"{parts('kafka') / 'jars'}/*", *arguments]


def _java(*arguments: str) -> str:
    return subprocess.run(_command(*arguments), check=True, capture_output=True, text=True, timeout=120).stdout


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            if AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0}).list_topics(timeout=2).brokers:
                return
        except (OSError, KafkaException):
            time.sleep(0.2)
    raise RuntimeError(f"the broker did not start:\n{log.read_text()[-3000:]}")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def cpu_of_tree(process: int) -> float:
    """CPU seconds of a process and all that descend from it, so far."""
    children: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            field = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        number = int(path.parent.name)
        children.setdefault(int(field[1]), []).append(number)
        # What has ended and was waited for counts too.
        spent[number] = sum(map(int, field[11:15])) / float(os.sysconf("SC_CLK_TCK"))
    waiting, total = [process], 0.0
    while waiting:
        one = waiting.pop()
        total += spent.get(one, 0.0)
        waiting += children.get(one, [])
    return total
