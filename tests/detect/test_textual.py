"""A detector of a stream with texts and limited categories holds what every detector must hold."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hackwatch.detect.bundle import Bundle, load_bundle, save_bundle
from hackwatch.detect.models.methods import METHODS
from hackwatch.detect.registry.canary import canary
from hackwatch.detect.training import Options, train
from hackwatch.streams.stream import Features
from tests.detect.support import SCHEMA, STREAM, records

STREAM_OF_REQUESTS = replace(
    STREAM,
    schema=pl.Schema({**SCHEMA, "query": pl.String(), "method": pl.String()}),
    features=Features(("load",), (), (), text=("query",), limited={"method": 2}),
)
INJECTED = "?id=1' UNION SELECT user, password FROM users--"


def requests(rows: int, seed: int) -> pl.DataFrame:
    """A tenth are injections, of another parameter each time; one in fifty has no query."""
    random = np.random.default_rng(seed)
    frame = records(rows, seed=seed)
    attack = frame["label"].to_numpy() == 1
    number = random.integers(0, 10_000, rows)
    queries = [f"{INJECTED}{n}" if bad else f"?item={n}&page={n % 7}" for n, bad in zip(number, attack, strict=True)]
    return frame.with_columns(
        pl.lit(0.1).alias("load"),
        pl.Series("query", [None if n % 50 == 0 else query for n, query in zip(number, queries, strict=True)]),
        pl.Series("method", random.choice(["GET", "POST", "PUT", "TRACE"], rows, p=[0.7, 0.2, 0.05, 0.05])),
    )


TEST = requests(400, seed=9)


@cache
def trained(method: str) -> Bundle:
    options = Options(seed=1, trees=20, depth=4, alert_budget=0.01)
    return train(requests(1500, seed=1), STREAM_OF_REQUESTS, method, options)


@pytest.fixture(params=METHODS)
def bundle(request: pytest.FixtureRequest) -> Bundle:
    return trained(str(request.param))


@pytest.mark.parametrize("size", [1, 7, 64])
def test_order_and_batch_do_not_matter(bundle: Bundle, size: int) -> None:
    whole = bundle.score(TEST)
    order = np.random.default_rng(3).permutation(TEST.height)
    np.testing.assert_array_equal(bundle.score(TEST[order]), whole[order])
    parts = np.concatenate([bundle.score(part) for part in TEST.iter_slices(size)])
    np.testing.assert_array_equal(parts, whole)
    thrice = pl.concat([TEST, TEST, TEST])
    np.testing.assert_array_equal(bundle.score(thrice)[:400], whole, "a large batch")


def test_disk_canary_and_seed(bundle: Bundle, tmp_path: Path) -> None:
    canary(bundle, STREAM_OF_REQUESTS)
    save_bundle(bundle, tmp_path / "bundle")
    back = load_bundle(tmp_path / "bundle")
    np.testing.assert_array_equal(back.score(TEST), bundle.score(TEST))
    assert back.explain(TEST.head(3)) == bundle.explain(TEST.head(3))
    assert set(back.importance()) == {"load", "query", "method"}
    trained.cache_clear()
    np.testing.assert_array_equal(trained(bundle.description.method).score(TEST), bundle.score(TEST))


@pytest.mark.parametrize("value", ["", "\x00" * 5, "\U0001f600" * 3000, None, "?item=1"])
def test_any_text_has_a_score(bundle: Bundle, value: str | None) -> None:
    odd = TEST.head(3).with_columns(pl.lit(value, pl.String).alias("query"))
    assert np.isfinite(bundle.score(odd)).all()
    assert len(bundle.explain(odd)) == 3


def test_what_is_injected_is_found_though_no_text_was_seen_before() -> None:
    bundle, known = trained("supervised"), TEST.filter(pl.col("query").is_not_null())
    suspect = bundle.score(known) >= bundle.threshold
    truth = known["label"].to_numpy() == 1
    assert suspect[truth].mean() > 0.95
    assert suspect[~truth].mean() < 0.05
    drivers = bundle.explain(known.filter(pl.Series(truth)).head(20), top=1)
    assert [driver.column for [driver] in drivers] == ["query"] * 20
