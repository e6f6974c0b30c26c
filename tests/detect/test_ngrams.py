"""Texts as hashed n-grams: against a brute-force oracle, and the same for ever."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.detect.features import SMALL_ROWS, Encoder, fit_encoder
from hackwatch.detect.ngrams import LONGEST, hashed_ngrams
from hackwatch.streams.stream import Features

BUCKETS = 16
TEXTS = st.lists(st.none() | st.text(max_size=40) | st.text("ab", max_size=5), min_size=1, max_size=30)


def hashed(texts: Sequence[str | None], buckets: int = BUCKETS) -> npt.NDArray[np.float32]:
    return hashed_ngrams(pl.Series(texts, dtype=pl.String), buckets)


def bucket(gram: str, buckets: int) -> int:
    """The hash in Python's own numbers."""
    found = 0
    for character, factor in zip(gram, (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D), strict=True):
        part = ord(character) * factor & 0xFFFFFFFF
        found = (found ^ part) * 0x7FEB352D & 0xFFFFFFFF
        found ^= found >> 15
    return found % buckets


def oracle(text: str | None, buckets: int) -> list[float]:
    if text is None:
        return [float("nan")] * buckets
    small = "".join(letter.lower() if letter.isascii() else letter for letter in text[:LONGEST])
    padded = f"\x02{small}\x03"
    grams = [bucket(padded[start : start + 3], buckets) for start in range(len(padded) - 2)]
    return [float(np.float32(np.log1p(grams.count(number)))) for number in range(buckets)]


@given(TEXTS)
def test_against_the_oracle(texts: list[str | None]) -> None:
    np.testing.assert_array_equal(hashed(texts), np.array([oracle(text, BUCKETS) for text in texts], np.float32))


@given(TEXTS, st.randoms(use_true_random=False), st.integers(1, 7))
def test_order_and_batch_do_not_matter(texts: list[str | None], random: object, size: int) -> None:
    whole = hashed(texts)
    order = np.random.default_rng(random.getrandbits(32)).permutation(len(texts))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(hashed([texts[place] for place in order]), whole[order])
    parts = [hashed(texts[start : start + size]) for start in range(0, len(texts), size)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("SELECT", "select", True, id="small and capital letters"),
        pytest.param("abc", "cba", False, id="order of characters"),
        pytest.param("x" * LONGEST, "x" * LONGEST + "y", True, id="beyond the longest"),
        pytest.param("", None, False, id="empty and null"),
        pytest.param("ab\x03\x02cd", "abcd", False, id="the marks of beginning and end in a text"),
        pytest.param("é", "É", False, id="only ASCII is folded"),
    ],
)
def test_pairs(one: str, other: str | None, same: bool) -> None:
    first, second = hashed([one, other])
    assert np.array_equal(first, second, equal_nan=True) == same


def test_the_hash_is_the_same_for_ever() -> None:
    """A bundle of today must score alike with every later version."""
    counts = np.expm1(hashed(["/index.php?id=1' OR '1'='1", "\U0001f600"], 8)).round().astype(int)
    assert counts.tolist() == GOLDEN


GOLDEN = [[2, 5, 4, 3, 2, 6, 3, 1], [1, 0, 0, 0, 0, 0, 0, 0]]


def test_nothing_at_all() -> None:
    assert hashed([]).shape == (0, BUCKETS)
    assert hashed(["", ""]).tolist() == [[0.0] * BUCKETS] * 2


@pytest.mark.parametrize("metric", [True, False])
def test_in_an_encoder_small_frames_are_as_large_ones(metric: bool) -> None:
    texts = [f"/shop?item={number}" if number % 5 else None for number in range(SMALL_ROWS * 2)]
    frame = pl.DataFrame({"n": range(len(texts)), "query": texts})
    encoder = fit_encoder(frame, Features(("n",), (), (), text=("query",)), metric=metric)
    whole = encoder.encode(frame)
    parts = [encoder.encode(part) for part in frame.iter_slices(100)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(Encoder.from_json(encoder.as_json()).encode(frame), whole)
    nulls = whole[0, 1:]
    assert (nulls == -1).all() if metric else np.isnan(nulls).all()
    assert set(encoder.columns) == {"n", "query"}


LIMITED = pl.DataFrame({"method": ["GET"] * 4 + ["POST"] * 2 + ["PUT", "TRACE"] + [None] * 2})


@pytest.mark.parametrize(
    ("value", "rank", "rarity"),
    [("GET", 0, 0.4), ("POST", 1, 0.2), ("PUT", 2, 0.2), ("TRACE", 2, 0.2), ("never seen", 2, 0.2), (None, -1, 0.2)],
)
def test_a_limited_vocabulary(value: str | None, rank: float, rarity: float) -> None:
    """What does not fit is one category, as frequent as all of it together."""
    features = Features((), (), (), limited={"method": 2})
    row = pl.DataFrame({"method": [value]}, schema={"method": pl.String})
    assert fit_encoder(LIMITED, features, metric=False).encode(row).item() == rank
    assert fit_encoder(LIMITED, features, metric=True).encode(row).item() == pytest.approx(-np.log10(rarity))
