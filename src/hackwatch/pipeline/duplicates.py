"""Records that were sent twice: the same key again within the watermark horizon."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["Duplicates"]

_SCHEMA = pl.Schema({"key": pl.String(), "event_time": pl.Int64()})


class Duplicates:
    """Remembers the keys of on-time records until the stream's watermark has passed their event time.

    A later copy is then late anyway, so remembering longer would change nothing. A null key is never a duplicate.
    """

    def __init__(self) -> None:
        self._seen = pl.DataFrame(schema=_SCHEMA)

    def __len__(self) -> int:
        return len(self._seen)

    def step(
        self, keys: pl.Series, event_time: npt.NDArray[np.int64], late: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """True where an on-time record repeats a key; first come, first kept."""
        frame = pl.DataFrame({"key": keys, "event_time": event_time, "late": late}).with_row_index("row")
        fresh = (
            frame.filter(~pl.col("late") & pl.col("key").is_not_null())
            .unique("key", keep="first", maintain_order=True)
            .join(self._seen.select("key"), on="key", how="anti", maintain_order="left")
        )
        duplicate: npt.NDArray[np.bool_] = ~late & keys.is_not_null().to_numpy()
        duplicate[fresh["row"].to_numpy()] = False
        self._seen = pl.concat([self._seen, fresh.select("key", "event_time")])
        return duplicate

    def evict(self, watermark: int) -> None:
        self._seen = self._seen.filter(pl.col("event_time") >= watermark)

    def snapshot(self) -> pl.DataFrame:
        """What is remembered, as a frame of its own that another thread may write (see Correlator.snapshot)."""
        return self._seen.clone()

    def restore(self, snapshot: bytes) -> None:
        self._seen = pl.read_ipc_stream(io.BytesIO(snapshot))
