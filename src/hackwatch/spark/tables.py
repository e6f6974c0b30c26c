"""The lake's tables as Spark reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hackwatch.config import StreamSettings
from hackwatch.lake import Lake
from hackwatch.spark.context import Context

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["SKEW_SECONDS", "address", "delay_seconds", "rows_of"]

#: How far partitions of a topic may be apart in event time before the slower one's records are late.
SKEW_SECONDS = 600.0


def delay_seconds(options: StreamSettings) -> float:
    """How far Spark's watermark of a stream is behind its greatest event time: only then it lets go of state."""
    return options.lateness_seconds + SKEW_SECONDS


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
