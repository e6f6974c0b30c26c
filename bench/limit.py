"""What the kernels alone could do: JSON parse, model and Parquet write, in a plain loop on two threads.

No validation, no units, no windows, no alerts, no exactly-once: Polars reads the NDJSON with a given schema, XGBoost
scores matrices that were made beforehand, Polars writes the columns as Parquet like the lake does.

    python -m bench.limit [--quick] [--json] [--records N]
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import polars as pl

from bench import throughput
from bench.support import STREAMS, Figure, Workspace, decoded, main, say
from hackwatch import topics
from hackwatch.detect.bundle import Bundle
from hackwatch.detect.features import Matrix
from hackwatch.detect.registry import Registry

__all__ = ["measure"]

CHUNK = 4 << 20
THREADS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Messages of one stream, their schema as Polars sees it, and their matrix."""

    payload: bytes
    schema: pl.Schema
    matrix: Matrix
    bundle: Bundle


def chunks(data: Path) -> Iterator[Chunk]:
    """The topics cut into chunks."""
    for name in STREAMS:
        bundle = Registry(data / "models").load(name)
        reader = topics.open_reader(str(data / "spool" / name), name="limit")
        schema = None
        for partition in reader.partitions():
            at = 0
            while (messages := reader.read(partition, at, max_bytes=CHUNK)) is not None:
                at = messages.next_offset
                schema = schema or pl.read_ndjson(messages.payload, infer_schema_length=None).schema
                yield Chunk(
                    messages.payload, schema, bundle.encoder.encode(decoded(name, messages.payload).records), bundle
                )
        reader.close()


def work(chunk: Chunk, target: Path) -> int:
    """Parse, score, write; the number of records."""
    frame = pl.read_ndjson(chunk.payload, schema=chunk.schema)
    score = chunk.bundle.model.score(chunk.matrix)
    frame.with_columns(pl.Series("score", score)).write_parquet(target, compression="zstd", compression_level=1)
    return frame.height


def rate(workspace: Workspace) -> float:
    """Records a second of the plain loop, the median of the rounds."""
    prepared = list(chunks(workspace.filled()))
    target = workspace.folder / "limit"
    target.mkdir(exist_ok=True)
    rates = []
    for _ in range(workspace.sizes.rounds):
        with ThreadPoolExecutor(THREADS) as pool:
            began, spent = time.monotonic(), time.process_time()
            names = (target / f"{number}.parquet" for number in range(len(prepared)))
            records = sum(pool.map(work, prepared, names))
            seconds, cpu = time.monotonic() - began, time.process_time() - spent
        rates.append(records / seconds)
        say(f"kernels alone: {rates[-1]:,.0f} records/s, {cpu:.1f} s of CPU in {seconds:.1f} s")
    return median(rates)


def measure(workspace: Workspace) -> list[Figure]:
    """The limit, and the whole job's share of it."""
    limit = rate(workspace)
    job = throughput.run_job(workspace.filled(), workspace.sizes.records).rate
    return [
        Figure("kernels alone: parse, model, Parquet", limit, "records/s"),
        Figure("  the whole job's share of it", job / limit * 100, "%"),
    ]


if __name__ == "__main__":
    main(measure, __doc__)
