"""Small things to store, and other processes to store them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from hackwatch.alerts.alert import Alert, Cause
from hackwatch.counts import Counts
from hackwatch.detect.detector import Driver
from hackwatch.store.aggregates import WINDOWS_SCHEMA
from hackwatch.store.commits import BatchEntry, EpochCommit, OffsetRange

ROOT = Path(__file__).parents[2]
SOURCE = ("visit", "spool", 0)
ALERT = Alert(
    id="",
    kind="attack",
    stream="visit",
    entity="4",
    rule="correlated-suspects",
    title="a scan by 4",
    severity="high",
    risk=70,
    subject="/.env",
    first_seen=1000.0,
    last_seen=1001.5,
    created=1002.25,
    technique="T1496",
    tactic="impact",
    drivers={"visit": (Driver("seconds", "9.3 s", "0.1 s", 1.5), Driver("status", "404", "200", 0.25))},
    evidence={"path": "/.env\x1b[31m\u202e", "seconds": 0.93, "bytes": None},
    causes=(Cause("spool", 0, 17, 2), Cause("spool", 1, 99)),
    models={"visit": "visit-000001-abcd"},
)


def alert(number: int, **changes: Any) -> Alert:
    return replace(ALERT, id=f"{number:032x}", **changes)


def batch(number: int, epoch: int = 1) -> BatchEntry:
    ranges = (OffsetRange(*SOURCE, start=number * 10, end=number * 10 + 10),)
    return BatchEntry(number, epoch, 5.5, 6.25, ranges, {"visit": "visit-000001-abcd"})


def windows(*rows: Sequence[Any]) -> pl.DataFrame:
    """Rows of WINDOWS_SCHEMA without the source, which is the entity."""
    return pl.DataFrame([(*row[:2], row[1], *row[2:]) for row in rows], schema=WINDOWS_SCHEMA, orient="row")


def commit(
    epoch: int,
    last_batch: int,
    *,
    states: Mapping[str, bytes] | None = None,
    counted: pl.DataFrame | None = None,
    **totals: int,
) -> EpochCommit:
    return EpochCommit(
        epoch=epoch,
        last_batch=last_batch,
        elapsed=epoch * 5.0,
        offsets={SOURCE: last_batch * 10},
        states={"state": b"state of %d" % epoch} if states is None else states,
        windows=windows() if counted is None else counted,
        accounting={SOURCE: Counts(**(totals or {"messages": last_batch}))},
        committed_at=epoch * 100.0,
    )


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process of Python, to be talked to by pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, text=True,
    )  # fmt: skip


def finished(processes: list[subprocess.Popen[str]]) -> list[str]:
    """What they wrote; all of them ended well."""
    said = [process.communicate(timeout=400)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return said
