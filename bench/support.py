"""What benchmarks share: sizes, made records, trained models, the engine as a process, how figures are shown."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hackwatch import streams, topics
from hackwatch.detect.registry import Registry
from hackwatch.detect.training import train
from hackwatch.families.host.simulate import generate, labelled
from hackwatch.streams.stream import Decoded, DecodeOptions, Messages

__all__ = [
    "EVENT_RATE",
    "FULL",
    "QUICK",
    "ROOT",
    "STREAMS",
    "Bench",
    "Figure",
    "Sizes",
    "Workspace",
    "decoded",
    "engine",
    "engine_command",
    "fill",
    "fill_topics",
    "fresh",
    "main",
    "memory_mib",
    "run",
    "say",
    "shown",
]

STREAMS = ("process", "memory")
ROOT = Path(__file__).parent.parent
#: Records of the throughput run arrive at this rate in their own time: 2 million span 200 s.
EVENT_RATE = 10_000.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. Records count both streams together; times in seconds."""

    records: int = 2_000_000
    rounds: int = 3
    training_rows: int = 40_000
    latency_seconds: float = 60.0
    latency_warm_up: float = 10.0
    latency_rate: float = 10_000.0
    memory_records: int = 10_000_000
    restart_records: int = 1_000_000
    help_rounds: int = 10
    collect_samples: int = 6
    collect_interval: float = 5.0
    kafka_records: int = 1_000_000
    kafka_rate: float = 5_000.0


FULL = Sizes()
QUICK = Sizes(
    records=200_000, rounds=1, training_rows=10_000, latency_seconds=10, latency_warm_up=3, memory_records=1_000_000,
    restart_records=100_000, collect_samples=3, collect_interval=1.0, kafka_records=200_000,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `target` None: there is nothing to reach, it explains another one."""

    name: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


class Workspace:
    """A folder for one run: models are trained once, each benchmark gets a data folder of its own with them."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder, self.sizes = folder, sizes
        self._filled = False

    def data(self, name: str) -> Path:
        """A new, empty data folder with the models."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        shutil.copytree(self.models(), folder / "models")
        return folder

    def models(self) -> Path:
        """The registry, with one supervised model of 60 trees of depth 6 a stream."""
        folder = self.folder / "models"
        if not folder.exists():
            draft = self.folder / "models.draft"
            for name, rows in zip(STREAMS, self.training(), strict=True):
                say(f"training a model for {name} on {len(rows):,} rows")
                payload = rows.write_ndjson().encode()
                records = decoded(name, payload, DecodeOptions(labels=True)).records
                Registry(draft).add(train(records, streams.get(name)), streams.get(name))
            draft.rename(folder)
        return folder

    def training(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Labelled records of both streams as messages, from another seed than what is scored."""
        return labelled(1, records=self.sizes.training_rows)

    def training_files(self) -> Path:
        """A folder with these records, STREAM.ndjson of each stream."""
        folder = self.folder / "training"
        if not folder.exists():
            folder.mkdir()
            for name, rows in zip(STREAMS, self.training(), strict=True):
                rows.write_ndjson(folder / f"{name}.ndjson")
        return folder

    def filled(self) -> Path:
        """The data folder of the throughput run: its topics hold all records, nothing is read yet."""
        if not self._filled:
            fill(self.data("job"), self.sizes.records)
            self._filled = True
        return self.folder / "job"


def decoded(stream: str, payload: bytes, options: DecodeOptions | None = None) -> Decoded:
    """A payload of messages through the stream's decoder."""
    offsets = np.concatenate([[0], np.flatnonzero(np.frombuffer(payload, np.uint8) == 10)[:-1] + 1])
    return streams.get(stream).decode(Messages("bench", 0, payload, offsets, len(payload)), options or DecodeOptions())


def fill(data: Path, records: int) -> None:
    """Fill the spools of both streams, half of the records each, in two partitions each."""
    fill_topics([str(data / "spool" / name) for name in STREAMS], records)


def fill_topics(addresses: Sequence[str], records: int, partitions: int = 2) -> None:
    """Fill the topics of both streams, half of the records each, one record a message."""
    writers = [topics.open_writer(address, partitions) for address in addresses]
    made, told = 0, time.monotonic()
    for batch in generate(records, 3, records_per_second=EVENT_RATE):
        batch.process.write_to(writers[0])
        batch.memory.write_to(writers[1])
        made += len(batch.process) + len(batch.memory)
        if time.monotonic() - told > 2:
            told = time.monotonic()
            say(f"making records: {made:,} of {records:,}")
    for writer in writers:
        writer.close()


@contextmanager
def engine(data: Path, *, settings: Mapping[str, Any] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """The engine of a data folder as a process; ended gracefully, by force if something here failed."""
    child = subprocess.Popen(engine_command(data, settings), cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield child
        child.terminate()
        child.wait(60)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def engine_command(data: Path, settings: Mapping[str, Any] | None = None, *options: str) -> list[str]:
    """How the engine is started: see bench/child.py."""
    return [sys.executable, "-m", "bench.child", str(data), "--settings", json.dumps(settings or {}), *options]


def memory_mib(process: int, what: str = "VmRSS") -> float:
    """Resident memory of a process now (VmRSS) or at most (VmHWM), in MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"  .. {text}", file=sys.stderr, flush=True)


Bench = Callable[[Workspace], list[Figure]]


def main(bench: Bench, description: str | None) -> None:
    """Run one benchmark as a script."""
    run({"": bench}, description)


def run(benches: Mapping[str, Bench], description: str | None, arguments: Sequence[str] | None = None) -> list[Figure]:
    """Run benchmarks in a folder that is removed afterwards, and print their figures."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if len(benches) > 1:
        parser.add_argument("only", nargs="*", choices=[*benches, []], help="these alone")
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes: to see that it works")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--folder", type=Path, help="work in this folder (made, removed afterwards)")
    for name, default in asdict(FULL).items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), metavar="N", help=f"default {default:,}")
    options = parser.parse_args(arguments)
    sizes = _sizes(options)
    chosen = getattr(options, "only", None) or list(benches)
    figures: list[Figure] = []
    with _folder(options.folder) as folder:
        _compile_into(folder / "bytecode")
        workspace = Workspace(folder, sizes)
        for name in chosen:
            if name:
                say(f"== {name}")
            figures += benches[name](workspace)
    print(json.dumps([figure.as_json() for figure in figures], indent=1) if options.json else shown(figures))
    return figures


def _sizes(options: argparse.Namespace) -> Sizes:
    given = {name: value for name in asdict(FULL) if (value := getattr(options, name)) is not None}
    return Sizes(**{**asdict(QUICK if options.quick else FULL), **given})


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        wanted.mkdir(parents=True, mode=0o700)
    folder = wanted or Path(tempfile.mkdtemp(prefix="hackwatch-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compile_into(folder: Path) -> None:
    """Let the measured processes start from bytecode, as an installed program does.

    Where Python may not write any (often so in a container), it would compile all of its libraries at every start:
    that is what would be measured then.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


def shown(figures: Sequence[Figure]) -> str:
    """Figures as a table: figure, measured, target, met or not."""
    rows = [("figure", "measured", "target", "")]
    for figure in figures:
        bound = "" if figure.target is None else f"{'>=' if figure.at_least else '<='} {_number(figure.target)}"
        verdict = {True: "met", False: "NOT met", None: ""}[figure.met]
        rows.append((figure.name, f"{_number(figure.value)} {figure.unit}".strip(), bound, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join((*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3])).rstrip()
                     for row in rows)  # fmt: skip


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def fresh(data: Path) -> None:
    """Take away what an engine has left in a data folder; topics and models stay."""
    shutil.rmtree(data / "lake", ignore_errors=True)
    for path in (*data.glob("store.sqlite*"), *data.glob("spool/*/committed*")):
        with suppress(FileNotFoundError):
            os.unlink(path)
