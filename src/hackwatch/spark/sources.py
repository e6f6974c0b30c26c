"""Where a stream's messages come from, as Spark reads it: a Kafka topic or a spool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hackwatch import topics
from hackwatch.config import Settings
from hackwatch.runtime.options import topic_options
from hackwatch.spark.kafka import java_options
from hackwatch.spark.spool import RANGES, Planner, Spool
from hackwatch.store.commits import OffsetRange
from hackwatch.streams.stream import DecodeOptions
from hackwatch.topics.kafka.address import parse_address
from hackwatch.topics.retention import Retention

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["KafkaTopic", "Source", "SpoolTopic", "source_of"]


@dataclass(frozen=True, slots=True)
class KafkaTopic:
    """Spark's own Kafka source; positions are in its checkpoint, and data that Kafka has deleted is an error."""

    brokers: str
    topic: str
    decode: DecodeOptions
    options: dict[str, str]
    spool: Spool | None = None

    def frame(self, spark: SparkSession) -> DataFrame:
        return (
            spark.readStream.format("kafka")
            .option("kafka.bootstrap.servers", self.brokers)
            .option("subscribe", self.topic)
            .option("startingOffsets", "earliest")
            .option("failOnDataLoss", "true")
            .options(**self.options)
            .load()
        )

    def prepared(self, batch: DataFrame) -> DataFrame:
        """Each value ended by a newline, so that a batch of Arrow values is a payload as it stands."""
        from pyspark.sql import functions as F

        newline, empty = F.lit(bytearray(b"\n")), F.lit(bytearray())
        value = F.concat(F.coalesce(F.col("value"), empty), newline).alias("value")
        tasks = max(1, batch.sparkSession.sparkContext.defaultParallelism)
        return batch.select(value, "partition", "offset").coalesce(tasks)


@dataclass(frozen=True, slots=True)
class SpoolTopic:
    """A spool folder, which all executors must see."""

    spool: Spool
    decode: DecodeOptions
    retention: Retention
    max_bytes: int

    @property
    def topic(self) -> str:
        return self.spool.topic

    def planner(self, stream: str) -> Planner:
        return Planner(self.spool.reader(self.retention), stream, self.max_bytes)

    def batch(self, spark: SparkSession, ranges: Sequence[OffsetRange]) -> DataFrame:
        """A row for each range; tasks read them."""
        return spark.createDataFrame([(part.partition, part.start, part.end) for part in ranges], RANGES)

    def prepared(self, batch: DataFrame) -> DataFrame:
        return batch


Source = KafkaTopic | SpoolTopic


def source_of(settings: Settings, stream: str) -> Source:
    """The topic that the settings name for a stream. Raises ConfigurationError for an address of another kind."""
    topic = topic_options(settings, stream)
    if topic.counts_messages:
        address = parse_address(topic.url)
        limit = {"maxOffsetsPerTrigger": str(settings.spark.max_messages)}
        java = java_options(settings.kafka.client())
        return KafkaTopic(address.servers, address.topic, topic.decode, {**java, **limit})
    folder = topics.spool_folder(topic.url)
    spool = Spool(str(folder), folder.name, settings.pipeline, topic.longest_message)
    return SpoolTopic(spool, topic.decode, topic.retention, settings.spark.max_mib << 20)
