"""A trained detector on disk: model files without pickle and one `bundle.json` that vouches for each of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.detect.detector import Driver
from hackwatch.detect.explain import drivers
from hackwatch.detect.features import Encoder, Matrix
from hackwatch.detect.models.methods import load_model
from hackwatch.detect.statistics import Statistics
from hackwatch.errors import DataError

__all__ = ["FORMAT", "Bundle", "Description", "load_bundle", "save_bundle"]

#: Version of the folder's layout; a greater one is refused.
FORMAT = 1
RETRAIN = "train the model again, or import an intact bundle"


class Model(Protocol):
    """What each method puts behind a bundle: a score and signed contributions per feature of the matrix."""

    def score(self, matrix: Matrix) -> npt.NDArray[np.float32]: ...

    def contributions(self, matrix: Matrix) -> npt.NDArray[np.float64]: ...

    def importance(self) -> npt.NDArray[np.float64]: ...

    def files(self) -> dict[str, bytes]: ...


@dataclass(frozen=True, slots=True)
class Description:
    """All that a bundle says about itself.

    `columns`: normalised columns the model reads, with their Polars type as text. `units`: unit per column.
    `threshold`: score from which a record is a suspect, for `alert_budget` (share of normal records that may be).
    `metrics`: what training measured. `score_shares`: of normal records held out, the share in each tenth of [0, 1].
    `parameters`: how it was trained. `created`: ISO 8601 UTC. `rows`: training rows.
    """

    stream: str
    method: str
    columns: Mapping[str, str]
    units: Mapping[str, str]
    threshold: float
    alert_budget: float
    rows: int
    created: str
    score_shares: tuple[float, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)


class Bundle:
    """A detector: encoder, model, threshold and what training saw. Immutable and thread-safe."""

    def __init__(
        self,
        description: Description,
        encoder: Encoder,
        model: Model,
        statistics: tuple[Statistics, ...],
        *,
        version: str = "",
    ) -> None:
        self.description = description
        self.encoder = encoder
        self.model = model
        self.statistics = {entry.column: entry for entry in statistics}
        self.version = version or f"{description.stream}-{digest(self.document())[:8]}"

    @property
    def stream(self) -> str:
        return self.description.stream

    @property
    def threshold(self) -> float:
        return self.description.threshold

    @property
    def metrics(self) -> Mapping[str, Any]:
        return self.description.metrics

    def score(self, records: pl.DataFrame) -> npt.NDArray[np.float32]:
        """One score in [0, 1] a row of normalised columns; a column that the model needs and lacks is a DataError."""
        return self.model.score(self.encoder.encode(records))

    def explain(self, records: pl.DataFrame, top: int = 4) -> list[list[Driver]]:
        """The columns that drove each row towards attack, greatest first, at most `top`."""
        if not records.height:
            return []
        contributions = self.model.contributions(self.encoder.encode(records))
        return drivers(records, self.encoder.columns, contributions, self.statistics, self.description.units, top)

    def importance(self) -> dict[str, float]:
        """Share of each telemetry column in the model, greatest first."""
        shares: dict[str, float] = {}
        for column, share in zip(self.encoder.columns, self.model.importance(), strict=True):
            shares[column] = shares.get(column, 0.0) + float(share)
        return dict(sorted(shares.items(), key=lambda pair: -pair[1]))

    def document(self, files: Mapping[str, bytes] | None = None) -> dict[str, Any]:
        """`bundle.json` as a JSON object, without its own digest."""
        files = self.model.files() if files is None else files
        about = self.description
        return {
            "format": FORMAT,
            **{name: _plain(getattr(about, name)) for name in about.__slots__},
            "encoder": self.encoder.as_json(),
            "statistics": [entry.as_json() for entry in self.statistics.values()],
            "files": {
                name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for name, data in sorted(files.items())
            },
        }


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def digest(document: Mapping[str, Any]) -> str:
    """sha256 of a bundle's document in canonical JSON, without its field `digest`."""
    content = {name: value for name, value in document.items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def save_bundle(bundle: Bundle, folder: Path) -> None:
    """Write `bundle` to the new `folder` (mode 0700), each file synced; bundle.json last."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=False)
    files = bundle.model.files()
    document = bundle.document(files)
    document["digest"] = digest(document)
    files["bundle.json"] = json.dumps(document, indent=1).encode()
    for name, data in files.items():
        _write(folder / name, data)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def load_bundle(folder: Path, *, threads: int = 1, version: str = "") -> Bundle:
    """Read and verify a bundle; `threads` is what XGBoost may use per call of `score`.

    Raises DataError if a file is missing, truncated or altered, or the format is not known.
    """
    document = read_document(folder)
    files = {name: _verified(folder, name, entry) for name, entry in document["files"].items()}
    try:
        description = Description(
            **{name: document[name] for name in Description.__slots__ if name != "score_shares"},
            score_shares=tuple(document["score_shares"]),
        )
        encoder = Encoder.from_json(document["encoder"])
        statistics = tuple(Statistics.from_json(entry) for entry in document["statistics"])
        model = load_model(description.method, files, threads=threads, width=len(encoder))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"not a bundle: {error!r}", where=str(folder), next_step=RETRAIN) from error
    return Bundle(description, encoder, model, statistics, version=version)


def read_document(folder: Path) -> dict[str, Any]:
    """`bundle.json` of a folder, its digest and format checked."""
    path = folder / "bundle.json"
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path), next_step=RETRAIN) from error
    except ValueError as error:
        raise DataError("not JSON: truncated or altered", where=str(path), next_step=RETRAIN) from error
    if not isinstance(document, dict) or not isinstance(document.get("files"), dict):
        raise DataError("not a bundle of hackwatch", where=str(path), next_step=RETRAIN)
    if document.get("format") != FORMAT:
        raise DataError(
            f"bundle format {document.get('format')!r}, this hackwatch reads {FORMAT}",
            where=str(path),
            next_step="upgrade hackwatch, or train the model again",
        )
    if document.get("digest") != digest(document):
        raise DataError("altered since it was written: digest differs", where=str(path), next_step=RETRAIN)
    return document


def _verified(folder: Path, name: str, entry: Mapping[str, Any]) -> bytes:
    path = folder / name
    if Path(name).name != name:
        raise DataError(f"file name leads out of the bundle: {name!r}", where=str(folder), next_step=RETRAIN)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path), next_step=RETRAIN) from error
    if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise DataError("truncated or altered: sha256 differs", where=str(path), next_step=RETRAIN)
    return data
