"""Frames on their way between driver, tasks and files."""

from __future__ import annotations

import io

import polars as pl

__all__ = ["from_ipc", "to_ipc"]


def to_ipc(frame: pl.DataFrame) -> bytes:
    """A frame as an Arrow stream."""
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compression="zstd")
    return buffer.getvalue()


def from_ipc(content: bytes) -> pl.DataFrame:
    """What `to_ipc` was given."""
    return pl.read_ipc_stream(io.BytesIO(content))
