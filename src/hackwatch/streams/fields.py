"""What a message field means: how it is printed, which values are possible, and what rejects a record."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import polars as pl

__all__ = ["Field", "Kind"]


class Kind(Enum):
    """How a field is printed, and the column type that it is stored as."""

    INTEGER = "integer"  # `17`, ` 17`, `17.0`                     -> Int64
    COUNT = "count"  # `17`, `24K` (10^3), `1438e3`, `2M`       -> Int64
    SIZE = "size"  # `88680K` (2^10), `519.1M`, `2.0G`, `612` -> Float64, bytes
    FRACTION = "fraction"  # `0.13`, `13%`                            -> Float64
    TIME = "time"  # `1554218915.25`, Unix seconds            -> Float64
    TEXT = "text"  # `S`                                      -> String

    @property
    def dtype(self) -> pl.DataType:
        if self is Kind.TEXT:
            return pl.String()
        return pl.Int64() if self in (Kind.INTEGER, Kind.COUNT) else pl.Float64()

    @property
    def raw_number(self) -> type[pl.DataType]:
        """The type under which JSON numbers are parsed without loss."""
        return pl.Int64 if self in (Kind.INTEGER, Kind.COUNT) else pl.Float64


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    `low`..`high`: possible values, inclusive; bytes of UTF-8 for text. `nullable`: `-`, empty and JSON null mean
    "does not apply" and are stored as null (the field itself must still be there). `strip`: spaces around a text
    are layout, not content. `optional`: may be absent (null then).
    """

    name: str
    kind: Kind
    low: float
    high: float
    nullable: bool = False
    strip: bool = True
    optional: bool = False

    @property
    def is_text(self) -> bool:
        return self.kind is Kind.TEXT

    @property
    def complaint(self) -> str:
        """Why a record with another value is rejected."""
        low, high = f"{self.low:.0f}", f"{self.high:.0f}"
        what = {
            Kind.INTEGER: f"not a whole number from {low} to {high}",
            Kind.COUNT: f"not a count from {low} to {high}",
            Kind.SIZE: f"not a size from {low} to {high} bytes",
            Kind.FRACTION: f"not a fraction from {low} to {high}",
            Kind.TIME: f"not a time from {low} to {high} Unix seconds",
            Kind.TEXT: f"not a text of {low} to {high} bytes",
        }
        return f"{self.name}: {what[self.kind]}"
