"""The decoder of a stream: raw messages to normalised records and rejected ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from hackwatch.errors import InternalError
from hackwatch.streams import exact, small
from hackwatch.streams.base import POSITION, REJECTED_SCHEMA, Decoded, DecodeOptions, Messages
from hackwatch.streams.fields import Field, Kind
from hackwatch.streams.lines import Lines
from hackwatch.streams.normalise import normalise
from hackwatch.streams.structure import Rejection, Rows, Structure

__all__ = ["RAW_LIMIT", "Decoder"]

#: A rejected message is kept up to here.
RAW_LIMIT = 64 * 1024

#: The truth of labelled data; `attack` is another name of `label` (course variant of ToN_IoT).
_TRUTH = (
    Field("label", Kind.INTEGER, 0, 1, nullable=True, optional=True),
    Field("attack", Kind.INTEGER, 0, 1, nullable=True, optional=True),
    Field("type", Kind.TEXT, 1, 255, nullable=True, optional=True),
)
_NONE_REJECTED = REJECTED_SCHEMA.to_frame()
_TRUTH_NAMES = frozenset(field.name for field in _TRUTH)
_LABEL = pl.coalesce("label", "attack").cast(pl.Int8).alias("label")


@dataclass(frozen=True, slots=True)
class Decoder:
    """`decode` of a stream whose messages are JSON objects, or arrays of them, with one set of fields.

    `derived`: expression over the fields' values for each column of `schema` that is not just a field's value.
    `derive`: the same for plain lists of values, by which small payloads are read quickly; they need not be.
    """

    stream: str
    schema: pl.Schema
    fields: tuple[Field, ...]
    derived: Mapping[str, pl.Expr]
    derive: Callable[[small.Columns], small.Columns] | None = None

    def __call__(self, messages: Messages, options: DecodeOptions) -> Decoded:
        """Normalised records and rejected ones of these messages; pure, and never raises on any payload."""
        return self._small(messages, options) or self._ordinary(messages, options)

    def _small(self, messages: Messages, options: DecodeOptions) -> Decoded | None:
        """The same as `_ordinary`, at a fraction of its cost, for small payloads with nothing unusual in them."""
        if self.derive is None or options.labels or len(messages.payload) > small.SMALL_BYTES:
            return None
        fields, ignored = self._expected(options)
        read = small.read(messages.payload, len(messages), options.max_message_bytes, fields, options.letterless_kib)
        if read is None:
            return None
        unknown: Counter[str] = Counter()
        for name in read.extras:
            if name not in ignored:
                exact.count(unknown, name, len(read.number))
        columns: dict[str, Any] = {
            **read.columns,
            **self.derive(read.columns),
            "partition": [messages.partition] * len(read.number),
            "offset": messages.offsets[read.number],
            "index": read.index,
        }
        if options.key is not None:
            (kind,) = (field.kind for field in fields if field.name == options.key)
            columns["key"] = pl.Series(read.columns[options.key], dtype=kind.dtype).cast(pl.String)
        schema = self._schema(options)
        records = pl.DataFrame([pl.Series(name, columns[name], dtype=dtype) for name, dtype in schema.items()])
        return Decoded(records, _NONE_REJECTED, len(messages), dict(unknown))

    def _ordinary(self, messages: Messages, options: DecodeOptions) -> Decoded:
        lines = Lines.of(messages.payload, messages.ends)
        if len(lines) != len(messages):
            raise InternalError(
                f"{len(messages)} offsets for {len(lines)} messages", where=f"{messages.topic}/{messages.partition}"
            )
        fields, ignored = self._expected(options)
        structure = Structure(fields, ignored)
        structure.read(self._bounded(lines, options.max_message_bytes, structure))
        parts = [
            self._records(*normalise(rows, fields, options.letterless_kib, structure.rejections), messages, options)
            for rows in structure.rows
        ]
        return Decoded(
            records=_in_order(parts) if parts else self._schema(options).to_frame(),
            rejected=_rejected(self.stream, structure.rejections, messages),
            messages=len(messages),
            unknown_fields=dict(structure.unknown),
        )

    def _expected(self, options: DecodeOptions) -> tuple[tuple[Field, ...], frozenset[str]]:
        """The fields to read, and the names that are known but not read."""
        fields = self.fields + (_TRUTH if options.labels else ())
        if options.key is not None and options.key not in {field.name for field in fields}:
            fields += (Field(options.key, Kind.TEXT, 0, 1024, strip=False, optional=True),)
        return fields, _TRUTH_NAMES - {field.name for field in fields}

    def _bounded(self, lines: Lines, most: int, structure: Structure) -> Lines:
        """The messages that are not too long; the others are rejected."""
        too_long = lines.end - lines.start > most
        if not too_long.any():
            return lines
        reason = f"message is longer than {most} bytes"
        for position in np.flatnonzero(too_long).tolist():
            structure.rejections.append(Rejection(position, None, reason, lines.text(position)))
        return lines.take(np.flatnonzero(~too_long))

    def _records(self, parsed: pl.DataFrame, rows: Rows, messages: Messages, options: DecodeOptions) -> pl.DataFrame:
        position = [
            pl.Series("partition", np.full(len(rows.number), messages.partition, np.int32)),
            pl.Series("offset", messages.offsets[rows.number]),
            pl.Series("index", rows.index.astype(np.int32)),
        ]
        further = [] if options.key is None else [parsed[options.key].cast(pl.String).alias("key")]
        if options.labels:
            further += parsed.select(_LABEL, pl.col("type")).get_columns()
        computed = parsed.select(list(self.derived.values()))
        columns = [(computed if name in self.derived else parsed).get_column(name) for name in self.schema]
        return pl.DataFrame([*columns, *position, *further])

    def _schema(self, options: DecodeOptions) -> pl.Schema:
        further: dict[str, pl.DataType] = {} if options.key is None else {"key": pl.String()}
        if options.labels:
            further |= {"label": pl.Int8(), "type": pl.String()}
        return pl.Schema({**self.schema, **POSITION, **further})


def _in_order(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    whole = parts[0] if len(parts) == 1 else pl.concat(parts)
    offset, index = whole["offset"].to_numpy(), whole["index"].to_numpy()
    forward = (offset[1:] > offset[:-1]) | ((offset[1:] == offset[:-1]) & (index[1:] > index[:-1]))
    return whole if forward.all() else whole.sort("offset", "index")


def _rejected(stream: str, rejections: Sequence[Rejection], messages: Messages) -> pl.DataFrame:
    if not rejections:
        return _NONE_REJECTED
    ordered = sorted(rejections, key=lambda one: (one.number, -1 if one.index is None else one.index))
    return pl.DataFrame(
        {
            "stream": [stream] * len(ordered),
            "topic": [messages.topic] * len(ordered),
            "partition": [messages.partition] * len(ordered),
            "offset": messages.offsets[[one.number for one in ordered]],
            "index": [one.index for one in ordered],
            "reason": [one.reason for one in ordered],
            "raw": [one.raw[:RAW_LIMIT].decode(errors="backslashreplace") for one in ordered],
            "raw_bytes": [len(one.raw) for one in ordered],
        },
        schema=REJECTED_SCHEMA,
    )
