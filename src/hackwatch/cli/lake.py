"""`hackwatch lake`: statistics, compaction and vacuum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.cli.feeding import size

if TYPE_CHECKING:
    from hackwatch.lake import Lake

__all__ = ["command"]


@click.group()
def command() -> None:
    """Look after the Delta tables. All of it is safe while the engine runs.

    \b
    Examples:
      hackwatch lake statistics
      hackwatch lake compact process
      hackwatch lake vacuum --dry-run
    """


@command.command()
@click.argument("tables", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a table and line.")
@pass_context_object
def statistics(context: CliContext, tables: tuple[str, ...], as_json: bool) -> None:
    """Rows, files, bytes and dates of tables (all of them, if none is named)."""
    from dataclasses import asdict

    import orjson

    lake = _lake(context)
    found = [lake.statistics(table) for table in _chosen(lake, tables)]
    if as_json:
        for table in found:
            click.echo(orjson.dumps(asdict(table)))
        return
    click.echo(f"{'table':<12}{'rows':>14}{'files':>8}{'small':>8}{'size':>12}{'dates':>7}  from .. to")
    for table in found:
        click.echo(
            f"{table.table:<12}{table.rows:>14,}{table.files:>8,}{table.small_files:>8,}"
            f"{size(table.bytes):>12}{table.partitions:>7,}  {table.oldest or '-'} .. {table.newest or '-'}"
        )


@command.command()
@click.argument("tables", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a table and line.")
@pass_context_object
def compact(context: CliContext, tables: tuple[str, ...], as_json: bool) -> None:
    """Join small files into files of about `lake.target_file_mib`."""
    from dataclasses import asdict

    import orjson

    lake = _lake(context)
    with _progress("compacting", _chosen(lake, tables)) as names:
        for name in names:
            done = lake.compact(name)
            if as_json:
                click.echo(orjson.dumps({"table": name, **asdict(done)}))
            elif done.removed:
                before, after = size(done.bytes_before), size(done.bytes_after)
                click.echo(f"{name}: {done.removed} files ({before}) became {done.added} ({after}), {done.rows:,} rows")
            else:
                click.echo(f"{name}: nothing to join")


@command.command()
@click.argument("tables", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Only name the files.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a table and line.")
@pass_context_object
def vacuum(context: CliContext, tables: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Delete files that no table has used for `lake.retention_hours`: compacted ones, and leftovers of crashes."""
    import orjson

    lake = _lake(context)
    with _progress("cleaning", _chosen(lake, tables)) as names:
        for name in names:
            files = lake.vacuum(name, dry_run=dry_run)
            if as_json:
                click.echo(orjson.dumps({"table": name, "dry_run": dry_run, "files": files}))
                continue
            click.echo(f"{name}: {len(files)} files {'would be' if dry_run else 'were'} deleted")
            for file in files if dry_run else ():
                click.echo(f"  {file}")


def _lake(context: CliContext) -> Lake:
    from hackwatch.lake import open_lake

    return open_lake(context.settings())


def _chosen(lake: Lake, tables: Sequence[str]) -> list[str]:
    from hackwatch.errors import ConfigurationError

    known = lake.tables()
    unknown = sorted(set(tables) - set(known))
    if unknown:
        raise ConfigurationError(
            f"no such table: {', '.join(unknown)}",
            where=lake.location,
            next_step=f"the tables are: {', '.join(known)}" if known else "the engine makes them: hackwatch run",
        )
    return [table for table in known if table in tables or not tables]


@contextmanager
def _progress(what: str, tables: Sequence[str]) -> Iterator[Iterator[str]]:
    """The tables one by one, with a bar on standard error if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        yield iter(progress.track(tables, description=what))
