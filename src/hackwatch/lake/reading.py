"""A table as an Arrow dataset, for DuckDB and whoever else scans one.

delta-rs can make one too, but where a file has no bound for a column that other files have, it compares with null
and so drops the file's rows from filtered reads. Here what is not known is not used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from operator import and_
from typing import Any
from urllib.parse import unquote

import pyarrow  # type: ignore[import-untyped]  # it ships no types
import pyarrow.dataset as ds  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

from hackwatch.lake.schema import PARTITIONS
from hackwatch.lake.storage import Storage

__all__ = ["PieceByPiece", "arrow_dataset"]

#: Rows that a scan piece by piece holds at a time, beside the compressed columns of one row group.
_ROWS = 16_384


def arrow_dataset(storage: Storage) -> ds.Dataset:
    """The rows of a table as they are now; files are opened when scanned, and skipped by partition and bounds."""
    table = storage.table()
    schema = pyarrow.schema(table.schema().to_arrow())
    form, disk = ds.ParquetFileFormat(), storage.filesystem()
    actions = pyarrow.table(table.get_add_actions(flatten=True))
    fragments = [
        form.make_fragment(
            storage.path(unquote(file["path"])), filesystem=disk, partition_expression=_guarantee(file, schema)
        )
        for file in actions.to_pylist()
    ]
    return PieceByPiece(fragments, schema, form, disk)


class PieceByPiece(ds.FileSystemDataset):  # type: ignore[misc]  # pyarrow ships no types
    """A table that is never held, however slowly it is read.

    Arrow's own scanner decodes whole row groups ahead, of several files, up to 1 GiB (`to_table` and the like use it).
    """

    def scanner(self, **options: Any) -> Any:
        """What DuckDB asks for: of `columns` (None: all) the rows that fulfil `filter` (None: all)."""
        if options.keys() <= {"columns", "filter"}:
            return _Scan(self, options.get("columns"), options.get("filter"))
        return super().scanner(**options)

    def to_table(self, **options: Any) -> pyarrow.Table:
        return super().scanner(**options).to_table()


class _Scan:
    """Rows of a table as a reader, which takes Python's lock for each piece: not for many threads at once."""

    def __init__(self, table: ds.Dataset, columns: Collection[str] | None, filter: ds.Expression | None) -> None:
        self._table, self._filter = table, filter
        names = table.schema.names if columns is None else list(columns)
        self.projected_schema = pyarrow.schema([table.schema.field(name) for name in names])

    def to_reader(self) -> pyarrow.RecordBatchReader:
        return pyarrow.RecordBatchReader.from_batches(self.projected_schema, self._wanted())

    def _wanted(self) -> Iterator[pyarrow.RecordBatch]:
        if self._filter is None:
            yield from self._pieces(self.projected_schema)
            return
        told = str(self._filter)  # does not say which columns it reads; one too many does no harm
        more = [field for field in self._table.schema if field.name in told]
        names = self.projected_schema.names
        schema = pyarrow.schema([*self.projected_schema, *(field for field in more if field.name not in names)])
        for piece in self._pieces(schema):
            yield piece.filter(self._filter).select(names)

    def _pieces(self, schema: pyarrow.Schema) -> Iterator[pyarrow.RecordBatch]:
        """The rows of all files and row groups that may hold some of those wanted."""
        for fragment in self._table.get_fragments(self._filter):
            chosen = fragment
            if self._filter is not None:
                chosen = fragment.subset(filter=self._filter, schema=self._table.schema)
            same = ds.get_partition_keys(fragment.partition_expression)
            with fragment.open() as source:
                file = pq.ParquetFile(source, metadata=fragment.metadata)
                held = [name for name in file.schema_arrow.names if name in schema.names]
                for group in chosen.row_groups:
                    for piece in file.iter_batches(_ROWS, row_groups=[group.id], columns=held):
                        yield _fitting(piece, schema, same)


def _fitting(piece: pyarrow.RecordBatch, schema: pyarrow.Schema, same: Mapping[str, Any]) -> pyarrow.RecordBatch:
    """Rows of a file as rows of the table. `same`: what is the same for all of them."""
    columns = [
        piece.column(field.name).cast(field.type)
        if field.name in piece.schema.names
        else pyarrow.repeat(pyarrow.scalar(same.get(field.name), field.type), piece.num_rows)
        for field in schema
    ]
    return pyarrow.RecordBatch.from_arrays(columns, schema=schema)


def _guarantee(file: dict[str, Any], schema: pyarrow.Schema) -> ds.Expression:
    """What holds for every row of a file."""
    facts = [_is(name, file[f"partition.{name}"], schema) for name in PARTITIONS]
    for field in schema:
        least, greatest = file.get(f"min.{field.name}"), file.get(f"max.{field.name}")
        if least is None or greatest is None:
            continue
        column = ds.field(field.name)
        bounds = (column >= pyarrow.scalar(least, field.type)) & (column <= pyarrow.scalar(greatest, field.type))
        facts.append(bounds | column.is_null())
    return reduce(and_, facts)


def _is(name: str, value: Any, schema: pyarrow.Schema) -> ds.Expression:
    column = ds.field(name)
    return column.is_null() if value is None else column == pyarrow.scalar(value, schema.field(name).type)
