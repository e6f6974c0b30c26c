"""The benchmarks run and measure something true; how fast is no matter here."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from bench import (
    broker,
    child,
    help,
    kafka,
    latency,
    limit,
    memory,
    restart,
    spark_baseline,
    spark_engine,
    support,
    throughput,
)

TINY = support.Sizes(
    records=6_000, rounds=1, training_rows=2_000, latency_seconds=1.0, latency_warm_up=0.5, latency_rate=2_000,
    memory_records=30_000, restart_records=10_000, help_rounds=1,
    kafka_records=4_000, kafka_rate=1_000,
)  # fmt: skip


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> support.Workspace:
    return support.Workspace(tmp_path_factory.mktemp("bench"), TINY)


@pytest.mark.slow
@pytest.mark.parametrize(
    "bench",
    [throughput.measure, limit.measure, latency.measure, memory.measure, restart.measure, help.measure],
    ids=["throughput", "limit", "latency", "memory", "restart", "help"],
)
def test_a_tiny_run_gives_figures(workspace: support.Workspace, bench: support.Bench) -> None:
    figures = bench(workspace)
    assert figures
    assert all(figure.value >= 0 for figure in figures if not figure.name.startswith("  growth"))


@pytest.mark.slow
def test_a_tiny_run_from_kafka_gives_figures_of_all_that_is_there(
    workspace: support.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (reason := broker.missing()) is not None:
        pytest.skip(reason)
    monkeypatch.setattr(spark_engine, "missing", lambda: "left out: it takes a minute")
    figures = {figure.name: figure.value for figure in kafka.measure(workspace)}
    assert figures["Kafka, whole job, records/s"] > 0
    assert figures["Kafka append to alert in the store, p99"] > 0
    assert any("Bytewax" in name for name in figures) == (kafka.bytewax_missing() is None)
    assert not any("Spark" in name for name in figures)


@pytest.mark.slow
def test_a_tiny_run_of_the_engine_on_spark_gives_figures(workspace: support.Workspace) -> None:
    if (reason := spark_engine.missing()) is not None:
        pytest.skip(reason)
    if not (broker.parts("spark") / "jars").is_dir():
        pytest.skip("the jars for Spark are not here; tools/servers/spark fetches them")
    warm = workspace.data("warm")
    support.fill(warm, 2_000)
    run = spark_engine.run_engine(warm, workspace.filled(), TINY.records, {})
    assert run.ingest >= run.everything > 0


def test_what_is_missing_for_kafka_is_said_with_what_helps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HACKWATCH_TEST_PARTS", str(tmp_path))
    assert "is left out" in (broker.missing() or "")
    monkeypatch.setenv(broker.ADDRESS, "broker:9092")
    assert broker.missing() is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "extra `bench`" in (kafka.bytewax_missing() or "")
    assert "pip install" in (spark_engine.missing() or "")


@pytest.mark.slow
def test_a_run_that_lost_a_record_is_void(workspace: support.Workspace) -> None:
    data = workspace.filled()
    throughput.run_job(data, TINY.records)
    with pytest.raises(ValueError, match="the run is void"):
        throughput.check(data, TINY.records + 2)


def test_without_spark_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(spark_baseline.PYTHON, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install" in (spark_baseline.missing() or "")


@pytest.mark.parametrize(
    ("value", "target", "at_least", "met"),
    [(1.0, None, False, None), (1.0, 2.0, False, True), (3.0, 2.0, False, False), (3.0, 2.0, True, True)],
    ids=["no target", "below a bound", "above a bound", "a bound to reach"],
)
def test_a_figure_knows_whether_it_is_met(value: float, target: float | None, at_least: bool, met: bool | None) -> None:
    figure = support.Figure("f", value, "s", target, at_least)
    assert figure.met is met
    assert ("NOT met" in support.shown([figure])) is (met is False)


def test_figures_come_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    support.run(
        {"": lambda workspace: [support.Figure("f", 1.5, "s")]}, None, ["--json", "--folder", str(tmp_path / "w")]
    )
    assert json.loads(capsys.readouterr().out) == [
        {"name": "f", "value": 1.5, "unit": "s", "target": None, "at_least": False, "met": None}
    ]
    assert not (tmp_path / "w").exists()


def test_the_engine_stops_when_it_has_nothing_to_read() -> None:
    from threading import Event

    stop = Event()
    clock = child.UntilRead(stop)
    for _ in range(3):
        clock.sleep(0.001)
    assert not stop.is_set()
    for _ in range(3):
        clock.sleep(0.001)
    assert stop.is_set()
