"""The same records through a Bytewax flow, as a data engineer would write it: Kafka -> JSON -> model -> Delta.

    python bench/bytewax_flow.py train MODELS TRAINING     TRAINING/<stream>.ndjson -> MODELS/<stream>.json
    python bench/bytewax_flow.py run|tuned BROKER TOPICS MODELS OUTPUT PROCESS ADDRESSES

`run` reads the topics of process and memory records (TOPICS, separated by a comma) to their ends, parses and normalises
each record by an operator of its own, collects them into batches, scores these with XGBoost (60 trees of depth 6, as
hackwatch does) and appends them to Delta tables: what Bytewax's guide leads to. `tuned` does all of it in one operator
over what one poll of the consumer brought, so that nothing is handed on a record at a time or to another worker. There
are no windows, no correlation, no alerts and no exactly once. It is one process of a cluster with one worker each:
PROCESS is its number, ADDRESSES those of all, separated by `;`. Prints as JSON when it began and ended to work
(CLOCK_MONOTONIC, the same for all processes) and its CPU time; imports and loading the models are not counted.

Needs bytewax, confluent-kafka, xgboost, deltalake, pyarrow and numpy.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import xgboost
from bytewax import operators as op
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main
from deltalake import write_deltalake

TREES, DEPTH = 60, 6
BATCH, BATCH_TIME, ROWS_PER_WRITE = 10_000, timedelta(seconds=1), 100_000
NUMBERS = {
    "process": ["TRUN", "TSLPI", "TSLPU", "NICE", "PRI", "RTPR", "CPUNR", "EXC", "CPU"],
    "memory": ["MINFLT", "MAJFLT", "VSTEXT", "VSIZE", "RSIZE", "VGROW", "RGROW", "MEM"],
}
CATEGORIES = {"process": ["POLI", "Status", "State", "CMD"], "memory": ["CMD"]}
UNITS = {"K": 1024.0, "M": 1024.0**2, "G": 1024.0**3, "T": 1024.0**4}

Record = dict[str, Any]


def number(value: Any) -> float:
    """What atop prints, as a number."""
    if isinstance(value, str):
        text = value.strip()
        factor = UNITS.get(text[-1:].upper(), 1.0)
        try:
            return float(text[:-1] if factor != 1.0 else text) * factor
        except ValueError:
            return 0.0
    return float(value)


def normalise(stream: str, record: Record) -> Record:
    """The columns as the model and the table want them."""
    command = str(record["CMD"])
    record["finished"] = bool(re.fullmatch("<.*>", command))
    if record["finished"]:
        record["CMD"] = command[1:-1]
    for name in NUMBERS[stream]:
        record[name] = number(record[name])
    if stream == "process":
        priority = record["PRI"]
        record["NICE"] = 0.0 if priority == 0 else priority - 120 if priority >= 100 else record["NICE"]
    record["machine"], record["ts"] = str(record["machine"]), float(record["ts"])
    record["CMD_PID"] = f"{record['CMD']}_{record['PID']}"
    return record


class Model:
    """A booster, and the number of each category that it was trained on."""

    def __init__(self, stream: str, folder: Path) -> None:
        self._stream = stream
        self._known = json.loads((folder / f"{stream}.categories.json").read_text())
        self._booster = xgboost.Booster({"nthread": 1}, model_file=str(folder / f"{stream}.json"))

    def score(self, records: list[Record]) -> list[Record]:
        """The records with score and prediction."""
        scores = self._booster.inplace_predict(features(self._stream, records, self._known))
        for record, score in zip(records, scores.tolist(), strict=True):
            record["score"], record["prediction"] = score, int(score >= 0.5)
        return records


def features(stream: str, records: list[Record], known: dict[str, dict[str, int]]) -> Any:
    """A matrix: numbers, then categories as their numbers."""
    rows = [
        [*(record[name] for name in NUMBERS[stream]),
         *(known[name].get(record[name], -1) for name in CATEGORIES[stream])]
        for record in records
    ]  # fmt: skip
    return np.array(rows, dtype=np.float32)


def train(models: Path, training: Path) -> None:
    """A booster for each stream."""
    models.mkdir(exist_ok=True)
    for stream in NUMBERS:
        lines = (training / f"{stream}.ndjson").read_text().splitlines()
        records = [normalise(stream, json.loads(line)) for line in lines]
        known = {
            name: {value: place for place, value in enumerate(sorted({str(record[name]) for record in records}))}
            for name in CATEGORIES[stream]
        }
        matrix = xgboost.DMatrix(features(stream, records, known), [record["label"] for record in records])
        booster = xgboost.train({"objective": "binary:logistic", "max_depth": DEPTH}, matrix, TREES)
        booster.save_model(models / f"{stream}.json")
        (models / f"{stream}.categories.json").write_text(json.dumps(known))


class DeltaSink(DynamicSink[Record]):  # type: ignore[misc,unused-ignore]  # its base has no type if it is not installed
    """Appends to a Delta table, some rows at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def build(self, step_id: str, worker_index: int, worker_count: int) -> DeltaPart:
        return DeltaPart(self._folder)


class DeltaPart(StatelessSinkPartition[Record]):  # type: ignore[misc,unused-ignore]  # as said above
    """One worker's rows."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._rows = folder, list[Record]()

    def write_batch(self, items: list[Record]) -> None:
        self._rows += items
        if len(self._rows) >= ROWS_PER_WRITE:
            self._write()

    def close(self) -> None:
        self._write()

    def _write(self) -> None:
        if self._rows:
            write_deltalake(str(self._folder), pa.Table.from_pylist(self._rows), mode="append")
            self._rows = []


def straightforward(name: str, messages: Any, model: Model) -> Any:
    """Scored records, an operator for each step."""
    parsed = op.map(f"{name}_parse", messages, lambda message: (str(message.partition), json.loads(message.value)))
    normal = op.map_value(f"{name}_normalise", parsed, lambda record: normalise(name, record))
    batches = op.collect(f"{name}_batch", normal, timeout=BATCH_TIME, max_size=BATCH)
    return op.flat_map(f"{name}_score", batches, lambda batch: model.score(batch[1]))


def tuned(name: str, messages: Any, model: Model) -> Any:
    """Scored records, in one operator over what one poll brought."""

    def work(polled: list[Any]) -> Iterable[Record]:
        return model.score([normalise(name, json.loads(message.value)) for message in polled])

    return op.flat_map_batch(f"{name}_score", messages, work)


STYLES = {"run": straightforward, "tuned": tuned}


def flow(style: str, broker: str, topics: list[str], models: Path, output: Path) -> Dataflow:
    """Both streams."""
    made = Dataflow("hackwatch")
    for stream, topic in zip(NUMBERS, topics, strict=True):
        source = kop.input(f"{stream}_in", made, brokers=[broker], topics=[topic], tail=False, batch_size=BATCH)
        scored = STYLES[style](stream, source.oks, Model(stream, models))
        op.output(f"{stream}_out", scored, DeltaSink(output / stream))
    return made


def run(
    style: str, broker: str, topics: str, models: Path, output: Path, process: int, addresses: str
) -> dict[str, float]:
    """One process of the cluster, until the topics are read."""
    made = flow(style, broker, topics.split(","), models, output)
    output.mkdir(exist_ok=True)
    began, spent = time.monotonic(), time.process_time()
    cli_main(made, workers_per_process=1, process_id=process, addresses=addresses.split(";"))
    return {"began": began, "ended": time.monotonic(), "cpu": time.process_time() - spent}


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        broker, topics, models, output, process, addresses = sys.argv[2:8]
        print(json.dumps(run(sys.argv[1], broker, topics, Path(models), Path(output), int(process), addresses)))
