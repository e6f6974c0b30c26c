"""A given Spark ML pipeline as the detector of a stream: Spark scores, hackwatch does all the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.detect.detector import Driver
from hackwatch.errors import DataError
from hackwatch.spark.ml.guard import REFUSED, Guard
from hackwatch.streams.stream import POSITION, Stream

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["SCORES", "GivenModel", "Scorer", "rows_schema"]

#: What a scorer adds to the normalised columns.
SCORES = pl.Schema({"given_score": pl.Float64(), "given_prediction": pl.Float64()})


@dataclass(frozen=True, slots=True)
class GivenModel:
    """What alerts say of the model: it has a name, and gives no reasons."""

    stream: str
    version: str
    threshold: float = 0.5

    def score(self, records: pl.DataFrame) -> npt.NDArray[np.float32]:
        """Only Spark can score; this is never asked."""
        raise NotImplementedError("scored by Spark")

    def explain(self, records: pl.DataFrame, top: int = 4) -> list[list[Driver]]:
        """A Spark ML pipeline says nothing about why."""
        return [[] for _ in range(len(records))]


class Scorer:
    """The pipeline saved in a folder, loaded once for a run."""

    def __init__(self, spark: SparkSession, folder: Path, stream: Stream, *, keyed: bool = False) -> None:
        """Raises DataError if the folder holds no saved PipelineModel, ConfigurationError if it needs other columns."""
        from pyspark.errors import PySparkException
        from pyspark.ml import PipelineModel

        try:
            self._model: Any = PipelineModel.load(folder.absolute().as_uri())
        except (PySparkException, OSError, ValueError, KeyError, IndexError) as error:
            raise DataError(
                f"this is not a saved PipelineModel of Spark ML: {str(error).strip().splitlines()[0]}",
                where=str(folder),
                next_step="name the folder that pipeline_model.save(...) wrote",
            ) from error
        self._schema, self._guard = rows_schema(stream, keyed=keyed), Guard(folder, stream)
        self.detector = GivenModel(stream.name, f"spark-ml-{self._model.uid.rpartition('_')[2]}")

    def scored(self, records: DataFrame) -> DataFrame:
        """Normalised rows with SCORES added, in their order.

        The score is the probability of class 1 where the model gives one, else its prediction. A record that the
        pipeline would refuse or drop scores 0.
        """
        from pyspark.ml.functions import vector_to_array
        from pyspark.sql import functions as F

        found = self._guard.around(self._model.transform, records)
        score = F.col("prediction")
        if "probability" in found.columns:
            score = F.element_at(vector_to_array(F.col("probability")), 2)
        scored: DataFrame = found.select(
            *(F.col(f"`{name}`") for name in self._schema),
            *(
                F.when(F.col(REFUSED), F.lit(0.0)).otherwise(told.cast("double")).alias(name)
                for name, told in (("given_score", score), ("given_prediction", F.col("prediction")))
            ),
        )
        return scored


def rows_schema(stream: Stream, *, keyed: bool = False) -> pl.Schema:
    """The columns that go through Spark, in both directions. `keyed`: with that by which repeats are known."""
    return pl.Schema({**stream.schema, **POSITION, **({"key": pl.String()} if keyed else {})})
