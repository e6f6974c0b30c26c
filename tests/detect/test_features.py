"""Encoding: case tables of values in, numbers out."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from hackwatch.detect.features import NEVER, SMALL_ROWS, Encoder, fit_encoder
from hackwatch.errors import DataError
from hackwatch.streams.stream import Features

FEATURES = Features(numeric=("load",), log=("growth",), categorical=("path",))
TRAINING = pl.DataFrame(
    {
        "load": [0.5, 0.25, None, 0.75],
        "growth": [0.0, math.e - 1, -(math.e - 1), 0.0],
        "path": ["bash", "bash", "cron", None],
    }
)


def _encode(metric: bool, load: float | None, growth: float | None, path: str | None) -> list[float]:
    frame = pl.DataFrame(
        {"load": [load], "growth": [growth], "path": [path]},
        schema={"load": pl.Float64, "growth": pl.Float64, "path": pl.String},
    )
    row: list[float] = fit_encoder(TRAINING, FEATURES, metric=metric).encode(frame)[0].tolist()
    return row


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param((0.5, 3.0, "bash"), (0.5, 3.0, 0.0), id="as they are, most frequent category first"),
        pytest.param((0.5, -3.0, "cron"), (0.5, -3.0, 1.0), id="second category"),
        pytest.param((0.5, 0.0, "nc"), (0.5, 0.0, 2.0), id="unseen category after the rarest"),
        pytest.param((0.5, 0.0, None), (0.5, 0.0, -1.0), id="null category"),
        pytest.param((None, None, "bash"), (math.nan, math.nan, 0.0), id="null numbers are left to the trees"),
        pytest.param((math.inf, -math.inf, "bash"), (3e38, -3e38, 0.0), id="no infinity"),
        pytest.param((1e300, 0.0, "bash"), (3e38, 0.0, 0.0), id="beyond float32"),
    ],
)
def test_for_boosted_trees(given: tuple[float, float, str], expected: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(_encode(False, *given), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param((0.5, math.e - 1, "bash"), (0.5, 1.0, math.log10(2)), id="log scale, rarity"),
        pytest.param((0.5, 1 - math.e, "cron"), (0.5, -1.0, math.log10(4)), id="sign is kept"),
        pytest.param((0.5, 0.0, "nc"), (0.5, 0.0, math.log10(8)), id="unseen: half a record"),
        pytest.param((0.5, 0.0, None), (0.5, 0.0, math.log10(4)), id="null has its own frequency"),
        pytest.param((None, None, "bash"), (-0.75, -2.0, math.log10(2)), id="null: a step below the least"),
        pytest.param((math.nan, 0.0, "bash"), (-0.75, 0.0, math.log10(2)), id="nan like null"),
    ],
)
def test_for_distances(given: tuple[float, float, str], expected: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(_encode(True, *given), expected, rtol=1e-6)


def test_the_matrix_is_what_xgboost_wants() -> None:
    matrix = fit_encoder(TRAINING, FEATURES, metric=True).encode(TRAINING)
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    assert matrix.shape == (4, 3)


@pytest.mark.parametrize("metric", [True, False])
def test_json_and_back(metric: bool) -> None:
    encoder = fit_encoder(TRAINING, FEATURES, metric=metric)
    back = Encoder.from_json(encoder.as_json())
    np.testing.assert_array_equal(back.encode(TRAINING), encoder.encode(TRAINING))


@pytest.mark.parametrize("column", sorted(NEVER))
def test_who_when_and_where_are_never_features(column: str) -> None:
    with pytest.raises(DataError, match=column):
        fit_encoder(TRAINING, Features((column,), (), ()), metric=False)


def test_vocabularies_come_from_training_alone() -> None:
    encoder = fit_encoder(TRAINING, FEATURES, metric=True)
    alone = encoder.encode(TRAINING.head(1))
    crowd = pl.concat([TRAINING.head(1), *[TRAINING.tail(2)] * 50])
    np.testing.assert_array_equal(encoder.encode(crowd)[:1], alone)


@pytest.mark.parametrize("metric", [True, False])
def test_small_frames_are_encoded_as_large_ones(metric: bool) -> None:
    encoder = fit_encoder(TRAINING, FEATURES, metric=metric)
    odd = [0.0, -0.0, 1.5, -3.0, 0.1, 1e300, -1e300, math.inf, -math.inf, math.nan, 5e-324, 16777217.0, None]
    names = ["bash", "cron", "nc", "", None]
    rows = [(load, growth, name) for load in odd for growth in odd for name in names]
    frame = pl.DataFrame(rows, schema={"load": pl.Float64, "growth": pl.Float64, "path": pl.String}, orient="row")
    assert frame.height > SMALL_ROWS
    whole = encoder.encode(frame)
    for start in range(0, frame.height, SMALL_ROWS):
        part = encoder.encode(frame[start : start + SMALL_ROWS])
        np.testing.assert_array_equal(part, whole[start : start + SMALL_ROWS], strict=True)
