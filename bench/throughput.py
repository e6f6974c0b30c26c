"""The whole job: messages in the spool -> normalised, scored, windows, correlation, alerts -> Delta and SQLite.

Making the records and training is not counted. A run whose result is wrong has no speed: records, accounting and rows
of the lake are checked after every run.

    python -m bench.throughput [--quick] [--json] [--records N] [--rounds N]
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl

from bench.support import ROOT, STREAMS, Figure, Workspace, engine_command, fresh, main, say
from hackwatch.lake import Lake
from hackwatch.store import open_store

__all__ = ["Run", "check", "figures", "measure", "run_job"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run. Seconds: of the job (opening the store to the last commit), with the process's start and end, of CPU."""

    records: int
    seconds: float
    all_seconds: float
    cpu: float
    peak_mib: float

    @property
    def rate(self) -> float:
        return self.records / self.seconds


def run_job(
    data: Path, records: int, settings: Mapping[str, Any] | None = None, until: Sequence[str] = ("--until-read",)
) -> Run:
    """The engine over filled topics, from nothing. `until`: how bench/child.py knows the end."""
    fresh(data)
    began = time.monotonic()
    done = subprocess.run(engine_command(data, settings, *until), cwd=ROOT, stdout=subprocess.PIPE, check=True)
    everything = time.monotonic() - began
    told = json.loads(done.stdout)
    check(data, records)
    run = Run(records, told["seconds"], everything, told["cpu"], told["peak_mib"])
    say(f"{run.rate:,.0f} records/s, {run.cpu:.1f} s of CPU in {run.seconds:.1f} s, {run.peak_mib:.0f} MiB")
    return run


def check(data: Path, records: int) -> None:
    """Raise ValueError unless every record was accounted for and is in the lake exactly once."""
    with open_store(data / "store.sqlite", read_only=True) as store:
        totals = store.accounting.totals().sum()
        alerts = store.frame("alerts").height
    told = {name: int(totals[name][0] or 0) for name in ("records", "on_time", "late", "duplicate", "rejected")}
    lake = Lake(data / "lake")
    rows = {
        name: lake.scan(name).select(pl.len(), pl.struct("partition", "offset", "index").n_unique().alias("n"))
        .collect().row(0)
        for name in STREAMS
    }  # fmt: skip
    wanted = {"records": records, "on_time": records, "late": 0, "duplicate": 0, "rejected": 0}
    half = records // 2
    if told != wanted or any(found != (half, half) for found in rows.values()) or not alerts:
        raise ValueError(f"the run is void: accounting {told}, rows in the lake {rows}, {alerts} alerts, of {records}")


def figures(runs: list[Run]) -> list[Figure]:
    """The median of the runs."""
    return [
        Figure("whole job, records/s", median(run.rate for run in runs), "", 350_000, at_least=True),
        Figure("  with start of the process", median(run.records / run.all_seconds for run in runs), "records/s"),
        Figure("  CPU a record", median(run.cpu / run.records * 1e6 for run in runs), "us"),
        Figure("  CPUs in use", median(run.cpu / run.seconds for run in runs), ""),
        Figure("  peak memory", max(run.peak_mib for run in runs), "MiB", 500),
    ]


def measure(workspace: Workspace) -> list[Figure]:
    """Some rounds over the same topics."""
    data = workspace.filled()
    return figures([run_job(data, workspace.sizes.records) for _ in range(workspace.sizes.rounds)])


if __name__ == "__main__":
    main(measure, __doc__)
