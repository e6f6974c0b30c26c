"""The decoder of a stream: raw messages to normalised records and rejected ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from hackwatch.errors import InternalError
from hackwatch.streams import small
from hackwatch.streams.bare import Mixed
from hackwatch.streams.fields import Field, Kind, Option, Truth
from hackwatch.streams.formats import CSV, JSON, LineFormat
from hackwatch.streams.found import Found, RawRecords, rejected_rows
from hackwatch.streams.normalise import normalise
from hackwatch.streams.payload import Lines
from hackwatch.streams.stream import POSITION, Decoded, DecodeOptions, Messages
from hackwatch.streams.structure import Structure

__all__ = ["Decoder"]


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """`decode` of a stream whose messages have one set of fields: JSON objects, arrays of them, or lines.

    `derived`: expression over the fields' values for each column of `schema` that is not just a field's value.
    `derive`: the same for plain lists of values, by which small payloads are read quickly; they need not be.
    `formats`: what lines in topics and files may be. JSON is always read in topics; what is not JSON there is tried
    against the others that are formats of lines, and such streams take envelopes too (`hackwatch.streams.bare`).
    `truth`: what training data may carry. `options`: other ways to read the fields.
    """

    stream: str
    schema: pl.Schema
    fields: tuple[Field, ...]
    derived: Mapping[str, pl.Expr]
    derive: Callable[[small.Columns], small.Columns] | None = None
    formats: tuple[LineFormat, ...] = (JSON, CSV)
    truth: Truth | None = None
    options: tuple[Option, ...] = ()

    def __call__(self, messages: Messages, options: DecodeOptions) -> Decoded:
        """Normalised records and rejected ones of these messages; pure, and never raises on any payload."""
        return self._small(messages, options) or self._ordinary(messages, options)

    def _small(self, messages: Messages, options: DecodeOptions) -> Decoded | None:
        """The same as `_ordinary`, at a fraction of its cost, for small payloads with nothing unusual in them."""
        if self.derive is None or options.labels or len(messages.payload) > small.SMALL_BYTES:
            return None
        fields, ignored = self._expected(options)
        read = small.read(messages.payload, len(messages), options.max_message_bytes, fields)
        if read is None:
            return None
        found = Found()
        for name in read.extras:
            if name not in ignored:
                found.unknown.add_all(name, np.array(read.number, np.int64))
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
        return self._decoded(records, found, messages)

    def _ordinary(self, messages: Messages, options: DecodeOptions) -> Decoded:
        lines = Lines.of(messages.payload, messages.ends)
        if len(lines) != len(messages):
            raise InternalError(
                f"{len(messages)} offsets for {len(lines)} messages", where=f"{messages.topic}/{messages.partition}"
            )
        found = Found()
        fields, ignored = self._expected(options)
        sized = _bounded(lines, options.max_message_bytes, found)
        named = [one for one in self.formats if one.columns is not None]
        if named:
            order = options.formats or tuple(one.name for one in named)
            tried = sorted((one for one in named if one.name in order), key=lambda one: order.index(one.name))
            Mixed(fields, ignored, found, tried, named, sized).read()
        else:
            Structure(fields, ignored, found).read(sized)
        parts = [self._records(*normalise(rows, fields, found), messages, options) for rows in found.records]
        return self._decoded(_in_order(parts) if parts else self._schema(options).to_frame(), found, messages)

    def _decoded(self, records: pl.DataFrame, found: Found, messages: Messages) -> Decoded:
        return Decoded(
            records=records,
            rejected=rejected_rows(self.stream, found.rejections, messages),
            messages=len(messages),
            unknown_fields=dict(found.unknown.names),
            unknown_by_message=found.unknown.by_message(len(messages)),
        )

    def _expected(self, options: DecodeOptions) -> tuple[tuple[Field, ...], frozenset[str]]:
        """The fields to read, and the names that are known but not read."""
        fields = self.fields
        for option in self.options if options.own else ():
            fields = option.fields(fields) if option.name in options.own else fields
        truth = self.truth.fields if self.truth is not None else ()
        if options.labels:
            fields += truth
        if options.key is not None and options.key not in {field.name for field in fields}:
            fields += (Field(options.key, Kind.TEXT, 0, 1024, strip=False, optional=True),)
        return fields, frozenset(field.name for field in truth) - {field.name for field in fields}

    def _records(
        self, parsed: pl.DataFrame, rows: RawRecords, messages: Messages, options: DecodeOptions
    ) -> pl.DataFrame:
        position = [
            pl.Series("partition", np.full(len(rows.number), messages.partition, np.int32)),
            pl.Series("offset", messages.offsets[rows.number]),
            pl.Series("index", rows.index.astype(np.int32)),
        ]
        further = [] if options.key is None else [parsed[options.key].cast(pl.String).alias("key")]
        if options.labels:
            further += parsed.select(*self._labels()).get_columns()
        computed = parsed.select(list(self.derived.values()))
        columns = [(computed if name in self.derived else parsed).get_column(name) for name in self.schema]
        return pl.DataFrame([*columns, *position, *further])

    def _labels(self) -> tuple[pl.Expr, pl.Expr]:
        if self.truth is None:  # nothing is known of these
            return pl.repeat(None, pl.len(), dtype=pl.Int8).alias("label"), pl.repeat(
                None, pl.len(), dtype=pl.String
            ).alias("type")
        return self.truth.label.cast(pl.Int8).alias("label"), self.truth.type.cast(pl.String).alias("type")

    def _schema(self, options: DecodeOptions) -> pl.Schema:
        further: dict[str, pl.DataType] = {} if options.key is None else {"key": pl.String()}
        if options.labels:
            further |= {"label": pl.Int8(), "type": pl.String()}
        return pl.Schema({**self.schema, **POSITION, **further})


def _bounded(lines: Lines, most: int, found: Found) -> Lines:
    """The messages that are not too long; the others are rejected."""
    too_long = lines.end - lines.start > most
    if not too_long.any():
        return lines
    for position in np.flatnonzero(too_long).tolist():
        found.reject(position, None, f"message is longer than {most} bytes", lines.text(position))
    return lines.take(np.flatnonzero(~too_long))


def _in_order(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    whole = parts[0] if len(parts) == 1 else pl.concat(parts)
    offset, index = whole["offset"].to_numpy(), whole["index"].to_numpy()
    forward = (offset[1:] > offset[:-1]) | ((offset[1:] == offset[:-1]) & (index[1:] > index[:-1]))
    return whole if forward.all() else whole.sort("offset", "index")
