"""`hackwatch run --engine spark` over what the embedded engine reads too, until all is read (availableNow).

Spark runs local[2] with 4 GB. A run over a tenth of the records in the same session comes first, so that the JVM and
Python's workers are warm; every run's accounting and rows are checked. Beside it the straightforward Spark job of
bench/spark_job.py, in turns over the same files.

    python -m bench.spark_engine [--quick] [--json] [--records N] [--rounds N]

Needs pyspark (extra `bench`), Java 17 or newer, and the jars that tools/servers/spark fetches, or else the Internet.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import spark_baseline, throughput
from bench.broker import parts
from bench.support import ROOT, Figure, Workspace, fill, fresh, main, say

__all__ = ["SPARK", "SparkRun", "measure", "missing", "run_engine"]

#: What the engine on Spark is told in all runs.
SPARK: dict[str, Any] = {"master": "local[2]", "conf": {"spark.driver.memory": "4g", "spark.ui.enabled": "false"}}


@dataclass(frozen=True, slots=True)
class SparkRun:
    """Records a second of normalising, scoring and writing alone, and of everything; CPU microseconds a record."""

    ingest: float
    everything: float
    cpu: float


def missing() -> str | None:
    """Why the engine cannot run on Spark here, with what helps; None if it can."""
    if importlib.util.find_spec("pyspark") is None:
        return "the engine on Spark is left out: pyspark is not installed (pip install 'hackwatch[spark]')"
    if shutil.which("java") is None:
        return "the engine on Spark is left out: there is no java (Debian: apt-get install openjdk-17-jre-headless)"
    return None


def run_engine(
    warm: Path, data: Path, records: int, settings: Mapping[str, Any], warm_settings: Mapping[str, Any] | None = None
) -> SparkRun:
    """A warming run in one data folder and a timed one in the other, both from nothing."""
    spark = {**SPARK, "jars": str(parts("spark") / "jars")} if (parts("spark") / "jars").is_dir() else SPARK
    both = [json.dumps({**given, "spark": spark}) for given in (warm_settings or settings, settings)]
    for folder in (warm, data):
        fresh(folder)
        shutil.rmtree(folder / "spark", ignore_errors=True)
    command = [sys.executable, "-m", "bench.spark_child", str(warm), str(data), *both]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the engine on Spark failed:\n{done.stderr[-4000:]}")
    throughput.check(data, records)
    told = json.loads(done.stdout.splitlines()[-1])
    run = SparkRun(records / told["ingest"], records / told["all"], told["cpu"] / records * 1e6)
    say(f"engine on Spark: {run.everything:,.0f} records/s, {run.ingest:,.0f} without windows, {run.cpu:.1f} us of CPU")
    return run


def measure(workspace: Workspace) -> list[Figure]:
    """Rounds of the engine and of the straightforward job, the first one changing."""
    if (reason := missing() or spark_baseline.missing()) is not None:
        say(reason)
        return []
    data, records, warm = workspace.filled(), workspace.sizes.records, workspace.data("spark-warm")
    fill(warm, max(2_000, records // 10))
    engine: list[SparkRun] = []
    job: list[float] = []
    for number in range(workspace.sizes.rounds):
        for turn in ("engine", "job") if number % 2 == 0 else ("job", "engine"):
            if turn == "engine":
                engine.append(run_engine(warm, data, records, {}))
            else:
                job.append(spark_baseline.straightforward(workspace))
    return [
        *figures(engine, "files"),
        Figure(
            "times as fast as the straightforward Spark job",
            median(run.everything for run in engine) / median(job),
            "",
            2.5,
            at_least=True,
        ),
        Figure("  straightforward Spark job", median(job), "records/s"),
    ]


def figures(
    runs: list[SparkRun], source: str, targets: tuple[float | None, float | None] = (None, None)
) -> list[Figure]:
    """The medians of the runs. `targets`: of normalising, scoring and writing alone, and of everything."""
    return [
        Figure(
            f"Spark from {source}: normalise, score, write, records/s",
            median(run.ingest for run in runs), "", targets[0], at_least=True,
        ),
        Figure(
            f"Spark from {source}: everything, records/s",
            median(run.everything for run in runs), "", targets[1], at_least=True,
        ),
        Figure("  CPU a record", median(run.cpu for run in runs), "us"),
    ]  # fmt: skip


if __name__ == "__main__":
    main(measure, __doc__)
