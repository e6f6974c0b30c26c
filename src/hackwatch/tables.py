"""Tables to files: Parquet, CSV or NDJSON by the file's name, written in pieces and complete or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import IO

import polars as pl
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # pyarrow ships no types

from hackwatch.errors import ConfigurationError, ResourceError
from hackwatch.text import FORMULA, spreadsheet_safe

__all__ = ["FORMATS", "TableFile", "formula_safe"]

FORMATS = (".parquet", ".csv", ".ndjson")


def formula_safe(frame: pl.DataFrame) -> pl.DataFrame:
    """The same with `text.spreadsheet_safe` applied to all texts."""
    text = pl.col(pl.String)
    return frame.with_columns(pl.when(text.str.contains(FORMULA)).then("'" + text).otherwise(text).name.keep())


class TableFile:
    """A file that frames of one schema are appended to; it takes its name only when it is complete.

    Raises ConfigurationError for an unknown ending, ResourceError when it cannot be written.
    """

    def __init__(self, path: Path, schema: pl.Schema) -> None:
        if path.suffix not in FORMATS:
            raise ConfigurationError(
                f"cannot tell the form of {path.name}", next_step=f"give a name that ends in {', '.join(FORMATS)}"
            )
        self.path, self.schema = path, schema
        self._unfinished = path.with_name(f".{path.name}.unfinished")
        self._parquet: pq.ParquetWriter | None = None
        self._file: IO[bytes] | None = None

    def __enter__(self) -> TableFile:
        empty = self.schema.to_frame()
        try:
            self._file = self._unfinished.open("wb")
        except OSError as error:
            raise self._cannot(error) from error
        if self.path.suffix == ".parquet":
            self._parquet = pq.ParquetWriter(self._file, empty.to_arrow().schema, compression="zstd")
        elif self.path.suffix == ".csv":
            self._file.write(empty.rename(spreadsheet_safe).write_csv().encode())
        return self

    def append(self, frame: pl.DataFrame) -> None:
        """Append rows."""
        assert self._file is not None
        if not frame.height:
            return
        try:
            if self._parquet is not None:
                self._parquet.write_table(frame.to_arrow())
            elif self.path.suffix == ".csv":
                formula_safe(frame).write_csv(self._file, include_header=False)
            else:
                frame.write_ndjson(self._file)
        except OSError as error:
            raise self._cannot(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        try:
            if self._parquet is not None:
                self._parquet.close()
            self._file.close()
            if error is None:
                os.replace(self._unfinished, self.path)
        except OSError as problem:
            raise self._cannot(problem) from problem
        finally:
            self._unfinished.unlink(missing_ok=True)

    def _cannot(self, error: OSError) -> ResourceError:
        return ResourceError(
            f"cannot be written: {error.strerror or error}", where=str(self.path), next_step="choose another place"
        )
