"""The broker for tests: it keeps its data and its address however it ended, and does not outlive who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers.kafka import Broker, missing

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

_STARTER = """
import sys, time
from pathlib import Path
from tests.servers.kafka import Broker
broker = Broker(Path(sys.argv[1]))
broker.start()
print(broker.pid, flush=True)
time.sleep(600)
"""


def test_a_broker_keeps_data_and_address_when_stopped_or_killed(own_kafka: Broker) -> None:
    from confluent_kafka.admin import AdminClient

    url = own_kafka.create("kept", 3)
    for end in (own_kafka.stop, own_kafka.kill):
        end()
        own_kafka.start()
        found = AdminClient({"bootstrap.servers": own_kafka.address}).list_topics(timeout=10).topics
        assert len(found["kept"].partitions) == 3
        assert own_kafka.url("kept") == url


def test_a_broker_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _STARTER, str(tmp_path / "broker")], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        broker = int(starter.stdout.readline())
        starter.send_signal(signal.SIGKILL)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            os.kill(broker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(broker, signal.SIGKILL)
    pytest.fail("the broker outlived the process that started it")
