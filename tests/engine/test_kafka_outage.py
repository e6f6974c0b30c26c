"""A broker that stops, is killed or freezes under a running engine and a running feed: both wait and go on."""

from __future__ import annotations

from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from tests.engine.kafka_folder import KafkaFolder
from tests.engine.killing import Feed
from tests.engine.processes import NAMES, Outcome, until, work_off
from tests.servers.kafka import Broker

pytestmark = pytest.mark.slow

RECORDS, SEED, OUTAGES = 40_000, 5, 3


def _paused(folder: KafkaFolder) -> bool:
    return folder.state().startswith("paused: topics: ")


def test_engine_and_feed_outlast_a_broker_that_stops_is_killed_and_freezes(own_kafka: Broker, tmp_path: Path) -> None:
    disturbed = KafkaFolder.on(tmp_path / "disturbed", own_kafka, "outage")
    feed = Feed([disturbed], RECORDS, SEED, OUTAGES + 1)
    with disturbed.writers():
        pass
    with disturbed.run() as engine:
        engine.started()
        feed.start()
        for end in (own_kafka.stop, own_kafka.kill, own_kafka.freeze):
            until(lambda: disturbed.state() == "running", "the engine works")
            before = disturbed.state()
            end()
            until(lambda: _paused(disturbed), f"the engine says that it waits, after {before}")
            feed.next_life()  # it writes into the outage
            if end == own_kafka.freeze:
                own_kafka.thaw()
            else:
                own_kafka.start()
            until(lambda: disturbed.state() == "running", "the engine goes on by itself")
        until(feed.written.is_set, "everything is written")
        assert feed.failure is None
        until(lambda: disturbed.worked_off() or not engine.alive, "everything is committed")
        assert engine.alive, engine.log
        engine.stop()
    disturbed.close()

    calm = KafkaFolder.on(tmp_path / "calm", own_kafka, "outage")
    work_off(calm)
    calm.close()
    found, expected = Outcome.of(disturbed), Outcome.of(calm)
    assert int(found.accounting["messages"].sum()) == feed.messages, "the feed's client sent each message once"
    for table in (*NAMES, "attacks", "rejected"):
        assert_frame_equal(found.tables[table], expected.tables[table], check_exact=True)
    assert_frame_equal(found.windows, expected.windows)
    assert found.alerts == expected.alerts


def test_an_engine_waits_for_a_broker_that_is_not_there_yet(own_kafka: Broker, tmp_path: Path) -> None:
    folder = KafkaFolder.on(tmp_path / "early", own_kafka, "early")
    own_kafka.stop()
    with folder.run() as engine:
        engine.started()
        until(lambda: _paused(folder), "the engine says that it waits")
        assert "no Kafka broker answers" in folder.state()
        own_kafka.start()
        until(lambda: folder.state() == "running", "the engine goes on by itself")
        feed = Feed([folder], 2_000, SEED, 1)
        feed.run()
        until(lambda: folder.worked_off() or not engine.alive, "everything is committed")
        engine.stop()
    folder.close()
    assert int(Outcome.of(folder).accounting["messages"].sum()) == feed.messages
