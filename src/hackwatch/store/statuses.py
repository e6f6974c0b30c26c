"""The live status of each pipeline: what its engine says of itself about once a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from hackwatch.store.database import Database
from hackwatch.store.locks import PipelineLocks
from hackwatch.store.values import to_json

__all__ = ["Statuses"]

_UPSERT = (
    "INSERT INTO status (pipeline, status) VALUES (?, ?) ON CONFLICT (pipeline) DO UPDATE SET status = excluded.status"
)


class Statuses:
    """The last live status of each pipeline."""

    def __init__(self, database: Database, locks: PipelineLocks) -> None:
        self._database, self._locks = database, locks

    def write(self, pipeline: str, status: Mapping[str, Any]) -> None:
        """Replace the pipeline's live status (what `top` and the dashboard read). TakenOver: see PipelineLocks."""
        text = to_json(status)
        with self._locks.write(pipeline) as transaction:
            transaction.execute(_UPSERT, (pipeline, text))

    def read(self) -> dict[str, dict[str, Any]]:
        """The last live status of each pipeline."""
        with self._database.read() as transaction:
            rows = transaction.fetch("SELECT pipeline, status FROM status ORDER BY pipeline")
        return {pipeline: orjson.loads(text) for pipeline, text in rows}
