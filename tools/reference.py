"""Writes docs/configuration.md and docs/cli.md from the program itself: `make docs`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from hackwatch.cli import COMMANDS, main
from hackwatch.config.reference import markdown

__all__ = ["PAGES", "cli_markdown", "commands"]

_DOCS = Path(__file__).parent.parent / "docs"
_HEAD = """\
# Command line

`hackwatch --help` lists the commands; each has its own `--help`. Messages and logs go to standard error, results to
standard output. Exit codes: 0 done, 1 interrupted, 2 wrong use or settings, 3 unusable data, 4 something about the
machine (disk, permission, port, data folder in use), 70 a bug in hackwatch.

Completion of commands and options by the Tab key, for the shell that you use:

```sh
eval "$(_HACKWATCH_COMPLETE=bash_source hackwatch)"     # in ~/.bashrc
eval "$(_HACKWATCH_COMPLETE=zsh_source hackwatch)"      # in ~/.zshrc
_HACKWATCH_COMPLETE=fish_source hackwatch | source      # in ~/.config/fish/config.fish
```

This page is made from the program (`make docs`); a test holds both together.
"""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, parents first."""
    yield "hackwatch", main
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        yield from _below(f"hackwatch {name}", command)


def _below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for short in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), short)
            if below is not None and not below.hidden:
                yield from _below(f"{name} {short}", below)


def cli_markdown() -> str:
    """docs/cli.md."""
    return "\n".join([_HEAD, *(_section(name, command) for name, command in commands())]).rstrip() + "\n"


def _section(name: str, command: click.Command) -> str:
    arguments = [p.make_metavar(click.Context(command)) for p in command.params if isinstance(p, click.Argument)]
    usage = " ".join([name, *arguments, *(["COMMAND"] if isinstance(command, click.Group) else [])])
    parts = [f"{'#' * (1 + min(len(name.split()), 3))} {name}\n", f"`{usage}`\n", _prose(command.help)]
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    if options:
        parts += ["| option | meaning |", "| --- | --- |", *(_row(command, option) for option in options), ""]
    if command.epilog and command is not main:
        parts.append(_prose(command.epilog))
    return "\n".join(parts)


def _prose(text: str | None) -> str:
    """A help text: paragraphs joined, blocks marked with \\b as they are."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text or "").replace("\f", "")):
        if paragraph.startswith("\b"):
            title, *lines = paragraph.removeprefix("\b").strip("\n").splitlines()
            fenced = title.endswith(":")
            body = [line.removeprefix("  ") for line in lines] if fenced else [title, *lines]
            paragraphs += ([title] if fenced else []) + ["```sh\n" + "\n".join(body) + "\n```"]
        else:
            paragraphs.append(_escape(paragraph))
    return "\n\n".join(paragraphs) + "\n"


def _row(command: click.Command, option: click.Option) -> str:
    record = option.get_help_record(click.Context(command))
    names, text = record if record is not None else (", ".join(option.opts), option.help or "")
    return f"| `{names.replace('|', chr(92) + '|')}` | {_escape(text)} |"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


#: Page under docs/ -> what writes it.
PAGES = {"configuration.md": markdown, "cli.md": cli_markdown}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (_DOCS / page).write_text(make(), encoding="utf-8")
        print(f"wrote docs/{page}", file=sys.stderr)
