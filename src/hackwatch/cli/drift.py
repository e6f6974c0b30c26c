"""`hackwatch drift`: have the records moved away from what the models were trained on?"""

from __future__ import annotations

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.cli.detecting import registry
from hackwatch.numbers import COUNT

__all__ = ["command"]


@click.command()
@click.argument("stream_names", nargs=-1, metavar="[STREAM]...")
@click.option(
    "--records", type=COUNT, default=100_000, show_default=True, help="Compare this many of the latest records."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a stream and line.")
@pass_context_object
def command(context: CliContext, stream_names: tuple[str, ...], records: int, as_json: bool) -> None:
    """Compare the lake's latest records with the training statistics of the current models.

    PSI below 0.1: nothing moved. From 0.25: the model's training no longer describes the data; train or learn again.

    \b
    Examples:
      hackwatch drift
      hackwatch drift process --records 20000 --json
    """
    import json

    from hackwatch import streams, views
    from hackwatch.detect.drift import Drift

    data = views.open(context.settings())
    models = registry(context)
    for name in stream_names or tuple(models.streams()):
        stream = streams.get(name)
        bundle = models.load(name)
        drift = Drift(bundle)
        for frame in data.latest(stream, records).iter_slices(2_000):
            drift.update(frame, bundle.score(frame))
        found = drift.report()
        if as_json:
            click.echo(json.dumps({"stream": name, **found.as_json()}))
            continue
        click.echo(f"{name}: {found.state}, {found.rows:,} records against {found.version}")
        click.echo(f"  suspects by the model {found.alarm_rate:.3%}, trained for {found.alert_budget:.3%}")
        click.echo(f"  {'score':<16}PSI {found.score_psi:.3f}")
        for column, value in found.columns.items():
            click.echo(f"  {column:<16}PSI {value:.3f}")
        for finding in found.findings:
            click.echo(f"  ! {finding}")
