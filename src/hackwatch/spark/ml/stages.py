"""The stages of a saved Spark ML pipeline, checked and joined: which number of which column reaches the trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from hackwatch.detect.models.imported import Decision
from hackwatch.errors import ConfigurationError
from hackwatch.spark.ml.columns import Scalar, assembled, hot, indexed, number
from hackwatch.spark.ml.files import SavedTree, Stage, read_stages, read_trees
from hackwatch.streams.stream import Stream

__all__ = ["CLASSIFIERS", "Pipeline", "follow", "read_pipeline"]

CLASSIFIERS = ("DecisionTreeClassificationModel", "RandomForestClassificationModel", "GBTClassificationModel")
_FEATURES = "StringIndexer, OneHotEncoder, VectorAssembler"
_HANDLING = ("error", "skip", "keep")

#: A column of the pipeline: a number, a vector, or None for one that no tree can use.
Column = Scalar | list[Scalar] | None


@dataclass(slots=True)
class Pipeline:
    """What was understood of a pipeline.

    `features`: the vector that the trees read. `made`: all numbers on the way, those too that no tree reads, for they
    may refuse a record. `notes`: what the owner should know. `problems`: why it cannot be imported. `missing`: columns
    that the stream has not.
    """

    features: list[Scalar] = field(default_factory=list)
    made: list[Scalar] = field(default_factory=list)
    trees: list[SavedTree] = field(default_factory=list)
    classifier: Stage | None = None
    decision: Decision = field(default_factory=lambda: Decision("votes"))
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def follow(folder: Path, stream: Stream) -> Pipeline:
    """All that can be said of a pipeline, with its problems. DataError for damaged files."""
    reader = _Reader(stream)
    for stage in read_stages(folder):
        reader.read(stage)
    return reader.pipeline


def read_pipeline(folder: Path, stream: Stream) -> Pipeline:
    """Read and check all stages for records of `stream`.

    Raises ConfigurationError with every problem at once (stage, what, what to do), DataError for damaged files.
    """
    found = follow(folder, stream)
    if found.classifier is None and not found.problems:
        found.problems.append(f"no classifier: end the pipeline with one of {', '.join(CLASSIFIERS)}")
    if found.problems:
        raise ConfigurationError(
            f"this pipeline cannot become a bundle for {stream.name}",
            where=str(folder),
            next_step="change the stages named below, fit and save again; or let Spark itself run the pipeline "
            f"(spark_ml under [streams.{stream.name}], hackwatch run --engine spark)",
            problems=tuple(found.problems),
        )
    return found


class _Reader:
    """Walks the stages in order and keeps what each column is by then."""

    def __init__(self, stream: Stream) -> None:
        self.pipeline = Pipeline()
        self._stream = stream
        self._made: dict[str, Column] = {}
        #: Columns that no tree can use for a reason that was told already.
        self._told: set[str] = set()

    def read(self, stage: Stage) -> None:
        readers: Mapping[str, Callable[[Stage], None]] = {
            "StringIndexerModel": self._indexer,
            "OneHotEncoderModel": self._encoder,
            "VectorAssembler": self._assembler,
            "IndexToString": self._ignored,
            **dict.fromkeys(CLASSIFIERS, self._classifier),
        }
        self.pipeline.stages.append(stage.uid)
        if stage.kind in readers:
            readers[stage.kind](stage)
            return
        self._problem(stage, f"{stage.kind} is not supported", f"use {_FEATURES} and a tree classifier alone")

    def _problem(self, stage: Stage, what: str, advice: str) -> None:
        self.pipeline.problems.append(f"{stage.uid}: {what}: {advice}")
        self._made.update(dict.fromkeys(stage.outputs))
        self._told.update(stage.outputs)

    def _keeps(self, stage: Stage) -> bool:
        """Whether the stage lets invalid values pass; a record with one is refused otherwise."""
        way = str(stage.params.get("handleInvalid", "error"))
        if way not in _HANDLING:
            self._problem(stage, f"handleInvalid {way!r} is not known", f"use one of {', '.join(_HANDLING)}")
        return way == "keep"

    def _ignored(self, stage: Stage) -> None:
        self._made.update(dict.fromkeys(stage.outputs))

    def _indexer(self, stage: Stage) -> None:
        data, keep = stage.data(), self._keeps(stage)
        given = data["labelsArray"][0].to_list() if "labelsArray" in data.columns else [data["labels"][0].to_list()]
        for source, target, labels in zip(stage.inputs, stage.outputs, given, strict=True):
            kind = self._stream.schema.get(source)
            self._made[target] = None
            if source in self._made and source != target:
                self._problem(stage, f"{source} is made by another stage", "index columns of the stream")
            elif kind is None:
                # As Spark does: labels are there in training only. If a tree needs the column, that is said there.
                continue
            elif kind != pl.String() and not kind.is_numeric():
                self._problem(stage, f"{source} is neither text nor a number", "take it out, or assemble it as it is")
            else:
                self._keep(target, scalar := indexed(source, labels, kind, keep=keep))
                self._say_unseen(stage, scalar, len(labels), keep)

    def _say_unseen(self, stage: Stage, scalar: Scalar, labels: int, keep: bool) -> None:
        if not scalar.labels and not scalar.breaks:
            self.pipeline.notes.append(
                f"{stage.uid}: no value of {scalar.source} looks like its labels; was it another type in training?"
            )
        if not keep:
            way = stage.params.get("handleInvalid", "error")
            self.pipeline.notes.append(
                f"{stage.uid}: records whose {scalar.source} is none of {labels} known ones score 0 "
                f"(handleInvalid={way}); fit with handleInvalid='keep' to have them scored"
            )

    def _encoder(self, stage: Stage) -> None:
        keep = self._keeps(stage)
        sizes = stage.data()["categorySizes"][0].to_list()
        for source, target, size in zip(stage.inputs, stage.outputs, sizes, strict=True):
            scalar = self._find(stage, source)
            if scalar is None:
                self._made[target] = None
                self._told.add(target)
            elif isinstance(scalar, Scalar):
                self._keep(target, hot(scalar, size, drop_last=bool(stage.params.get("dropLast", True)), keep=keep))
            else:
                self._problem(stage, f"{source} is a vector already", "encode category indices")

    def _assembler(self, stage: Stage) -> None:
        keep = self._keeps(stage)
        vector: list[Scalar] | None = []
        for source in stage.inputs:
            found = self._find(stage, source)
            if found is None:
                vector = None
            elif vector is not None:
                parts = found if isinstance(found, list) else [found]
                vector += [assembled(part, keep=keep) for part in parts]
        for target in stage.outputs:
            self._keep(target, vector)
            if vector is None:
                self._told.add(target)

    def _find(self, stage: Stage, name: str) -> Column:
        """A column that a stage reads; what is wrong with it becomes a problem, unless another stage was to blame."""
        if name in self._made:
            made = self._made[name]
            if made is None and name not in self._told:
                self._problem(stage, f"{name} cannot be known of a record", "leave out what only training data have")
            return made
        kind = self._stream.schema.get(name)
        if kind is None:
            self.pipeline.missing.append(name)
            self._problem(
                stage,
                f"there is no column {name!r} in {self._stream.name} records",
                f"train on normalised records (hackwatch normalise): {', '.join(self._stream.schema)}",
            )
        elif kind == pl.String():
            self._problem(stage, f"{name} is text", "put a StringIndexer before it")
        elif not kind.is_numeric() and kind != pl.Boolean():
            self._problem(stage, f"{name} is no number", "take it out")
        else:
            return number(name)
        return None

    def _keep(self, target: str, made: Column) -> None:
        self._made[target] = made
        self.pipeline.made += made if isinstance(made, list) else [made] if made else []

    def _classifier(self, stage: Stage) -> None:
        found = self.pipeline
        if found.classifier is not None:
            self._problem(stage, "a second classifier", "keep one")
            return
        found.classifier = stage
        classes = int(stage.extra.get("numClasses", 2))
        if classes != 2:
            self._problem(stage, f"it tells {classes} classes apart", "train with labels 0 (normal) and 1 (attack)")
            return
        given = stage.params.get("thresholds")
        thresholds = (float(given[0]), float(given[1])) if given else None
        found.decision = Decision("margin" if stage.kind == CLASSIFIERS[2] else "votes", thresholds)
        found.trees = read_trees(stage)
        column = str(stage.params.get("featuresCol", "features"))
        vector = self._made.get(column)
        if isinstance(vector, list):
            found.features = vector
            self._check_width(stage, len(vector), found.trees)
        elif column not in self._made:
            self._problem(stage, f"nothing makes its features column {column!r}", "put a VectorAssembler before it")

    def _check_width(self, stage: Stage, width: int, trees: Sequence[SavedTree]) -> None:
        wanted = int(stage.extra.get("numFeatures", width))
        greatest = max(int(tree.feature.max()) for tree in trees)
        if wanted != width or greatest >= width:
            self._problem(stage, f"it reads {wanted} features and is given {width}", "save the fitted pipeline whole")
