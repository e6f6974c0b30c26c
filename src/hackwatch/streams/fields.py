"""What a message field means: how it is printed, which values are possible, and what rejects a record."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import polars as pl

__all__ = ["LABELLED", "Field", "Kind", "Option", "Truth"]


class Kind(Enum):
    """How a field is printed, and the column type that it is stored as."""

    INTEGER = "integer"  # `17`, ` 17`, `17.0`                     -> Int64
    COUNT = "count"  # `17`, `24K` (10^3), `1438e3`, `2M`       -> Int64
    SIZE = "size"  # `88680K` (2^10), `519.1M`, `2.0G`, `612` -> Float64, bytes
    FRACTION = "fraction"  # `0.13`, `13%`                            -> Float64
    TIME = "time"  # `1554218915.25`, Unix seconds            -> Float64
    MOMENT = "moment"  # `2000-10-10T13:55:36.5-07:00` (RFC 3339), `10/Oct/2000:13:55:36 -0700` (logs), or as TIME
    TEXT = "text"  # `S`                                      -> String
    ADDRESS = "address"  # `192.0.2.1`, `2001:DB8::0:1`       -> String, the canonical form (`2001:db8::1`)
    BOOLEAN = "boolean"  # true, `yes`, `T`, `1`; false, `no`, `F`, `0` -> Boolean

    @property
    def dtype(self) -> pl.DataType:
        if self is Kind.BOOLEAN:
            return pl.Boolean()
        if self in (Kind.TEXT, Kind.ADDRESS):
            return pl.String()
        return pl.Int64() if self in (Kind.INTEGER, Kind.COUNT) else pl.Float64()

    @property
    def raw(self) -> tuple[pl.DataType, frozenset[type]]:
        """The type under which JSON values of certain types are parsed without loss, and these types."""
        if self in (Kind.TEXT, Kind.ADDRESS):
            return pl.String(), frozenset()
        if self is Kind.BOOLEAN:
            return pl.Boolean(), frozenset({bool, type(None)})
        if self in (Kind.INTEGER, Kind.COUNT):
            return pl.Int64(), frozenset({int, type(None)})
        return pl.Float64(), frozenset({int, float, type(None)})


# Tuples of members: to ask the class for each, at every field of every batch, takes longer than to compare.
_TEXTS = (Kind.TEXT, Kind.ADDRESS)
_UNBOUNDED = (Kind.ADDRESS, Kind.BOOLEAN)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    `low`..`high`: possible values, inclusive; bytes of UTF-8 for text; an address or a boolean needs none. `nullable`:
    `-`, empty and JSON null mean "does not apply" and are stored as null (the field itself must still be there).
    `strip`: spaces around a text are layout, not content. `optional`: may be absent (null then). `letterless`: what a
    size that is printed without a unit letter counts in, bytes.
    """

    name: str
    kind: Kind
    low: float = -math.inf
    high: float = math.inf
    nullable: bool = False
    strip: bool = True
    optional: bool = False
    letterless: float = 1.0

    @property
    def is_text(self) -> bool:
        """Whether the value is a text, which no other JSON value is silently taken for."""
        return self.kind in _TEXTS

    @property
    def is_bounded(self) -> bool:
        """Whether a value that could be read may still be impossible."""
        return self.kind not in _UNBOUNDED

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
            Kind.MOMENT: f"not a time from {low} to {high} Unix seconds, nor a date and time of that range",
            Kind.TEXT: f"not a text of {low} to {high} bytes",
            Kind.ADDRESS: "not an IP address",
            Kind.BOOLEAN: "neither true nor false",
        }
        return f"{self.name}: {what[self.kind]}"


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The truth that training data of a stream may carry.

    `fields`: the message fields that hold it, all optional. `label`, `type`: expressions over their values for the
    columns `label` (Int8: 1 is an attack, null if not known) and `type` (String: which one).
    """

    fields: tuple[Field, ...]
    label: pl.Expr
    type: pl.Expr


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """Another way to read the messages of a stream, off unless settings or a command name it: it changes fields."""

    name: str
    description: str
    fields: Callable[[tuple[Field, ...]], tuple[Field, ...]]


#: `label`, or `attack`, 0 or 1, and `type`: as the tables of ToN_IoT have them.
LABELLED = Truth(
    (
        Field("label", Kind.INTEGER, 0, 1, nullable=True, optional=True),
        Field("attack", Kind.INTEGER, 0, 1, nullable=True, optional=True),
        Field("type", Kind.TEXT, 1, 255, nullable=True, optional=True),
    ),
    label=pl.coalesce("label", "attack"),
    type=pl.col("type"),
)
