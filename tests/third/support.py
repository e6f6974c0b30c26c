"""The family `shop` as if its package were installed: here, and in every process that tests start meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from hackwatch import streams
from hackwatch.detect.bundle import Bundle
from hackwatch.detect.training import Options, train
from hackwatch.streams.base import DecodeOptions, Stream
from tests.streams.support import messages

__all__ = ["RULES", "SHOP", "SITE", "bundles", "decoded", "hackwatch", "installed", "labelled", "shop"]

SITE = Path(__file__).parent / "site"
RULES = Path(__file__).parent / "rules.toml"
#: The streams of the family.
SHOP = ("visit", "login")


@contextmanager
def installed() -> Iterator[None]:
    """Within, the family is registered; what hackwatch remembers of the registered ones is asked anew before and after.

    Safe within itself, so that fixtures of a module and of a test may both want it.
    """
    if str(SITE) in sys.path:
        yield
        return
    paths = os.environ.get("PYTHONPATH")
    sys.path.append(str(SITE))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(SITE), paths)))
    _ask_anew()
    try:
        yield
    finally:
        sys.path.remove(str(SITE))
        if paths is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = paths
        _ask_anew()


def _ask_anew() -> None:
    for remembered in (streams.get, streams.family, streams.families, streams._registered):
        remembered.cache_clear()


@pytest.fixture
def shop() -> Iterator[None]:
    """The family is installed during a test."""
    with installed():
        yield


@pytest.fixture(scope="module")
def shop_all_along() -> Iterator[None]:
    """The family is installed during all tests of a module."""
    with installed():
        yield


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
