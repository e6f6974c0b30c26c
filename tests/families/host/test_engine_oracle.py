"""The real engine with real streams, store and Delta lake against a brute-force oracle; and against any message."""

from __future__ import annotations

import random
import resource
import shutil
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hackwatch import streams
from hackwatch.alerts.policy import AlertPolicy
from hackwatch.config import AlertSettings, EngineSettings
from hackwatch.engine.loop import Engine
from hackwatch.engine.parts import EngineParts, StreamInput
from hackwatch.families.host.simulate import Faults, generate
from hackwatch.lake import Lake
from hackwatch.pipeline.core import Pipeline
from hackwatch.pipeline.options import StreamOptions
from hackwatch.runtime.detectors import Models
from hackwatch.store import Store, open_store
from hackwatch.streams.stream import DecodeOptions
from hackwatch.testing import MemoryTopic
from tests.engine.support import JumpyClock, PlantedSource, Quiet, work_off
from tests.sizes import size
from tests.streams import test_fuzz as fuzz

NAMES = ("process", "memory")
LATENESS, REACH, WINDOW = 20_000_000, 30_000_000, 120
PLACE = ["partition", "offset"]
Topics = Mapping[str, MemoryTopic]


@dataclass(frozen=True)
class Real:
    """An engine with a real store, a real lake and threads."""

    topics: Topics
    store: Store
    lake: Lake
    engine: Engine

    def table(self, name: str) -> pl.DataFrame:
        return self.lake.scan(name).collect() if name in self.lake.tables() else pl.DataFrame()


def real(folder: Path, topics: Topics, seed: int, threads: tuple[ThreadPoolExecutor, ThreadPoolExecutor]) -> Real:
    """Micro-batches, epochs and the number of batches in flight are cut by the seed."""
    chance = random.Random(seed)
    store, lake = open_store(folder / "store.sqlite"), Lake(folder / "lake")
    sources = {name: StreamInput(streams.get(name), topic, DecodeOptions()) for name, topic in topics.items()}
    parts = EngineParts(
        inputs=sources,
        pipeline=Pipeline(
            {
                name: (source.stream, StreamOptions(engine=EngineSettings(idle_seconds=1e9)))
                for name, source in sources.items()
            },
            streams.correlations(),
            AlertPolicy(AlertSettings(window_minimum=1, window_warmup=1)),
        ),
        models=Models(PlantedSource(), NAMES, lambda notice: None),
        rules=None,
        checkpoints=store.checkpoints,
        lake=lake,
        clock=JumpyClock(seed),
        scorers=threads[0],
        epochs=threads[1],
        observer=Quiet(),
    )
    options = EngineSettings(
        epoch_seconds=chance.choice((5.0, 30.0, 1e6)),
        epoch_records=chance.choice((100, 100_000)),
        batch_bytes=chance.choice((5_000, 40_000, 1 << 20)),
        in_flight=chance.choice((1, 2, 5)),
    )
    return Real(topics, store, lake, Engine(parts, options, threading.Event()))


@pytest.fixture(scope="module")
def threads() -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    with ThreadPoolExecutor(2) as scorers, ThreadPoolExecutor(1) as epochs:
        yield scorers, epochs


def day(seed: int, records: int = 400) -> Topics:
    """Some minutes of a few machines over one to three partitions, out of order, late or in bounds by the seed."""
    chance = random.Random(seed)
    topics = {name: MemoryTopic(f"{name}-topic", partitions=chance.choice((1, 2, 3))) for name in NAMES}
    faults = Faults(
        disorder_seconds=chance.choice((0.0, 10.0, 19.0)),
        late_share=chance.choice((0.0, 0.05)),
        malformed_share=chance.choice((0.0, 0.03)),
    )
    for batch in generate(
        records, seed, machines=4, processes=8, records_per_second=2.0, attack_share=0.2, faults=faults
    ):
        batch.process.write_to(topics["process"])
        batch.memory.write_to(topics["memory"])
    return topics


# -- the oracle: complete days, whole columns, no state ----------------------------------------------------------------


def oracle_records(name: str, topic: MemoryTopic) -> pl.DataFrame:
    """Every good record of a topic with what is planted in it, and whether it is late."""
    parts = []
    for partition in topic.partitions():
        messages = topic.read(partition, 0, max_bytes=1 << 30)
        if messages is not None:
            parts.append(streams.get(name).decode(messages, DecodeOptions()).records)
    time = pl.col("event_time").to_physical()
    newest_before = time.cum_max().shift(1).over("partition", "machine", order_by="offset")
    return (
        pl.concat(parts)
        .with_columns(
            (time < newest_before - LATENESS).fill_null(False).alias("late"),
            (pl.col("CMD_PID").str.len_bytes() % 3 == 0).cast(pl.Int8).alias("prediction"),
        )
        .sort(PLACE)
    )


def oracle_windows(name: str, records: pl.DataFrame) -> pl.DataFrame:
    start = (pl.col("event_time").dt.epoch("s") // WINDOW * WINDOW).alias("start")
    suspect = pl.col("prediction") == 1
    return (
        records.filter(~pl.col("late"))
        .group_by(pl.lit(name).alias("stream"), pl.col("machine").alias("entity"), start)
        .agg(
            pl.len().cast(pl.Int64).alias("records"),
            suspect.sum().cast(pl.Int64).alias("suspects"),
            pl.col("CMD_PID").filter(suspect).n_unique().cast(pl.Int64).alias("count"),
        )
    )


def oracle_attacks(process: pl.DataFrame, memory: pl.DataFrame) -> pl.DataFrame:
    """Every pair of all on-time suspects: a product, filtered."""
    columns = ["machine", "CMD", "PID", "event_time", *PLACE]
    left, right = (
        of.filter(~pl.col("late") & (pl.col("prediction") == 1))
        .select(columns)
        .rename({column: f"{name}_{column}" for column in columns})
        for name, of in (("process", process), ("memory", memory))
    )
    same = pl.all_horizontal(pl.col(f"process_{key}") == pl.col(f"memory_{key}") for key in ("machine", "CMD", "PID"))
    apart = (
        pl.col("process_event_time").dt.epoch("us").cast(pl.Int64)
        - pl.col("memory_event_time").dt.epoch("us").cast(pl.Int64)
    ).abs()
    places = [f"{name}_{column}" for name in NAMES for column in PLACE]
    return left.join(right, how="cross").filter(same & (apart < REACH)).select(places).sort(places)


def check(folder: Path, seed: int, threads: tuple[ThreadPoolExecutor, ThreadPoolExecutor]) -> Real:
    topics = day(seed)
    run = real(folder, topics, seed, threads)
    work_off(run.engine)
    expected = {name: oracle_records(name, topics[name]) for name in NAMES}
    for name in NAMES:
        assert_frame_equal(
            run.table(name).select(expected[name].columns).sort(PLACE),
            expected[name],
            check_exact=True,
        )
    keys = ["stream", "entity", "start"]
    windows = pl.concat([oracle_windows(name, expected[name]) for name in NAMES]).sort(keys)
    assert_frame_equal(run.store.windows.find().select(windows.columns).sort(keys), windows)
    attacks = oracle_attacks(expected["process"], expected["memory"])
    found = run.table("attacks")
    if len(attacks):
        assert_frame_equal(found.select(attacks.columns).sort(attacks.columns), attacks)
    else:
        assert found.is_empty()
    check_accounting(run)
    return run


def check_accounting(run: Real) -> None:
    """records = on time + late + duplicate + rejected, and every one of them is where it should be."""
    counts = run.store.accounting.totals()
    parts = ("on_time", "late", "duplicate", "rejected")
    assert counts["records"].to_list() == counts.select(pl.sum_horizontal(parts)).to_series().to_list()
    for name, topic in run.topics.items():
        of = counts.filter(stream=name)
        assert int(of["messages"].sum()) == sum(topic.end_offset(partition) for partition in topic.partitions())
        assert len(run.table(name)) == int(of["on_time"].sum()) + int(of["late"].sum())
    assert len(run.table("rejected")) == int(counts["rejected"].sum())


@pytest.mark.parametrize("seed", range(8))
def test_the_engine_equals_the_oracle(
    tmp_path: Path, seed: int, threads: tuple[ThreadPoolExecutor, ThreadPoolExecutor]
) -> None:
    check(tmp_path, seed, threads).store.close()


@pytest.mark.slow
def test_the_engine_equals_the_oracle_on_many_days(
    tmp_path: Path, threads: tuple[ThreadPoolExecutor, ThreadPoolExecutor]
) -> None:
    late = attacks = rejected = 0
    for seed in range(100, 100 + size(250, 60)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        run = check(folder, seed, threads)
        counts = run.store.accounting.totals()
        late, rejected = late + int(counts["late"].sum()), rejected + int(counts["rejected"].sum())
        attacks += len(run.table("attacks"))
        run.store.close()
        shutil.rmtree(folder)
    assert min(late, attacks, rejected) > 200, "the days had in them what this is about"


# -- any message -------------------------------------------------------------------------------------------------------


MESSAGES, AT_ONCE, HUGE = size(200_000, 40_000), 5_000, 10_000_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_any_message_is_accounted_for(
    tmp_path: Path, seed: int, threads: tuple[ThreadPoolExecutor, ThreadPoolExecutor]
) -> None:
    """Mutated, deep, huge, invalid: the engine goes on, its memory is bounded, every message is somewhere."""
    chance = random.Random(seed)
    topics = {name: MemoryTopic(f"{name}-topic", partitions=2) for name in NAMES}
    run = real(tmp_path, topics, 3 * seed, threads)
    run.engine.recover()
    most: list[int] = []
    for number in range(MESSAGES // 2 // AT_ONCE):
        name = NAMES[number % 2]
        lines = [fuzz.mutated(chance, name) for _ in range(AT_ONCE)]
        if number % 5 == 0:
            lines[7] = b'{"CMD":"' + b"x" * HUGE + b'"}'
        topics[name].append(lines)
        while run.engine.turn() or any(run.engine.lag().values()):
            pass
        most.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
    run.engine.drain()
    check_accounting(run)
    counts = run.store.accounting.totals()
    assert int(counts["messages"].sum()) == MESSAGES // 2
    assert int(counts["on_time"].sum()) > 0
    assert int(counts["rejected"].sum()) > MESSAGES // 20
    assert run.table("rejected")["raw"].str.len_bytes().max() <= 4 * 64 * 1024  # type: ignore[operator]  # a number
    assert most[-1] - most[len(most) // 4] < 400, "MiB, once it has seen everything there is"
    run.store.close()
