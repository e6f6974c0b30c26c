"""`hackwatch sql`: ask lake and store in SQL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.numbers import Whole

if TYPE_CHECKING:
    import duckdb

    from hackwatch.lake import Lake
    from hackwatch.store import Store

__all__ = ["Tables", "command", "connect"]

_FORMATS = ("table", "csv", "json", "ndjson", "parquet")
_TABLE_ROWS = 1000


@click.command()
@click.argument("query", required=False)
@click.option("--format", "form", type=click.Choice(_FORMATS), help="Form of the result. [default: table]")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
@click.option("--limit", type=Whole(min=0), help="Most rows; 0 for all. [default: 1000 in a table, else all]")
@click.option("--memory", default="1GB", show_default=True, help="Memory that the query may use.")
@click.option("--tables", "show_tables", is_flag=True, help="List tables and columns instead.")
@pass_context_object
def command(
    context: CliContext,
    query: str | None,
    form: str | None,
    output: Path | None,
    limit: int | None,
    memory: str,
    show_tables: bool,
) -> None:
    """Ask lake and store in SQL (DuckDB's). The query can read their tables and nothing else.

    \b
    Examples:
      hackwatch sql --tables
      hackwatch sql "SELECT stream, entity, count(*) FROM alerts GROUP BY ALL"
      hackwatch sql "SELECT * FROM alerts ORDER BY created DESC" --format json --limit 10
      hackwatch sql "FROM windows" -o windows.parquet
    """
    from hackwatch.cli import results
    from hackwatch.errors import ConfigurationError

    form = form or _form_of(output)
    if form == "parquet" and output is None:
        raise ConfigurationError("a parquet result needs a file", where="--format", next_step="add: -o FILE.parquet")
    if bool(query) == show_tables:
        raise ConfigurationError("give either a query or --tables", next_step='hackwatch sql "SELECT ..."')
    with _open(context) as tables:
        if query is None:
            query = tables.listing()
        shown = _TABLE_ROWS if limit is None and form == "table" else limit or None
        with connect(tables, query, memory) as connection:
            reader = run(connection, query, tables)
            results.write(reader, form, output, shown, _explained(tables))


class Tables:
    """What a query may name: the tables of the lake and those of the store (None: there is none yet)."""

    def __init__(self, lake: Lake, store: Store | None) -> None:
        from hackwatch.store.frames import FRAMES

        self.lake, self.store = lake, store
        self.of_store = list(FRAMES) if store else []
        self.of_lake = [name for name in lake.tables() if name not in self.of_store]

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, *_: object) -> None:
        if self.store:
            self.store.close()

    def register(self, connection: duckdb.DuckDBPyConnection, query: str) -> None:
        """Hand the tables that the query names to DuckDB: rows of the lake are read as they are needed."""
        words = {word.casefold() for word in re.findall(r"\w+", query)}
        for name in self.of_lake:
            if name.casefold() in words:
                connection.register(name, self.lake.dataset(name))
        for name in self.of_store:
            if name.casefold() in words and self.store:
                connection.register(name, self.store.frame(name).to_arrow())

    def columns(self) -> dict[str, dict[str, str]]:
        """Table -> column -> type."""
        from hackwatch.store.frames import FRAMES

        columns = {name: self.lake.statistics(name).columns for name in self.of_lake}
        return columns | {
            name: {column: str(kind) for column, kind in FRAMES[name].columns.items()} for name in self.of_store
        }

    def listing(self) -> str:
        """A query that lists tables and columns."""
        rows = [
            (name, column, _plain(kind)) for name, columns in self.columns().items() for column, kind in columns.items()
        ]
        values = ", ".join("(" + ", ".join(_literal(word) for word in row) + ")" for row in rows)
        empty = "SELECT '' AS table_name, '' AS column_name, '' AS type WHERE false"
        return f"SELECT * FROM (VALUES {values}) AS t(table_name, column_name, type)" if rows else empty


def connect(tables: Tables, query: str, memory: str) -> duckdb.DuckDBPyConnection:
    """A DuckDB that holds the tables which the query names, and can reach no file, network or variable."""
    import duckdb

    from hackwatch.errors import ConfigurationError

    connection = duckdb.connect()
    tables.register(connection, query)
    try:
        connection.execute(f"SET memory_limit = {_literal(memory)}")
    except duckdb.Error as error:
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


def run(connection: duckdb.DuckDBPyConnection, query: str, tables: Tables) -> Any:
    """The result of one reading statement as an Arrow reader."""
    import duckdb

    from hackwatch.errors import ConfigurationError

    with _explained(tables):
        statements = connection.extract_statements(query)
        readable = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
        if len(statements) != 1 or statements[0].type not in readable:
            raise ConfigurationError(
                "only one statement that reads is run: SELECT, FROM, DESCRIBE, SHOW or EXPLAIN",
                next_step="ask one question at a time",
            )
        return connection.sql(statements[0].query).arrow(65_536)


class _explained:
    """DuckDB's errors as ours, with the tables and columns that there are."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import duckdb

        from hackwatch.errors import ConfigurationError, DataError, ResourceError

        if isinstance(error, duckdb.OutOfMemoryException):
            raise ResourceError(
                "the query needs more memory than it may use",
                where="hackwatch sql",
                next_step="narrow it by date or columns, or allow more: --memory 4GB",
            ) from error
        if isinstance(error, duckdb.PermissionException):
            raise ConfigurationError(
                "a query can read the tables of lake and store, and nothing else: no files, no settings",
                next_step="see the tables with: hackwatch sql --tables; write results with: -o FILE",
            ) from error
        if (
            (self.tables.of_lake or self.tables.store)
            and isinstance(error, duckdb.CatalogException)
            and (name := _to_come(error))
        ):
            raise DataError(
                f"the table {name} is not there yet: the engine makes it with the first row",
                where="hackwatch sql",
                next_step="see the tables with: hackwatch sql --tables",
            ) from error
        if isinstance(error, duckdb.Error):
            known = self.tables.columns()
            problems = tuple(f"{name}({', '.join(columns)})" for name, columns in known.items())
            raise ConfigurationError(
                _first_line(error),
                next_step="the tables are listed below" if problems else "there are no tables yet: hackwatch run",
                problems=problems,
            ) from error


def _open(context: CliContext) -> Tables:
    from hackwatch.lake import open_lake
    from hackwatch.store import NoStore, open_store

    settings = context.settings()
    try:
        store: Store | None = open_store(settings.store_url, read_only=True)
    except NoStore:
        store = None  # before the first run; the lake may be a copy from elsewhere
    return Tables(open_lake(settings), store)


def _to_come(error: BaseException) -> str | None:
    """The table that a query named in vain, if it is one that the engine makes."""
    from hackwatch import streams

    missing = re.search(r"Table with name (\w+) does not exist", str(error))
    name = missing[1].casefold() if missing else ""
    made = (*streams.names(), *(correlation.name for correlation in streams.correlations()), "rejected")
    return name if name in made else None


def _form_of(output: Path | None) -> str:
    """The form that a file's name asks for."""
    suffix = output.suffix.removeprefix(".") if output else "table"
    return {"jsonl": "ndjson", "pq": "parquet"}.get(suffix, suffix if suffix in _FORMATS else "csv")


def _plain(kind: str) -> str:
    return "Datetime (UTC)" if kind.startswith("Datetime") else kind


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: BaseException) -> str:
    """The message without DuckDB's drawing of the place."""
    return str(error).strip().split("\n\n")[0].replace("\n", " ")
