"""What needs no run on Spark: rows as messages, Java's options, batches of a spool, checkpoints, files, engine time."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pytest

from hackwatch.config import Settings
from hackwatch.counts import Counts
from hackwatch.detect.panel import Member, Panel
from hackwatch.detect.registry import Registry
from hackwatch.errors import ConfigurationError, DataError, ResourceError
from hackwatch.pipeline.core import Now
from hackwatch.runtime.detectors import Models
from hackwatch.runtime.options import stream_options
from hackwatch.runtime.retry import Retry
from hackwatch.store import open_store
from hackwatch.store.commits import BatchEntry
from hackwatch.testing import FakeClock
from hackwatch.topics.spool import SpoolReader, SpoolWriter
from tests.engine.support import Planted
from tests.streams.support import decode, record
from tests.third.enrichers import NTH, OWNER, register

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytest.importorskip("pyspark")

from hackwatch.spark.context import Context, SparkQuery
from hackwatch.spark.folder import LocalFolder, open_folder
from hackwatch.spark.ingest import spark_options
from hackwatch.spark.kafka import java_options
from hackwatch.spark.messages import kafka_messages
from hackwatch.spark.observing import lag_of
from hackwatch.spark.querycheckpoint import QueryCheckpoint
from hackwatch.spark.rounds import EngineTime
from hackwatch.spark.shipping import Shipped, pack
from hackwatch.spark.spool import Planner


def rows(*values: tuple[int, int, bytes]) -> pa.RecordBatch:
    """(partition, offset, value) as Spark gives them, each value ended by a newline."""
    partitions, offsets, texts = zip(*values, strict=True)
    return pa.record_batch(
        {
            "value": pa.array([text + b"\n" for text in texts], pa.binary()),
            "partition": pa.array(partitions, pa.int32()),
            "offset": pa.array(offsets, pa.int64()),
        }
    )


def test_rows_become_runs_of_their_partitions() -> None:
    runs = list(kafka_messages(rows((0, 5, b"a"), (0, 9, b"bb"), (1, 2, b""), (0, 10, b"c")), "topic"))
    assert [(run.partition, run.payload, run.offsets.tolist(), run.next_offset) for run in runs] == [
        (0, b"a\nbb\n", [5, 9], 10),
        (1, b"\n", [2], 3),
        (0, b"c\n", [10], 11),
    ]


def test_a_newline_inside_a_message_becomes_a_space() -> None:
    (run,) = kafka_messages(rows((0, 1, b'{\n"a": 1}'), (0, 2, b"\n"), (0, 3, b"x")), "topic")
    assert run.payload == b'{ "a": 1}\n \nx\n'
    assert len(run) == 3


def test_a_part_of_a_batch_is_taken_from_where_it_begins() -> None:
    (run,) = kafka_messages(rows((0, 1, b"one"), (0, 2, b"two"), (0, 3, b"three")).slice(1, 1), "topic")
    assert (run.payload, run.offsets.tolist()) == (b"two\n", [2])


@pytest.mark.parametrize(
    ("given", "java"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({"client.id": "x"}, {"kafka.client.id": "x"}, id="what both call the same"),
        pytest.param({"debug": "all", "queued.min.messages": "1"}, {}, id="what only librdkafka knows"),
        pytest.param(
            {"security.protocol": "SASL_SSL", "sasl.mechanisms": "SCRAM-SHA-512", "sasl.username": "ann",
             "sasl.password": 'p"\\w'},
            {"kafka.security.protocol": "SASL_SSL", "kafka.sasl.mechanism": "SCRAM-SHA-512",
             "kafka.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required "
             'username="ann" password="p\\"\\\\w";'},
            id="a login",
        ),
        pytest.param(
            {"ssl.ca.location": "/ca.pem", "ssl.endpoint.identification.algorithm": "none"},
            {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.truststore.location": "/ca.pem",
             "kafka.ssl.endpoint.identification.algorithm": ""},
            id="an authority",
        ),
    ],
)  # fmt: skip
def test_properties_in_the_words_of_the_java_client(given: dict[str, str], java: dict[str, str]) -> None:
    assert java_options(given) == java


@pytest.mark.parametrize(
    "given",
    [
        {"enable.ssl.certificate.verification": "false"},
        {"sasl.mechanism": "GSSAPI", "sasl.username": "ann"},
        {"ssl.key.location": "/nowhere.pem"},
    ],
)
def test_properties_that_java_cannot_have(given: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        java_options(given)


def test_a_backlog_is_cut_at_ends_of_messages_with_the_same_part_of_each_partition(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "topic", partitions=2)
    for number in range(3000):
        writer.append([b"%06d" % number + b"x" * (100 if number % 2 else 300)])
    writer.close()
    reader = SpoolReader(tmp_path / "topic")
    planner, done, batches = Planner(reader, "process", 200_000), dict[int, int](), 0
    ends = planner.ends()
    while (taken := planner.next(done, ends))[0]:
        batches += 1
        ranges, waiting = taken
        assert waiting == tuple(("process", part.partition) for part in ranges if part.end < ends[part.partition])
        for part in ranges:
            assert part.start == done.get(part.partition, 0)
            messages = reader.read(part.partition, part.start, max_bytes=1 << 30, end=part.end)
            assert messages is not None
            assert messages.next_offset == part.end
            done[part.partition] = part.end
        shares = [done[number] / ends[number] for number in ends]
        assert max(shares) - min(shares) < 0.2
    assert done == ends
    assert 3 <= batches <= 8
    reader.close()


def test_lag_is_what_kafka_has_and_spark_has_not_read() -> None:
    """Spark gives the offsets of Kafka as text, of all topics and partitions."""
    source = {"endOffset": '{"t":{"0":5,"1":7}}', "latestOffset": '{"t":{"0":9,"1":7}}'}
    assert lag_of(source) == 4
    assert lag_of({"endOffset": None, "latestOffset": None}) == 0


def test_a_batch_counts_once_and_is_repeated_as_it_was_logged(tmp_path: Path) -> None:
    with open_store(tmp_path / "store.sqlite") as store:
        first = QueryCheckpoint(store.checkpoints, "main", "process")
        entry = first.begin(0, "query", Now(100.0, 1.0), {"process": "one"})
        assert entry is not None
        again = QueryCheckpoint(store.checkpoints, "main", "process").begin(
            0, "query", Now(200.0, 2.0), {"process": "two"}
        )
        assert again == entry, "what was logged holds, whatever the time and the models are now"
        place = ("process", "topic", 0)
        first.commit(entry, {"newest": 7}, 100.0, offsets={place: 5}, counts={place: Counts(messages=5)})
        later = QueryCheckpoint(store.checkpoints, "main", "process")
        assert later.begin(0, "query", Now(300.0, 3.0), {}) is None
        assert (later.state["newest"], later.elapsed) == (7, 1.0)
        assert later.totals[place].messages == 5
        assert later.begin(1, "query", Now(300.0, 3.0), {}) is not None


def test_time_may_pass_between_two_batches_of_spark(tmp_path: Path) -> None:
    """Spark knows nothing of it: its numbers go on, and those of the epochs too."""
    with open_store(tmp_path / "store.sqlite") as store:
        checkpoint = QueryCheckpoint(store.checkpoints, "main", "process")
        first = checkpoint.begin(0, "query", Now(1.0, 1.0), {})
        assert first is not None
        checkpoint.commit(first, {}, 1.0)
        checkpoint.tick("process", Now(2.0, 2.0), {})
        killed = QueryCheckpoint(store.checkpoints, "main", "process")
        assert killed.tick_logged()
        tick = killed.tick("process", Now(3.0, 3.0), {})
        assert (tick.epoch, tick.elapsed) == (2, 2.0)
        killed.commit(tick, {}, 3.0)
        assert not killed.tick_logged()
        assert killed.begin(0, "query", Now(4.0, 4.0), {}) is None
        second = QueryCheckpoint(store.checkpoints, "main", "process").begin(1, "query", Now(5.0, 5.0), {})
        assert second is not None
        assert (second.epoch, second.elapsed) == (3, 5.0)


def test_a_commit_that_the_store_did_not_take_counts_once_when_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ("process", "topic", 0)
    with open_store(tmp_path / "store.sqlite") as store:
        checkpoint = QueryCheckpoint(store.checkpoints, "main", "process")
        entry = checkpoint.begin(0, "query", Now(100.0, 0.0), {})
        assert entry is not None
        with monkeypatch.context() as broken:
            broken.setattr(store.checkpoints, "commit_epoch", away)
            for _ in range(3):
                with pytest.raises(ResourceError):
                    checkpoint.commit(entry, {}, 100.0, counts={place: Counts(messages=5)})
        checkpoint.commit(entry, {}, 100.0, counts={place: Counts(messages=5)})
        assert (checkpoint.totals, checkpoint.epoch) == ({place: Counts(messages=5)}, 1)
        assert QueryCheckpoint(store.checkpoints, "main", "process").totals == {place: Counts(messages=5)}


def away(*_: object) -> None:
    raise ResourceError("the store cannot be reached")


class Noting(SparkQuery):
    """Notes which batches it was given."""

    taken: tuple[int, ...] = ()

    def frame(self) -> Any:
        raise NotImplementedError

    def take(self, frame: object, entry: BatchEntry, deciders: object) -> None:
        self.taken += (entry.epoch,)


def test_a_batch_that_comes_while_the_store_is_away_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, said = FakeClock(0.0), list[str | None]()
    session = SimpleNamespace(sparkContext=SimpleNamespace(getLocalProperty=lambda _: "query"))
    with open_store(tmp_path / "store.sqlite") as store:
        log_batches, tries = store.checkpoints.log_batches, iter((away, away))
        monkeypatch.setattr(store.checkpoints, "log_batches", lambda *given: next(tries, log_batches)(*given))
        parts: Any = {
            "settings": Settings(), "spark": session, "checkpoints": store.checkpoints, "clock": clock, "given": {},
            "rules": None, "observer": None, "retry": Retry(clock, threading.Event(), said.append), "enrichments": None,
            "lake": lambda: None,
            "models": lambda names, _: Models(Registry(tmp_path), names, lambda _: None), "policy": lambda: None,
        }  # fmt: skip
        query, frame = Noting(Context(**parts), "process", ("process",)), SimpleNamespace(sparkSession=session)
        query._batch(frame, 0)  # type: ignore[arg-type]  # all that is asked of a frame here
    assert (query.taken, query.error) == ((1,), None)
    assert said == ["store: the store cannot be reached", "store: the store cannot be reached", None]


def test_models_and_tables_arrive_as_they_were_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, OWNER, NTH)
    tables = {"owners": pl.DataFrame({"path": ["/item/17"], "owner": ["ann"]})}
    panel = Panel(Planted("visit"), {"content": Member(Planted("visit")), "challenger": None})
    shipped: Shipped = pickle.loads(pickle.dumps(pack("visit", panel, tables, ())))
    assert shipped.panel.versions() == {"champion": "visit-planted", "content": "visit-planted"}
    assert shipped.panel.roles == ("content", "challenger")
    filled = shipped.enrichment(decode("visit", record("visit"), record("visit", path="/help")).records)
    assert filled["owner"].to_list() == ["ann", None]
    assert filled["nth"].to_list() == [None, None], "what is stateful stays empty on Spark"


@pytest.mark.parametrize(("batch", "query", "says"), [(1, "other", "another checkpoint"), (5, "query", "belong")])
def test_the_checkpoint_of_another_store_is_refused(tmp_path: Path, batch: int, query: str, says: str) -> None:
    with open_store(tmp_path / "store.sqlite") as store:
        checkpoint = QueryCheckpoint(store.checkpoints, "main", "process")
        entry = checkpoint.begin(0, "query", Now(100.0, 0.0), {})
        assert entry is not None
        checkpoint.commit(entry, {}, 100.0)
        with pytest.raises(DataError, match=says):
            checkpoint.begin(batch, query, Now(200.0, 1.0), {})


def test_engine_time_stands_still_while_the_driver_does() -> None:
    clock = FakeClock(0.0)
    engine = EngineTime(clock, 100.0, waits=1.0)
    clock.advance(0.5)
    assert engine.tick() == 100.5
    clock.advance(3600.0)
    assert engine.tick() == 102.5, "no more than a step, and what it waits between two"


@pytest.mark.parametrize(("given", "embedded", "spark"), [(None, 100_000, 2_000_000), (7, 7, 7)])
def test_how_many_sources_have_a_clock_of_their_own(given: int | None, embedded: int, spark: int) -> None:
    settings = Settings.model_validate({"engine": {"max_sources": given}})
    assert stream_options(settings, "process").max_sources == embedded
    assert spark_options(settings, "process").max_sources == spark


def test_files_beside_the_checkpoints_are_whole_or_not_there(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path / "a" / "b")
    folder.prepare()
    assert (folder.names(), folder.read("1")) == ([], None)
    folder.write("1", b"one")
    folder.write("1", b"other")
    cut_off = f".2.{'0' * 32}.tmp"
    (tmp_path / "a" / "b" / cut_off).write_bytes(b"a write that was cut off")
    assert (folder.names(), folder.unfinished(), folder.read("1")) == (["1"], [cut_off], b"other")
    folder.delete(["1", "2"])
    assert folder.names() == []


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError, match="checkpoint folder") as error:
        LocalFolder(tmp_path / "file" / "b").prepare()
    assert str(tmp_path / "file" / "b") in str(error.value)


@pytest.mark.slow
def test_a_folder_of_hadoop_is_like_one_of_this_machine(spark: SparkSession, tmp_path: Path) -> None:
    """Through the driver's JVM, as hdfs:// and s3a:// are reached."""
    mounted = "fs.viewfs.mounttable.parts.link./"
    spark.conf.set(f"{mounted}{tmp_path.parts[1]}", f"file:///{tmp_path.parts[1]}")
    try:
        folder = open_folder(spark, f"viewfs://parts{tmp_path}/made")
        assert (folder.names(), folder.read("1")) == ([], None)
        content = bytes(range(256)) * 100
        for given in (b"", content):
            folder.write("1", given)
        assert (folder.names(), folder.unfinished(), folder.read("1")) == (["1"], [], content)
        folder.delete(["1", "2"])
        assert folder.names() == []
    finally:
        spark.conf.unset(f"{mounted}{tmp_path.parts[1]}")
    assert isinstance(open_folder(spark, str(tmp_path)), LocalFolder)
