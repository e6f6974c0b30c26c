"""The same job as a Spark Structured Streaming application, as a data engineer would write it. Needs pyspark alone.

    python bench/spark_job.py train MODELS TRAINING      TRAINING/<stream>.ndjson -> MODELS/<stream>
    python bench/spark_job.py run MODELS SPOOL OUTPUT    SPOOL/<stream>/p*/*.ndjson -> Parquet under OUTPUT
    python bench/spark_job.py staged MODELS SPOOL OUTPUT the same, by way of the scored Parquet files

Scored records of both streams go to Parquet, and suspects to two windowed counts and to the interval join, each query
with its checkpoint, until all that is there is processed (availableNow). `run` is the straightforward way: five
queries on the two scored streams, and Spark computes each of them from the source. `staged` is what experience makes
of it: windows and join read the scored files back, so that each record is parsed and scored once.

What it took is printed as JSON: from the first query's start to the last one's end; starting the JVM and loading the
models is not counted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Only the extra `bench` installs pyspark, so the type checker may find it or not.
from pyspark.ml import Pipeline, PipelineModel  # type: ignore[import-not-found,unused-ignore]  # as said above
from pyspark.ml.classification import GBTClassifier  # type: ignore[import-not-found,unused-ignore]  # as said above
from pyspark.ml.feature import StringIndexer, VectorAssembler  # type: ignore[import-not-found,unused-ignore]  # as said above
from pyspark.sql import Column, DataFrame, SparkSession  # type: ignore[import-not-found,unused-ignore]  # as said above
from pyspark.sql import functions as F  # type: ignore[import-not-found,unused-ignore]  # as said above

#: The same model size as in the job that it is compared with.
TREES, DEPTH = 60, 6
SCHEMAS = {
    "process": "sequence LONG, machine STRING, PID LONG, TRUN LONG, TSLPI LONG, TSLPU LONG, POLI STRING, NICE STRING, "
    "PRI STRING, RTPR STRING, CPUNR STRING, Status STRING, EXC LONG, State STRING, CPU DOUBLE, CMD STRING, ts DOUBLE",
    "memory": "sequence LONG, machine STRING, PID LONG, MINFLT STRING, MAJFLT STRING, VSTEXT STRING, VSIZE STRING, "
    "RSIZE STRING, VGROW STRING, RGROW STRING, MEM DOUBLE, CMD STRING, ts DOUBLE",
}
NUMBERS = {
    "process": ["TRUN", "TSLPI", "TSLPU", "NICE", "PRI", "RTPR", "CPUNR", "EXC", "CPU"],
    "memory": ["MINFLT", "MAJFLT", "VSTEXT", "VSIZE", "RSIZE", "VGROW", "RGROW", "MEM"],
}
CATEGORIES = {"process": ["POLI", "Status", "State", "CMD"], "memory": ["CMD"]}


def session(work: Path) -> SparkSession:
    """Two cores, 4 GB, as many shuffle partitions as cores."""
    return (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.memory", "4g")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.ansi.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false")
        .config("spark.log.level", "ERROR")
        .config("spark.local.dir", str(work / "tmp"))
        .getOrCreate()
    )


def normalised(stream: str, raw: DataFrame) -> DataFrame:
    """The columns as the detectors want them."""
    finished = F.col("CMD").rlike("^<.*>$")
    made = raw.withColumns(
        {
            "finished": finished,
            "CMD": F.when(finished, F.expr("substring(CMD, 2, length(CMD) - 2)")).otherwise(F.col("CMD")),
            "event_time": F.timestamp_millis((F.col("ts") * 1000).cast("long")),
        }
    )
    if stream == "memory":
        made = made.withColumns({name: full_value(name) for name in NUMBERS["memory"] if name != "MEM"})
    else:
        made = made.withColumns({name: F.col(name).cast("int") for name in ("PRI", "RTPR", "CPUNR", "NICE")})
        nice = F.when(F.col("PRI") == 0, F.lit(0)).when(F.col("PRI") >= 100, F.col("PRI") - 120)
        made = made.withColumn("NICE", nice.otherwise(F.col("NICE")))
    made = made.withColumn("CMD_PID", F.concat_ws("_", "CMD", "PID"))
    return made.fillna(0, NUMBERS[stream]).fillna("-", CATEGORIES[stream])


def full_value(name: str) -> Column:
    """What atop prints with a unit letter, as a number."""
    text = F.trim(F.col(name))
    unit = F.upper(F.substring(text, -1, 1))
    power = F.when(unit == "K", 1024.0).when(unit == "M", 1024.0**2).when(unit == "G", 1024.0**3)
    power = power.when(unit == "T", 1024.0**4)
    number = F.when(power.isNull(), text).otherwise(F.expr(f"left(trim({name}), length(trim({name})) - 1)"))
    return number.cast("double") * F.coalesce(power, F.lit(1.0))


def train(models: Path, training: Path) -> None:
    """One pipeline a stream: indexed categories, assembled columns, boosted trees."""
    spark = session(models)
    for stream, schema in SCHEMAS.items():
        raw = spark.read.schema(schema + ", label INT").json(str(training / f"{stream}.ndjson"))
        rows = normalised(stream, raw).withColumn("label", F.col("label").cast("double")).cache()
        indexed = [f"{name}_index" for name in CATEGORIES[stream]]
        stages: list[Any] = [
            StringIndexer(inputCols=CATEGORIES[stream], outputCols=indexed, handleInvalid="keep"),
            VectorAssembler(inputCols=NUMBERS[stream] + indexed, outputCol="features"),
            GBTClassifier(labelCol="label", maxIter=TREES, maxDepth=DEPTH, maxBins=512, seed=1),
        ]
        Pipeline(stages=stages).fit(rows).write().overwrite().save(str(models / stream))
    spark.stop()


def run(models: Path, spool: Path, output: Path, staged: bool = False) -> dict[str, Any]:
    """All queries, until the topics are read."""
    spark = session(output)
    pipelines = {stream: PipelineModel.load(str(models / stream)) for stream in SCHEMAS}
    began, spent = time.monotonic(), cpu_of_spark(spark)
    frames = {stream: scored(spark, stream, spool, model) for stream, model in pipelines.items()}
    if staged:
        finish(sink(frame, output / name, name) for name, frame in frames.items())
        results = derived({stream: written(spark, output / stream) for stream in SCHEMAS})
        finish(sink(frame, output / name, name) for name, frame in results.items())
    else:
        results = derived(frames)
        finish(sink(frame, output / name, name) for name, frame in (frames | results).items())
    seconds, cpu = time.monotonic() - began, cpu_of_spark(spark) - spent
    rows = {name: spark.read.parquet(str(output / name)).count() for name in (*SCHEMAS, *results)}
    spark.stop()
    return {"seconds": seconds, "cpu": cpu, "rows": rows}


def derived(records: dict[str, DataFrame]) -> dict[str, DataFrame]:
    """The windowed counts of both streams and the attacks, from scored records."""
    found = {stream: suspects(frame) for stream, frame in records.items()}
    frames = {f"{stream}_windows": windows(frame) for stream, frame in found.items()}
    return {**frames, "attacks": attacks(found["process"], found["memory"])}


def finish(queries: Iterable[Any]) -> None:
    """Start all, then wait for all."""
    for query in list(queries):
        query.awaitTermination()


def cpu_of_spark(spark: SparkSession) -> float:
    """CPU seconds of the JVM so far."""
    gateway: Any = spark.sparkContext._jvm
    jvm = gateway.java.lang.ProcessHandle.current().pid()
    field = Path(f"/proc/{jvm}/stat").read_text().rpartition(")")[2].split()
    return (int(field[11]) + int(field[12])) / float(os.sysconf("SC_CLK_TCK"))


def written(spark: SparkSession, folder: Path) -> DataFrame:
    """The scored records, as they are written."""
    schema = spark.read.parquet(str(folder)).schema
    return spark.readStream.schema(schema).parquet(str(folder))


def suspects(records: DataFrame) -> DataFrame:
    """The suspects among scored records."""
    return records.where("prediction = 1").withWatermark("event_time", "20 seconds")


def windows(found: DataFrame) -> DataFrame:
    """Distinct suspects per machine and two minutes."""
    return found.groupBy(F.window("event_time", "2 minutes"), "machine").agg(
        F.approx_count_distinct("CMD_PID", 0.01).alias("count")
    )


def scored(spark: SparkSession, stream: str, spool: Path, model: Any) -> DataFrame:
    """The scored records of a stream."""
    raw = spark.readStream.schema(SCHEMAS[stream]).json(str(spool / stream / "p*" / "*.ndjson"))
    found: DataFrame = model.transform(normalised(stream, raw))
    wanted = [name for name in found.columns if name not in ("features", "rawPrediction", "probability")]
    return found.select(*(name for name in wanted if not name.endswith("_index")))


def attacks(process: DataFrame, memory: DataFrame) -> DataFrame:
    """Suspects of both streams less than 30 s apart."""
    left, right = (
        frame.select(*(F.col(name).alias(f"{stream}_{name}") for name in frame.columns))
        for stream, frame in (("process", process), ("memory", memory))
    )
    return left.join(
        right,
        F.expr(
            "process_machine = memory_machine AND process_CMD = memory_CMD AND process_PID = memory_PID "
            "AND memory_event_time > process_event_time - INTERVAL 30 SECONDS "
            "AND memory_event_time < process_event_time + INTERVAL 30 SECONDS"
        ),
    )


def sink(frame: DataFrame, folder: Path, name: str) -> Any:
    """Start a query that appends to Parquet files."""
    return (
        frame.writeStream.queryName(name)
        .format("parquet")
        .option("checkpointLocation", str(folder) + ".checkpoint")
        .trigger(availableNow=True)
        .start(str(folder))
    )


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        folders = [Path(name) for name in sys.argv[2:5]]
        print(json.dumps(run(folders[0], folders[1], folders[2], staged=sys.argv[1] == "staged")))
