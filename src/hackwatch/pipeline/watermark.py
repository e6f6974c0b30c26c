"""Event-time progress: which records are late, and how far a stream has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NEVER", "Watermarks"]

#: The watermark before the first record (microseconds).
NEVER = -(2**62)


@dataclass(slots=True)
class _Partition:
    newest: int = NEVER
    floor: int = NEVER
    active_at: float = 0.0
    idle: bool = False

    def watermark(self, lateness: int) -> int:
        return max(self.floor, self.newest - lateness) if self.newest > NEVER else self.floor


class Watermarks:
    """The watermarks of one stream, in microseconds of event time.

    Per partition: the greatest event time seen before a record, in offset order, minus `lateness`. So what is late
    does not depend on how the messages were cut into batches. The stream's watermark is the minimum over its
    partitions that are not idle, and never goes back. A partition without records for `idle_seconds` of engine
    time is idle; when it wakes (or is new), its records are judged against the stream's watermark as well.
    """

    def __init__(self, lateness_seconds: float, idle_seconds: float) -> None:
        self.lateness = round(lateness_seconds * 1e6)
        self.idle_seconds = idle_seconds
        self.watermark = NEVER
        self._partitions: dict[int, _Partition] = {}

    def know(self, partition: int, elapsed: float) -> None:
        """A partition exists: until it is idle it holds the stream back, with or without records."""
        if partition not in self._partitions:
            self._partitions[partition] = _Partition(floor=self.watermark, active_at=elapsed)

    def observe(self, partition: int, event_time: npt.NDArray[np.int64], elapsed: float) -> npt.NDArray[np.bool_]:
        """Take records of a partition in offset order; True where a record is late."""
        self.know(partition, elapsed)
        state = self._partitions[partition]
        if not len(event_time):
            return np.zeros(0, dtype=np.bool_)
        if state.idle:
            state.idle, state.floor = False, max(state.floor, self.watermark)
        state.active_at = elapsed
        seen = np.maximum.accumulate(np.concatenate(([state.newest], event_time)))
        late: npt.NDArray[np.bool_] = event_time < np.maximum(seen[:-1] - self.lateness, state.floor)
        state.newest = int(seen[-1])
        return late

    def advance(self, elapsed: float) -> int:
        """Mark idle partitions and move the stream's watermark; returns it."""
        for state in self._partitions.values():
            state.idle = state.idle or elapsed - state.active_at >= self.idle_seconds
        active = [state.watermark(self.lateness) for state in self._partitions.values() if not state.idle]
        if active:
            self.watermark = max(self.watermark, min(active))
        return self.watermark

    @property
    def idle(self) -> bool:
        """Whether every partition is idle, so that nothing of this stream says how late it is."""
        return bool(self._partitions) and all(state.idle for state in self._partitions.values())

    def follow(self, watermark: int) -> None:
        """An idle stream goes along with another one, so that neither windows nor correlation wait for it."""
        self.watermark = max(self.watermark, watermark)

    def idle_due(self, elapsed: float) -> bool:
        """Whether time alone would change something now."""
        return any(
            not state.idle and elapsed - state.active_at >= self.idle_seconds for state in self._partitions.values()
        )

    def newest(self, partition: int) -> int:
        """The greatest event time of a partition (NEVER before its first record)."""
        state = self._partitions.get(partition)
        return state.newest if state else NEVER

    def snapshot(self) -> dict[str, Any]:
        return {
            "watermark": self.watermark,
            "partitions": [
                [number, state.newest, state.floor, state.active_at, state.idle]
                for number, state in sorted(self._partitions.items())
            ],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        self.watermark = snapshot["watermark"]
        self._partitions = {
            number: _Partition(newest, floor, active_at, idle)
            for number, newest, floor, active_at, idle in snapshot["partitions"]
        }
