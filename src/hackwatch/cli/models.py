"""`hackwatch models`: list, show, promote, roll back and import trained detectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.cli.detecting import note_unread_role, read_records, registry, role_option, used_as

if TYPE_CHECKING:
    from hackwatch.detect.bundle import Bundle
    from hackwatch.streams.stream import Stream

__all__ = ["command"]


@click.group()
def command() -> None:
    """Trained detectors: all versions, and which one engines use.

    \b
    Examples:
      hackwatch models list
      hackwatch models promote process-000002-51c0
      hackwatch models promote process-000003-8ab1 --role challenger
      hackwatch models rollback process
    """


@command.command("list")
@click.argument("stream_name", required=False, metavar="[STREAM]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a version and line.")
@pass_context_object
def list_(context: CliContext, stream_name: str | None, as_json: bool) -> None:
    """All versions; `*` marks the champions, whose scores decide. All roles stand at the end of the line."""
    import json

    from hackwatch import streams

    if stream_name is not None:
        streams.get(stream_name)
    found = registry(context).list(stream_name)
    if as_json:
        for entry in found:
            click.echo(json.dumps(entry.as_json()))
        return
    if not found:
        click.echo("no models yet: hackwatch train or hackwatch learn makes one")
        return
    click.echo(f"  {'version':<26}{'method':<14}{'created':<27}{'records':>10}{'threshold':>11}{'budget':>10}  roles")
    for entry in found:
        mark = "*" if entry.current else " "
        if entry.problem:
            click.echo(f"{mark} {entry.version:<26}cannot be used: {entry.problem}")
            continue
        line = (
            f"{mark} {entry.version:<26}{entry.method:<14}{entry.created:<27}"
            f"{entry.rows:>10,}{entry.threshold:>11.4f}{entry.alert_budget:>10.2g}  {', '.join(entry.roles)}"
        )
        click.echo(line.rstrip())


@command.command()
@click.argument("version")
@click.option("--json", "as_json", is_flag=True, help="The whole description as JSON.")
@pass_context_object
def show(context: CliContext, version: str, as_json: bool) -> None:
    """What a version (or the current one of a stream) is, how it was trained and how good it was."""
    import json

    stream = _stream(version)
    about = registry(context).show(stream.name, None if version == stream.name else version)
    if as_json:
        click.echo(json.dumps(about))
        return
    for name in ("version", "current", "method", "created", "rows", "threshold", "alert_budget"):
        click.echo(f"{name.replace('_', ' '):<16}{about[name]}")
    click.echo(f"{'roles':<16}{', '.join(about['roles']) or 'none'}")
    click.echo(f"{'features':<16}{', '.join(about['encoder'])}")
    click.echo(f"{'libraries':<16}{', '.join(f'{name} {number}' for name, number in about['libraries'].items())}")
    for name, file in about["files"].items():
        click.echo(f"{name:<16}{file['bytes']:,} bytes, sha256 {file['sha256'][:16]}...")
    click.echo(f"metrics\n{json.dumps(about['metrics'], indent=2)}")


@command.command()
@click.argument("version")
@role_option
@pass_context_object
def promote(context: CliContext, version: str, role: str) -> None:
    """Let engines use VERSION; they reload within a second."""
    stream = _stream(version)
    registry(context).promote(version, stream, role)
    click.echo(used_as(role, version))
    note_unread_role(context, stream.name, role)


@command.command()
@click.argument("stream_name", metavar="STREAM")
@role_option
@pass_context_object
def rollback(context: CliContext, stream_name: str, role: str) -> None:
    """Go back to the version that was used before."""
    from hackwatch import streams

    version = registry(context).rollback(streams.get(stream_name), role)
    click.echo(used_as(role, version, "again"))


@command.command("import")
@click.argument("folder", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--spark-ml",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="A saved Spark ML PipelineModel with a tree classifier, instead of a bundle; needs --as.",
)
@click.option("--as", "stream_name", metavar="STREAM", help="What the pipeline scores: process, memory, ...")
@click.option(
    "--usual",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Records of a usual day, so that alerts can say what is usual and drift can be seen (with --spark-ml).",
)
@click.option("--promote/--no-promote", default=False, show_default=True, help="Let engines use it at once.")
@role_option
@pass_context_object
def import_(
    context: CliContext,
    folder: Path | None,
    spark_ml: Path | None,
    stream_name: str | None,
    usual: Path | None,
    promote: bool,
    role: str,
) -> None:
    """Take in the bundle in FOLDER, after its hashes, columns and scores were checked.

    With --spark-ml DIR, make a bundle of a saved Spark ML pipeline (StringIndexer, OneHotEncoder, VectorAssembler and a
    decision tree, random forest or gradient-boosted classifier over columns of the stream). It predicts as Spark does,
    row by row, and needs neither Spark nor Java.

    \b
    Examples:
      hackwatch models import /media/bundle --promote
      hackwatch models import --spark-ml models/rf --as process --usual monday.csv
    """
    from hackwatch import streams
    from hackwatch.detect.bundle import read_document

    if (folder is None) == (spark_ml is None):
        raise click.UsageError("Give FOLDER, or --spark-ml DIR.")
    if (spark_ml is None) != (stream_name is None) or (usual is not None and spark_ml is None):
        raise click.UsageError("--spark-ml goes with --as STREAM; --usual only with it.")
    if folder is not None:
        stream = streams.get(str(read_document(folder).get("stream")))
        version = registry(context).import_(folder, stream, promote=promote, role=role)
    elif spark_ml is not None and stream_name is not None:
        stream = streams.get(stream_name)
        version = registry(context).add(_of_spark(spark_ml, stream, usual), stream, promote=promote, role=role)
    click.echo(f"imported as {version}" + (f", {used_as(role)}" if promote else ""))
    if promote:
        note_unread_role(context, stream.name, role)


def _of_spark(folder: Path, stream: Stream, usual: Path | None) -> Bundle:
    from hackwatch.spark.ml.importing import import_pipeline

    records = None if usual is None else read_records((usual,), stream, labels=False)[0]
    bundle = import_pipeline(folder, stream, records)
    for note in bundle.description.parameters["notes"]:
        click.echo(f"note: {note}", err=True)
    return bundle


def _stream(version: str) -> Stream:
    """The stream that a version's name begins with."""
    from hackwatch import streams

    name = version.rsplit("-", 2)[0] if version.count("-") >= 2 else version
    return streams.get(name)
