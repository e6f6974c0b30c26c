"""A saved Spark ML pipeline as files: stages, their parameters and their trees, read without Spark or Java.

Layout (Spark 3 and 4; `org.apache.spark.ml.util.MLWriter`): each stage is a folder with `metadata/part-*`, one line of
JSON (class, uid, parameters set and default), and if it learned something `data/*.parquet`; ensembles add
`treesMetadata/*.parquet` (weights). A pipeline has `stages/<number>_<uid>/`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.errors import DataError

__all__ = ["SavedTree", "Stage", "ensemble", "read_stages", "read_trees"]

AGAIN = "save the PipelineModel again, and copy the whole folder"
#: What a search over parameters saves: the best pipeline is inside.
_SEARCHES = ("CrossValidatorModel", "TrainValidationSplitModel")


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: `kind` is its class without package, `params` those set over the defaults, `extra` all else."""

    kind: str
    uid: str
    params: Mapping[str, Any]
    extra: Mapping[str, Any]
    folder: Path

    @property
    def inputs(self) -> list[str]:
        """Columns that it reads: `inputCols`, or the one `inputCol`."""
        return self._columns("inputCol")

    @property
    def outputs(self) -> list[str]:
        """Columns that it makes: `outputCols`, or the one `outputCol`."""
        return self._columns("outputCol")

    def _columns(self, name: str) -> list[str]:
        many, one = self.params.get(f"{name}s"), self.params.get(name)
        return [str(column) for column in many] if many else [str(one)] if one else []

    def data(self, part: str = "data") -> pl.DataFrame:
        """What the stage learned. DataError if it cannot be read."""
        return _parquet(self.folder / part)


@dataclass(frozen=True, slots=True, eq=False)
class SavedTree:
    """A tree as arrays over its nodes, in pre-order, root first; -1 for no child.

    Left if value <= `split[i][0]`, or for `categories[i]` > -1 if the value is one of `split[i]`. `statistics`
    (nodes, n): counts per class of a classification tree; rows first in a regression tree. `prediction`: the value.
    """

    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int64]
    split: tuple[npt.NDArray[np.float64], ...]
    categories: npt.NDArray[np.int64]
    statistics: npt.NDArray[np.float64]
    prediction: npt.NDArray[np.float64]
    gain: npt.NDArray[np.float64]
    weight: float


def read_stages(folder: Path) -> Iterator[Stage]:
    """All stages of a saved pipeline, pipelines in it unfolded, in their order. DataError if files are missing."""
    stage = _stage(folder)
    if stage.kind in _SEARCHES:
        yield from read_stages(folder / "bestModel")
    elif stage.kind == "PipelineModel":
        for uid in stage.params.get("stageUids", ()):
            yield from read_stages(_place(folder, str(uid)))
    else:
        yield stage


def _place(folder: Path, uid: str) -> Path:
    found = [path for path in (folder / "stages").glob("*_*") if path.name.partition("_")[2] == uid]
    if not found:
        raise DataError(f"stage {uid} is missing", where=str(folder / "stages"), next_step=AGAIN)
    return found[0]


def _stage(folder: Path) -> Stage:
    files = sorted((folder / "metadata").glob("part-*"))
    if not files:
        raise DataError(
            "not a saved Spark ML model: no metadata",
            where=str(folder),
            next_step="name the folder that PipelineModel.save(...) or .write().save(...) made",
        )
    try:
        about = json.loads(files[0].read_bytes().splitlines()[0])
        kind = str(about["class"]).rpartition(".")[2]
        params = {**about.get("defaultParamMap", {}), **about["paramMap"]}
        return Stage(kind, str(about["uid"]), params, about, folder)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"metadata cannot be read: {error}", where=str(files[0]), next_step=AGAIN) from error


def _parquet(folder: Path) -> pl.DataFrame:
    files = sorted(folder.glob("*.parquet"))
    try:
        if not files:
            raise FileNotFoundError("no Parquet files")
        return pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files], how="vertical")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"cannot be read: {error}", where=str(folder), next_step=AGAIN) from error


def read_trees(stage: Stage) -> list[SavedTree]:
    """The trees of a classifier, in order, with their weights. DataError if the files are not as Spark writes them."""
    data = stage.data()
    try:
        if "nodeData" not in data.columns:
            return [_tree(data.sort("id"), 1.0)]
        trees = stage.data("treesMetadata")
        weights = dict(zip(trees.to_series(0).to_list(), trees.to_series(2).to_list(), strict=True))
        return ensemble(data, weights)
    except (pl.exceptions.PolarsError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"trees cannot be read: {error}", where=str(stage.folder), next_step=AGAIN) from error


def ensemble(data: pl.DataFrame, weights: Mapping[int, float]) -> list[SavedTree]:
    """The trees in an ensemble's `data`, in their order."""
    nodes = data.select("treeID", pl.col("nodeData").struct.unnest())
    parts = nodes.sort("treeID", "id").partition_by("treeID", as_dict=True)
    return [_tree(part, float(weights[number])) for (number,), part in sorted(parts.items())]


def _tree(nodes: pl.DataFrame, weight: float) -> SavedTree:
    if nodes["id"].to_list() != list(range(nodes.height)):
        raise ValueError("nodes are missing")
    split = nodes["split"].struct
    leaf = (nodes["leftChild"] < 0).to_numpy()
    tree = SavedTree(
        left=nodes["leftChild"].cast(pl.Int64).to_numpy(),
        right=nodes["rightChild"].cast(pl.Int64).to_numpy(),
        feature=split.field("featureIndex").cast(pl.Int64).to_numpy(),
        split=tuple(np.asarray(values, np.float64) for values in split.field("leftCategoriesOrThreshold").to_list()),
        categories=split.field("numCategories").cast(pl.Int64).to_numpy(),
        statistics=np.array(nodes["impurityStats"].to_list(), np.float64),
        prediction=nodes["prediction"].to_numpy(),
        gain=nodes["gain"].to_numpy(),
        weight=weight,
    )
    children = np.concatenate([tree.left[~leaf], tree.right[~leaf]])
    if not np.array_equal(np.sort(children), np.arange(1, nodes.height)):
        raise ValueError("nodes do not form a tree")
    if any(len(tree.split[node]) != 1 for node in np.flatnonzero(~leaf & (tree.categories < 0))):
        raise ValueError("a split without threshold")
    return tree
