"""A saved Spark ML pipeline becomes a bundle that scores without Spark, equal to Spark row by row."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.detect.bundle import Bundle, Description
from hackwatch.detect.calibration import Floats
from hackwatch.detect.features import NEVER, Encoder
from hackwatch.detect.models.booster import Trees
from hackwatch.detect.models.forests import Tree, forest
from hackwatch.detect.models.imported import Imported, Leaves
from hackwatch.detect.models.methods import SPARK_ML
from hackwatch.detect.statistics import describe
from hackwatch.detect.training import SCORE_BINS
from hackwatch.errors import DataError
from hackwatch.spark.ml.columns import Cells, Values, alone, number_cells, text_cells
from hackwatch.spark.ml.files import SavedTree
from hackwatch.spark.ml.stages import CLASSIFIERS, Pipeline, read_pipeline
from hackwatch.streams.stream import Stream

__all__ = ["cells_of", "import_pipeline", "refused_cells"]


def import_pipeline(
    folder: Path, stream: Stream, usual: pl.DataFrame | None = None, *, now: datetime | None = None
) -> Bundle:
    """The PipelineModel saved in `folder` as a bundle for normalised records of `stream`.

    Score: Spark's probability of class 1; suspects: where Spark predicts 1. A record that Spark would refuse or leave
    out scores 0. `usual`: normalised records to say what is usual (explanations, drift); without them that stays
    unknown. Raises ConfigurationError with all problems, DataError for damaged files.
    """
    pipeline = read_pipeline(folder, stream)
    columns = {name: cells for name in stream.schema if (cells := cells_of(name, pipeline, stream)) is not None}
    grown = [_Grower(pipeline, columns).grow(tree) for tree in pipeline.trees]
    encoder = Encoder(tuple(cells.feature() for cells in columns.values()))
    sizes = [len(tree.left) for tree, _ in grown]
    leaves = Leaves(np.concatenate([values for _, values in grown]), np.cumsum([0, *sizes[:-1]]))
    trees = Trees(forest([tree for tree, _ in grown], len(encoder)))
    model = Imported(
        trees, leaves, pipeline.decision, tuple(refused_cells(pipeline, cells) for cells in columns.values())
    )
    bundle = Bundle(_description(pipeline, stream, columns, now), encoder, model, ())
    return bundle if usual is None else _with_usual(bundle, usual)


def cells_of(column: str, pipeline: Pipeline, stream: Stream) -> Cells | None:
    """The cells of a normalised column; None if the pipeline does not read it."""
    scalars = [scalar for scalar in pipeline.made if scalar.source == column]
    if not scalars:
        return None
    if stream.schema[column] == pl.String():
        return text_cells(column, scalars)
    return number_cells(column, scalars, _thresholds(column, pipeline))


def _thresholds(column: str, pipeline: Pipeline) -> list[float]:
    plain = {i for i, scalar in enumerate(pipeline.features) if scalar.source == column and scalar.plain}
    found: list[float] = []
    for tree in pipeline.trees:
        for node in np.flatnonzero(tree.left >= 0):
            if tree.feature[node] in plain:
                split = tree.split[node].tolist()
                found += alone(split) if tree.categories[node] >= 0 else split
    return found


def refused_cells(pipeline: Pipeline, cells: Cells) -> npt.NDArray[np.bool_]:
    """Which cells of a column Spark refuses, at any stage."""
    refused = np.zeros(len(cells), np.bool_)
    for scalar in pipeline.made:
        if scalar.source == cells.column:
            refused |= scalar.evaluate(cells).refused
    return refused


class _Grower:
    """Grows trees over cells from Spark's trees over features."""

    def __init__(self, pipeline: Pipeline, columns: Mapping[str, Cells]) -> None:
        self._pipeline, self._columns = pipeline, columns
        self._place = {column: place for place, column in enumerate(columns)}
        self._known: dict[int, Values] = {}

    def grow(self, saved: SavedTree) -> tuple[Tree, Floats]:
        """The tree over cells and the float64 values of its nodes, level by level: both children side by side."""
        splits = {int(node): self._split(saved, int(node)) for node in np.flatnonzero(saved.left >= 0)}
        order, left = [0], np.full(len(saved.left), -1, np.int32)
        for new, old in enumerate(order):
            if old in splits:
                left[new] = len(order)
                children = [int(saved.left[old]), int(saved.right[old])]
                order += children[::-1] if splits[old].swapped else children
        values = self._values(saved)[order]
        cover = np.maximum(self._cover(saved), 1e-6)
        condition = self._shown(values)
        feature = np.zeros(len(order), np.int32)
        sets = {}
        for new, old in enumerate(order):
            if old in splits:
                feature[new], condition[new] = splits[old].feature, splits[old].condition
                if splits[old].right:
                    sets[new] = splits[old].right
        gain = np.where(saved.left >= 0, np.maximum(saved.gain, 0) * cover, 0)[order].astype(np.float32)
        right = np.where(left >= 0, left + 1, -1).astype(np.int32)
        return Tree(left, right, feature, condition, cover[order].astype(np.float32), sets, gain), values

    def _split(self, saved: SavedTree, node: int) -> _Split:
        feature = int(saved.feature[node])
        scalar = self._pipeline.features[feature]
        if feature not in self._known:
            self._known[feature] = scalar.evaluate(self._columns[scalar.source])
        value = self._known[feature].values
        goes_left = _goes_left(value, saved.split[node], int(saved.categories[node]))
        return _as_split(self._place[scalar.source], goes_left)

    def _values(self, saved: SavedTree) -> Floats:
        """Votes for both classes, as Spark adds them up, or the weighted margin."""
        if self._pipeline.decision.family == "margin":
            return (saved.weight * saved.prediction)[:, None]
        stage, votes = self._pipeline.classifier, saved.statistics
        if stage is not None and stage.kind == CLASSIFIERS[0]:
            # The probability of a tree on its own is made from the counts themselves.
            return votes
        return _shares(votes)

    def _shown(self, values: Floats) -> npt.NDArray[np.float32]:
        """What XGBoost adds up: margins, or shares of the votes for class 1."""
        if values.shape[1] == 1:
            return np.asarray(values[:, 0], np.float32)
        return np.asarray(_shares(values)[:, 1] / len(self._pipeline.trees), np.float32)

    def _cover(self, saved: SavedTree) -> Floats:
        if self._pipeline.decision.family == "margin":
            return saved.statistics[:, 0]
        found: Floats = saved.statistics.sum(axis=1)
        return found


def _shares(votes: Floats) -> Floats:
    """Counts per class as shares; none where nothing was counted."""
    total = votes.sum(axis=1, keepdims=True)
    found: Floats = votes / np.where(total == 0, 1, total)
    return found


@dataclass(frozen=True, slots=True)
class _Split:
    """Left if code < condition, or if the code is not in `right`; `swapped`: left means Spark's right."""

    feature: int
    condition: float
    right: Sequence[int] = ()
    swapped: bool = False


def _goes_left(values: Floats, split: Floats, categories: int) -> npt.NDArray[np.bool_]:
    """Which values Spark sends left. What is in no category goes right, or left if most categories do."""
    if categories < 0:
        with np.errstate(invalid="ignore"):
            return np.asarray(values <= split[0])
    if len(split) <= categories // 2:
        return np.isin(values, split)
    return ~np.isin(values, np.setdiff1d(np.arange(categories, dtype=np.float64), split))


def _as_split(feature: int, goes_left: npt.NDArray[np.bool_]) -> _Split:
    count = int(goes_left.sum())
    if goes_left[:count].all():
        return _Split(feature, float(count))
    swapped = count < len(goes_left) - count
    right = np.flatnonzero(goes_left if swapped else ~goes_left)
    return _Split(feature, 0.0, right.tolist(), swapped)


def _description(pipeline: Pipeline, stream: Stream, columns: Mapping[str, Cells], now: datetime | None) -> Description:
    stage = pipeline.classifier
    assert stage is not None  # read_pipeline refuses a pipeline without
    identity = sorted((NEVER | {*stream.identifiers}).intersection(columns))
    notes = [f"it looks at {', '.join(identity)}: who and when, not what"] if identity else []
    cover = pipeline.trees[0].statistics[0]
    return Description(
        stream=stream.name,
        method=SPARK_ML,
        columns={name: str(stream.schema[name]) for name in columns},
        units={name: stream.units[name] for name in columns if name in stream.units},
        threshold=float(pipeline.decision.threshold),
        # Nobody has promised anything of normal records.
        alert_budget=1.0,
        rows=round(float(cover[0] if pipeline.decision.family == "margin" else cover.sum())),
        created=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
        parameters={
            "classifier": stage.kind,
            "spark": str(stage.extra.get("sparkVersion", "")),
            "stages": pipeline.stages,
            "trees": len(pipeline.trees),
            "notes": [*pipeline.notes, *notes],
        },
        libraries={name: importlib.metadata.version(name) for name in ("hackwatch", "numpy", "polars")}
        | {"python": platform.python_version()},
    )


def _with_usual(bundle: Bundle, usual: pl.DataFrame) -> Bundle:
    """The bundle with statistics of usual records: values for explanations and drift, and its share of suspects."""
    about = bundle.description
    missing = [column for column in about.columns if column not in usual.columns]
    if missing or not usual.height:
        raise DataError(
            f"columns missing: {', '.join(missing)}" if missing else "no records",
            where="usual records",
            next_step=f"give {about.stream} records of a usual day",
        )
    scores = bundle.score(usual)
    suspects = int((scores >= np.float32(about.threshold)).sum())
    shares, _ = np.histogram(scores, bins=SCORE_BINS, range=(0, 1))
    values = {name: getattr(about, name) for name in about.__slots__}
    values |= {
        "alert_budget": (suspects + 1) / (usual.height + 1),
        "score_shares": tuple((shares / usual.height).tolist()),
        "metrics": {"usual_records": usual.height, "usual_suspects": suspects},
    }
    return Bundle(Description(**values), bundle.encoder, bundle.model, describe(usual, about.columns))
