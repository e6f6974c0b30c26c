"""How good is a detector on labelled records: not one number, but by attack type and as alarms per host and day."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.detect.bundle import Bundle
from hackwatch.detect.evaluation.measures import average_precision, curve, recall_at, roc_auc
from hackwatch.errors import DataError
from hackwatch.streams.stream import Stream

__all__ = ["Calibration", "Evaluation", "TypeResult", "evaluate"]

#: Points of a curve that are kept for drawing.
POINTS = 300


@dataclass(frozen=True, slots=True)
class TypeResult:
    """One attack type, or the normal records: `rows` of it, and how many of them are suspects."""

    type: str
    attack: bool
    rows: int
    suspects: int

    @property
    def share(self) -> float:
        return self.suspects / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """One bin of scores: `rows`, their mean `score`, and the share of attacks among them."""

    rows: int
    score: float
    attacks: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All measures of a detector on labelled records; rates are fractions, NaN where they are not defined.

    `roc` and `precision_recall` are (x, y) points for drawing: (false positive rate, recall), (recall, precision).
    `false_alarms_per_host_day`: normal records that became suspects, `false_programs_per_host_day`: distinct programs
    among them, NaN if the records span no time. `importance`: share per column.
    """

    stream: str
    version: str
    method: str
    threshold: float
    alert_budget: float
    rows: int
    attacks: int
    roc_auc: float
    pr_auc: float
    precision: float
    recall: float
    f1: float
    false_alarm_rate: float
    recall_at_1_percent: float
    recall_at_01_percent: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    hosts: int
    host_days: float
    false_alarms_per_host_day: float
    false_programs_per_host_day: float
    types: tuple[TypeResult, ...]
    calibration: tuple[Calibration, ...]
    importance: Mapping[str, float]
    roc: tuple[tuple[float, float], ...]
    precision_recall: tuple[tuple[float, float], ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; NaN becomes null."""
        found = {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
            if name not in ("roc", "precision_recall")
        }
        found["types"] = [{**asdict(entry), "share": entry.share} for entry in self.types]
        return found


def evaluate(bundle: Bundle, stream: Stream, records: pl.DataFrame) -> Evaluation:
    """Score labelled, normalised `records` (`label` 0/1, optional `type`) and compare; unlabelled ones are left out.

    Raises DataError unless there are both attacks and normal records.
    """
    records, truth = _labelled(records, stream)
    scores = bundle.score(records)
    suspects = scores >= np.float32(bundle.threshold)
    tp, fp = int((suspects & truth).sum()), int((suspects & ~truth).sum())
    fn, tn = int((~suspects & truth).sum()), int((~suspects & ~truth).sum())
    precision = tp / (tp + fp) if tp + fp else math.nan
    recall = tp / (tp + fn)
    hosts, days = _host_days(records, stream)
    alarms = records.filter(pl.Series(suspects & ~truth))
    points = curve(truth, scores)
    return Evaluation(
        stream=stream.name,
        version=bundle.version,
        method=bundle.description.method,
        threshold=bundle.threshold,
        alert_budget=bundle.description.alert_budget,
        rows=len(truth),
        attacks=tp + fn,
        roc_auc=roc_auc(truth, scores),
        pr_auc=average_precision(truth, scores),
        precision=precision,
        recall=recall,
        f1=2 * tp / (2 * tp + fp + fn),
        false_alarm_rate=fp / (fp + tn),
        recall_at_1_percent=recall_at(truth, scores, 0.01),
        recall_at_01_percent=recall_at(truth, scores, 0.001),
        true_positives=tp,
        false_positives=fp,
        true_negatives=tn,
        false_negatives=fn,
        hosts=hosts,
        host_days=days,
        false_alarms_per_host_day=alarms.height / days if days else math.nan,
        false_programs_per_host_day=_distinct(alarms, stream) / days if days else math.nan,
        types=_types(records, truth, suspects),
        calibration=_calibration(truth, scores),
        importance=bundle.importance(),
        roc=_thinned(points.false, points.true),
        precision_recall=_thinned(points.true, points.precision),
    )


def _labelled(records: pl.DataFrame, stream: Stream) -> tuple[pl.DataFrame, npt.NDArray[np.bool_]]:
    """The records that have a label, and which of them are attacks."""
    if "label" in records.columns:
        records = records.filter(pl.col("label").is_not_null())
    truth = (records["label"].cast(pl.Int64) != 0).to_numpy() if "label" in records.columns else np.empty(0, np.bool_)
    if truth.all() or not truth.any():
        raise DataError(
            f"{len(truth):,} labelled records, of them {int(truth.sum()):,} attacks: both kinds are needed",
            where=f"records to evaluate {stream.name}",
            next_step="give records with columns label (or attack) and type",
        )
    return records, truth


def _host_days(records: pl.DataFrame, stream: Stream) -> tuple[int, float]:
    """Number of entities, and the days that they were watched, added up."""
    if stream.entity not in records.columns or "event_time" not in records.columns:
        return 0, 0.0
    spans = records.group_by(stream.entity).agg((pl.col("event_time").max() - pl.col("event_time").min()).alias("span"))
    return spans.height, float(spans["span"].dt.total_microseconds().sum()) / 86_400e6


def _distinct(alarms: pl.DataFrame, stream: Stream) -> int:
    return alarms.select(pl.struct(stream.entity, stream.identity).n_unique()).item() if alarms.height else 0


def _types(
    records: pl.DataFrame, truth: npt.NDArray[np.bool_], suspects: npt.NDArray[np.bool_]
) -> tuple[TypeResult, ...]:
    name = pl.col("type").cast(pl.String).fill_null("unknown") if "type" in records.columns else pl.lit("attack")
    counted = (
        records.select(pl.when(pl.Series(truth)).then(name).otherwise(pl.lit("normal")).alias("type"))
        .with_columns(attack=pl.Series(truth), suspect=pl.Series(suspects))
        .group_by("type", "attack")
        .agg(pl.len(), pl.col("suspect").sum())
        .sort("attack", "type")
    )
    return tuple(TypeResult(kind, attack, rows, hit) for kind, attack, rows, hit in counted.iter_rows())


def _calibration(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32]) -> tuple[Calibration, ...]:
    place = np.minimum((scores * 10).astype(int), 9)
    return tuple(
        Calibration(int(rows.sum()), float(scores[rows].mean()), float(truth[rows].mean()))
        for rows in (place == number for number in range(10))
        if rows.any()
    )


def _thinned(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """At most about POINTS points: dense where x or y moves, first and last always."""
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    chosen = np.unique(np.searchsorted(way, np.linspace(0, way[-1], POINTS)).clip(0, len(x) - 1))
    return tuple((round(float(x[place]), 6), round(float(y[place]), 6)) for place in chosen)
