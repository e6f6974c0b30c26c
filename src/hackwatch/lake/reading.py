"""A table as an Arrow dataset, for DuckDB and whoever else scans one.

delta-rs can make one too, but where a file has no bound for a column that other files have, it compares with null
and so drops the file's rows from filtered reads. Here what is not known is not used.
"""

from __future__ import annotations

from functools import reduce
from operator import and_
from typing import Any
from urllib.parse import unquote

import pyarrow  # type: ignore[import-untyped]  # it ships no types
import pyarrow.dataset as ds  # type: ignore[import-untyped]  # it ships no types

from hackwatch.lake.schema import PARTITIONS
from hackwatch.lake.storage import Storage

__all__ = ["arrow_dataset"]


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
    return ds.FileSystemDataset(fragments, schema, form, disk)


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
