"""The settings of the Spark engine."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from hackwatch.config.table import Location, Table

__all__ = ["SparkSettings"]


class SparkSettings(Table):
    """The engine on Spark Structured Streaming (`hackwatch run --engine spark`)."""

    master: str = Field(
        "local[*]",
        min_length=1,
        examples=["local[*]", "yarn", "k8s://https://HOST:PORT", "spark://HOST:PORT"],
        description="Where Spark runs. `spark-submit --master` and `--master` take its place.",
    )
    conf: dict[str, str | bool | int | float] = Field(
        default_factory=dict,
        examples=[{"spark.executor.memory": "4g"}],
        description="Any configuration of Spark; wins over what hackwatch sets, but for the time zone, UTC.",
    )
    jars: Path | None = Field(
        None,
        examples=["/opt/hackwatch/jars"],
        description="Folder with the jars for Delta and Kafka, where no Maven repository can be reached.",
    )
    checkpoint: Location | None = Field(
        None,
        examples=["hdfs://namenode/hackwatch/checkpoints"],
        description="Folder of Spark's checkpoints, seen by all executors. Without one: `spark` under the data folder.",
    )
    trigger_seconds: float = Field(1.0, ge=0, description="Least time between two batches of a query, seconds.")
    max_messages: int = Field(1_000_000, ge=1, description="Most messages of a Kafka topic taken into one batch.")
    max_mib: int = Field(256, ge=1, description="Most MiB of a spool taken into one batch.")
