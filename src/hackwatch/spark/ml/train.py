"""Training on Spark: any number of records, and at the end the same kind of bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hackwatch.config import Settings, prepare_data_folder
from hackwatch.detect.bundle import Bundle
from hackwatch.detect.features import Encoder
from hackwatch.detect.models.booster import Trees
from hackwatch.detect.models.methods import Classifier
from hackwatch.detect.training import Options, Progress, bundled
from hackwatch.detect.training.options import Trained
from hackwatch.errors import ConfigurationError, DataError
from hackwatch.spark.ml.bins import Bins, merged, scored_bins
from hackwatch.spark.ml.fit import Fit, boosters, permuted_forests
from hackwatch.spark.ml.rows import SparkRows, distinct_rows, encoded, fit_encoder_on_spark, statistics_on_spark
from hackwatch.streams.stream import Stream

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["METHODS_ON_SPARK", "train_from", "train_on_spark"]

METHODS_ON_SPARK = ("supervised", "permuted")


def train_on_spark(
    records: DataFrame,
    stream: Stream,
    method: str,
    options: Options,
    *,
    scratch: str,
    workers: int = 0,
    progress: Progress | None = None,
) -> Bundle:
    """Train a detector for `stream` on a Spark frame of normalised records; truth in the columns `label` and `type`.

    The rows stay on the workers: the driver gets vocabularies, quantiles, bins of scores, and trees. `scratch`: a
    folder that all executors see. `workers`: tasks that train one booster, 0 takes what the session has by default.
    Raises ConfigurationError for a method that Spark has not, DataError if the data cannot carry it.
    """
    if method not in METHODS_ON_SPARK:
        raise ConfigurationError(
            f"method {method!r} does not train on Spark",
            where="--engine spark",
            next_step=f"choose one of {', '.join(METHODS_ON_SPARK)}, or train on a part of the records without it",
        )
    report = progress or (lambda what, done, steps: None)
    rows = distinct_rows(records, stream, options.folds, options.seed)
    try:
        report("distinct rows", 1, 1)
        if method == "supervised":
            trained = _Supervised(rows, stream, options, report).train(workers or _cores(records))
        else:
            trained = _permuted(rows, stream, options, report, scratch)
        normal = rows.records.where("NOT _label")
        statistics = statistics_on_spark(normal, stream)
        columns = {name: str(stream.schema[name]) for name in stream.features.columns}
        return bundled(trained, stream, method, options, statistics, columns, rows.records.count())
    finally:
        rows.frame.unpersist()


def train_from(
    settings: Settings,
    files: Sequence[Path],
    stream: Stream,
    method: str | None,
    options: Options,
    *,
    most: int | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> Bundle:
    """Train on normalised Parquet `files`, or without any on the lake; `most`: its last records by event time.

    Without a method it is supervised if there are labels, else permuted. A session that runs already is left running.
    """
    from hackwatch.spark.session import check_pyspark, open_session

    check_pyspark()
    from pyspark.sql import SparkSession

    prepare_data_folder(settings.data)
    own = SparkSession.getActiveSession() is None
    session = open_session(settings)
    try:
        records = _records(session, settings, files, stream, most)
        method = method or ("supervised" if "label" in records.columns else "permuted")
        scratch = settings.spark_checkpoint
        return train_on_spark(records, stream, method, options, scratch=scratch, workers=workers, progress=progress)
    finally:
        if own:
            session.stop()


def _records(
    session: SparkSession, settings: Settings, files: Sequence[Path], stream: Stream, most: int | None
) -> DataFrame:
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as F

    from hackwatch.lake import open_lake
    from hackwatch.spark.tables import address

    lake = open_lake(settings)
    if not files and stream.name not in lake.tables():
        raise DataError(
            f"the lake has no records of {stream.name} yet",
            where=lake.location,
            next_step="run the engine for a while (hackwatch watch, or feed and run)",
        )
    try:
        if files:
            return session.read.parquet(*(file.resolve().as_uri() for file in files))
        records = session.read.format("delta").load(address(lake, stream.name))
        return records if most is None else records.orderBy(F.desc("event_time")).limit(most)
    except PySparkException as error:
        raise DataError(
            f"Spark cannot read it: {str(error).splitlines()[0]}",
            where=", ".join(map(str, files)) or lake.location,
            next_step="give Parquet files or folders of hackwatch normalise, or --lake",
        ) from error


def _cores(records: DataFrame) -> int:
    return max(1, records.sparkSession.sparkContext.defaultParallelism)


class _Folds:
    """Models of all folds but one, and the scores of what they did not see."""

    def __init__(self, rows: DataFrame, width: int, fit: Fit, options: Options, progress: Progress) -> None:
        self.rows, self._width, self.fit, self._options, self._progress = rows, width, fit, options, progress

    def out_of_fold(self, what: str) -> Bins:
        """The score of each row by a model that did not see it."""
        parts = []
        for number in range(self._options.folds):
            self._progress(what, number, self._options.folds)
            raw = self.fit(self.rows.where(f"_fold <> {number}"))
            parts.append(scored_bins(self.rows.where(f"_fold = {number}"), raw, self._width))
        self._progress(what, self._options.folds, self._options.folds)
        return merged(parts)

    def without(self, kind: str, quiet: int) -> Bins:
        """Scores of an attack type, and of a fold of normal rows, by a model that saw neither."""
        from pyspark.sql import functions as F

        left = F.col("_label") & (F.col("_type") == kind)
        held = left | (~F.col("_label") & (F.col("_fold") == quiet))
        return scored_bins(self.rows.where(held), self.fit(self.rows.where(~held)), self._width)


class _Supervised:
    """Boosted trees on labelled rows, judged as the local training judges them."""

    def __init__(self, rows: SparkRows, stream: Stream, options: Options, progress: Progress) -> None:
        self._rows, self._stream, self._options, self._progress = rows, stream, options, progress
        if not rows.labelled or min(rows.attacks, rows.normal) < options.folds:
            raise DataError(
                f"{rows.attacks} distinct attack rows and {rows.normal} normal ones; supervised training needs both",
                where="training records",
                next_step="give labelled records (columns label and type), or train with --method permuted",
            )

    def train(self, workers: int) -> Trained:
        encoder = fit_encoder_on_spark(self._rows.frame, self._stream, finite=False)
        matrix = encoded(self._rows.frame, encoder).persist()
        try:
            fit = boosters(len(encoder), self._options, workers)
            folds = _Folds(matrix, len(encoder), fit, self._options, self._progress)
            held = folds.out_of_fold("out-of-fold scores")
            threshold = held.threshold(self._options.alert_budget)
            metrics: dict[str, Any] = {
                "rows": self._rows.normal + self._rows.attacks,
                "attacks": self._rows.attacks,
                "out_of_fold": {
                    "roc_auc": held.roc_auc(),
                    "recall_at_1_percent": held.recall_at(0.01),
                    "recall_at_threshold": held.recall(threshold),
                    "false_alarm_rate": held.false_alarm_rate(threshold),
                },
                "types_left_out": self._types_left_out(folds, sorted(self._rows.types), threshold),
            }
            self._progress("final model", 0, 1)
            model = _classifier(fit(matrix), encoder)
            self._progress("final model", 1, 1)
        finally:
            matrix.unpersist()
        return Trained(encoder, model, threshold, metrics, (held.score, held.records))

    def _types_left_out(self, folds: _Folds, names: Sequence[str], threshold: float) -> dict[str, dict[str, float]]:
        if len(names) < 2:
            return {}
        found = {}
        for number, name in enumerate(names):
            self._progress("attack types left out", number, len(names))
            bins = folds.without(name, number % self._options.folds)
            found[name] = {
                "rows": float(self._rows.types[name]),
                "roc_auc": bins.roc_auc(),
                "recall_at_1_percent": bins.recall_at(0.01),
                "recall_at_threshold": bins.recall(threshold),
            }
        self._progress("attack types left out", len(names), len(names))
        return found


def _permuted(rows: SparkRows, stream: Stream, options: Options, progress: Progress, scratch: str) -> Trained:
    """The permuted-columns forest, trained on normal rows; attacks only measure it."""
    normal = rows.frame.where("NOT _label")
    encoder = fit_encoder_on_spark(normal, stream, finite=True)
    matrix = encoded(normal, encoder).persist()
    try:
        fit = permuted_forests(len(encoder), options, scratch)
        folds = _Folds(matrix, len(encoder), fit, options, progress)
        held = folds.out_of_fold("permuted-columns forest")
        threshold = held.threshold(options.alert_budget)
        raw = fit(matrix)
    finally:
        matrix.unpersist()
    metrics: dict[str, Any] = {
        "rows": rows.normal + rows.attacks,
        "false_alarm_rate": held.false_alarm_rate(threshold),
    }
    if rows.attacks:
        attacks = scored_bins(encoded(rows.frame.where("_label"), encoder), raw, len(encoder))
        both = merged([held, attacks])
        metrics |= {
            "attacks": rows.attacks,
            "roc_auc": both.roc_auc(),
            "recall_at_1_percent": both.recall_at(0.01),
            "recall_at_threshold": both.recall(threshold),
        }
    return Trained(encoder, _classifier(raw, encoder), threshold, metrics, (held.score, held.records))


def _classifier(raw: bytes, encoder: Encoder) -> Classifier:
    return Classifier(Trees(raw), len(encoder))
