"""The lake's tables as Spark reads them."""

from __future__ import annotations

from hackwatch.lake import Lake

__all__ = ["address"]


def address(lake: Lake, table: str) -> str:
    """The table's address for Spark, which reads buckets through Hadoop's S3A."""
    place = f"{lake.location}/{table}"
    return f"s3a://{place.removeprefix('s3://')}" if lake.remote else place
