"""What is observed: the registered streams and families, hackwatch's own and those of third parties.

A stream is registered as an entry point of group `hackwatch.streams` that names a `Stream` object, a family as one of
group `hackwatch.families` that names a `Family`. Both are checked when they are loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from hackwatch.errors import ConfigurationError
from hackwatch.streams.checks import family_problems, stream_problems
from hackwatch.streams.declarations import Aggregate, Correlation, Enricher, Family, Panel, StatefulEnricher
from hackwatch.streams.stream import Noun, Stream

__all__ = [
    "ENTITIES", "aggregates", "bounded", "check_correlations", "collectors", "correlations", "demo_family", "enrichers",
    "families", "family", "family_names", "family_of", "find", "get", "in_order", "load", "names", "noun",
    "panels", "stateful_enrichers",
]  # fmt: skip

STREAMS, FAMILIES = "hackwatch.streams", "hackwatch.families"
#: Entities of several kinds.
ENTITIES = Noun("entity", "entities")


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


def find(name: str) -> Stream | None:
    """The stream of that name, as it may come from a store or a message; None if no such stream is installed."""
    return get(name) if name in _registered(STREAMS) else None


@cache
def family(name: str) -> Family:
    """The family of that name. Raises ConfigurationError as `get` does."""
    point = _registered(FAMILIES).get(name)
    if point is None:
        known = ", ".join(family_names())
        raise ConfigurationError(
            f"there is no family {name!r}", next_step=f"use one of: {known}, or install the family"
        )
    found = _loaded(point, "family")
    if not isinstance(found, Family) or found.name != name:
        raise ConfigurationError(
            f"{point.value} is not a family named {name!r}", where=FAMILIES, next_step="correct the entry point"
        )
    problems = family_problems(found, find)
    _check(problems, f"the family {name!r} is not declared completely", point)
    return found


def family_names() -> tuple[str, ...]:
    """Names of all registered families, sorted."""
    return tuple(sorted(_registered(FAMILIES)))


@cache
def families() -> tuple[Family, ...]:
    """All registered families, by name. Raises ConfigurationError if two of them declare one correlation."""
    found = tuple(family(name) for name in family_names())
    named = Counter(correlation.name for one in found for correlation in one.correlations)
    if twice := [name for name, number in named.items() if number > 1]:
        homes = [one.name for one in found if any(correlation.name in twice for correlation in one.correlations)]
        raise ConfigurationError(
            f"the correlation {', '.join(map(repr, twice))} is declared by more than one family",
            where=f"families {', '.join(homes)}",
            next_step="give each a name of its own: it is that of its table in the lake",
        )
    return found


def in_order(chosen: Iterable[str]) -> list[str]:
    """Names of streams as people see them: as their families declare them, then those without one."""
    declared = [name for one in families() for name in one.streams]
    return sorted(chosen, key=lambda name: (declared.index(name) if name in declared else len(declared), name))


def correlations() -> tuple[Correlation, ...]:
    """The correlations of all families."""
    return tuple(correlation for one in families() for correlation in one.correlations)


def aggregates(stream: str) -> tuple[Aggregate, ...]:
    """The aggregates that families declare of a stream, beside its windows."""
    return tuple(aggregate for one in families() for aggregate in one.aggregates if aggregate.stream == stream)


def panels(stream: str) -> tuple[Panel, ...]:
    """The panels that families declare of a stream's aggregates, in the order in which they are declared."""
    return tuple(panel for one in families() for panel in one.panels if panel.stream == stream)


def check_correlations(named: Iterable[str]) -> None:
    """Raise ConfigurationError if settings name a correlation that no family declares."""
    known = [correlation.name for correlation in correlations()]
    if unknown := sorted(set(named) - set(known)):
        raise ConfigurationError(
            f"there is no correlation {', '.join(map(repr, unknown))}",
            where=", ".join(f"correlations.{name}" for name in unknown),
            next_step=f"use one of: {', '.join(known)}, or install the family that declares it",
        )


def noun(names: Iterable[str]) -> Noun:
    """What people call the entities of some streams; `entities` where these differ, or a stream is not installed."""
    nouns = {stream.noun if (stream := find(name)) else ENTITIES for name in names}
    return nouns.pop() if len(nouns) == 1 else ENTITIES


def bounded(table: str) -> tuple[str, ...]:
    """The texts that files of a lake table are searched by, if it is that of a stream or of a correlation."""
    if table in _registered(STREAMS):
        return get(table).bounded
    sides = (side for one in correlations() if one.name == table for side in (one.left, one.right))
    return tuple(dict.fromkeys(column for side in sides for column in get(side).bounded))


def enrichers(stream: str) -> tuple[Enricher, ...]:
    """The pure enrichers of a stream, in the order in which they are declared."""
    return tuple(one for one in _enrichers(stream) if isinstance(one, Enricher))


def stateful_enrichers(stream: str) -> tuple[StatefulEnricher, ...]:
    """The stateful enrichers of a stream, in the order in which they are declared."""
    return tuple(one for one in _enrichers(stream) if isinstance(one, StatefulEnricher))


def _enrichers(stream: str) -> tuple[Enricher | StatefulEnricher, ...]:
    return tuple(enricher for one in families() for enricher in one.enrichers if enricher.stream == stream)


def family_of(stream: str) -> Family | None:
    """The family that a stream belongs to; None if it stands alone."""
    return next((one for one in families() if stream in one.streams), None)


def collectors() -> dict[str, str]:
    """The collectors of all families: the name of each's command of `hackwatch feed`, and where it is.

    Raises ConfigurationError if two families give one name.
    """
    named = [(name, one.name) for one in families() for name in one.collectors]
    if twice := [name for name, number in Counter(name for name, _ in named).items() if number > 1]:
        raise ConfigurationError(
            f"the collector {', '.join(map(repr, twice))} is declared by more than one family",
            where=f"families {', '.join(home for name, home in named if name in twice)}",
            next_step="give each a name of its own: it is that of its command of hackwatch feed",
        )
    return {name: reference for one in families() for name, reference in one.collectors.items()}


def demo_family() -> Family:
    """The family that `hackwatch demo` plays: the first one that is declared so, by name."""
    found = next((one for one in families() if one.demo), None)
    if found is None:
        raise ConfigurationError("no installed family has a demo", next_step="reinstall hackwatch")
    return found


def load(reference: str) -> Any:
    """What a declaration names as "module:name". Raises ConfigurationError when it cannot be loaded."""
    return _loaded(EntryPoint(name=reference, value=reference, group=FAMILIES), "what is declared as")


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
