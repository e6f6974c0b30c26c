"""The Delta transaction log of one table, written so that a commit is durable before it is visible.

delta-rs reads and checkpoints the log; commits are written here, for two reasons. It links a commit into place
without fsync, so a power failure may leave an empty last entry, which makes the table unreadable. And its commits
list and re-read the log: 2 ms for a new table, 20 ms at version 2,500, growing on; here it is half a millisecond
at any version (in a bucket: the time of four requests). Source: Delta transaction log protocol, reader
version 1, writer version 2.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from hackwatch.errors import DataError, HackwatchError, ResourceError
from hackwatch.lake.schema import PARTITIONS, DeltaSchema, delta_schema
from hackwatch.lake.statistics import bounded
from hackwatch.lake.storage import LOG, Storage, storage_at, unreadable

__all__ = ["Action", "TableLog"]

_LOGGER = logging.getLogger(__name__)

Action = dict[str, Any]

_WRITER_VERSION = 2
_CHECKPOINT_EVERY = 100
_CHECKPOINT_RETRY = 10
_ATTEMPTS = 1000
_STATISTICS = "delta.dataSkippingStatsColumns"


class TableLog:
    """One writer's view of a table's log. Not thread-safe; several may write the same table at once.

    `version` is the last one seen, -1 if there is no table. `texts`: text columns of a new table to keep bounds of.
    """

    def __init__(self, storage: Storage | Path, retention_hours: float = 168, texts: Collection[str] = ()) -> None:
        self.storage = storage_at(storage)
        self._retention_hours, self._texts = retention_hours, texts
        self.version = -1
        self._metadata: Action = {}
        self._handle: DeltaTable | None = None
        self._epochs: dict[str, int] = {}
        #: How often all was read again: what was committed before that was not seen one by one.
        self.loads = 0

    @property
    def schema(self) -> DeltaSchema | None:
        """The table's schema; None if there is no table."""
        schema: DeltaSchema | None = orjson.loads(self._metadata["schemaString"]) if self._metadata else None
        return schema

    def last_epoch(self, pipeline: str) -> int | None:
        """The last application transaction of this pipeline, as far as the log was read."""
        if pipeline not in self._epochs and self._handle is not None:
            version = self._handle.transaction_version(pipeline)
            if version is not None:
                self._epochs[pipeline] = version
        return self._epochs.get(pipeline)

    def refresh(self) -> list[Action]:
        """Read what was committed since the last look; the actions, or nothing when all was read again."""
        # A writer that slept while others cleaned the log up would find a gap where the next entry belongs.
        if self.version < 0 or self._last_checkpoint() > self.version:
            self._load()
        seen: list[Action] = []
        while (actions := self._read(self.version + 1)) is not None:
            self._apply(actions)
            self.version += 1
            seen += actions
        return seen

    def commit(
        self, operation: str, build: Callable[[list[Action]], list[Action] | None], *, mode: str = "Append"
    ) -> bool:
        """Commit the actions that `build` gives; False if it gives None.

        `build` gets what others committed since the last look, and is asked again when another writer was faster.
        """
        for _ in range(_ATTEMPTS):
            actions = build(self.refresh())
            if actions is None:
                return False
            information = _commit_information(operation, mode)
            payload = b"".join(_line(action) for action in [information, *actions])
            if self.storage.create(_entry(self.version + 1), payload):
                self._apply(actions)
                self.version += 1
                self._checkpoint_if_due()
                return True
        raise ResourceError(
            f"other writers were faster {_ATTEMPTS} times",
            where=self.storage.where,
            next_step="let fewer processes write this table",
        )

    def abandon(self, actions: Sequence[Action], *, refused: bool) -> None:
        """Delete the files of a commit that did not happen; `refused`: it was not even tried a last time.

        One that failed on its way may have happened after all. Those files are left to vacuum.
        """
        if refused or (self.storage.settled and not self.storage.exists(_entry(self.version + 1))):
            with suppress(OSError, HackwatchError):
                self.storage.delete(unquote(action["add"]["path"]) for action in actions if "add" in action)

    def bounded(self, schema: Mapping[str, pl.DataType]) -> list[str]:
        """The columns that have statistics: those of the table; if there is none yet, those a new one would have."""
        if not self._metadata:
            return bounded(schema, self._texts)
        names = self._metadata["configuration"].get(_STATISTICS)
        return names.split(",") if names else []

    def creation(self, schema: Mapping[str, pl.DataType]) -> list[Action]:
        """The actions that make the table."""
        hours = max(1, round(self._retention_hours))
        configuration = {
            "delta.checkpointInterval": str(_CHECKPOINT_EVERY),
            "delta.deletedFileRetentionDuration": f"interval {hours} hours",
            "delta.logRetentionDuration": "interval 24 hours",
        }
        if names := bounded(schema, self._texts):
            configuration[_STATISTICS] = ",".join(names)
        metadata = {
            "id": str(uuid.uuid4()),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": orjson.dumps(delta_schema(schema)).decode(),
            "partitionColumns": list(PARTITIONS),
            "configuration": configuration,
            "createdTime": _now(),
        }
        protocol = {"minReaderVersion": 1, "minWriterVersion": _WRITER_VERSION}
        return [{"protocol": protocol}, {"metaData": metadata}]

    def evolution(self, schema: DeltaSchema) -> list[Action]:
        """The actions that give the table a new schema."""
        return [{"metaData": {**self._metadata, "schemaString": orjson.dumps(schema).decode()}}]

    def checkpoint(self) -> None:
        """Write a checkpoint and drop log entries older than a day."""
        self._handle = table = self.table()
        try:
            table.create_checkpoint()
            self.storage.settle_checkpoint(table.version())
            table.cleanup_metadata()
        except DeltaError as error:
            raise unreadable(self.storage.where, error) from error

    def table(self) -> DeltaTable:
        """The table as delta-rs sees it now. DataError if there is none or it cannot be read."""
        return self.storage.table()

    def _load(self) -> None:
        if not self.storage.has_log():
            return
        self._handle = table = self.table()
        metadata = table.metadata()
        if tuple(metadata.partition_columns) != PARTITIONS:
            raise DataError("the table is not partitioned by date and site", where=self.storage.where)
        self._check_protocol(table.protocol().min_writer_version)
        self.version, self._epochs, self.loads = table.version(), {}, self.loads + 1
        self._metadata = {
            "id": str(metadata.id),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": table.schema().to_json(),
            "partitionColumns": list(metadata.partition_columns),
            "configuration": dict(metadata.configuration),
            "createdTime": metadata.created_time,
        }

    def _apply(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if "txn" in action:
                self._epochs[action["txn"]["appId"]] = action["txn"]["version"]
            elif "metaData" in action:
                self._metadata = action["metaData"]
            elif "protocol" in action:
                self._check_protocol(action["protocol"]["minWriterVersion"])

    def _check_protocol(self, version: int) -> None:
        if version > _WRITER_VERSION:
            raise ResourceError(
                f"another program raised the table to writer version {version}, hackwatch writes {_WRITER_VERSION}",
                where=self.storage.where,
                next_step="move the table away to begin a new one",
            )

    def _read(self, version: int) -> list[Action] | None:
        payload = self.storage.read(_entry(version))
        if payload is None:
            return None
        try:
            return [orjson.loads(line) for line in payload.splitlines() if line.strip()]
        except orjson.JSONDecodeError as error:
            raise unreadable(f"{self.storage.where}/{_entry(version)}", error) from error

    def _last_checkpoint(self) -> int:
        try:
            return int(orjson.loads(self.storage.read(f"{LOG}/_last_checkpoint") or b"{}")["version"])
        except (KeyError, ValueError):
            return -1

    def _checkpoint_if_due(self) -> None:
        if self.version % _CHECKPOINT_RETRY or self.version - max(self._last_checkpoint(), 0) < _CHECKPOINT_EVERY:
            return
        try:
            self.checkpoint()
        except (OSError, HackwatchError) as error:
            # The commit stands without it; a full disk or a foreign reader's lock may be over by the next try.
            _LOGGER.warning("no checkpoint of %s yet: %s", self.storage.where, error)


def _entry(version: int) -> str:
    return f"{LOG}/{version:020d}.json"


def _now() -> int:
    return time.time_ns() // 1_000_000


def _line(action: Action) -> bytes:
    return orjson.dumps(action) + b"\n"


def _commit_information(operation: str, mode: str) -> Action:
    parameters = {"mode": mode, "partitionBy": orjson.dumps(PARTITIONS).decode()}
    return {
        "commitInfo": {
            "timestamp": _now(),
            "operation": operation,
            "operationParameters": parameters,
            "isBlindAppend": mode == "Append",
            "engineInfo": "hackwatch",
        }
    }
