"""The lake's tables as Spark reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hackwatch.lake import Lake
from hackwatch.spark.context import Context

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["address", "rows_of"]


def address(lake: Lake, table: str) -> str:
    """The table's address for Spark, which reads buckets through Hadoop's S3A."""
    place = f"{lake.location}/{table}"
    return f"s3a://{place.removeprefix('s3://')}" if lake.remote else place


def rows_of(context: Context, stream: str, start: int) -> DataFrame:
    """The on-time rows of this site that are written to a stream's table from a version on, as a stream."""
    from pyspark.sql import functions as F

    return (
        context.spark.readStream.format("delta")
        .option("startingVersion", start)
        .option("ignoreDeletes", "true")
        .load(address(context.lake(), stream))
        .where((F.col("site") == context.settings.site) & ~F.col("late"))
    )
