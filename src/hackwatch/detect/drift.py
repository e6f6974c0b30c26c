"""Has the world moved away from what the model was trained on? Input, scores and the rate of suspects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.detect.bundle import Bundle
from hackwatch.detect.calibration import Floats

__all__ = ["ALARM", "WATCH", "Drift", "DriftReport", "psi"]

#: The customary reading of PSI: below 0.1 nothing moved, from 0.25 the model's training no longer describes the data.
WATCH, ALARM = 0.1, 0.25
#: Rows of a batch that are looked at column by column; scores are counted for all rows.
SAMPLE = 1000
#: Sampled rows after which older ones begin to fade, by half each time.
MEMORY = 200_000
#: With fewer sampled rows PSI is mostly noise.
ENOUGH = 500
#: The rate of suspects may be so many times the budget before it is called out.
EXCESS = 5.0


def psi(expected: npt.ArrayLike, counts: npt.ArrayLike) -> float:
    """Population stability index of `counts` per bin against `expected` shares; half a row is added to every bin."""
    shares, found = np.asarray(expected, np.float64), np.asarray(counts, np.float64)
    bins = len(shares)
    # Training is smoothed as if it had equally many rows: a bin that is empty on both sides is no drift.
    total = found.sum()
    before = (shares * total + 0.5) / (total + 0.5 * bins)
    after = (found + 0.5) / (total + 0.5 * bins)
    return float(np.sum((after - before) * np.log(after / before)))


@dataclass(frozen=True, slots=True)
class DriftReport:
    """What drifted.

    `rows` scored, `sampled` of them looked at, `columns`: PSI per column, greatest first. `score_psi`: of the score's
    distribution. `alarm_rate`: share of suspects by the model; `alert_budget`: the share it was trained for;
    `alarming`: it is more than 5 times the budget. `state`: collecting (fewer than 500 rows), steady, watch (PSI from
    0.1) or drifted (from 0.25, or alarming); a model without training statistics stays at collecting. `findings`: what
    to tell a person, worst first.
    """

    version: str
    rows: int
    sampled: int
    columns: Mapping[str, float]
    score_psi: float
    alarm_rate: float
    alert_budget: float
    alarming: bool
    state: str
    findings: tuple[str, ...]

    @property
    def worst(self) -> float:
        """The greatest PSI, of a column or of the score."""
        return max(self.score_psi, *self.columns.values(), 0.0)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def _findings(report: DriftReport) -> tuple[str, ...]:
    found = []
    if report.alarming:
        found.append(f"{report.alarm_rate:.2%} of records are suspects, trained for {report.alert_budget:.2%}")
    if report.score_psi >= WATCH:
        found.append(f"scores moved (PSI {report.score_psi:.2f})")
    found += [f"{name} moved (PSI {value:.2f})" for name, value in report.columns.items() if value >= WATCH]
    return tuple(found)


class Drift:
    """Counts what a bundle scores, against its training statistics: a few microseconds per batch, constant memory.

    Not thread-safe: one per thread, merged. Recent rows weigh most: after 200,000 sampled rows older counts are halved.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._counts = {name: np.zeros(len(entry.expected)) for name, entry in bundle.statistics.items()}
        self._expected = np.asarray(bundle.description.score_shares, np.float64)
        self._scores = np.zeros(len(self._expected))
        self.rows = 0
        self.suspects = 0
        self.sampled = 0

    def update(self, records: pl.DataFrame, scores: npt.NDArray[np.float32]) -> None:
        """Count a batch: normalised records and their scores, equally long."""
        if not records.height:
            return
        self.rows += records.height
        self.suspects += int(np.count_nonzero(scores >= np.float32(self._bundle.threshold)))
        bins = len(self._scores)
        if not bins:
            # An imported model that came without usual records: there is nothing to compare with.
            return
        place = np.minimum((scores * np.float32(bins)).astype(np.int64), bins - 1)
        self._scores += np.bincount(place, minlength=bins)
        sample = records[np.arange(0, records.height, -(-records.height // SAMPLE))]
        self.sampled += sample.height
        for name, counts in self._counts.items():
            counts += self._bundle.statistics[name].counts(sample[name])
        if self.sampled > MEMORY:
            self._fade()

    def _fade(self) -> None:
        for counts in (*self._counts.values(), self._scores):
            counts *= 0.5
        self.rows, self.suspects, self.sampled = self.rows // 2, self.suspects // 2, self.sampled // 2

    def report(self) -> DriftReport:
        """The state of now."""
        statistics = self._bundle.statistics
        columns = {name: round(psi(statistics[name].expected, found), 4) for name, found in self._counts.items()}
        columns = dict(sorted(columns.items(), key=lambda pair: -pair[1]))
        score_psi = round(psi(self._expected, self._scores), 4)
        rate = self.suspects / self.rows if self.rows else 0.0
        budget = self._bundle.description.alert_budget
        alarming = rate > EXCESS * budget and self.suspects >= 20
        found = DriftReport(
            self._bundle.version, self.rows, self.sampled, columns, score_psi, rate, budget, alarming, "collecting", ()
        )
        if self.sampled < ENOUGH:
            return found
        drifted = found.worst >= ALARM or alarming
        state = "drifted" if drifted else "watch" if found.worst >= WATCH else "steady"
        return replace(found, state=state, findings=_findings(found))

    def snapshot(self) -> dict[str, Any]:
        """All counts as plain JSON values."""
        return {
            "version": self._bundle.version,
            "rows": self.rows,
            "suspects": self.suspects,
            "sampled": self.sampled,
            "scores": self._scores.tolist(),
            "columns": {name: counts.tolist() for name, counts in self._counts.items()},
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Add the counts of a snapshot; one of another version is ignored, its bins mean something else."""
        if snapshot.get("version") != self._bundle.version:
            return
        self._add(
            {name: np.asarray(counts, np.float64) for name, counts in snapshot["columns"].items()},
            np.asarray(snapshot["scores"], np.float64),
            (int(snapshot["rows"]), int(snapshot["suspects"]), int(snapshot["sampled"])),
        )

    def merge(self, other: Drift) -> None:
        """Add the counts of another thread's object for the same bundle."""
        self._add(other._counts, other._scores, (other.rows, other.suspects, other.sampled))

    def _add(self, columns: Mapping[str, Floats], scores: Floats, totals: tuple[int, int, int]) -> None:
        for name, counts in columns.items():
            self._counts[name] += counts
        self._scores += scores
        self.rows, self.suspects, self.sampled = (
            self.rows + totals[0],
            self.suspects + totals[1],
            self.sampled + totals[2],
        )
