"""`hackwatch init`: write a commented hackwatch.toml."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

__all__ = ["command"]


@click.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), default=Path("hackwatch.toml"))
@click.option("--stdout", is_flag=True, help="Write to standard output instead.")
def command(path: Path, stdout: bool) -> None:
    """Write a commented hackwatch.toml.

    Every setting is in it, described and commented out, so that the defaults stay in force until you change a line.
    Each registered stream and each declared correlation has a table of its own.
    A file that is already there is never overwritten.

    \b
    Examples:
      hackwatch init
      hackwatch init ~/.config/hackwatch/hackwatch.toml
      hackwatch init --stdout | less
    """
    from hackwatch import streams
    from hackwatch.config.reference import template
    from hackwatch.errors import ResourceError

    text = template({one.name: one.seconds for one in streams.correlations()})
    if stdout:
        click.echo(text, nl=False)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ResourceError(
            "the file is already there", where=str(path), next_step="give another name, or --stdout"
        ) from error
    except OSError as error:
        with suppress(OSError):
            path.unlink()  # half a file would be in the way of the next attempt
        raise ResourceError(
            f"cannot write the settings: {error.strerror}", where=str(path), next_step="give another name, or --stdout"
        ) from error
    click.echo(f"wrote {path}; `hackwatch config check` checks it after your changes")
