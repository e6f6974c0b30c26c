"""Data folders of version 0.1 are taken up by the present engines: nothing is lost, nothing is doubled, ids stay."""

from __future__ import annotations

import io
import json
import zlib
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tests.engine.processes import NAMES, Folder
from tests.servers.spark import missing
from tests.spark.support import SPARK, on_spark, work_off_embedded
from tests.upgrade.support import EXPECTED, FIXTURES, STOPS, query, summary, unpack

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EMBEDDED = [stop for stop in STOPS if stop.startswith("embedded")]
LATENESS, LATE_FOR_SURE = 20.0, 60.0


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(EXPECTED.read_text())
    return found


# -- taking up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", EMBEDDED)
def test_the_embedded_engine_goes_on(stop: str, expected: dict[str, Any], tmp_path: Path) -> None:
    """To the end of the topics it gives what an undisturbed run of version 0.1 gave."""
    folder = unpack(stop, tmp_path)
    work_off_embedded(folder)
    found = summary(folder)
    for part in expected:
        assert found[part] == expected[part], part


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_spark_goes_on(spark: SparkSession, expected: dict[str, Any], tmp_path: Path) -> None:
    """The same on Spark, where the last windows become final later."""
    folder = unpack("spark-killed", tmp_path, more=SPARK)
    final = {row[:3] for row in query(folder, "SELECT stream, entity, window_start FROM windows WHERE final = 1")}
    on_spark(folder, spark)
    found = summary(folder)
    assert found["tables"] == expected["tables"]
    assert [row[:-1] for row in found["windows"]] == [row[:-1] for row in expected["windows"]]
    assert final <= finals(found) <= finals(expected)
    assert final
    assert not_of_windows(found) == not_of_windows(expected)
    assert found["accounting"] == expected["accounting"]


def finals(run: dict[str, Any]) -> set[tuple[str, str, int]]:
    return {(stream, entity, start) for stream, entity, start, *_, final in run["windows"] if final}


def not_of_windows(run: dict[str, Any]) -> dict[str, Any]:
    return {id_: alert for id_, alert in run["alerts"].items() if alert[0] != "window"}


# -- what the fixtures are -----------------------------------------------------------------------------------------


def test_the_expected_run_had_everything_in_it(expected: dict[str, Any]) -> None:
    rows = {name: table["rows"] for name, table in expected["tables"].items()}
    assert min(rows["process"], rows["memory"]) > 3000
    assert min(rows["rejected"], rows["attacks"]) > 20
    sums = pl.DataFrame(expected["accounting"], orient="row").sum().row(0)[3:]
    messages, records, on_time, late, duplicate, rejected, suspects = sums
    assert messages == records == on_time + late + duplicate + rejected
    assert on_time + late == rows["process"] + rows["memory"]
    assert min(late, duplicate, suspects) > 50
    assert {kind for kind, *_ in expected["alerts"].values()} == {"attack", "rule", "window"}
    assert {final for *_, final in expected["windows"]} == {True, False}


@pytest.mark.parametrize("stop", STOPS)
def test_part_of_the_topics_is_unread(stop: str, tmp_path: Path) -> None:
    folder = unpack(stop, tmp_path)
    counted = query(folder, "SELECT stream, partition_number, max(next_offset) FROM position GROUP BY 1, 2")
    read = {(stream, partition): at for stream, partition, at in counted}
    assert read.keys() == folder.ends().keys()
    assert all(0 < read[place] < 0.8 * end for place, end in folder.ends().items())


@pytest.mark.parametrize(("stop", "logged"), [("embedded-killed", True), ("embedded-stopped", False)])
def test_an_epoch_is_committed_and_if_killed_another_one_begun(stop: str, logged: bool, tmp_path: Path) -> None:
    folder = unpack(stop, tmp_path)
    [(pipeline, epoch)] = query(folder, "SELECT pipeline, epoch FROM pipeline")
    entries = query(folder, "SELECT pipeline, epoch, number FROM batch")
    assert pipeline == "main"
    assert epoch >= 1
    assert (len(entries) > 2) == logged
    assert all(entry[:2] == (pipeline, epoch + 1) for entry in entries)


@pytest.mark.parametrize("stop", EMBEDDED)
def test_the_snapshot_has_every_kind_of_state(stop: str, tmp_path: Path) -> None:
    parts: defaultdict[str, bytes] = defaultdict(bytes)
    for name, part in query(unpack(stop, tmp_path), "SELECT name, snapshot FROM state ORDER BY epoch, name, part"):
        parts[name] += part
    small = json.loads(parts["state"])
    assert all(small["streams"][name]["windows"] for name in NAMES)
    assert small["policy"]["history"]
    assert small["policy"]["suppressor"]["tallies"]
    for name in ("correlation.process", "correlation.memory", "duplicates.process"):
        assert len(pl.read_ipc_stream(io.BytesIO(parts[name]))), name


def test_spark_had_begun_a_batch_that_is_in_the_lake(tmp_path: Path) -> None:
    folder = unpack("spark-killed", tmp_path)
    done = dict(query(folder, "SELECT pipeline, epoch FROM pipeline"))
    begun = query(folder, "SELECT pipeline, epoch FROM batch")
    ahead = {name: last_transaction(folder, name) - done[f"main/{name}"] for name in NAMES}
    assert begun
    assert all(epoch == done[pipeline] + 1 for pipeline, epoch in begun)
    assert sum(ahead.values()) >= 1
    assert {path.name for path in (folder.data / "spark" / "main").iterdir()} == {
        "attacks",
        *map("windows-{}".format, NAMES),
    }


def last_transaction(folder: Folder, table: str) -> int:
    """Of the query that fills a table, by the table's own log."""
    actions = [
        json.loads(line)
        for entry in (folder.data / "lake" / table / "_delta_log").glob("*.json")
        for line in entry.read_text().splitlines()
    ]
    transactions = [action["txn"] for action in actions if "txn" in action]
    return max(int(one["version"]) for one in transactions if one["appId"].startswith(f"main/{table}@"))


def test_late_is_the_same_by_machine_and_by_partition(tmp_path: Path) -> None:
    """So the fixtures mean the same whichever clock a record is judged by."""
    folder, late = unpack(STOPS[0], tmp_path), 0
    for segment in sorted(folder.data.glob("spool/*/p*/*.ndjson")):
        newest: defaultdict[str, float] = defaultdict(float)
        for record in filter(None, map(telling, segment.read_bytes().splitlines())):
            for clock in (record["machine"], "all"):
                behind = newest[clock] - record["ts"]
                assert behind < LATENESS / 2 or behind > LATE_FOR_SURE, "far from the limit"
            late += behind > LATENESS
            assert (newest["all"] - record["ts"] > LATENESS) == (newest[record["machine"]] - record["ts"] > LATENESS)
            assert zlib.crc32(record["machine"].encode()) % 2 == int(segment.parent.name[1:])
            for clock in (record["machine"], "all"):
                newest[clock] = max(newest[clock], record["ts"])
    assert late > 100, "of both streams"


def telling(message: bytes) -> dict[str, Any] | None:
    """A record of the simulator, not what it puts in place of one."""
    return json.loads(message) if message.startswith(b'{"sequence"') else None


def test_the_fixtures_are_small_and_name_no_place(tmp_path: Path) -> None:
    assert sum(path.stat().st_size for path in FIXTURES.iterdir()) < 600_000
    for stop in STOPS:
        folder = unpack(stop, tmp_path)
        for path in filter(Path.is_file, folder.path.rglob("*")):
            assert not any(word in path.read_bytes() for word in (b"/home/", b"/root/", b"/tmp/", b"/var/")), path
