"""`hackwatch evaluate`: measure a detector on labelled records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.cli.detecting import number, own_options, read_records, registry, stream_option

if TYPE_CHECKING:
    from hackwatch.detect.evaluation import Evaluation

__all__ = ["command"]


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@stream_option
@click.option("--model", "version", help="Version to measure, or the folder of a bundle. Default: the current one.")
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write a report to this file.")
@own_options
@click.option("--json", "as_json", is_flag=True, help="Print all measures as JSON.")
@pass_context_object
def command(
    context: CliContext,
    files: tuple[Path, ...],
    stream_name: str,
    version: str | None,
    page: Path | None,
    own: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure a detector on labelled FILES that it was not trained on.

    \b
    Examples:
      hackwatch evaluate --as process Linux_process_3.csv
      hackwatch evaluate --as memory test.parquet --model memory-000002-51c0 --html report.html
    """
    from hackwatch import streams
    from hackwatch.detect.bundle import load_bundle
    from hackwatch.detect.evaluation import evaluate

    stream = streams.get(stream_name)
    folder = Path(version) if version and "/" in version else None
    bundle = load_bundle(folder) if folder else registry(context).load(stream.name, version)
    records, rejected = read_records(files, stream, own=own)
    found = evaluate(bundle, stream, records)
    if page is not None:
        from hackwatch.detect.evaluation.report import html

        _write(page, html(found))
    if as_json:
        import json

        click.echo(json.dumps({**found.as_json(), "rejected": rejected}))
        return
    _say(found)
    if page is not None:
        click.echo(f"\nreport: {page}")


def _write(page: Path, text: str) -> None:
    from hackwatch.errors import ResourceError

    try:
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResourceError(
            f"cannot be written: {error.strerror}", where=str(page), next_step="choose another --html FILE"
        ) from error


def _say(found: Evaluation) -> None:
    from hackwatch.text import printable

    click.echo(f"{found.version}: {found.method}, {found.rows:,} records, {found.attacks:,} of them attacks")
    lines = (
        ("ROC-AUC", number(found.roc_auc)),
        ("PR-AUC", number(found.pr_auc)),
        ("recall at 1 % FPR", number(found.recall_at_1_percent, ".2%")),
        ("recall at 0.1 % FPR", number(found.recall_at_01_percent, ".2%")),
        (f"at the threshold {found.threshold:.4f}:", ""),
        ("  precision", number(found.precision, ".2%")),
        ("  recall", number(found.recall, ".2%")),
        ("  F1", number(found.f1)),
        ("  false alarm rate", f"{found.false_alarm_rate:.3%} (trained for {found.alert_budget:.3%})"),
        ("  false alarms per host and day", number(found.false_alarms_per_host_day, ",.1f")),
    )
    for name, value in lines:
        click.echo(f"{name:<32}{value}")
    click.echo(f"\n{'type':<24}{'records':>10}{'suspects':>10}{'share':>9}")
    for entry in found.types:
        click.echo(f"{printable(entry.type):<24}{entry.rows:>10,}{entry.suspects:>10,}{entry.share:>9.2%}")
