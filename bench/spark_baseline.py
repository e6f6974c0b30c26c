"""The whole job beside Spark Structured Streaming versions of it (bench/spark_job.py), in turns over the same files.

Spark runs local[2] with 4 GB and reads the segment files of the topics; its model is Spark ML's GBTClassifier with as
many trees of the same depth (60, 6) as hackwatch scores with. Two versions of the Spark job: the straightforward one,
five queries on the scored streams, and one that is tuned by hand so that each record is parsed and scored only once.
Not counted: starting the JVM, training and loading its models; for hackwatch loading is counted.

    python -m bench.spark_baseline [--quick] [--json] [--records N] [--rounds N]

Needs pyspark (extra `bench`) and Java 17 or newer. HACKWATCH_BENCH_SPARK_PYTHON names another interpreter with pyspark.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

from bench import throughput
from bench.support import ROOT, STREAMS, Figure, Workspace, main, say

__all__ = ["measure", "missing", "straightforward"]

PYTHON = "HACKWATCH_BENCH_SPARK_PYTHON"


def missing() -> str | None:
    """Why Spark cannot run here, with what helps; None if it can."""
    if PYTHON not in os.environ and importlib.util.find_spec("pyspark") is None:
        return "Spark is left out: pyspark is not installed (pip install 'hackwatch[bench]', or make bench)"
    if shutil.which("java") is None:
        return "Spark is left out: there is no java (Debian: apt-get install openjdk-17-jre-headless)"
    return None


def measure(workspace: Workspace) -> list[Figure]:
    """Rounds of both, the first one changing; the throughput figures alone if Spark cannot run."""
    if (reason := missing()) is not None:
        say(reason)
        return throughput.measure(workspace)
    data, records = workspace.filled(), workspace.sizes.records
    models = _train(workspace)
    ours: list[throughput.Run] = []
    spark: dict[str, list[tuple[float, float]]] = {"run": [], "staged": []}
    for number in range(workspace.sizes.rounds):
        for turn in ("ours", *spark) if number % 2 == 0 else (*reversed(spark), "ours"):
            if turn == "ours":
                ours.append(throughput.run_job(data, records))
            else:
                spark[turn].append(_run(workspace, models, turn))
    rates = {turn: median(rate for rate, _ in runs) for turn, runs in spark.items()}
    cpu = {turn: median(spent for _, spent in runs) / records * 1e6 for turn, runs in spark.items()}
    rate = median(run.rate for run in ours)
    return [
        *throughput.figures(ours),
        Figure("times as fast as the straightforward Spark job", rate / rates["run"], "", 8, at_least=True),
        Figure("  straightforward Spark job", rates["run"], "records/s"),
        Figure("  its CPU a record", cpu["run"], "us"),
        Figure("times as fast as the tuned Spark job", rate / rates["staged"], ""),
        Figure("  tuned Spark job", rates["staged"], "records/s"),
        Figure("  its CPU a record", cpu["staged"], "us"),
    ]


def straightforward(workspace: Workspace) -> float:
    """Records a second of one run of the straightforward job."""
    return _run(workspace, _train(workspace), "run")[0]


def _spark(*arguments: object) -> str:
    """Run bench/spark_job.py; its standard output."""
    python = os.environ.get(PYTHON, sys.executable)
    command = [python, str(ROOT / "bench" / "spark_job.py"), *map(str, arguments)]
    environment = {**os.environ, "PYSPARK_PYTHON": python}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the Spark job failed:\n{done.stderr[-4000:]}")
    return done.stdout


def _train(workspace: Workspace) -> Path:
    models = workspace.folder / "spark-models"
    if not models.exists():
        say("training the models of Spark ML")
        _spark("train", models, workspace.training_files())
    return models


def _run(workspace: Workspace, models: Path, way: str) -> tuple[float, float]:
    """(records/s, CPU seconds) of one run; ValueError if rows are missing."""
    output, records = workspace.folder / "spark-output", workspace.sizes.records
    shutil.rmtree(output, ignore_errors=True)
    told = json.loads(_spark(way, models, workspace.filled() / "spool", output).splitlines()[-1])
    rows = told["rows"]
    if any(rows[name] != records // 2 for name in STREAMS) or not rows["attacks"]:
        raise ValueError(f"the run of Spark is void: {rows} of {records}")
    rate = records / told["seconds"]
    say(f"Spark ({way}): {rate:,.0f} records/s, {told['cpu']:.1f} s of CPU in {told['seconds']:.1f} s")
    return rate, told["cpu"]


if __name__ == "__main__":
    main(measure, __doc__)
