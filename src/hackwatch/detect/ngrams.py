"""Texts as numbers of a fixed width: character n-grams, hashed into buckets, without a vocabulary to learn.

The hashing trick (Weinberger et al., 2009, "Feature Hashing for Large Scale Multitask Learning"). A text that was never
seen still has n-grams that were, and what a sender invents cannot grow a model.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["BUCKETS", "GRAM", "LONGEST", "hashed_ngrams"]

#: Columns that a text becomes.
BUCKETS = 64
#: Characters of a gram; the beginning and the end of a text count as one each.
GRAM = 3
#: Characters of a text that are looked at: senders decide how long it is.
LONGEST = 1024
_BEGIN, _END = "\x02", "\x03"
#: Rows at a time: with texts of the greatest length some 200 MB.
_ROWS = 8192
#: log1p of a number of grams, looked up: the same on every machine and in every batch.
_LOG = np.log1p(np.arange(LONGEST + 1)).astype(np.float32)
#: One odd multiplier for each character of a gram, and one to mix (32-bit constants of xxHash and of lowbias32).
_FACTORS = tuple(np.uint32(factor) for factor in (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D))
_MIX = np.uint32(0x7FEB352D)


def hashed_ngrams(texts: pl.Series, buckets: int) -> npt.NDArray[np.float32]:
    """(rows, buckets): log1p of how many grams of the text fall into each bucket; NaN where the text is null.

    ASCII letters count in small. Each row depends on its own text alone.
    """
    matrix = np.empty((len(texts), buckets), np.float32)
    for start in range(0, len(texts), _ROWS):
        matrix[start : start + _ROWS] = _hashed(texts[start : start + _ROWS], buckets)
    if texts.null_count():
        matrix[texts.is_null().to_numpy()] = np.nan
    return matrix


def _hashed(texts: pl.Series, buckets: int) -> npt.NDArray[np.float32]:
    cut = [text[:LONGEST] for text in texts.cast(pl.String).fill_null("").to_list()]
    joined = _BEGIN + f"{_END}{_BEGIN}".join(cut) + _END
    codes = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
    codes = codes + np.where((codes >= ord("A")) & (codes <= ord("Z")), np.uint32(32), np.uint32(0))
    row = np.repeat(np.arange(len(cut)), [len(text) + 2 for text in cut])
    last = GRAM - 1
    whole = row[last:] == row[:-last]
    grams = np.zeros(len(codes) - last, np.uint32)
    for place, factor in enumerate(_FACTORS):
        part = codes[place : len(codes) - last + place] * factor
        grams = (grams ^ part) * _MIX
        grams ^= grams >> np.uint32(15)
    places = row[:-last] * buckets + grams % np.uint32(buckets)
    counts = np.bincount(places[whole], minlength=len(cut) * buckets)
    return _LOG[counts].reshape(len(cut), buckets)
