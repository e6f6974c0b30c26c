"""What fills the columns that messages do not hold, as it is now, and as logged micro-batches used it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl

from hackwatch import streams
from hackwatch.alerts.system import Notice, Tell
from hackwatch.errors import DataError, HackwatchError
from hackwatch.pipeline.enrichment import Enrichment, StatefulEnrichment
from hackwatch.runtime.lookups import LookupTable, LookupTables, read_table
from hackwatch.streams.stream import Stream

__all__ = ["TABLE", "Enrichments", "offline"]

_LOG = logging.getLogger(__name__)
#: What the version of a table is logged under.
TABLE = "table:"


class Enrichments:
    """The enrichment of each stream with the tables of the settings.

    `stateful`: the stateful enrichers, where they are run. What fails is said to `tell`, once.
    """

    def __init__(
        self, names: Sequence[str], paths: Mapping[str, Path], folder: Path, tell: Tell,
        stateful: StatefulEnrichment | None = None,
    ) -> None:  # fmt: skip
        self._streams = [streams.get(name) for name in names]
        self._enrichers = {name: streams.enrichers(name) for name in names}
        needed = {table for enrichers in self._enrichers.values() for one in enrichers for table in one.tables}
        for table in sorted(needed - set(paths)):
            _LOG.warning("columns stay empty: no file for a table", extra={"setting": f"enrichment.tables.{table}"})
        if stateful is None and any(streams.stateful_enrichers(name) for name in names):
            _LOG.warning("columns stay empty: stateful enrichers run on the embedded engine only")
        self._tell, self._stateful, self._told = tell, stateful, set[str]()
        self.tables = LookupTables({name: paths[name] for name in sorted(needed & set(paths))}, folder, self._refused)
        self._current = self._with({})

    @property
    def current(self) -> Mapping[str, Enrichment]:
        """By stream."""
        return self._current

    def versions(self) -> dict[str, str]:
        """The version of each table, by its name in the log."""
        return {f"{TABLE}{name}": table.version for name, table in self.tables.current().items()}

    def refresh(self) -> None:
        """Look at the files, and say what failed since."""
        self._check()
        if self.tables.refresh():
            self._current = self._with(self.tables.current())

    def exactly(self, versions: Mapping[str, str]) -> Mapping[str, Enrichment]:
        """The enrichments of a logged micro-batch."""
        if _of_tables(versions) == _of_tables(self.versions()):
            return self._current
        return self._with(self.tables.exactly(_of_tables(versions)))

    def used(self, versions: Mapping[str, str], epoch: int) -> None:
        """See `LookupTables.used`."""
        self.tables.used(_of_tables(versions), epoch)

    def _with(self, tables: Mapping[str, LookupTable]) -> dict[str, Enrichment]:
        frames = {name: table.frame for name, table in tables.items()}
        return {
            stream.name: Enrichment(
                stream,
                self._enrichers[stream.name],
                frames,
                () if self._stateful is None else streams.stateful_enrichers(stream.name),
            )
            for stream in self._streams
        }

    def _check(self) -> None:
        found = [enrichment.problems for enrichment in self._current.values()]
        for problems in [*found, *([] if self._stateful is None else [self._stateful.problems])]:
            for name, problem in problems.items():
                if name not in self._told:
                    self._told.add(name)
                    title = f"The enricher {name} fails: its columns stay empty"
                    self._tell(Notice("enricher-failed", name, title, problem))

    def _refused(self, name: str, error: HackwatchError | OSError) -> None:
        old = self.tables.current().get(name)
        going_on = f"going on with version {old.version}" if old else "columns that need it stay empty"
        title = f"The table {name} cannot be used, {going_on}"
        self._tell(Notice("table-refused", f"{name} {old.version}" if old else name, title, str(error)))


def offline(stream: Stream, paths: Mapping[str, Path]) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """What fills the columns of decoded records that come from a file, part by part, in order.

    `paths`: the files of tables. Raises ResourceError and DataError if one that is needed cannot be used. An
    enricher that fails is a DataError too: nobody would look for its alert.
    """
    enrichers = streams.enrichers(stream.name)
    needed = {table for one in enrichers for table in one.tables} & set(paths)
    enrichment = Enrichment(stream, enrichers, {name: read_table(paths[name]).frame for name in sorted(needed)})
    stateful = StatefulEnrichment({stream.name: streams.stateful_enrichers(stream.name)})

    def enrich(records: pl.DataFrame) -> pl.DataFrame:
        found = stateful.enrich(stream.name, enrichment(records))
        for name, problem in {**enrichment.problems, **stateful.problems}.items():
            raise DataError(
                f"the enricher {name} fails: {problem}", where=f"stream {stream.name}", next_step="repair its package"
            )
        return found

    return enrich


def _of_tables(versions: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(TABLE): version for name, version in versions.items() if name.startswith(TABLE)}
