"""`hackwatch train`: a detector from labelled or unlabelled records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.cli.detecting import (
    enricher_of,
    note_unread_role,
    number,
    own_options,
    progress,
    read_records,
    registry,
    role_option,
    stream_option,
    used_as,
)
from hackwatch.numbers import COUNT, POSITIVE, SEED, Whole

if TYPE_CHECKING:
    import polars as pl

    from hackwatch.detect.bundle import Bundle
    from hackwatch.detect.training import Options
    from hackwatch.streams.stream import Stream

__all__ = ["command"]

_FILE = click.Path(path_type=Path, exists=True)
#: Most records that are trained on in this process, unless told otherwise.
_RECORDS = 200_000


@click.command()
@click.argument("files", nargs=-1, type=_FILE)
@stream_option
@click.option("--simulated", is_flag=True, help="Train on simulated labelled records instead of FILES.")
@click.option("--lake", is_flag=True, help="Train on the records of the lake instead of FILES.")
@click.option(
    "--records",
    type=COUNT,
    help="Most records from the simulation or the lake; default 200,000, with --engine spark all.",
)
@click.option(
    "--method",
    type=click.Choice(["supervised", "unsupervised", "permuted"]),
    help="Default: supervised if there are labels, else unsupervised (with --engine spark: permuted).",
)
@click.option(
    "--alert-budget",
    type=POSITIVE,
    default=0.001,
    show_default=True,
    help="Share of normal records that may become suspects.",
)
@click.option(
    "--seed", type=SEED, default=1, show_default=True, help="The same records, options and seed give the same model."
)
@click.option("--trees", type=COUNT, default=60, show_default=True, help="Trees of the boosted model or the forest.")
@click.option("--depth", type=COUNT, default=6, show_default=True, help="Greatest depth of a tree.")
@click.option(
    "--tune",
    type=Whole(min=0),
    default=0,
    metavar="N",
    help="First search for better options with N trials (extra: tune).",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "spark"]),
    default="local",
    show_default=True,
    help="What trains: this process, or Spark on records of any number (extra: spark).",
)
@click.option("--master", metavar="URL", help="With --engine spark: where Spark runs, instead of [spark] master.")
@click.option("--workers", type=COUNT, help="With --engine spark: tasks that train one model; default all cores.")
@own_options
@click.option("--promote/--no-promote", default=True, show_default=True, help="Let engines use it at once.")
@role_option
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the bundle there, not to the registry.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@pass_context_object
def command(
    context: CliContext, files: tuple[Path, ...], stream_name: str, simulated: bool, lake: bool, records: int | None,
    method: str | None, alert_budget: float, seed: int, trees: int, depth: int, tune: int, engine: str,
    master: str | None, workers: int | None, own: tuple[str, ...], promote: bool, role: str, out: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Train a detector on FILES (CSV, NDJSON or normalised Parquet), the lake or a simulation, and keep it.

    Labels are the columns label (or attack) and type. The threshold comes from scores of normal records that the model
    did not see, so that at most the alert budget of them become suspects.

    With --engine spark, FILES are normalised Parquet (files or folders), and the methods are supervised (XGBoost) and
    permuted (Spark ML's random forest). The bundle is of the same kind.

    \b
    Examples:
      hackwatch train --as process Linux_process_1.csv Linux_process_2.csv
      hackwatch train --as memory --simulated
      hackwatch train --as process --lake --method unsupervised
      hackwatch train --as process labelled.parquet --tune 50 --no-promote
      hackwatch train --as process --engine spark --master spark://host:7077 /data/labelled
    """
    from hackwatch import streams, views
    from hackwatch.detect.training import Options

    if bool(files) + simulated + lake != 1:
        raise click.UsageError("Give FILES, or --simulated, or --lake.")
    stream = streams.get(stream_name)
    options = Options(alert_budget=alert_budget, seed=seed, trees=trees, depth=depth)
    if engine == "spark":
        if simulated or tune or own:
            raise click.UsageError("--simulated, --tune and --option (--letterless-kib) need --engine local.")
        bundle = _on_spark(context, files, stream, method, options, records, master, workers or 0)
        rows, rejected = bundle.description.rows, 0
    else:
        if master is not None or workers is not None:
            raise click.UsageError("--master and --workers need --engine spark.")
        if simulated:
            data, rejected = _simulated(stream, seed, records or _RECORDS), 0
        elif lake:
            data, rejected = views.open(context.settings()).latest(stream, records or _RECORDS), 0
        else:
            data, rejected = read_records(_only_files(files), stream, own=own)
        bundle, rows = _here(context, data, stream, method, options, tune), data.height
    version = _kept(context, bundle, stream, out, role if promote else None)
    promoted = promote and out is None
    _say(bundle, version, rows, rejected, role if promoted else None, as_json)
    if promoted:
        note_unread_role(context, stream.name, role)


def _only_files(files: tuple[Path, ...]) -> tuple[Path, ...]:
    folders = [str(file) for file in files if file.is_dir()]
    if folders:
        raise click.UsageError(f"Folders need --engine spark: {', '.join(folders)}")
    return files


def _on_spark(
    context: CliContext,
    files: tuple[Path, ...],
    stream: Stream,
    method: str | None,
    options: Options,
    records: int | None,
    master: str | None,
    workers: int,
) -> Bundle:
    from hackwatch.spark.ml.train import train_from

    settings = context.settings(**({} if master is None else {"spark__master": master}))
    with progress() as report:
        return train_from(settings, files, stream, method, options, most=records, workers=workers, progress=report)


def _here(
    context: CliContext, data: pl.DataFrame, stream: Stream, method: str | None, options: Options, trials: int
) -> Bundle:
    """Train in this process, after `trials` trials of other options."""
    from hackwatch.detect.training import train

    method = method or ("supervised" if _has_labels(data) else "unsupervised")
    if trials:
        options = _tuned(context, data, stream, options, trials)
    with progress() as report:
        return train(data, stream, method, options, report)


def _kept(context: CliContext, bundle: Bundle, stream: Stream, out: Path | None, role: str | None) -> str:
    """The version under which the registry, or the folder `out`, holds it now. `role`: the one to promote it in."""
    if out is None:
        return registry(context).add(bundle, stream, promote=role is not None, role=role or "champion")
    from hackwatch.detect.bundle import save_bundle

    save_bundle(bundle, out)
    return bundle.version


def _simulated(stream: Stream, seed: int, records: int) -> pl.DataFrame:
    from hackwatch import streams
    from hackwatch.errors import ConfigurationError
    from hackwatch.feeds.simulator import labelled_records, simulator_of

    family = streams.family_of(stream.name)
    if family is None or family.simulator is None:
        raise ConfigurationError(
            f"there is no simulation of {stream.name!r}", next_step="give files of labelled records"
        )
    what = f"simulating {stream.noun.plural}"
    with progress() as report:
        report(what, 0, 1)
        payload = simulator_of(family).labelled(seed, records)[stream.name]
        report(what, 1, 1)
    return enricher_of(stream)(labelled_records(stream, payload))


def _has_labels(data: pl.DataFrame) -> bool:
    return "label" in data.columns and data["label"].n_unique() - (data["label"].null_count() > 0) > 1


def _tuned(context: CliContext, data: pl.DataFrame, stream: Stream, options: Options, trials: int) -> Options:
    from hackwatch.detect.training.tune import tune

    folder = registry(context).folder
    folder.mkdir(mode=0o700, exist_ok=True)
    with progress() as report:
        found = tune(
            data,
            stream,
            options,
            trials,
            folder / f"tuning-{stream.name}.sqlite",
            lambda done, best: report(f"tuning, best {best:.4f}", done, trials),
        )
    click.echo(f"best of {found.trials} trials: {found.quality:.4f} mean ROC-AUC on types left out", err=True)
    return found.options


def _say(bundle: Bundle, version: str, rows: int, rejected: int, role: str | None, as_json: bool) -> None:
    """`role`: the one that it was promoted in, None if it was not."""
    about = bundle.description
    if as_json:
        import json

        summary: dict[str, Any] = {
            "version": version,
            "promoted": role is not None,
            "role": role,
            "method": about.method,
            "records": rows,
            "rejected": rejected,
            "threshold": about.threshold,
            "alert_budget": about.alert_budget,
            "metrics": about.metrics,
            "importance": bundle.importance(),
        }
        click.echo(json.dumps(summary))
        return
    click.echo(f"{version}: {about.method}, {rows:,} records" + (f", {rejected:,} rejected" if rejected else ""))
    click.echo(f"threshold {about.threshold:.4f} for an alert budget of {about.alert_budget:.4%} of normal records")
    measured = about.metrics.get("out_of_fold", about.metrics)
    for name, value in measured.items():
        if isinstance(value, float):
            click.echo(f"  {name.replace('_', ' '):<24}{number(value)}")
    left_out = about.metrics.get("types_left_out", {})
    if left_out:
        click.echo(f"\n{'attack type never seen':<24}{'rows':>8}{'ROC-AUC':>10}{'detected':>10}")
        for name, value in left_out.items():
            detected = number(value["recall_at_threshold"], ".1%")
            click.echo(f"{_safe(name):<24}{value['rows']:>8,.0f}{number(value['roc_auc']):>10}{detected:>10}")
    click.echo("\nnot promoted: hackwatch models promote VERSION" if role is None else f"\n{used_as(role)}")


def _safe(text: str) -> str:
    from hackwatch.text import printable

    return printable(text)
