"""Whether live records still look like the training data of the model that scores them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from hackwatch.alerts.system import Notice, Tell
from hackwatch.detect.bundle import Bundle
from hackwatch.detect.detector import Detector
from hackwatch.detect.drift import Drift, DriftReport
from hackwatch.pipeline.detection import Scored

__all__ = ["DriftWatch"]

_LOG = logging.getLogger(__name__)
#: A micro-batch is looked at this often, seconds: drift is slow, and small batches must stay quick.
LOOK_SECONDS = 2.0


class DriftWatch:
    """Compares a sample of what is scored with the model's training statistics; tells once a model."""

    def __init__(self, enough: int, limit: float, tell: Tell | None) -> None:
        """`enough`: sampled records before anything is said; `limit`: PSI that counts as drift."""
        self._enough, self._limit, self._tell = enough, limit, tell
        self._drifts: dict[str, tuple[str, Drift]] = {}
        self._looked = float("-inf")
        self._told: set[str] = set()

    def look(self, scored: Sequence[Scored], detectors: Mapping[str, Detector | None], now: float) -> None:
        """Take a micro-batch, if the last look was long enough ago (`now`: monotonic seconds)."""
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        for run in scored:
            detector = detectors.get(run.stream)
            if isinstance(detector, Bundle) and len(run.records):
                self._drift(run.stream, detector).update(run.records, run.records["score"].to_numpy())

    def _drift(self, stream: str, bundle: Bundle) -> Drift:
        known = self._drifts.get(stream)
        if known is None or known[0] != bundle.version:
            known = self._drifts[stream] = (bundle.version, Drift(bundle))
        return known[1]

    def report(self) -> dict[str, DriftReport]:
        """Per stream; tells once of a model whose input has drifted."""
        reports = {stream: drift.report() for stream, (_, drift) in list(self._drifts.items())}
        for stream, report in reports.items():
            if self._tell is not None and report.version not in self._told and self._drifted(report):
                self._told.add(report.version)
                title = f"{stream} records no longer look like the training data of {report.version}"
                detail = "; ".join(report.findings[:4]) or f"PSI {report.worst:.2f}"
                self._tell(Notice("drift", report.version, title, detail, stream=stream))
        return reports

    def _drifted(self, report: DriftReport) -> bool:
        return report.sampled >= self._enough and (report.alarming or report.worst >= self._limit)
