"""What the settings make of the declarations: options, rules and correlations as both engines need them."""

from __future__ import annotations

from dataclasses import replace

from hackwatch import streams
from hackwatch.alerts.options import AlertOptions
from hackwatch.config import Settings
from hackwatch.detect.rules import RuleSet, load_rules
from hackwatch.pipeline.options import StreamOptions
from hackwatch.streams.declarations import Correlation

__all__ = ["alert_options", "correlations_of", "rules_of", "stream_options"]


def rules_of(settings: Settings) -> RuleSet:
    """The rules that the settings name, for the enabled streams. Raises ConfigurationError."""
    known = {name: streams.get(name) for name, stream in settings.streams.items() if stream.enabled}
    return load_rules(settings.detection.rules, known, shipped=settings.detection.shipped_rules)


def correlations_of(settings: Settings) -> list[Correlation]:
    """The declared correlations that are enabled, each with the time that the settings give it."""
    found = []
    for declared in streams.correlations():
        enabled, seconds = settings.correlation_of(declared.name)
        if enabled:
            found.append(declared if seconds is None else replace(declared, seconds=seconds))
    return found


def stream_options(settings: Settings, name: str) -> StreamOptions:
    """How a stream is read in event time, as the settings say."""
    stream = settings.streams[name]
    return StreamOptions(
        lateness_seconds=stream.lateness_seconds,
        idle_seconds=settings.engine.idle_seconds,
        window_seconds=stream.window_seconds,
        duplicates_key=stream.duplicates_key,
        alert_on_suspect=stream.alert_on_suspect,
        max_sources=settings.engine.max_sources,
        aggregates=streams.aggregates(name),
    )


def alert_options(settings: Settings) -> AlertOptions:
    """When alerts are raised, as the settings say."""
    alerts = settings.alerts
    return AlertOptions(
        site=settings.site,
        suppress_seconds=alerts.suppress_seconds,
        window_history=alerts.window_history,
        window_warmup=alerts.window_warmup,
        window_minimum=alerts.window_minimum,
        window_deviations=alerts.window_deviations,
    )
