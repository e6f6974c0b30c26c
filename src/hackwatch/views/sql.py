"""SQL over lake and store: DuckDB reads their tables, as they are needed, and can reach nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import duckdb
import pyarrow  # type: ignore[import-untyped]  # it ships no types

from hackwatch import streams
from hackwatch.errors import ConfigurationError, DataError, HackwatchError, ResourceError
from hackwatch.lake import Lake
from hackwatch.store import Store
from hackwatch.store.frames import FRAMES, batches

__all__ = ["BATCH_ROWS", "MEMORY", "Cursor", "Tables", "query"]

#: Rows of a result that are held at a time, and the memory that a query may use.
BATCH_ROWS, MEMORY = 8_192, "1GB"
_READABLE = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


class Tables:
    """What a query may name: the tables of the lake and those of the store (None: there is none yet)."""

    def __init__(self, lake: Lake, store: Store | None) -> None:
        self.lake, self.store = lake, store
        self.of_store = list(FRAMES) if store else []
        self.of_lake = [name for name in lake.tables() if name not in self.of_store]
        self._stored: list[_Stored] = []

    def register(self, connection: duckdb.DuckDBPyConnection, text: str) -> None:
        """Hand the tables that the text names to DuckDB. No row is read yet."""
        for name in self.of_lake:
            if _names(text, name):
                connection.register(name, self.lake.dataset(name))
        for name in self.of_store:
            if _names(text, name) and self.store:
                self._stored.append(_Stored(self.store, name))
                connection.register(name, self._stored[-1])

    @property
    def trouble(self) -> HackwatchError | None:
        """Why a table of the store could not be read on, if one could not: DuckDB knows the text of it only."""
        return next((table.trouble for table in self._stored if table.trouble is not None), None)

    def columns(self) -> dict[str, dict[str, str]]:
        """Table -> column -> type."""
        columns: dict[str, dict[str, str]] = {name: dict(self.lake.statistics(name).columns) for name in self.of_lake}
        return columns | {
            name: {column: str(kind) for column, kind in FRAMES[name].columns.items()} for name in self.of_store
        }

    def listing(self) -> str:
        """A query that lists tables and columns."""
        rows = [
            (name, column, _plain(kind)) for name, columns in self.columns().items() for column, kind in columns.items()
        ]
        values = ", ".join("(" + ", ".join(literal(word) for word in row) + ")" for row in rows)
        empty = "SELECT '' AS table_name, '' AS column_name, '' AS type WHERE false"
        return f"SELECT * FROM (VALUES {values}) AS t(table_name, column_name, type)" if rows else empty


class _Stored:
    """A table of the store for Arrow's consumers: each scan reads it again, a batch at a time."""

    def __init__(self, store: Store, name: str) -> None:
        self.trouble: HackwatchError | None = None
        self._store, self._name = store, name
        self._schema = FRAMES[name].frame_schema.to_frame().to_arrow().schema

    def __arrow_c_schema__(self) -> object:
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        reader = pyarrow.RecordBatchReader.from_batches(self._schema, self._batches())
        return reader.__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[pyarrow.RecordBatch]:
        try:
            for frame in batches(self._store.database, self._name, BATCH_ROWS):
                yield from frame.to_arrow().to_batches()
        except HackwatchError as error:
            self.trouble = error
            raise


class Cursor:
    """The result of one query: record batches as they are read, once. Closes itself at the end; or close it.

    Arrow's consumers take it as it is: `polars.DataFrame(cursor)`, `pyarrow.table(cursor)`.
    Reading raises as `query` does: an error may come after the first rows.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, reader: pyarrow.RecordBatchReader, tables: Tables
    ) -> None:
        self.schema: pyarrow.Schema = reader.schema
        self._connection, self._reader, self._tables = connection, reader, tables

    @property
    def names(self) -> list[str]:
        """The columns."""
        return list(self.schema.names)

    def __iter__(self) -> Iterator[pyarrow.RecordBatch]:
        try:
            with _explained(self._tables):
                yield from self._reader
        finally:
            self.close()

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Row by row, as plain values; times with their zone."""
        for batch in self:
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pyarrow.RecordBatchReader.from_batches(self.schema, iter(self)).__arrow_c_stream__(requested_schema)

    def close(self) -> None:
        """Read no further."""
        self._connection.close()

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def query(
    tables: Tables, text: str, parameters: Sequence[Any] = (), *, memory: str = MEMORY, rows: int = BATCH_ROWS
) -> Cursor:
    """Run one reading statement in DuckDB's SQL; `?` stands for the next of the `parameters`.

    It can name the tables of lake and store, and reach no file, network or variable. `memory`: the most that it may
    use, such as 1GB. `rows`: of a batch of the result. Raises ConfigurationError (the query, or `memory`), DataError
    (a table that is not there yet), ResourceError (memory, disk, a server that is away).
    """
    connection = _connect(tables, text, memory)
    try:
        with _explained(tables):
            statements = connection.extract_statements(text)
            if len(statements) != 1 or statements[0].type not in _READABLE:
                raise ConfigurationError(
                    "only one statement that reads is run: SELECT, FROM, DESCRIBE, SHOW or EXPLAIN",
                    next_step="ask one question at a time",
                )
            result = connection.sql(statements[0].query, params=list(parameters) or None)
            return Cursor(connection, result.arrow(rows), tables)
    except BaseException:
        connection.close()
        raise


def _connect(tables: Tables, text: str, memory: str) -> duckdb.DuckDBPyConnection:
    """A DuckDB that holds the tables which the text names, and nothing else, for good."""
    # Rows come from Python: a thread of DuckDB's own that waits for its lock would hold up whoever ends the query.
    connection = duckdb.connect(config={"threads": 1})
    tables.register(connection, text)
    try:
        connection.execute(f"SET memory_limit = {literal(memory)}")
    except duckdb.Error as error:
        connection.close()
        raise ConfigurationError(_first_line(error), where="--memory", next_step="for example: 2GB") from error
    for setting in (
        "TimeZone = 'UTC'",
        "python_enable_replacements = false",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "temp_directory = ''",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


class _explained:
    """DuckDB's errors as ours, with the tables and columns that there are."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, HackwatchError) and self.tables.trouble is not None:
            raise self.tables.trouble from error
        # What goes wrong behind the first rows comes by way of Arrow, as its text alone.
        if isinstance(error, duckdb.Error | pyarrow.ArrowException | OSError):
            raise self._ours(error) from error

    def _ours(self, error: Exception) -> HackwatchError:
        if isinstance(error, duckdb.OutOfMemoryException) or str(error).startswith("Out of Memory Error"):
            return ResourceError(
                "the query needs more memory than it may use",
                where="hackwatch sql",
                next_step="narrow it by date or columns, or allow more: --memory 4GB",
            )
        if isinstance(error, duckdb.PermissionException):
            return ConfigurationError(
                "a query can read the tables of lake and store, and nothing else: no files, no settings",
                next_step="see the tables with: hackwatch sql --tables; write results with: -o FILE",
            )
        if (
            (self.tables.of_lake or self.tables.store)
            and isinstance(error, duckdb.CatalogException)
            and (name := _to_come(error))
        ):
            return DataError(
                f"the table {name} is not there yet: the engine makes it with the first row",
                where="hackwatch sql",
                next_step="see the tables with: hackwatch sql --tables",
            )
        known: Mapping[str, Mapping[str, str]] = self.tables.columns()
        problems = tuple(f"{name}({', '.join(columns)})" for name, columns in known.items())
        return ConfigurationError(
            _first_line(error),
            next_step="the tables are listed below" if problems else "there are no tables yet: hackwatch run",
            problems=problems,
        )


def literal(text: str) -> str:
    """The text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _names(text: str, table: str) -> bool:
    """Whether a text has the name of the table in it, as a word of its own."""
    return re.search(rf"(?<!\w){re.escape(table)}(?!\w)", text, re.IGNORECASE) is not None


def _to_come(error: BaseException) -> str | None:
    """The table that a query named and that is not there, if it is one that the engine makes."""
    missing = re.search(r"Table with name (\w+) does not exist", str(error))
    name = missing[1].casefold() if missing else ""
    made = (*streams.names(), *(correlation.name for correlation in streams.correlations()), "rejected")
    return name if name in made else None


def _plain(kind: str) -> str:
    return "Datetime (UTC)" if kind.startswith("Datetime") else kind


def _first_line(error: BaseException) -> str:
    """The message without DuckDB's drawing of the place."""
    return str(error).strip().split("\n\n")[0].replace("\n", " ")
