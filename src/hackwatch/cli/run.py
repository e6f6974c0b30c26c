"""`hackwatch run`: the engine, in the foreground, until it is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.numbers import POSITIVE

if TYPE_CHECKING:
    from hackwatch.config import Settings

__all__ = ["command"]


@click.command(
    "run",
    epilog="""\b
Examples:
  hackwatch run                          read the default topics until Ctrl-C
  hackwatch run --metrics-port 9464      with a Prometheus endpoint on loopback
  hackwatch --data /var/lib/hackwatch run --duration 3600
  hackwatch --log-format json run        for a log collector

\b
The same pipeline on Spark (needs the extra `spark` and Java 17):
  hackwatch run --engine spark
  hackwatch run --engine spark --master spark://host:7077 --spark-conf spark.executor.memory=4g
""",
)
@click.option("--duration", type=POSITIVE, help="Stop after so many seconds.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Serve Prometheus metrics on this port.")
@click.option(
    "--engine",
    type=click.Choice(["embedded", "spark"]),
    default="embedded",
    show_default=True,
    help="What runs the pipeline: this process, or Spark Structured Streaming.",
)
@click.option("--master", metavar="URL", help="With --engine spark: where Spark runs, instead of [spark] master.")
@click.option(
    "--spark-conf", metavar="KEY=VALUE", multiple=True, help="With --engine spark: any configuration of Spark."
)
@click.option("--available-now", is_flag=True, help="With --engine spark: end when all is read that is there.")
@pass_context_object
def command(
    context: CliContext, duration: float | None, metrics_port: int | None, engine: str, master: str | None,
    spark_conf: tuple[str, ...], available_now: bool,
) -> None:  # fmt: skip
    """Run the engine: topics in, lake and alerts out.

    Reads the topics of all enabled streams, scores every record, and writes alerts at once and everything else epoch
    by epoch. Ctrl-C or SIGTERM commits the last epoch and ends it; a kill at any moment loses and doubles nothing.
    """
    from hackwatch.cli.feeding import stopped_by_signals

    given = {} if metrics_port is None else {"metrics__port": metrics_port}
    if engine == "embedded":
        _only_with_spark(master, spark_conf, available_now)
        from hackwatch.engine.service import run_service

        settings = context.settings(**given)
        with stopped_by_signals(duration) as stop:
            run_service(settings, stop)
        return
    from hackwatch.spark.service import run_spark

    settings = context.settings(**given, **({} if master is None else {"spark__master": master}))
    with stopped_by_signals(duration) as stop:
        run_spark(_configured(settings, spark_conf), stop, available_now=available_now)


def _only_with_spark(master: str | None, spark_conf: tuple[str, ...], available_now: bool) -> None:
    if master is not None or spark_conf or available_now:
        raise click.UsageError("--master, --spark-conf and --available-now need --engine spark")


def _configured(settings: Settings, given: tuple[str, ...]) -> Settings:
    """The settings with configurations of Spark from the command line, which win."""
    conf = dict(settings.spark.conf)
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{one!r} is not KEY=VALUE", param_hint="--spark-conf")
        conf[name] = value
    return settings.model_copy(update={"spark": settings.spark.model_copy(update={"conf": conf})})
