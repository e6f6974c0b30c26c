"""Models trained by Spark's workers: boosted trees by XGBoost, a random forest by Spark ML; both as XGBoost's trees."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from hackwatch.detect.models.forests import Tree, forest
from hackwatch.detect.training import Options
from hackwatch.errors import ResourceError
from hackwatch.spark.ml.files import SavedTree, ensemble

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["Fit", "boosters", "permuted_forests"]

#: Trains on encoded rows, gives the model in XGBoost's own format.
Fit = Callable[["DataFrame"], bytes]


def boosters(width: int, options: Options, workers: int) -> Fit:
    """Trains XGBoost on `workers` tasks at once; scores are probabilities of attack."""
    learner = _learner()(
        features_col=[f"x{place}" for place in range(width)],
        label_col="label",
        num_workers=workers,
        n_estimators=options.trees,
        max_depth=options.depth,
        learning_rate=options.learning_rate,
        subsample=options.row_share,
        colsample_bytree=options.column_share,
        random_state=options.seed,
        tree_method="hist",
        verbosity=0,
        verbose=False,
    )
    logging.getLogger("XGBoost-PySpark").setLevel(logging.WARNING)

    def fit(rows: DataFrame) -> bytes:
        from pyspark.sql import functions as F

        model = learner.fit(rows.withColumn("label", F.col("_label").cast("double")))
        booster = model.get_booster()
        # Matrices have no names here: a booster that expects some refuses them.
        booster.feature_names = booster.feature_types = None
        return bytes(booster.save_raw("ubj"))

    return fit


def _learner() -> Any:
    """`SparkXGBClassifier`, which wants pandas and scikit-learn."""
    try:
        from xgboost.spark import SparkXGBClassifier
    except ImportError as error:
        raise ResourceError(
            f"XGBoost cannot train on Spark: {error}",
            where="--engine spark",
            next_step="pip install 'hackwatch[spark]'",
        ) from error
    return SparkXGBClassifier


def permuted_forests(width: int, options: Options, scratch: str) -> Fit:
    """Trains Spark ML's random forest to tell real rows from rows whose columns were drawn independently.

    The score is the probability of the synthetic class. `scratch`: a folder that all executors see.
    """
    columns = [f"x{place}" for place in range(width)]

    def fit(rows: DataFrame) -> bytes:
        from pyspark.ml.classification import RandomForestClassifier
        from pyspark.ml.feature import VectorAssembler

        schema = ", ".join([*(f"{column} float" for column in columns), "label double"])
        both = rows.select(*columns).mapInArrow(partial(_with_synthetic, options.seed), schema)
        learner = RandomForestClassifier(
            numTrees=options.trees,
            maxDepth=max(options.depth, 10),
            maxBins=256,
            subsamplingRate=0.25,
            featureSubsetStrategy="sqrt",
            minInstancesPerNode=2,
            seed=options.seed,
        )
        assembler = VectorAssembler(inputCols=columns, outputCol="features")
        model = learner.fit(assembler.transform(both).select("features", "label"))
        place = f"{scratch}/forest-{uuid.uuid4().hex}"
        try:
            model.save(place)
            nodes = pl.DataFrame(rows.sparkSession.read.parquet(f"{place}/data").toArrow())
        finally:
            _delete(rows, place)
        trees = ensemble(nodes, dict.fromkeys(range(options.trees), 1.0))
        return forest([_as_tree(tree, len(trees)) for tree in trees], width)

    return fit


def _with_synthetic(seed: int, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Each batch, then as many rows whose columns were drawn independently from it.

    Distinct rows lie in their partitions by a hash of all columns: a batch is a random sample of them.
    """
    from pyspark import TaskContext

    context = TaskContext.get()
    random = np.random.default_rng([seed, context.partitionId() if context else 0])
    for batch in batches:
        rows = batch.num_rows
        columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
        made = {
            name: pa.array(np.concatenate([values, random.choice(values, rows)]))
            for name, values in zip(batch.schema.names, columns, strict=True)
        }
        yield pa.record_batch({**made, "label": pa.array(np.repeat([0.0, 1.0], rows))})


def _as_tree(saved: SavedTree, trees: int) -> Tree:
    """Spark goes left on x <= t with a float64 t, XGBoost on x < t with a float32 one: hence the next float32 above."""
    leaf = saved.left < 0
    exact = np.array([0.0 if out else split[0] for out, split in zip(leaf, saved.split, strict=True)])
    split = exact.astype(np.float32)
    split = np.where(split > exact, split, np.nextafter(split, np.float32(np.inf)))
    counts = saved.statistics.sum(axis=1)
    share = saved.statistics[:, 1] / np.maximum(counts, 1e-9) / trees
    return Tree(
        saved.left.astype(np.int32),
        saved.right.astype(np.int32),
        np.maximum(saved.feature, 0).astype(np.int32),
        np.where(leaf, share, split).astype(np.float32),
        counts.astype(np.float32),
        gain=np.where(leaf, 0, np.maximum(saved.gain, 0) * counts).astype(np.float32),
    )


def _delete(rows: DataFrame, place: str) -> None:
    """Remove what a model was saved into, wherever Spark keeps files."""
    session: Any = rows.sparkSession
    path = session._jvm.org.apache.hadoop.fs.Path(place)
    path.getFileSystem(session._jsc.hadoopConfiguration()).delete(path, True)
