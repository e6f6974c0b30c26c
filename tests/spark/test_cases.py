"""The case tables of the pure core through both engines: what each table says is what lake and store then hold."""

from __future__ import annotations

import json
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from hackwatch import metrics
from hackwatch.counts import OUTCOMES
from hackwatch.topics.spool import SpoolWriter
from tests.engine.processes import NAMES, Folder, Outcome
from tests.families.host import cases
from tests.pipeline.cases import JOINS, LATENESS, ORDERS, WINDOW_EDGES
from tests.servers.spark import missing
from tests.spark.support import SPARK, assert_same, on_spark, work_off_embedded
from tests.streams.support import record
from tests.third.scored import START

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

ENGINES = ("embedded", "spark")
#: Partitions: most cases, joins that come first, joins that come second, clocks, and one for each case of lateness.
MOST, FIRST, SECOND, CLOCKED, LATE = 0, 1, 2, 3, 4
PARTITIONS = LATE + len(LATENESS)
#: What the rules below hold for suspect.
PLANTED = {"process": {"TRUN": 777}, "memory": {"MAJFLT": 777}}
RULES = """
[[rule]]
id = "planted-process"
title = "A planted process"
stream = "process"
where = "TRUN = 777"
severity = "low"
must_fire = [{ TRUN = 777 }]
must_not_fire = [{ TRUN = 1 }]
[[rule]]
id = "planted-memory"
title = "Planted memory"
stream = "memory"
where = "MAJFLT = 777"
severity = "low"
must_fire = [{ MAJFLT = 777 }]
must_not_fire = [{ MAJFLT = 1 }]
"""
#: Which side of a join each stream is.
SIDES = {"process": "left", "memory": "right"}
MANY = 5000
CLOCK = time.time()
SECONDS, STEP = 600, 5
#: By machine: its clock when it is `t` seconds after START, None: it sends nothing. All send to one partition by turns.
CLOCKS: dict[str, Callable[[float], float | None]] = {
    "right": lambda t: t,
    "ahead": lambda t: t + 3000,
    "ten-minutes-behind": lambda t: t - 600,
    "standing": lambda t: 0.0,
    "silent": lambda t: t if t < 100 else None,
    "silent-for-a-while": lambda t: t if not 100 < t < 500 else None,
    "jumps-back": lambda t: t if t < 300 else t - 200,
    "jumps-ahead": lambda t: t + (1800 if t == 250 else 0),
    "runs-backwards": lambda t: 2000 - t,
}
#: One record each, of any time.
INVENTED = 1000
#: Column, printed value, the value in the lake: all of a stream, each a machine of its own.
VALUES: dict[str, list[tuple[str, dict[str, Any], dict[str, Any]]]] = {
    "memory": [
        *(("size", {"RGROW": printed}, {"RGROW": value}) for printed, value in cases.SIZES),
        *(("count", {"MINFLT": printed}, {"MINFLT": value}) for printed, value in cases.COUNTS),
        *(("share", {"MEM": printed}, {"MEM": value}) for printed, value in cases.SHARES),
    ],
    "process": [
        *(("nice", {"PRI": pri, "NICE": nice}, {"NICE": value}) for pri, nice, value in cases.NICES),
        *(("program", {"CMD": cmd}, {"CMD": name, "finished": ended}) for cmd, name, ended in cases.PROGRAMS),
        *(("time", {"ts": ts}, {"event_time": moment}) for ts, moment in cases.TIMES),
    ],
}
REFUSED: list[tuple[str, Any]] = [
    *(("VSIZE", printed) for printed in cases.NO_SIZES),
    *(("MAJFLT", printed) for printed in cases.NO_COUNTS),
    *(("MEM", printed) for printed in cases.NO_SHARES),
]

#: Messages by partition, of one stream.
Told = dict[int, list[dict[str, Any]]]


def at(stream: str, t: float, machine: str, *, suspect: bool = False, **more: Any) -> dict[str, Any]:
    """A record `t` seconds after START."""
    return record(stream, **{"ts": START + t, "machine": machine, **(PLANTED[stream] if suspect else {}), **more})


def first_part(stream: str) -> Told:
    told: Told = defaultdict(list)
    told[MOST].append(record(stream, ts=CLOCK + 7200, machine="future"))
    for number, (t, _) in sorted(enumerate(WINDOW_EDGES.values()), key=lambda case: case[1][0]):
        told[MOST].append(at(stream, t, f"edge-{number}"))
    told[MOST] += values(stream)
    told[MOST] += [at(stream, 119, "repeated", uuid="a")] * 2
    if stream == "process":
        told[MOST] += [at(stream, 119, "many", suspect=True, PID=pid) for _ in range(2) for pid in range(MANY)]
    for number, (times, _) in enumerate(LATENESS.values()):
        told[LATE + number] += [at(stream, t, f"late-{number}") for t in times]
    told[CLOCKED] += [at(stream, time, machine) for machine, time in clocked()]
    told[FIRST] += joined(stream, "together", f"{SIDES[stream]} first")
    return told


def clocked() -> Iterator[tuple[str, float]]:
    """Who says which time (seconds after START), one after the other."""
    for turn, t in enumerate(range(0, SECONDS, STEP)):
        for machine, clock in CLOCKS.items():
            if (time := clock(t)) is not None:
                yield machine, time
        for number in range(turn, INVENTED, SECONDS // STEP):
            yield f"invented-{number}", number * 7919 % 3600 - 1800


def behind(times: list[float]) -> list[bool]:
    """Which records of a source are late: more than 20 s behind the greatest time that it has said before."""
    return [any(time < before - 20 for before in times[:number]) for number, time in enumerate(times)]


def second_part(stream: str) -> Told:
    (order,) = (order for order in ORDERS if order not in ("together", f"{SIDES[stream]} first"))
    repeated = [at(stream, 119, "repeated", uuid=key) for key in ("a", "b")]
    return {MOST: repeated, SECOND: joined(stream, order)}


def values(stream: str) -> Iterator[dict[str, Any]]:
    """A record for each value of the tables; those with times of long ago are late by then."""
    for number, (kind, printed, _) in enumerate(VALUES[stream]):
        yield at(stream, 119, f"{kind}-{number}", **printed)
    if stream == "memory":
        for number, (column, printed) in enumerate(REFUSED):
            yield at(stream, 119, f"refused-{number}", **{column: printed})


def joined(stream: str, *orders: str) -> list[dict[str, Any]]:
    """This side of all joins that come in one of these orders, by time: none is late."""
    made = []
    for number, (left, right, _) in enumerate(JOINS.values()):
        one = left if SIDES[stream] == "left" else right
        for order in orders:
            machine = f"{number}-{order}-{one.client}"
            made.append(at(stream, 25 * number + one.t, machine, suspect=one.suspect, PID=one.session, CMD=one.agent))
    return sorted(made, key=lambda row: float(row["ts"]))


def write(folder: Folder, stream: str, told: Told) -> None:
    folder.data.mkdir(mode=0o700, exist_ok=True)
    writer = SpoolWriter(folder.spool(stream), partitions=PARTITIONS)
    for partition, messages in told.items():
        key = next(str(n) for n in count() if zlib.crc32(str(n).encode()) % PARTITIONS == partition)
        writer.append([json.dumps(message).encode() for message in messages], key=key)
    writer.close()


def counted() -> Counter[tuple[str, str]]:
    """What the metrics say: records by stream and outcome."""
    found: Counter[tuple[str, str]] = Counter()
    for family in metrics.REGISTRY.collect():
        for sample in family.samples:
            if sample.name == "hackwatch_records_total":
                found[(sample.labels["stream"], sample.labels["outcome"])] += int(sample.value)
    return found


@pytest.fixture(scope="module")
def runs(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Folder, Counter[Any]]]:
    """Both engines' folders after both parts, and by how much the metrics of each have grown."""
    base = tmp_path_factory.mktemp("cases")
    (base / "rules.toml").write_text(RULES)
    found = {}
    for engine in ENGINES:
        folder = Folder.make(base / engine, models=False, more=SPARK)
        named = f'[detection]\nshipped_rules = false\nrules = ["{base / "rules.toml"}"]\n'
        folder.config.write_text(folder.config.read_text().replace("[detection]\n", named))
        before = counted()
        for part in (first_part, second_part):
            for stream in NAMES:
                write(folder, stream, part(stream))
            if engine == "spark":
                on_spark(folder, spark)
            else:
                work_off_embedded(folder)
        found[engine] = folder, counted() - before
    return found


@pytest.fixture(scope="module")
def outcomes(runs: dict[str, tuple[Folder, Counter[Any]]]) -> dict[str, Outcome]:
    return {engine: Outcome.of(folder) for engine, (folder, _) in runs.items()}


@pytest.fixture(params=ENGINES)
def found(request: pytest.FixtureRequest, outcomes: dict[str, Outcome]) -> Outcome:
    return outcomes[request.param]


def of(frame: pl.DataFrame, machine: str) -> pl.DataFrame:
    return frame.filter(machine=machine).sort("partition", "offset")


@pytest.mark.parametrize("stream", NAMES)
def test_window_edges(found: Outcome, stream: str) -> None:
    starts = {
        number: [int(start - START) for start in found.windows.filter(stream=stream, entity=f"edge-{number}")["start"]]
        for number in range(len(WINDOW_EDGES))
    }
    assert starts == {number: [start] for number, (_, start) in enumerate(WINDOW_EDGES.values())}


@pytest.mark.parametrize("stream", NAMES)
def test_lateness(found: Outcome, stream: str) -> None:
    late = [of(found.tables[stream], f"late-{number}")["late"].to_list() for number in range(len(LATENESS))]
    assert late == [late for _, late in LATENESS.values()]
    records = [found.windows.filter(stream=stream, entity=f"late-{n}")["records"].sum() for n in range(len(LATENESS))]
    assert records == [late.count(False) for _, late in LATENESS.values()], "late records are in no window"


@pytest.mark.parametrize("stream", NAMES)
def test_no_clock_harms_another_one(found: Outcome, stream: str) -> None:
    said: dict[str, list[float]] = defaultdict(list)
    for machine, t in clocked():
        said[machine].append(t)
    late = {machine: of(found.tables[stream], machine)["late"].to_list() for machine in CLOCKS}
    assert late == {machine: behind(said[machine]) for machine in CLOCKS}
    assert {machine for machine in CLOCKS if any(late[machine])} == {"jumps-back", "jumps-ahead", "runs-backwards"}
    assert not found.tables[stream].filter(pl.col("machine").str.starts_with("invented-"))["late"].any()
    windows = found.windows.filter(stream=stream)
    for machine in CLOCKS:
        mine = windows.filter(entity=machine)
        assert mine["records"].sum() == late[machine].count(False), "late records are in no window"
        until = START + max(said[machine]) - 20
        assert mine["final"].to_list() == (mine["end"] <= until).to_list(), "final by its own clock"
    assert windows.filter(pl.col("entity").str.starts_with("invented-"))["records"].sum() == INVENTED


@pytest.mark.parametrize("order", ORDERS)
def test_the_join(found: Outcome, order: str) -> None:
    pairs = Counter(found.tables["attacks"]["machine"].to_list())
    expected = {f"{number}-{order}-c1": pairs for number, (*_, pairs) in enumerate(JOINS.values()) if pairs}
    assert {machine: times for machine, times in pairs.items() if f"-{order}-" in machine} == expected


@pytest.mark.parametrize("stream", NAMES)
def test_values(found: Outcome, stream: str) -> None:
    rows = found.tables[stream].with_columns(pl.col("event_time").dt.strftime("%Y-%m-%dT%H:%M:%S%.6f"))
    for number, (kind, printed, wanted) in enumerate(VALUES[stream]):
        [row] = of(rows, f"{kind}-{number}").select(wanted.keys()).to_dicts()
        assert row == wanted, printed


def test_what_is_no_value(found: Outcome) -> None:
    rejected = found.tables["rejected"].filter(pl.col("raw").str.contains("refused-", literal=True))
    reasons = {json.loads(raw)["machine"]: reason for raw, reason in rejected.select("raw", "reason").iter_rows()}
    assert len(reasons) == len(REFUSED)
    for number, (column, printed) in enumerate(REFUSED):
        assert reasons[f"refused-{number}"].startswith(f"{column}: "), printed


@pytest.mark.parametrize("stream", NAMES)
def test_a_record_from_the_future_is_rejected_and_closes_nothing(found: Outcome, stream: str) -> None:
    [rejected] = found.tables["rejected"].filter(pl.col("raw").str.contains("future"), stream=stream).to_dicts()
    assert rejected["reason"] == "event time is too far ahead of the clock"
    assert not any(of(found.tables[stream], f"edge-{n}")["late"].any() for n in range(len(WINDOW_EDGES)))


@pytest.mark.parametrize("stream", NAMES)
def test_repeats_are_counted_and_dropped(found: Outcome, stream: str) -> None:
    assert len(of(found.tables[stream], "repeated")) == 2
    assert int(found.accounting.filter(stream=stream)["duplicate"].sum()) == 2


def test_distinct_suspects_of_a_large_window(found: Outcome) -> None:
    """Estimated beyond some thousands: within three standard deviations of 0.8 %."""
    [window] = found.windows.filter(entity="many").to_dicts()
    assert (window["records"], window["suspects"]) == (2 * MANY, 2 * MANY)
    assert window["count"] == pytest.approx(MANY, rel=3 * 0.008)


def test_both_engines_agree_on_all_of_it(outcomes: dict[str, Outcome]) -> None:
    embedded, sparkling = (outcomes[engine] for engine in ENGINES)
    assert_same(sparkling, embedded)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_metrics_count_what_the_store_accounts_for(
    engine: str, runs: dict[str, tuple[Folder, Counter[Any]]], outcomes: dict[str, Outcome]
) -> None:
    counts = outcomes[engine].accounting
    expected = {
        (stream, outcome): int(counts.filter(stream=stream)[outcome].sum()) for stream in NAMES for outcome in OUTCOMES
    }
    assert runs[engine][1] == expected
    assert all(expected.values())


@pytest.mark.parametrize("stream", NAMES)
def test_spark_tells_its_state_its_watermark_and_its_rate(
    stream: str, runs: dict[str, tuple[Folder, Counter[Any]]]
) -> None:
    folder, _ = runs["spark"]
    with folder.store() as store:
        told = store.statuses.read()["main"]["streams"][stream]
    assert told["records"] == int(Outcome.of(folder).accounting.filter(stream=stream)["records"].sum())
    with_late = folder.lake.scan(stream).filter(pl.col("late")).select("machine").collect()["machine"].to_list()
    assert told["late_sources"] == dict(Counter(with_late).most_common(5)) or len(told["late_sources"]) == 5
    assert START - 1800 < told["watermark"] < START + 600, "the median of its sources"
    assert (told["lag_bytes"], told["lag_messages"]) == (0, 0)
    for state in (f"windows_{stream}", f"sources_{stream}", "correlation-attacks"):
        assert (metrics.REGISTRY.get_sample_value("hackwatch_state_rows", {"state": state}) or 0) > 0
    age = metrics.REGISTRY.get_sample_value("hackwatch_watermark_age_seconds", {"stream": stream})
    assert age == pytest.approx(time.time() - told["watermark"], abs=600)
