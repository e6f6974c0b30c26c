"""Decode options as settings and commands name them, checked against what the stream declares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from hackwatch.errors import ConfigurationError
from hackwatch.streams.stream import DecodeOptions, Stream

if TYPE_CHECKING:
    from hackwatch.config.settings import StreamSettings

__all__ = ["of_settings", "with_own"]


def of_settings(stream: Stream, settings: StreamSettings) -> DecodeOptions:
    """How the settings say that a stream's messages are read.

    Raises ConfigurationError for a format or an option that the stream does not declare.
    """
    formats = {one.name for one in stream.formats if one.columns is not None}
    if unknown := [name for name in settings.formats if name not in formats]:
        known = f"use some of: {', '.join(sorted(formats))}" if formats else "it has none; take the setting out"
        raise ConfigurationError(
            f"{stream.name} has no line format {', '.join(map(repr, unknown))}",
            where=f"streams.{stream.name}.formats",
            next_step=known,
        )
    plain = DecodeOptions(
        key=settings.duplicates_key, max_message_bytes=settings.max_message_bytes, formats=settings.formats
    )
    named = (*settings.options, *(("letterless_kib",) if settings.letterless_kib else ()))
    return with_own(stream, plain, named, where=f"streams.{stream.name}.options")


def with_own(stream: Stream, options: DecodeOptions, names: Iterable[str], where: str | None = None) -> DecodeOptions:
    """These options with some of the stream's own switched on. Raises ConfigurationError for one that it lacks."""
    known = {option.name for option in stream.options}
    if unknown := sorted(set(names) - known):
        raise ConfigurationError(
            f"{stream.name} has no option {', '.join(map(repr, unknown))}",
            where=where,
            next_step=f"use some of: {', '.join(sorted(known))}" if known else "it has none; leave it out",
        )
    return replace(options, own=options.own | frozenset(names))
