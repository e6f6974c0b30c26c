"""Records of the stream `process`, pipelines that Spark ML learns from them, and Spark's own verdict on each row."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch import streams

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel, Transformer
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["COLUMNS", "PROCESS", "Recipe", "fitted", "frame", "records", "verdicts"]

PROCESS = streams.get("process")
COLUMNS = ("TRUN", "TSLPI", "NICE", "PRI", "CPU", "POLI", "State", "CMD", "finished")
Way = Literal["error", "skip", "keep"]


def records(rows: int, seed: int, *, programs: int = 40, odd: bool = False) -> pl.DataFrame:
    """Normalised records with labels; `odd`: also nulls, NaN, infinities and categories that training never has."""
    random = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "TRUN": random.integers(0, 4, rows),
            "TSLPI": random.zipf(2.0, rows) % 60,
            "NICE": random.choice([-20, -5, 0, 5, 10], rows),
            "PRI": random.integers(100, 140, rows),
            "CPU": np.round(random.beta(1, 4, rows), 2),
            "POLI": random.choice(["norm", "btch", "idle", "fifo", "-"], rows, p=[0.5, 0.2, 0.1, 0.1, 0.1]),
            "State": random.choice(["S", "R", "E", "Z"], rows, p=[0.7, 0.2, 0.05, 0.05]),
            "CMD": [f"program-{number}" for number in random.zipf(1.4, rows) % programs],
            "finished": random.random(rows) < 0.1,
        }
    )
    number = frame["CMD"].str.slice(8).cast(pl.Int64).to_numpy()
    busy = (frame["CPU"].to_numpy() > 0.3) & (number % 3 == 0)
    quiet = (frame["POLI"] == "btch").to_numpy() & (frame["NICE"].to_numpy() > 0)
    noise = random.random(rows) < 0.05
    frame = frame.with_columns(pl.Series("label", ((busy | quiet) ^ noise).astype(np.int8)))
    if not odd:
        return frame
    values: dict[str, list[object]] = {
        "NICE": [None, 19, -100],
        "PRI": [None, 0],
        "CPU": [None, float("nan"), float("inf"), -float("inf"), -0.0, 1e-300],
        "POLI": [None, "rr", ""],
        "CMD": [None, "never seen", "program-0 ", "Ä program"],
        "finished": [None],
    }
    for name, some in values.items():
        given = pl.Series(name, [some[place] for place in random.integers(0, len(some), rows)], dtype=frame[name].dtype)
        frame = frame.with_columns(
            pl.when(pl.Series(random.random(rows) < 0.1)).then(given).otherwise(name).alias(name)
        )
    return frame


@dataclass(frozen=True)
class Recipe:
    """A pipeline to fit: how text is indexed and encoded, how invalid values are treated, and the classifier."""

    classifier: Literal["tree", "forest", "boosted"]
    indexed: tuple[str, ...] = ("POLI", "CMD")
    encoded: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ("CPU", "NICE", "PRI", "TSLPI")
    index: Way = "keep"
    encode: Literal["error", "keep"] = "error"
    drop_last: bool = True
    assemble: Way = "keep"
    one_by_one: bool = False
    nested: bool = False
    programs: int = 40
    options: dict[str, Any] = field(default_factory=dict)

    def stages(self) -> list[Any]:
        """The stages, to be fitted in their order."""
        from pyspark.ml.feature import OneHotEncoder, StringIndexer, VectorAssembler

        stages: list[Any] = []
        groups = [(name,) for name in self.indexed] if self.one_by_one else [self.indexed]
        for group in groups:
            indexer = StringIndexer(handleInvalid=self.index)
            if self.one_by_one:
                stages.append(indexer.setInputCol(group[0]).setOutputCol(f"{group[0]}_index"))
            else:
                stages.append(indexer.setInputCols(list(group)).setOutputCols([f"{name}_index" for name in group]))
        if self.encoded:
            stages.append(
                OneHotEncoder(
                    inputCols=[self._index(name) for name in self.encoded],
                    outputCols=[f"{name}_hot" for name in self.encoded],
                    handleInvalid=self.encode,
                    dropLast=self.drop_last,
                )
            )
        parts = [name for name in self.numbers if name not in self.encoded]
        parts += [f"{name}_hot" for name in self.encoded]
        parts += [f"{name}_index" for name in self.indexed if name not in self.encoded]
        stages.append(VectorAssembler(inputCols=parts, outputCol="features", handleInvalid=self.assemble))
        return stages

    def _index(self, name: str) -> str:
        return f"{name}_index" if name in self.indexed else name

    def learner(self) -> Any:
        from pyspark.ml.classification import DecisionTreeClassifier, GBTClassifier, RandomForestClassifier

        makers: dict[str, tuple[Any, dict[str, Any]]] = {
            "tree": (DecisionTreeClassifier, {"maxDepth": 6}),
            "forest": (RandomForestClassifier, {"numTrees": 6, "maxDepth": 5}),
            "boosted": (GBTClassifier, {"maxIter": 4, "maxDepth": 4}),
        }
        maker, options = makers[self.classifier]
        return maker(**{"maxBins": 128, "seed": 1, **options, **self.options})


def frame(session: SparkSession, rows: pl.DataFrame) -> DataFrame:
    """The rows as a Spark frame, with the column `row`."""
    table = rows.with_row_index("row").cast({"row": pl.Int64}).to_arrow()
    return session.createDataFrame(table).coalesce(1)


def fitted(session: SparkSession, recipe: Recipe, training: pl.DataFrame, folder: Path) -> PipelineModel:
    """Fit the recipe and save it in `folder`."""
    from pyspark.ml import Pipeline

    stages = recipe.stages()
    if recipe.nested:
        stages = [Pipeline(stages=stages)]
    data = frame(session, training).withColumnRenamed("label", "_label").selectExpr("*", "double(_label) AS label")
    model = Pipeline(stages=[*stages, recipe.learner()]).fit(data)
    model.write().overwrite().save(str(folder))
    return model


def verdicts(
    model: Transformer, session: SparkSession, rows: pl.DataFrame
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Spark's own: the numbers of the rows that it lets pass, their probability of class 1, and its predictions."""
    from pyspark.ml.functions import vector_to_array

    # What else a lake's rows have (a prediction, a position) is not for the pipeline.
    seen = rows.select(name for name in rows.columns if name in PROCESS.schema)
    scored = model.transform(frame(session, seen))
    shown = scored.select("row", vector_to_array(scored.probability)[1].alias("probability"), "prediction")
    table = pl.DataFrame(shown.toArrow()).sort("row")
    return table["row"].to_numpy(), table["probability"].to_numpy(), table["prediction"].to_numpy() > 0.5
