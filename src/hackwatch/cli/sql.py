"""`hackwatch sql`: ask lake and store in SQL."""

from __future__ import annotations

from pathlib import Path

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.numbers import Whole

__all__ = ["command"]

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
    from hackwatch import views
    from hackwatch.cli import results
    from hackwatch.errors import ConfigurationError
    from hackwatch.views.forms import batch_rows
    from hackwatch.views.sql import query as ask

    form = form or _form_of(output)
    if form == "parquet" and output is None:
        raise ConfigurationError("a parquet result needs a file", where="--format", next_step="add: -o FILE.parquet")
    if bool(query) == show_tables:
        raise ConfigurationError("give either a query or --tables", next_step='hackwatch sql "SELECT ..."')
    with views.open(context.settings()) as data:
        tables = data.tables()
        text = tables.listing() if query is None else query
        shown = _TABLE_ROWS if limit is None and form == "table" else limit or None
        with ask(tables, text, memory=memory, rows=batch_rows(form)) as cursor:
            results.write(cursor, form, output, shown)


def _form_of(output: Path | None) -> str:
    """The form that a file's name asks for."""
    suffix = output.suffix.removeprefix(".") if output else "table"
    return {"jsonl": "ndjson", "pq": "parquet"}.get(suffix, suffix if suffix in _FORMATS else "csv")
