"""Who scores the records of a stream: the champion, whose score decides, and further detectors beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import polars as pl

from hackwatch.detect.detector import Detector

__all__ = ["CHAMPION", "Member", "Panel", "panel_schema", "place"]

#: The role of the detector that decides.
CHAMPION = "champion"


def place(stream: str, role: str = CHAMPION) -> str:
    """What a role of a stream is called in logs.

    >>> place("access"), place("access", "content")
    ('access', 'access:content')
    """
    return stream if role == CHAMPION else f"{stream}:{role}"


def panel_schema(roles: tuple[str, ...]) -> pl.Schema:
    """The columns that a panel adds beside the decisive score.

    `model`: the champion's version, null without one. For each further role `<role>_score` (0..1; null without a
    detector, or where it failed) and `<role>_model`, its version.
    """
    further: dict[str, pl.DataType] = {}
    for role in roles:
        further |= {f"{role}_score": pl.Float32(), f"{role}_model": pl.String()}
    return pl.Schema({"model": pl.String(), **further})


class Member:
    """A detector in its role. What it does wrong beside the champion stays with it, as scores that are null.

    `problem`: what it did wrong first, None if nothing.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.problem: str | None = None

    @property
    def version(self) -> str:
        return self.detector.version

    def score(self, records: pl.DataFrame) -> pl.Series:
        """One score a row (Float32), null where there is none."""
        try:
            scores = np.asarray(self.detector.score(records), np.float32)
            if scores.shape != (len(records),):
                raise ValueError(f"{scores.shape} scores for {len(records)} records")
        except Exception as error:  # whatever it raises: the champion and the engine go on
            self.problem = self.problem or f"{type(error).__name__}: {error}"
            return _nothing(len(records))
        return pl.Series(scores, dtype=pl.Float32).fill_nan(None)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """The detectors of a stream. `others`: by role, in the order of their columns; None: there is none for the role."""

    champion: Detector | None = None
    others: Mapping[str, Member | None] = field(default_factory=dict)

    @property
    def roles(self) -> tuple[str, ...]:
        """The further roles."""
        return tuple(self.others)

    def versions(self) -> dict[str, str]:
        """The version in each role that has a detector."""
        found = {CHAMPION: self.champion, **self.others}
        return {role: detector.version for role, detector in found.items() if detector is not None}

    def columns(self, records: pl.DataFrame) -> Iterator[pl.Series]:
        """The columns of `panel_schema` for these records."""
        rows = len(records)
        yield _constant("model", self.champion, rows)
        for role, member in self.others.items():
            scores = member.score(records) if member is not None and rows else _nothing(rows)
            yield scores.alias(f"{role}_score")
            yield _constant(f"{role}_model", member, rows)


def _constant(name: str, detector: Detector | Member | None, rows: int) -> pl.Series:
    return _one(name, None if detector is None else detector.version).new_from_index(0, rows)


@lru_cache(maxsize=64)
def _one(name: str, text: str | None) -> pl.Series:
    return pl.Series(name, [text], pl.String)


def _nothing(rows: int) -> pl.Series:
    return pl.Series([None], dtype=pl.Float32).new_from_index(0, rows)
