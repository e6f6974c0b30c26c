"""The files that hold the clocks and keys of a stream's partitions, from one commit to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hackwatch.pipeline.arrivals import Arrival
from hackwatch.pipeline.clocks import SourceClocks
from hackwatch.spark.clockfiles import ClockFiles
from hackwatch.spark.statefiles import StateFiles, keys_name

__all__ = ["PartitionFiles"]


class PartitionFiles:
    """What the driver knows of them: which ones are valid, and which ones were.

    Before a commit: `take`, and its files are written into the `folder`; the commit keeps `snapshot`; after it `drop`.
    `keys`: by partition the epoch whose file holds its keys.
    """

    def __init__(self, folder: StateFiles) -> None:
        self.folder, self.clocks = folder, ClockFiles(folder)
        self.keys: dict[int, int] = {}
        self._named: set[str] = set()

    def names(self) -> set[str]:
        """The files that are valid now."""
        return self.clocks.names() | {keys_name(partition, epoch) for partition, epoch in self.keys.items()}

    def snapshot(self) -> dict[str, Any]:
        """What a commit keeps: it does not grow with the number of sources or keys."""
        return {"clocks": self.clocks.snapshot(), "keys": sorted(self.keys.items())}

    def restore(self, snapshot: Mapping[str, Any], clocks: SourceClocks, small: Mapping[str, Any]) -> None:
        """Take up what a commit has kept, and give clocks (made of nothing) what the files hold. All other files are
        deleted. Raises DataError (lost, damaged), ResourceError (disk)."""
        self.clocks.restore(snapshot["clocks"])
        self.keys = dict(snapshot["keys"])
        self._named = self.names()
        self.folder.keep(self._named)
        self.clocks.read(clocks, small)
        for partition, epoch in self.keys.items():
            self.folder.read(keys_name(partition, epoch))

    def begin(self, clocks: SourceClocks, keys: Mapping[int, bytes], epoch: int) -> None:
        """Write all that is known after an epoch which kept it elsewhere. Raises ResourceError (disk)."""
        self.folder.keep(())
        self.folder.write(self.take(clocks, (), keys, epoch, whole=True))
        self._named = self.names()

    def take(
        self,
        clocks: SourceClocks,
        arrivals: Sequence[Arrival],
        keys: Mapping[int, bytes | None],
        epoch: int,
        *,
        whole: bool = False,
    ) -> dict[str, bytes]:
        """Note what a batch has changed; the files to be written. `keys`: by partition, None if they are written.
        `whole`: all clocks have changed."""
        found = self.clocks.take_all(clocks, epoch) if whole else self.clocks.take(clocks, arrivals, epoch)
        self.keys |= dict.fromkeys(keys, epoch)
        return found | {keys_name(number, epoch): content for number, content in keys.items() if content is not None}

    def drop(self) -> None:
        """After a commit: delete the files that it does not name. Raises ResourceError (disk)."""
        named = self.names()
        self.folder.delete(sorted(self._named - named))
        self._named = named
