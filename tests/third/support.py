"""What tests do with the family `shop`: labelled records, small models, commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from hackwatch import streams
from hackwatch.detect.bundle import Bundle
from hackwatch.detect.training import Options, train
from hackwatch.streams.stream import DecodeOptions, Stream
from tests.streams.support import messages
from tests.third.shop import SHOP, SITE, installed, shop, shop_all_along

__all__ = [
    "RULES", "SHOP", "SITE", "bundles", "decoded", "hackwatch", "installed", "labelled", "shop", "shop_all_along"
]  # fmt: skip

RULES = Path(__file__).parent / "rules.toml"


def labelled(name: str, seed: int = 1, records: int = 4_000) -> pl.DataFrame:
    """Labelled records of one of its streams, in message shape."""
    import shop_simulator

    return dict(zip(SHOP, shop_simulator.labelled(seed, records), strict=True))[name]


def decoded(stream: Stream, frame: pl.DataFrame, *, labels: bool = True) -> pl.DataFrame:
    """Records in message shape, normalised; none may be rejected."""
    lines = frame.write_ndjson().encode().split(b"\n")[:-1]
    found = stream.decode(messages(lines), DecodeOptions(labels=labels))
    assert found.rejected.is_empty(), found.rejected
    return found.records


def bundles(seed: int = 1) -> Mapping[str, Bundle]:
    """A small model of each of its streams."""
    options = Options(seed=seed, trees=8, depth=4, folds=2, alert_budget=0.01, threads=1)
    known = {name: streams.get(name) for name in SHOP}
    return {
        name: train(decoded(stream, labelled(name, seed)), stream, options=options) for name, stream in known.items()
    }


def hackwatch(folder: Path, *arguments: str, code: int = 0) -> str:
    """What a command prints that runs in a process of its own, in `folder` with the data folder there."""
    command = [sys.executable, "-m", "hackwatch", "--data", str(folder / "data"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, f"{' '.join(arguments)}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr}"
    return done.stdout
