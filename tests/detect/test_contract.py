"""What every detector must hold, whatever its method, and whatever it looks at."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch import streams
from hackwatch.detect.bundle import Bundle, load_bundle, save_bundle
from hackwatch.detect.detector import Detector
from hackwatch.detect.models.methods import METHODS
from hackwatch.detect.registry.canary import canary, canary_batch
from hackwatch.detect.training import train
from hackwatch.errors import DataError
from hackwatch.streams.stream import Stream
from tests.detect import support
from tests.detect.support import OPTIONS
from tests.third.support import SHOP, decoded, installed, labelled


@dataclass(frozen=True)
class Given:
    """A stream, and how labelled records of it are made: so many, of a seed."""

    stream: Stream
    records: Callable[[int, int], pl.DataFrame]

    def trained(self, method: str) -> Bundle:
        return train(self.records(3000, 1), self.stream, method, OPTIONS)


def _of_the_shop(name: str) -> Given:
    with installed():
        stream = streams.get(name)
        return Given(stream, lambda rows, seed: decoded(stream, labelled(name, seed, rows)))


@lru_cache
def given_(name: str) -> Given:
    return _of_the_shop(name) if name in SHOP else Given(support.STREAM, support.records)


@dataclass(frozen=True)
class Case:
    """A bundle, and records to try it on."""

    given: Given
    method: str
    bundle: Bundle
    test: pl.DataFrame


@lru_cache
def case_of(name: str, method: str) -> Case:
    given = given_(name)
    with installed():
        return Case(given, method, given.trained(method), given.records(700, 9))


CASES = [(name, method) for name in ("made", *SHOP) for method in METHODS]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(*request.param)


@pytest.fixture
def bundle(case: Case) -> Bundle:
    return case.bundle


@pytest.fixture
def test(case: Case) -> pl.DataFrame:
    return case.test


def test_scores_are_float32_between_0_and_1(bundle: Bundle, test: pl.DataFrame) -> None:
    scores = bundle.score(test)
    assert scores.dtype == np.float32
    assert scores.shape == (700,)
    assert 0 <= scores.min() < scores.max() <= 1
    assert 0 < bundle.threshold <= 1


def test_satisfies_the_engines_protocol(case: Case, bundle: Bundle) -> None:
    detector: Detector = bundle
    assert detector.stream == case.given.stream.name
    assert detector.version


def test_no_records_give_no_scores(bundle: Bundle, test: pl.DataFrame) -> None:
    assert bundle.score(test.clear()).shape == (0,)
    assert bundle.explain(test.clear()) == []


@pytest.mark.parametrize("size", [1, 3, 63, 64, 65, 350])
def test_the_batch_does_not_matter(bundle: Bundle, size: int, test: pl.DataFrame) -> None:
    whole = bundle.score(test)
    parts = np.concatenate([bundle.score(part) for part in test.iter_slices(size)])
    np.testing.assert_array_equal(parts, whole)


def test_the_order_does_not_matter(bundle: Bundle, test: pl.DataFrame) -> None:
    order = np.random.default_rng(3).permutation(test.height)
    np.testing.assert_array_equal(bundle.score(test[order]), bundle.score(test)[order])


def test_new_columns_are_ignored(bundle: Bundle, test: pl.DataFrame) -> None:
    more = test.with_columns(pl.lit("x").alias("new")).select(pl.all().reverse()).reverse()
    more = more.select(sorted(more.columns))
    np.testing.assert_array_equal(bundle.score(more), bundle.score(test.select(pl.all().reverse()).reverse()))


def test_a_missing_column_is_named(case: Case, bundle: Bundle, test: pl.DataFrame) -> None:
    name = case.given.stream.features.numeric[0]
    with pytest.raises(DataError, match=name):
        bundle.score(test.drop(name))


#: What becomes of a value of each kind of column: text, whole number, other number; those without are left.
ODD: dict[str, dict[type[pl.DataType], object]] = {
    "unseen category": {pl.String: "never seen"},
    "null category": {pl.String: None},
    "null number": {pl.Int64: None, pl.Float64: None},
    "nan": {pl.Float64: float("nan")},
    "infinite": {pl.Float64: float("inf")},
    "huge": {pl.Float64: -1e308, pl.Int64: 2**62},
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_any_value_has_a_defined_score(case: Case, change: dict[type[pl.DataType], object]) -> None:
    bundle, odd = case.bundle, case.test.head(5)
    for name in case.given.stream.features.columns:
        kind = type(odd.schema[name])
        if kind in change:
            odd = odd.with_columns(pl.lit(change[kind], odd.schema[name]).alias(name))
    scores = bundle.score(odd)
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    assert len(bundle.explain(odd)) == 5


def test_the_same_seed_gives_the_same_model(case: Case) -> None:
    again = case.given.trained(case.method)
    np.testing.assert_array_equal(again.score(case.test), case.bundle.score(case.test))
    assert again.threshold == case.bundle.threshold


def test_disk_and_back(bundle: Bundle, tmp_path: Path, test: pl.DataFrame) -> None:
    save_bundle(bundle, tmp_path / "bundle")
    back = load_bundle(tmp_path / "bundle", threads=2)
    np.testing.assert_array_equal(back.score(test), bundle.score(test))
    assert back.threshold == bundle.threshold
    assert back.version == bundle.version
    assert back.explain(test.head(3)) == bundle.explain(test.head(3))
    assert back.document() == bundle.document()


def test_nothing_on_disk_is_pickled(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "bundle")
    for file in (tmp_path / "bundle").iterdir():
        assert file.suffix in {".ubj", ".npz", ".json"}
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                assert all(arrays[name].dtype.kind == "f" for name in arrays)


def test_threads_share_a_bundle(bundle: Bundle, test: pl.DataFrame) -> None:
    whole = bundle.score(test)
    found: list[bool] = []

    def work() -> None:
        for _ in range(20):
            found.append(np.array_equal(bundle.score(test), whole) and len(bundle.explain(test.head(2))) == 2)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80


def test_passes_its_own_canary(case: Case, bundle: Bundle) -> None:
    canary(bundle, case.given.stream)
    scores = bundle.score(canary_batch(bundle, case.given.stream))
    assert len(scores) > 1
    assert np.isfinite(scores).all()


def test_identity_time_and_place_do_not_matter(case: Case, bundle: Bundle, test: pl.DataFrame) -> None:
    moved = test.with_columns(pl.col(name).reverse() for name in case.given.stream.identifiers)
    assert not moved.equals(test)
    np.testing.assert_array_equal(bundle.score(moved), bundle.score(test))


def test_attacks_score_higher(bundle: Bundle, test: pl.DataFrame) -> None:
    truth = (test["label"] == 1).to_numpy()
    scores = bundle.score(test)
    assert np.median(scores[truth]) > np.median(scores[~truth])


@pytest.mark.parametrize("name", ["made", *SHOP])
@given(st.lists(st.integers(0, 699), min_size=1, max_size=40))
def test_any_selection_of_rows_keeps_their_scores(name: str, rows: list[int]) -> None:
    for method in METHODS:
        case = case_of(name, method)
        np.testing.assert_array_equal(case.bundle.score(case.test[rows]), case.bundle.score(case.test)[rows])
