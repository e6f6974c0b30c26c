"""What every detector must hold, whatever its method."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.detect.base import Detector
from hackwatch.detect.bundle import Bundle, load_bundle, save_bundle
from hackwatch.detect.models.methods import METHODS
from hackwatch.detect.registry.canary import canary, canary_batch
from hackwatch.errors import DataError
from tests.detect.support import STREAM, records, trained

TEST = records(700, seed=9)


def test_scores_are_float32_between_0_and_1(bundle: Bundle) -> None:
    scores = bundle.score(TEST)
    assert scores.dtype == np.float32
    assert scores.shape == (700,)
    assert 0 <= scores.min() < scores.max() <= 1
    assert 0 < bundle.threshold <= 1


def test_satisfies_the_engines_protocol(bundle: Bundle) -> None:
    detector: Detector = bundle
    assert detector.stream == "process"
    assert detector.version


def test_no_records_give_no_scores(bundle: Bundle) -> None:
    assert bundle.score(TEST.clear()).shape == (0,)
    assert bundle.explain(TEST.clear()) == []


@pytest.mark.parametrize("size", [1, 3, 63, 64, 65, 350])
def test_the_batch_does_not_matter(bundle: Bundle, size: int) -> None:
    whole = bundle.score(TEST)
    parts = np.concatenate([bundle.score(part) for part in TEST.iter_slices(size)])
    np.testing.assert_array_equal(parts, whole)


def test_the_order_does_not_matter(bundle: Bundle) -> None:
    order = np.random.default_rng(3).permutation(TEST.height)
    np.testing.assert_array_equal(bundle.score(TEST[order]), bundle.score(TEST)[order])


def test_new_columns_are_ignored(bundle: Bundle) -> None:
    more = TEST.with_columns(pl.lit("x").alias("new")).select(pl.all().reverse()).reverse()
    more = more.select(sorted(more.columns))
    np.testing.assert_array_equal(bundle.score(more), bundle.score(TEST.select(pl.all().reverse()).reverse()))


def test_a_missing_column_is_named(bundle: Bundle) -> None:
    with pytest.raises(DataError, match="CPU"):
        bundle.score(TEST.drop("CPU"))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"CMD": "never seen"}, id="unseen category"),
        pytest.param({"CMD": None, "State": None}, id="null category"),
        pytest.param({"CPU": None, "NICE": None, "RSIZE": None}, id="null number"),
        pytest.param({"CPU": float("nan"), "RSIZE": float("nan")}, id="nan"),
        pytest.param({"CPU": float("inf"), "RSIZE": 1e308, "RGROW": -1e308}, id="infinite and huge"),
    ],
)
def test_any_value_has_a_defined_score(bundle: Bundle, change: dict[str, object]) -> None:
    odd = TEST.head(5).with_columns(pl.lit(value).cast(TEST.schema[name]).alias(name) for name, value in change.items())
    scores = bundle.score(odd)
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    assert len(bundle.explain(odd)) == 5


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_model(method: str, bundles: dict[str, Bundle]) -> None:
    again = trained(method)
    np.testing.assert_array_equal(again.score(TEST), bundles[method].score(TEST))
    assert again.threshold == bundles[method].threshold


def test_disk_and_back(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "bundle")
    back = load_bundle(tmp_path / "bundle", threads=2)
    np.testing.assert_array_equal(back.score(TEST), bundle.score(TEST))
    assert back.threshold == bundle.threshold
    assert back.version == bundle.version
    assert back.explain(TEST.head(3)) == bundle.explain(TEST.head(3))
    assert back.document() == bundle.document()


def test_nothing_on_disk_is_pickled(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "bundle")
    for file in (tmp_path / "bundle").iterdir():
        assert file.suffix in {".ubj", ".npz", ".json"}
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                assert all(arrays[name].dtype.kind == "f" for name in arrays)


def test_threads_share_a_bundle(bundle: Bundle) -> None:
    whole = bundle.score(TEST)
    found: list[bool] = []

    def work() -> None:
        for _ in range(20):
            found.append(np.array_equal(bundle.score(TEST), whole) and len(bundle.explain(TEST.head(2))) == 2)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80


def test_passes_its_own_canary(bundle: Bundle) -> None:
    canary(bundle, STREAM)
    scores = bundle.score(canary_batch(bundle, STREAM))
    assert len(scores) > 1
    assert np.isfinite(scores).all()


def test_identity_time_and_place_do_not_matter(bundle: Bundle) -> None:
    moved = TEST.with_columns(
        pl.lit(1).alias("PID"), pl.lit("elsewhere").alias("machine"), pl.col("event_time").dt.offset_by("100d")
    )
    np.testing.assert_array_equal(bundle.score(moved), bundle.score(TEST))


def test_attacks_score_higher(bundle: Bundle) -> None:
    truth = (TEST["label"] == 1).to_numpy()
    scores = bundle.score(TEST)
    assert np.median(scores[truth]) > np.median(scores[~truth])


@given(st.lists(st.integers(0, TEST.height - 1), min_size=1, max_size=40))
def test_any_selection_of_rows_keeps_their_scores(bundles: dict[str, Bundle], rows: list[int]) -> None:
    for bundle in bundles.values():
        np.testing.assert_array_equal(bundle.score(TEST[rows]), bundle.score(TEST)[rows])
