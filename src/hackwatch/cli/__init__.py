"""The command line: `hackwatch COMMAND`. Commands are imported when they are called, so that help is instant."""

from __future__ import annotations

import errno
import importlib
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import click

from hackwatch.cli.context import CliContext
from hackwatch.errors import ConfigurationError, HackwatchError, ResourceError
from hackwatch.text import printable

__all__ = ["COMMANDS", "main"]

#: Entry points of commands that other packages bring.
_GROUP = "hackwatch.commands"
#: Command -> (section of the help, module under hackwatch.cli that exports `command`, its short help).
#: Written here a second time so that `hackwatch --help` imports none of them; a test holds both together.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": ("Start", "demo", "Watch simulated machines under attack: the tour."),
    "watch": ("Start", "watch", "Watch this machine: collect, learn, detect."),
    "init": ("Start", "init", "Write a commented hackwatch.toml."),
    "doctor": ("Start", "doctor", "Say what this machine can run, and what is missing."),
    "config": ("Start", "config", "Show or check the settings."),
    "run": ("Run", "run", "Run the engine: topics in, lake and alerts out."),
    "top": ("Run", "top", "Show the running engine live in the terminal."),
    "status": ("Run", "status", "Say whether the engine is alive, and how far it is."),
    "feed": ("Run", "feed", "Fill topics: replay, simulate, collect, follow."),
    "topics": ("Run", "topics", "Make, show, read and prune topics."),
    "alerts": ("Look", "alerts", "List, show, acknowledge, mute and export alerts."),
    "sql": ("Look", "sql", "Ask lake and store in SQL (DuckDB's)."),
    "lake": ("Look", "lake", "Look after the Delta tables."),
    "routes": ("Look", "routes", "Show and test where alerts go."),
    "rules": ("Detect", "rules", "List and check rules."),
    "train": (
        "Detect",
        "train",
        "Train a detector on FILES (CSV, NDJSON or normalised Parquet), the lake or a simulation, and keep it.",
    ),
    "learn": (
        "Detect",
        "learn",
        "Watch this machine for a while, learn what is normal on it, and let engines use what was learned.",
    ),
    "evaluate": ("Detect", "evaluate", "Measure a detector on labelled FILES that it was not trained on."),
    "detect": (
        "Detect",
        "detect",
        "Score a FILE of records (CSV, NDJSON or normalised Parquet) with a trained detector.",
    ),
    "normalise": ("Detect", "normalise", "Decode and normalise a FILE of records: what a data scientist starts from."),
    "models": ("Detect", "models", "Trained detectors: all versions, and which one engines use."),
    "drift": (
        "Detect",
        "drift",
        "Compare the lake's latest records with the training statistics of the current models.",
    ),
}


def _installed() -> dict[str, EntryPoint]:
    """Commands that families of other packages bring, by name; hackwatch's own come first."""
    return {point.name: point for point in entry_points(group=_GROUP) if point.name not in COMMANDS}


class LazyGroup(click.Group):
    """A group that knows its commands by name and short help, and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(_installed())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            point = _installed().get(cmd_name)
            return None if point is None else _loaded(point)
        module = importlib.import_module(f"hackwatch.cli.{COMMANDS[cmd_name][1]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in dict.fromkeys(section for section, _, _ in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl(
                    [(name, text) for name, (group, _, text) in COMMANDS.items() if group == section], col_max=11
                )
        if installed := _installed():
            with formatter.section("Installed"):
                places = {name: point.dist.name if point.dist else "?" for name, point in sorted(installed.items())}
                formatter.write_dl([(name, f"Of the package {place}.") for name, place in places.items()], col_max=11)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in (known := self.list_commands(ctx)) and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], known, n=1)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error becomes a message and an exit code, with `--debug` a traceback."""
        try:
            return super().invoke(ctx)
        except HackwatchError as error:
            if ctx.params.get("debug"):
                raise
            _told(ctx, error)
        except click.FileError as error:
            _told(ctx, _of_the_machine(error.ui_filename, error.message))
        except OSError as error:
            # Whoever read our output has gone: click ends without a word.
            if error.errno == errno.EPIPE or ctx.params.get("debug"):
                raise
            _told(ctx, _of_the_machine(error.filename, error.strerror or str(error)))
        except (click.ClickException, click.exceptions.Exit, click.Abort, EOFError):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            where = _raised_at(error)
            text = printable(f"{type(error).__name__}: {error}", keep_lines=True)
            click.echo(f"internal error at {where}: {text}", err=True)
            click.echo("  next: please report it, with the output of the same command after --debug", err=True)
            ctx.exit(70)


def _loaded(point: EntryPoint) -> click.Command:
    """A command of another package. Raises ConfigurationError when it cannot be loaded, or is none."""
    try:
        command = point.load()
    except Exception as error:  # a third party's module may fail in any way
        raise ConfigurationError(
            f"the command {point.name!r} cannot be loaded: {error}",
            where=point.value,
            next_step="repair or uninstall its package",
        ) from error
    if not isinstance(command, click.Command):
        raise ConfigurationError(
            f"{point.value} is no command of click", where=_GROUP, next_step="correct the entry point"
        )
    return command


def _told(ctx: click.Context, error: HackwatchError) -> None:
    click.echo(f"error: {printable(str(error), keep_lines=True)}", err=True)
    ctx.exit(error.exit_code)


def _of_the_machine(place: object, what: str) -> ResourceError:
    """What the system refused, where no command knew more about it."""
    where = None if place is None else str(place)
    return ResourceError(what, where=where, next_step="look at its permissions, and at the space on the disk")


def _raised_at(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Try `hackwatch demo`. Every command has its own --help with examples.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Settings file. Default: hackwatch.toml here, or in ~/.config/hackwatch.",
)
@click.option("--data", type=click.Path(path_type=Path), help="Data folder. Default: ~/.local/share/hackwatch.")
@click.option("-v", "--verbose", is_flag=True, help="Write debug messages to the log.")
@click.option("--log-format", type=click.Choice(["human", "json"]), help="Form of the log on standard error.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(None, "--version", package_name="hackwatch")
@click.pass_context
def main(
    ctx: click.Context, config: Path | None, data: Path | None, verbose: bool, log_format: str | None, debug: bool
) -> None:
    """Watch your streams for hacks: score, correlate and explain attacks in host telemetry as it happens."""
    overrides = {"data": data, "log.level": "debug" if verbose else None, "log.format": log_format}
    ctx.obj = CliContext(config, overrides, debug=debug)


if __name__ == "__main__":
    sys.exit(main())
