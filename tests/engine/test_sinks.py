"""Sinks beside the lake: every scored record at least once, repeats the same to the byte, whatever crashes."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hackwatch import streams
from hackwatch.engine.loop import Engine
from hackwatch.errors import ResourceError
from hackwatch.runtime.enriched_topic import IDENTITY, enriched
from tests.engine.support import Crash, Crasher, House, Quiet, work_off
from tests.third.support import SHOP, shop_all_along

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")


@dataclass
class MemorySink:
    """Keeps the JSON of every record, as the topic of enriched records would."""

    name: str = "sink"
    messages: list[str] = field(default_factory=list)
    failures: int = 0

    def write(self, stream: str, frame: pl.DataFrame, epoch: int) -> None:
        if self.failures:
            self.failures -= 1
            raise ResourceError("no broker answers")
        assert frame["epoch"].unique().to_list() == [epoch]
        self.messages += enriched(streams.get(stream), frame)["value"].to_list()

    def close(self) -> None:
        """Nothing is open."""


def engine(house: House, sink: Any, seed: int = 0, crasher: Crasher | None = None) -> Engine:
    made = house.engine(seed, crasher)
    return Engine(replace(made.parts, sinks=[sink]), made.options, threading.Event())


def identities(messages: list[str]) -> list[tuple[Any, ...]]:
    records = [json.loads(message) for message in messages]
    return [tuple(record[name] for name in IDENTITY) for record in records]


def in_the_lake(house: House) -> list[tuple[Any, ...]]:
    return [row for name in SHOP for row in house.lake.rows(name).select(IDENTITY).iter_rows()]


def test_a_sink_gets_every_record_of_the_lake_once_if_nothing_breaks(tmp_path: Path) -> None:
    house, sink = House.build(tmp_path, 0, records=600), MemorySink()
    work_off(engine(house, sink))
    assert len(sink.messages) > 500
    assert sorted(identities(sink.messages)) == sorted(in_the_lake(house))


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_in_any_call_loses_nothing_and_repeats_to_the_byte(tmp_path: Path, after: bool) -> None:
    undisturbed = House.build(tmp_path, 0, records=600)
    crasher = Crasher()
    work_off(engine(undisturbed, crasher.around(MemorySink(), ["write"]), 0, crasher))
    repeated = 0
    for at in range(1, crasher.calls + 1):
        folder = tmp_path / str(at)
        folder.mkdir()
        house, sink, crashing = House.build(folder, 0, records=600), MemorySink(), Crasher(at, after=after)
        with pytest.raises(Crash):
            work_off(engine(house, crashing.around(sink, ["write"]), 0, crashing))
        work_off(engine(house, sink, 100))
        repeated += len(sink.messages) - len(set(sink.messages))
        once = list(dict.fromkeys(sink.messages))
        assert sorted(identities(once)) == sorted(in_the_lake(house)), f"crash in call {at}"
    assert repeated > 0


def test_while_a_sink_cannot_be_reached_the_engine_waits_says_so_and_commits_nothing(tmp_path: Path) -> None:
    house, sink = House.build(tmp_path, 0, records=600), MemorySink(failures=3)
    working = engine(house, sink)
    epochs: list[int] = []

    class Watching(Quiet):
        def paused(self, why: str | None) -> None:
            super().paused(why)
            checkpoint = house.store.checkpoints.latest("main")
            epochs.append(checkpoint.epoch if checkpoint else 0)

    observer = Watching()
    working = Engine(replace(working.parts, observer=observer), working.options, threading.Event())
    work_off(working)
    assert observer.pauses == ["sink: no broker answers"] * 3 + [None]
    assert epochs[:3] == [0, 0, 0]
    assert sorted(identities(sink.messages)) == sorted(in_the_lake(house))


@pytest.mark.parametrize("stream", SHOP)
def test_a_message_holds_every_column_and_what_names_it(tmp_path: Path, stream: str) -> None:
    house, sink = House.build(tmp_path, 0, records=600), MemorySink()
    work_off(engine(house, sink))
    found = streams.get(stream)
    rows = house.lake.rows(stream)
    made = enriched(found, rows)
    assert made["key"].to_list() == rows["client"].to_list()
    record, row = json.loads(made["value"][0]), rows.row(0, named=True)
    added = {"score", "prediction", "rules", "model", "late", "processing_time", "epoch", "site", *IDENTITY}
    assert set(record) == {"stream", *found.schema, *added}
    assert record["stream"] == stream
    assert {name: record[name] for name in IDENTITY} == {name: row[name] for name in IDENTITY}
    assert record["score"] == pytest.approx(row["score"])
    assert record["event_time"].startswith(f"{row['event_time']:%Y-%m-%dT%H:%M:%S}")
    assert record["event_time"].endswith("+00:00")


def test_hostile_values_are_sound_json() -> None:
    name = '\x1b[2J"\\\n\u2028é'
    schema = pl.Schema({"client": pl.String(), "score": pl.Float32(), "rules": pl.List(pl.String())})
    frame = pl.DataFrame({"client": [name], "score": [float("nan")], "rules": [[name]]}, schema=schema)
    [value] = enriched(streams.get("visit"), frame)["value"]
    assert json.loads(value) == {"stream": "visit", "client": name, "score": None, "rules": [name]}
    assert "\n" not in value
