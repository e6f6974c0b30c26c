"""Records that a Spark ML pipeline would refuse, kept away from it: one null must not end a query, nor drop a row.

What is refused follows from the saved stages (`handleInvalid`: error, which is Spark's default, or skip). Such a record
goes through the pipeline with values that it accepts, and scores 0, as it does with an imported pipeline.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from operator import and_, or_
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from hackwatch.errors import ConfigurationError
from hackwatch.spark.ml.columns import Cells
from hackwatch.spark.ml.importing import cells_of, refused_cells
from hackwatch.spark.ml.stages import follow
from hackwatch.streams.stream import Stream

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["REFUSED", "Guard"]

#: Column that says which records the pipeline would have refused.
REFUSED = "_refused"
_KEPT = "_kept_"


class Guard:
    """What the stages of a saved pipeline refuse of a stream's columns, as far as hackwatch knows the stages."""

    def __init__(self, folder: Path, stream: Stream) -> None:
        """Raises ConfigurationError for columns that the stream has not, DataError for damaged files."""
        pipeline = follow(folder, stream)
        if pipeline.missing:
            raise ConfigurationError(
                f"the pipeline reads columns that {stream.name} records have not: {', '.join(pipeline.missing)}",
                where=str(folder),
                next_step=f"train on normalised records (hackwatch normalise): {', '.join(stream.schema)}",
            )
        cells = (cells_of(column, pipeline, stream) for column in stream.schema)
        self._stream = stream
        self._refused = {
            found.column: (found, refused)
            for found in cells
            if found is not None and (refused := refused_cells(pipeline, found)).any()
        }

    def around(self, transform: Callable[[DataFrame], DataFrame], records: DataFrame) -> DataFrame:
        """Transformed records, all of them with the values they came with, and the column REFUSED.

        Of other columns than the stream's the pipeline sees nothing: it may make some of the same name.
        """
        from pyspark.sql import functions as F

        accepted = reduce(and_, (_accepted(*found) for found in self._refused.values()), F.lit(True))
        whole = records.withColumn(REFUSED, ~accepted)
        shown = {column: self._shown(whole, column) for column in self._refused}
        aside = [column for column in records.columns if column not in self._stream.schema]
        kept = {f"{_KEPT}{column}": F.col(f"`{column}`") for column in (*self._refused, *aside)}
        found = transform(whole.withColumns(kept).withColumns(shown).drop(*aside))
        back = {column: F.col(f"{_KEPT}{column}") for column in (*self._refused, *aside)}
        return found.withColumns(back).drop(*kept)

    def _shown(self, records: DataFrame, column: str) -> Column:
        from pyspark.sql import functions as F

        harmless = F.lit(self._harmless(column)).cast(records.schema[column].dataType)
        return F.when(F.col(REFUSED), harmless).otherwise(F.col(column))

    def _harmless(self, column: str) -> Any:
        """A value that the pipeline accepts; null if it accepts none."""
        cells, refused = self._refused[column]
        for code in np.flatnonzero(~refused[:-2]):
            if cells.labels is not None:
                return cells.labels[code]
            low, high = _interval(cells, int(code))
            value = 0.0 if low < 0 <= high else math.floor(high) if math.isfinite(high) else math.floor(low) + 1
            if low < value <= high:
                return value != 0 if self._stream.schema[column] == pl.Boolean() else value
        return None


def _interval(cells: Cells, code: int) -> tuple[float, float]:
    return (float(cells.ends[code - 1]) if code else -math.inf), float(cells.ends[code])


def _accepted(cells: Cells, refused: Any) -> Column:
    """Whether a value of the column lies in a cell that is not refused, as a condition of Spark."""
    from pyspark.sql import functions as F

    column = F.col(cells.column)
    if cells.labels is not None:
        # Labels are in the list unless they are treated as anything that no stage knows.
        unlike = [label for label, out in zip(cells.labels, refused[:-2], strict=True) if out != refused[-2]]
        listed = column.isin(unlike) if unlike else F.lit(False)
        return F.when(column.isNull(), F.lit(not refused[-1])).otherwise(listed if refused[-2] else ~listed)
    number = column.cast("double")
    inside = [_between(number, *_interval(cells, int(code))) for code in np.flatnonzero(~refused[:-2])]
    within = reduce(or_, inside) if inside else F.lit(False)
    return (
        F.when(number.isNull(), F.lit(not refused[-1])).when(F.isnan(number), F.lit(not refused[-2])).otherwise(within)
    )


def _between(number: Column, low: float, high: float) -> Column:
    from pyspark.sql import functions as F

    above = number > F.lit(low) if math.isfinite(low) else F.lit(True)
    return above & (number <= F.lit(high)) if math.isfinite(high) else above
