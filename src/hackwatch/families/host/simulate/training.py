"""Labelled records of both host streams to train and evaluate detectors with."""

from __future__ import annotations

import numpy as np
import polars as pl

from hackwatch.families.host.simulate.schedule import ByShare
from hackwatch.families.host.simulate.world import World

__all__ = ["labelled"]

_CAPTURES, _PROCESSES, _INTERVAL = 16, 40, 5.0
_APART = 86_400 / _CAPTURES


def labelled(
    seed: int,
    machines: int = 5,
    records: int = 60_000,
    attack_share: float = 0.1,
    *,
    start: float = 1_700_006_400.0,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Labelled (process, memory) frames in message shape, `records` rows each, in time order.

    Sixteen captures spread over one day from `start` (Unix seconds), each of `machines` freshly populated machines
    sampled every 5 s; about `attack_share` of the rows belong to attacks of all types. Columns: those that atop prints
    (sizes as text) + `label` Int8 (1 attack) + `type`.
    """
    schedule = ByShare(attack_share, seed)
    captures = [
        _capture(World(seed * _CAPTURES + part, machines, processes=_PROCESSES), schedule, size, start + part * _APART)
        for part, size in enumerate(_sizes(records))
        if size
    ]
    processes, memories = zip(*captures, strict=True)
    return pl.concat(processes), pl.concat(memories)


def _sizes(records: int) -> list[int]:
    edges = np.linspace(0, records, _CAPTURES + 1).astype(int)
    return [int(size) for size in np.diff(edges)]


def _capture(world: World, schedule: ByShare, records: int, start: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    frames: list[tuple[pl.DataFrame, pl.DataFrame]] = []
    now, rows = start, 0
    sample = None
    while rows < records:
        schedule.step(world, now, sample)
        sample = world.observe(now)
        frames.append(world.frames(sample))
        rows += len(sample)
        now += _INTERVAL
    return (
        pl.concat([process for process, _ in frames]).head(records),
        pl.concat([memory for _, memory in frames]).head(records),
    )
