"""A driver killed at any write to a checkpoint that has hardly begun: the next start goes on, nothing lost or doubled.

A real run records which files Spark writes to the checkpoint of each query, in their order. Then the folder is made
again as a kill in the middle of each write leaves it: the files before it whole, that one under its hidden name.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from hackwatch.errors import ResourceError
from hackwatch.lake import Lake
from hackwatch.spark.checkpoint import clear_unfinished
from hackwatch.spark.correlate import Correlate
from tests.engine.kafka_folder import KafkaFolder
from tests.engine.processes import NAMES, Outcome, feed
from tests.servers.kafka import Broker
from tests.servers.spark import missing
from tests.spark.support import SPARK, assert_same, on_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

UUID = "0f3b0c52-7d57-4f0e-9d3c-2f1f5d7a9b10"


class Died(Exception):
    """In place of a kill."""


# -- what a real run writes -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Story:
    """One data folder at three moments: before its first start, once all messages are in the lake, and at the end."""

    fresh: KafkaFolder
    ingested: KafkaFolder
    done: KafkaFolder
    outcome: Outcome

    def writes(self, query: str) -> list[Path]:
        """The files of a query's checkpoint as they were written, relative to it."""
        folder = checkpoint(self.done, query)
        files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".crc"]
        return [path.relative_to(folder) for path in sorted(files, key=lambda path: path.stat().st_mtime_ns)]


def checkpoint(folder: KafkaFolder, query: str) -> Path:
    return folder.data / "spark" / "main" / query


def copy(folder: KafkaFolder, path: Path) -> KafkaFolder:
    """The same at another place: Spark keeps what it knows of tables and state by their places."""
    shutil.copytree(folder.path, path)
    return replace(folder, path=path, _readers={})


@pytest.fixture(scope="module")
def one_partition(spark: SparkSession) -> Iterator[SparkSession]:
    """State in one part: the writes of several are alike, and come at once."""
    before = str(spark.conf.get("spark.sql.shuffle.partitions"))
    spark.conf.set("spark.sql.shuffle.partitions", "1")
    yield spark
    spark.conf.set("spark.sql.shuffle.partitions", before)


@pytest.fixture(scope="module")
def story(one_partition: SparkSession, kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Story:
    path = tmp_path_factory.mktemp("unfinished")
    for name in NAMES:
        kafka.create(f"unfinished-{name}", 2)
    folder = KafkaFolder.on(path / "run", kafka, "unfinished", more=SPARK)
    feed(folder, 800)
    fresh = copy(folder, path / "fresh")

    def dies(*_: object, **__: object) -> None:
        raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Correlate, "start", dies)
        with pytest.raises(Died):
            on_spark(folder, one_partition)
    ingested = copy(folder, path / "ingested")
    on_spark(folder, one_partition)
    return Story(fresh, ingested, folder, Outcome.of(folder))


# -- what a kill leaves -----------------------------------------------------------------------------------------------


def hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.{UUID}.tmp")


def checksum(path: Path) -> Path:
    return path.with_name(f".{path.name}.crc")


def leave(done: Path, target: Path, writes: list[Path], at: int) -> None:
    """A checkpoint as a kill in the middle of write number `at` leaves it, or behind all writes.

    A local file is renamed first and its checksum second: an earlier kill has hit the write before in between.
    """
    shutil.rmtree(target, ignore_errors=True)
    for path in writes[: at + 1]:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
    for path in writes[:at]:
        shutil.copy2(done / path, target / path)
        last = path == writes[at - 1]
        shutil.copy2(done / checksum(path), target / checksum(hidden(path) if last else path))
    for path in writes[at : at + 1]:
        content = (done / path).read_bytes()
        (target / hidden(path)).write_bytes(content[: len(content) // 2])
        (target / checksum(hidden(path))).write_bytes(b"")


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if UUID in path.name]


@contextmanager
def told(case: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(f"case: {case}")
        raise


def assert_as_undisturbed(folder: KafkaFolder, story: Story) -> None:
    assert_same(Outcome.of(folder), story.outcome)
    for name in NAMES:
        rows = Lake(folder.data / "lake").scan(name).select("partition", "offset", "index").collect()
        assert rows.is_unique().all()
        counted = story.outcome.accounting.filter(stream=name).select(pl.col("on_time") + pl.col("late")).sum().item()
        assert len(rows) == counted > 0


def test_what_is_written_and_in_which_order(story: Story) -> None:
    """What the cases below stand on: no commit comes before the offsets of its batch, and there is no state."""
    for query in NAMES:
        names = [path.as_posix() for path in story.writes(query)]
        assert names == ["metadata", "sources/0/0", "offsets/0", "commits/0"]


def test_a_kill_at_each_write_of_ingest(story: Story, one_partition: SparkSession, tmp_path: Path) -> None:
    """With a store that knows nothing of the batch, as it is until the end of the batch, and one that has it."""
    writes = {query: story.writes(query) for query in NAMES}
    assert {len(found) for found in writes.values()} == {4}, "one batch"
    cases = [(at, story.fresh) for at in range(4)] + [(at, story.ingested) for at in (3, 4)]
    for number, (at, before) in enumerate(cases):
        with told(f"write {at} of ingest, {before.path.name} store"):
            folder = copy(before, tmp_path / str(number))
            for query in NAMES:
                leave(checkpoint(story.done, query), checkpoint(folder, query), writes[query], at)
            on_spark(folder, one_partition)
            assert_as_undisturbed(folder, story)


# -- what is cleared --------------------------------------------------------------------------------------------------


def test_commits_without_their_offsets_are_still_refused(
    story: Story, one_partition: SparkSession, tmp_path: Path
) -> None:
    """No kill leaves that: somebody has removed the offsets."""
    folder = copy(story.ingested, tmp_path / "run")
    shutil.rmtree(checkpoint(folder, "process") / "offsets")
    shutil.copytree(
        checkpoint(story.done, "process") / "commits", checkpoint(folder, "process") / "commits", dirs_exist_ok=True
    )
    kept = sorted(checkpoint(folder, "process").rglob("*"))
    with pytest.raises(ResourceError, match="the query"):
        on_spark(folder, one_partition)
    assert set(kept) <= set(checkpoint(folder, "process").rglob("*"))


#: A name in the checkpoint folder, and whether it is cleared when there is no batch.
FILES = [
    (f"offsets/.0.{UUID}.tmp", True),
    (f"commits/.0.{UUID}.tmp", True),
    (f"sources/0/.0.{UUID}.tmp", True),
    (f"state/0/1/.1.delta.{UUID}.TID12.tmp", True),
    (f"state/0/0/left-keyToNumValues/.1.delta.{UUID}.tmp", True),
    (f".metadata.{UUID}.tmp", True),
    ("metadata", False),
    ("sources/0/0", False),
    ("state/0/0/1.delta", False),
    ("offsets/notes.tmp", False),
    (f"offsets/0.{UUID}.tmp", False),
    ("offsets/.0.tmp", False),
]


@pytest.fixture(params=["{}", "file://{}", "viewfs://unfinished{}"])
def address(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> Iterator[str]:
    """A folder as Spark is told it; only the session's settings say where the last one is."""
    mounted = "fs.viewfs.mounttable.unfinished.link./"
    spark.conf.set(f"{mounted}{tmp_path.parts[1]}", f"file:///{tmp_path.parts[1]}")
    yield request.param.format(tmp_path / "a folder")
    spark.conf.unset(f"{mounted}{tmp_path.parts[1]}")


@pytest.mark.parametrize("batch", [None, "offsets/0", "commits/0", "offsets/12"])
def test_only_unfinished_writes_go_and_only_before_the_first_batch(
    spark: SparkSession, address: str, tmp_path: Path, batch: str | None
) -> None:
    folder = tmp_path / "a folder"
    for name in [*(name for name, _ in FILES), *([batch] if batch else [])]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"v1")
        checksum(folder / name).write_bytes(b"")
    gone = {name for name, cleared in FILES if cleared and batch is None}
    assert sorted(clear_unfinished(spark, address)) == sorted(Path(name).name for name in gone)
    for name, _ in FILES:
        assert (folder / name).exists() == (name not in gone), name
        assert checksum(folder / name).exists() == (name not in gone), name


def test_a_folder_that_is_not_there(spark: SparkSession, tmp_path: Path) -> None:
    assert clear_unfinished(spark, str(tmp_path / "none")) == []
    assert not (tmp_path / "none").exists()
