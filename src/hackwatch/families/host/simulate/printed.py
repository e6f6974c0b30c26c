"""How atop prints what it saw: the columns and values of the messages of both host streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.families.host.simulate.attacks import TYPES
from hackwatch.families.host.simulate.behaviour import POLICIES

__all__ = ["MEMORY_COLUMNS", "PROCESS_COLUMNS", "Printer", "size"]

PROCESS_COLUMNS = (
    "sequence", "machine", "PID", "TRUN", "TSLPI", "TSLPU", "POLI", "NICE", "PRI", "RTPR", "CPUNR", "Status", "EXC",
    "State", "CPU", "CMD", "ts",
)  # fmt: skip
MEMORY_COLUMNS = (
    "sequence", "machine", "PID", "MINFLT", "MAJFLT", "VSTEXT", "VSIZE", "RSIZE", "VGROW", "RGROW", "MEM", "CMD", "ts",
)  # fmt: skip
_STATUS = pl.Series(["-", "N", "-E", "NE"])
_STATE = pl.Series(["S", "R", "E"])
_KINDS = pl.Series(["normal", *TYPES])
# A finished process has no scheduling any more: one more row that says so.
_POLICY = pl.Series([*(policy.name for policy in POLICIES.values()), "-"])
_SCHEDULING = np.array([*(policy[1:] for policy in POLICIES.values()), (0, 0, 0)], np.int64)
_FINISHED = len(POLICIES)

Columns = Mapping[str, npt.NDArray[Any]]


def size(kib: pl.Expr) -> pl.Expr:
    """KiB (integer) as atop prints a size in six characters: `88680K`, `519.1M`, `2.0G`, `-1200K`."""
    magnitude = kib.abs()
    return (
        pl.when(magnitude <= 99_999)
        .then(pl.format("{}K", kib))
        .when(magnitude < 999.95 * 1024)
        .then(pl.format("{}M", (kib / 1024).round(1)))
        .when(magnitude < 999.95 * 1024**2)
        .then(pl.format("{}G", (kib / 1024**2).round(1)))
        .otherwise(pl.format("{}T", (kib / 1024**3).round(1)))
    )


def _pick(pool: pl.Series, index: npt.NDArray[Any]) -> pl.Series:
    return pool.gather(pl.Series(index.astype(np.uint32)))


class Printer:
    """Turns the columns of a sample into frames in message shape.

    `dashes`: a finished process has `-` for NICE, PRI, RTPR and CPUNR, as on atop's screen (so these columns
    are text), else 0, as in the UNSW tables. POLI has `-` in both.
    """

    def __init__(self, machines: Sequence[str], commands: Sequence[str], *, dashes: bool = False) -> None:
        self._dashes = dashes
        self._machines = pl.Series(machines)
        self._commands = pl.Series([printed for name in commands for printed in (name, f"<{name}>")])

    def _common(self, columns: Columns) -> dict[str, npt.NDArray[Any] | pl.Series]:
        return {
            "sequence": columns["sequence"],
            "machine": _pick(self._machines, columns["home"]),
            "PID": columns["pid"],
            "CMD": _pick(self._commands, columns["command"] * 2 + columns["finished"]),
            "ts": columns["ts"],
        }

    def _truth(self, columns: Columns, labels: bool) -> dict[str, npt.NDArray[Any] | pl.Series]:
        if not labels:
            return {}
        return {"label": np.minimum(columns["kind"], 1), "type": _pick(_KINDS, columns["kind"])}

    def process(self, columns: Columns, *, labels: bool) -> pl.DataFrame:
        """The process frame: PROCESS_COLUMNS, then `label` Int8 and `type` if `labels`."""
        policy = np.where(columns["finished"], _FINISHED, columns["policy"])
        scheduling = _SCHEDULING[policy]
        values = self._common(columns) | {
            "TRUN": columns["running"],
            "TSLPI": columns["sleeping"],
            "TSLPU": columns["waiting"],
            "POLI": _pick(_POLICY, policy),
            "NICE": scheduling[:, 0],
            "PRI": scheduling[:, 1],
            "RTPR": scheduling[:, 2],
            "CPUNR": columns["processor"],
            "Status": _pick(_STATUS, columns["status"]),
            "EXC": columns["exit"],
            "State": _pick(_STATE, columns["state"]),
            "CPU": columns["cpu"],
        }
        truth = self._truth(columns, labels)
        frame = pl.DataFrame({name: values[name] for name in PROCESS_COLUMNS} | truth)
        if not self._dashes:
            return frame
        finished, scheduled = pl.col("State") == "E", ("NICE", "PRI", "RTPR", "CPUNR")
        return frame.with_columns(
            pl.when(finished).then(pl.lit("-")).otherwise(pl.col(name).cast(pl.String)).alias(name)
            for name in scheduled
        )

    def memory(self, columns: Columns, *, labels: bool) -> pl.DataFrame:
        """The memory frame: MEMORY_COLUMNS with printed sizes, then `label` Int8 and `type` if `labels`."""
        values = self._common(columns) | {
            "MINFLT": columns["faults"],
            "MAJFLT": columns["major"],
            "VSTEXT": columns["text"],
            "VSIZE": columns["virtual"],
            "RSIZE": columns["resident"],
            "VGROW": columns["wider"],
            "RGROW": columns["grown"],
            "MEM": columns["share"],
        }
        frame = pl.DataFrame({name: values[name] for name in MEMORY_COLUMNS} | self._truth(columns, labels))
        return frame.with_columns(size(pl.col(name)) for name in ("VSTEXT", "VSIZE", "RSIZE", "VGROW", "RGROW"))
