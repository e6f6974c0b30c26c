"""The whole job from Kafka: the embedded engine beside the engine on Spark and Bytewax flows.

Topics of 4 partitions with one JSON object a message; broker and engine share the cores. The embedded engine and the
engine on Spark do everything (windows, correlation, alerts, Delta, store), and every run's accounting and rows are
checked. The flows of bench/bytewax_flow.py parse, score and write to Delta alone: a straightforward one with the one
worker that `python -m bytewax.run` gives it, the same with a process for each core, and one tuned by hand. All take
turns over the same topics. Then the time from an append to the alert in the store at 5,000 records/s.

    python -m bench.kafka [--quick] [--json] [--kafka-records N] [--rounds N]

The broker: HACKWATCH_BENCH_KAFKA=HOST:PORT, or one of its own from what tools/servers/kafka fetches. Bytewax: extra
`bench`, or HACKWATCH_BENCH_BYTEWAX_PYTHON names an interpreter that has it. What is missing is left out, and said.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from deltalake import DeltaTable

from bench import latency, spark_engine, throughput
from bench.broker import ADDRESS, broker, free_ports, missing
from bench.support import ROOT, STREAMS, Figure, Workspace, fill_topics, main, say

__all__ = ["bytewax_missing", "measure"]

BYTEWAX = "HACKWATCH_BENCH_BYTEWAX_PYTHON"
PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow of bench/bytewax_flow.py by its name there, its processes, and how many times as fast we want to be."""

    style: str
    processes: int = 1
    target: float | None = None


FLOWS = {
    "straightforward Bytewax flow": Flow("run", target=6.0),
    "straightforward Bytewax flow, a process for each of two cores": Flow("run", 2),
    "Bytewax flow tuned by hand, a process for each of two cores": Flow("tuned", 2),
}


def bytewax_missing() -> str | None:
    """Why the Bytewax flow cannot run here, with what helps; None if it can."""
    if BYTEWAX not in os.environ and importlib.util.find_spec("bytewax") is None:
        return f"Bytewax is left out: it is not installed (extra `bench`, or {BYTEWAX} names a python that has it)"
    return None


def measure(workspace: Workspace) -> list[Figure]:
    """Rounds of all that can run here, then the latency; nothing without a broker."""
    if (reason := missing()) is not None:
        say(reason)
        return []
    with broker(workspace.folder / "kafka") as address:
        topics = Topics(address, workspace.sizes.kafka_records)
        try:
            return [*_throughput(workspace, topics), *_latency(workspace, topics)]
        finally:
            topics.remove()


class Topics:
    """The topics of a run, with names of their own at a broker that others use too."""

    def __init__(self, address: str, records: int) -> None:
        self.address, self.records = address, records
        self._suffix = f"-bench-{os.getpid()}" if ADDRESS in os.environ else ""
        self._made: list[str] = []

    def names(self, prefix: str = "") -> list[str]:
        """Topics of both streams; made when they are filled."""
        made = [f"{prefix}{stream}{self._suffix}" for stream in STREAMS]
        self._made += [name for name in made if name not in self._made]
        return made

    def urls(self, prefix: str = "") -> list[str]:
        return [f"kafka://{self.address}/{name}" for name in self.names(prefix)]

    def settings(self, prefix: str = "") -> dict[str, Any]:
        """What an engine is told to read them."""
        return {"streams": {stream: {"topic": url} for stream, url in zip(STREAMS, self.urls(prefix), strict=True)}}

    def remove(self) -> None:
        """Leave nothing at a broker of others."""
        if not self._suffix:
            return
        from confluent_kafka.admin import AdminClient

        for removed in AdminClient({"bootstrap.servers": self.address}).delete_topics(self._made).values():
            removed.result(30)


def _throughput(workspace: Workspace, topics: Topics) -> list[Figure]:
    records = topics.records
    fill_topics(topics.urls(), records, PARTITIONS)
    turns = {"embedded": None, "spark": spark_engine.missing(), **dict.fromkeys(FLOWS, bytewax_missing())}
    for reason in dict.fromkeys(filter(None, turns.values())):
        say(reason)
    able = [name for name, reason in turns.items() if reason is None]
    data = {name: workspace.data(f"kafka-{name}") for name in ("embedded", "spark", "warm")}
    if "spark" in able:
        fill_topics(topics.urls("warm-"), max(2_000, records // 10), PARTITIONS)
    ours: list[throughput.Run] = []
    spark: list[spark_engine.SparkRun] = []
    bytewax: dict[str, list[tuple[float, float]]] = {flow: [] for flow in FLOWS}
    for number in range(workspace.sizes.rounds):
        for turn in able if number % 2 == 0 else reversed(able):
            if turn == "embedded":
                until = ("--until-messages", str(records))
                ours.append(throughput.run_job(data[turn], records, topics.settings(), until))
            elif turn == "spark":
                warm = topics.settings("warm-")
                spark.append(spark_engine.run_engine(data["warm"], data[turn], records, topics.settings(), warm))
            else:
                bytewax[turn].append(_run_bytewax(workspace, topics, turn))
    return _figures(ours, spark, bytewax)


def _figures(
    ours: list[throughput.Run], spark: list[spark_engine.SparkRun], bytewax: dict[str, list[tuple[float, float]]]
) -> list[Figure]:
    rate = median(run.rate for run in ours)
    found = [
        Figure("Kafka, whole job, records/s", rate, "", 150_000, at_least=True),
        Figure("  CPU a record", median(run.cpu / run.records * 1e6 for run in ours), "us"),
        Figure("  CPUs in use", median(run.cpu / run.seconds for run in ours), ""),
        Figure("  peak memory", max(run.peak_mib for run in ours), "MiB"),
    ]
    if spark:
        everything = median(run.everything for run in spark)
        found += spark_engine.figures(spark, "Kafka", (80_000, 60_000))
        found.append(Figure("times as fast as the engine on Spark", rate / everything, "", 1.7, at_least=True))
    for flow, runs in bytewax.items():
        if runs:
            other = median(each for each, _ in runs)
            found.append(Figure(f"times as fast as a {flow}", rate / other, "", FLOWS[flow].target, at_least=True))
            found.append(Figure("  its records a second", other, ""))
            found.append(Figure("  its CPU a record", median(cpu for _, cpu in runs), "us"))
    return found


def _latency(workspace: Workspace, topics: Topics) -> list[Figure]:
    sizes = replace(workspace.sizes, latency_rate=workspace.sizes.kafka_rate)
    found = latency.run(
        workspace.data("kafka-latency"),
        topics.urls("live-"),
        sizes,
        settings=topics.settings("live-"),
        targets=(None, 100),
    )
    return [replace(figure, name=figure.name.replace("append", "Kafka append")) for figure in found]


# ---------------------------------------------------------------------------------------------- Bytewax


def _run_bytewax(workspace: Workspace, topics: Topics, name: str) -> tuple[float, float]:
    """(records/s, CPU microseconds a record) of one run of a flow; ValueError if rows are missing."""
    output, records = workspace.folder / "bytewax-output", topics.records
    shutil.rmtree(output, ignore_errors=True)
    models, python = _models(workspace), os.environ.get(BYTEWAX, sys.executable)
    flow = FLOWS[name]
    addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(flow.processes))
    command = [python, str(ROOT / "bench" / "bytewax_flow.py"), flow.style, topics.address, ",".join(topics.names())]
    children = [
        subprocess.Popen([*command, str(models), str(output), str(number), addresses], stdout=subprocess.PIPE)
        for number in range(flow.processes)
    ]
    told = [json.loads(child.communicate()[0].splitlines()[-1]) for child in children]
    rows = {stream: DeltaTable(str(output / stream)).count() for stream in STREAMS}
    if any(found != records // 2 for found in rows.values()):
        raise ValueError(f"the run of Bytewax is void: {rows} of {records}")
    seconds = max(each["ended"] for each in told) - min(each["began"] for each in told)
    cpu = sum(each["cpu"] for each in told)
    say(f"{name}: {records / seconds:,.0f} records/s, {cpu:.1f} s of CPU in {seconds:.1f} s")
    return records / seconds, cpu / records * 1e6


def _models(workspace: Workspace) -> Path:
    models = workspace.folder / "bytewax-models"
    if not models.exists():
        say("training the models of the Bytewax flow")
        python = os.environ.get(BYTEWAX, sys.executable)
        train = [python, str(ROOT / "bench" / "bytewax_flow.py"), "train"]
        subprocess.run([*train, models, workspace.training_files()], check=True)
    return models


if __name__ == "__main__":
    main(measure, __doc__)
