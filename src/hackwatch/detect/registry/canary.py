"""Before a bundle may score live records: does it fit the stream, and does it behave on what training looked like?"""

from __future__ import annotations

import numpy as np
import polars as pl

from hackwatch.detect.bundle import Bundle
from hackwatch.detect.statistics import Statistics
from hackwatch.errors import DataError
from hackwatch.streams.stream import Stream

__all__ = ["canary", "canary_batch"]

ROWS = 64
ADVICE = "train the model again with this version of hackwatch"


def canary(bundle: Bundle, stream: Stream) -> None:
    """Raise DataError unless the bundle is for `stream`, its columns exist there with the same types, and a small
    batch made from its training statistics gets finite scores in [0, 1], the same one by one as together."""
    where = f"bundle {bundle.version}"
    if bundle.stream != stream.name:
        raise DataError(f"trained for stream {bundle.stream!r}, not {stream.name!r}", where=where, next_step=ADVICE)
    wrong = [
        f"{name} was {kind}, is {stream.schema.get(name) or 'missing'}"
        for name, kind in bundle.description.columns.items()
        if str(stream.schema.get(name)) != kind
    ]
    if wrong:
        raise DataError(f"columns do not fit the stream: {'; '.join(wrong)}", where=where, next_step=ADVICE)
    if not 0 < bundle.threshold <= 1:
        raise DataError(f"threshold {bundle.threshold} is not in (0, 1]", where=where, next_step=ADVICE)
    batch = canary_batch(bundle, stream)
    scores = bundle.score(batch)
    if scores.shape != (batch.height,) or not np.isfinite(scores).all() or scores.min() < 0 or scores.max() > 1:
        raise DataError("the canary batch has scores that are not in [0, 1]", where=where, next_step=ADVICE)
    if not np.array_equal(scores[:1], bundle.score(batch.head(1))):
        raise DataError("a record's score depends on its batch", where=where, next_step=ADVICE)


def canary_batch(bundle: Bundle, stream: Stream) -> pl.DataFrame:
    """ROWS records that training could have seen: usual, least and greatest values, bin edges, categories, nulls."""
    columns = {}
    for place, name in enumerate(bundle.description.columns):
        known = bundle.statistics.get(name)
        values = _values(known) if known else _told_apart(bundle, name)
        # A different stride per column mixes the values; the first row is the usual one throughout.
        chosen = [values[0 if row == 0 else (row * (2 * place + 1)) % len(values)] for row in range(ROWS)]
        columns[name] = pl.Series(name, chosen, strict=False).cast(stream.schema[name], strict=False)
    return pl.DataFrame(columns)


def _told_apart(bundle: Bundle, column: str) -> list[float | str | None]:
    """Values that the encoder tells apart, where nothing is known of the training data."""
    feature = next(feature for feature in bundle.encoder.features if feature.column == column)
    if feature.kind == "place":
        return [0.0, *feature.edges[:ROWS], None]
    return [*(name for name, _ in feature.values[:ROWS]), "never seen", None]


def _values(statistics: Statistics) -> list[float | str | None]:
    values: list[float | str | None] = [statistics.usual]
    if statistics.numeric:
        values += [statistics.least, statistics.greatest, *statistics.edges]
    else:
        values += [*statistics.categories, "never seen"]
    return [*values, None] if statistics.nulls else values
