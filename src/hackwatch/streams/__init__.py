"""What is observed: the registered streams, hackwatch's own and those of third parties.

A stream is registered as an entry point of group `hackwatch.streams` that names a `Stream` object.
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.metadata import EntryPoint, entry_points

from hackwatch.errors import ConfigurationError
from hackwatch.streams.base import Stream

__all__ = ["get", "names"]

GROUP = "hackwatch.streams"


def names() -> tuple[str, ...]:
    """Names of all registered streams, sorted."""
    return tuple(sorted(_registered()))


@cache
def get(name: str) -> Stream:
    """The stream of that name.

    Raises ConfigurationError when there is none, or when what is registered under the name is no stream.
    """
    point = _registered().get(name)
    if point is None:
        raise ConfigurationError(
            f"there is no stream {name!r}", next_step=f"use one of: {', '.join(names())}, or install the stream"
        )
    try:
        stream = point.load()
    except Exception as error:  # a third party's module may fail in any way
        raise ConfigurationError(
            f"stream {name!r} cannot be loaded: {error}", where=point.value, next_step="repair or uninstall its package"
        ) from error
    if not isinstance(stream, Stream) or stream.name != name:
        raise ConfigurationError(
            f"{point.value} is not a stream named {name!r}", where=GROUP, next_step="correct the entry point"
        )
    return stream


@lru_cache(maxsize=1)
def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
