"""What is observed: the registered streams and families, hackwatch's own and those of third parties.

A stream is registered as an entry point of group `hackwatch.streams` that names a `Stream` object, a family as one of
group `hackwatch.families` that names a `Family`. Both are checked when they are loaded.
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from hackwatch.errors import ConfigurationError
from hackwatch.streams.base import Stream
from hackwatch.streams.checks import family_problems, stream_problems
from hackwatch.streams.declarations import Aggregate, Correlation, Enricher, Family, StatefulEnricher, windows_of

__all__ = ["aggregates", "correlations", "enrichers", "families", "family", "get", "names", "stateful_enrichers"]

STREAMS, FAMILIES = "hackwatch.streams", "hackwatch.families"


def names() -> tuple[str, ...]:
    """Names of all registered streams, sorted."""
    return tuple(sorted(_registered(STREAMS)))


@cache
def get(name: str) -> Stream:
    """The stream of that name.

    Raises ConfigurationError when there is none, or when what is registered under the name is no complete stream.
    """
    point = _registered(STREAMS).get(name)
    if point is None:
        raise ConfigurationError(
            f"there is no stream {name!r}", next_step=f"use one of: {', '.join(names())}, or install the stream"
        )
    stream = _loaded(point, "stream")
    if not isinstance(stream, Stream) or stream.name != name:
        raise ConfigurationError(
            f"{point.value} is not a stream named {name!r}", where=STREAMS, next_step="correct the entry point"
        )
    _check(stream_problems(stream), f"the stream {name!r} is not declared completely", point)
    return stream


@cache
def family(name: str) -> Family:
    """The family of that name. Raises ConfigurationError as `get` does."""
    point = _registered(FAMILIES).get(name)
    if point is None:
        known = ", ".join(sorted(_registered(FAMILIES)))
        raise ConfigurationError(
            f"there is no family {name!r}", next_step=f"use one of: {known}, or install the family"
        )
    found = _loaded(point, "family")
    if not isinstance(found, Family) or found.name != name:
        raise ConfigurationError(
            f"{point.value} is not a family named {name!r}", where=FAMILIES, next_step="correct the entry point"
        )
    registered = names()
    problems = family_problems(found, lambda stream: get(stream) if stream in registered else None)
    _check(problems, f"the family {name!r} is not declared completely", point)
    return found


@cache
def families() -> tuple[Family, ...]:
    """All registered families, by name."""
    return tuple(family(name) for name in sorted(_registered(FAMILIES)))


def correlations() -> tuple[Correlation, ...]:
    """The correlations of all families."""
    return tuple(correlation for one in families() for correlation in one.correlations)


def aggregates(stream: str, window_seconds: int) -> tuple[Aggregate, ...]:
    """The aggregates of a stream: its windows first, of that length, then those that families declare."""
    declared = (aggregate for one in families() for aggregate in one.aggregates if aggregate.stream == stream)
    return (windows_of(get(stream), window_seconds), *declared)


def enrichers(stream: str) -> tuple[Enricher, ...]:
    """The pure enrichers of a stream, in the order in which they are declared."""
    return tuple(one for one in _enrichers(stream) if isinstance(one, Enricher))


def stateful_enrichers(stream: str) -> tuple[StatefulEnricher, ...]:
    """The stateful enrichers of a stream, in the order in which they are declared."""
    return tuple(one for one in _enrichers(stream) if isinstance(one, StatefulEnricher))


def _enrichers(stream: str) -> tuple[Enricher | StatefulEnricher, ...]:
    return tuple(enricher for one in families() for enricher in one.enrichers if enricher.stream == stream)


def _loaded(point: EntryPoint, kind: str) -> Any:
    try:
        return point.load()
    except ConfigurationError:
        raise
    except Exception as error:  # a third party's module may fail in any way
        raise ConfigurationError(
            f"{kind} {point.name!r} cannot be loaded: {error}",
            where=point.value,
            next_step="repair or uninstall its package",
        ) from error


def _check(problems: list[str], what: str, point: EntryPoint) -> None:
    if problems:
        raise ConfigurationError(what, where=point.value, next_step="mend its declaration:", problems=tuple(problems))


@lru_cache(maxsize=2)
def _registered(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}
