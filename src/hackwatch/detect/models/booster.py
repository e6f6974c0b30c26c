"""XGBoost as the one predictor of trees, imported without its scikit-learn wrappers."""

from __future__ import annotations

import importlib
import sys
import threading
from importlib.abc import MetaPathFinder
from typing import Any

import numpy as np
import numpy.typing as npt

from hackwatch.detect.features import Matrix
from hackwatch.errors import DataError

__all__ = ["Trees", "xgb"]


def _import_xgboost() -> Any:
    # xgboost imports all of scikit-learn when it is installed, only to subclass it: 2.5 s and 120 MB that the engine
    # never uses. Hidden during this one import, it can still be imported by the trainers afterwards.
    if "xgboost" in sys.modules or "sklearn" in sys.modules:
        import xgboost

        return xgboost
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        import xgboost
    finally:
        del sys.modules["sklearn"]
    sys.meta_path.insert(0, _WrappersForSpark())
    return xgboost


class _WrappersForSpark(MetaPathFinder):
    """Gives XGBoost its scikit-learn wrappers after all, when somebody is about to train with `xgboost.spark`.

    Spark keeps Python processes: one that scored with hackwatch may be the next that trains.
    """

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "xgboost.spark" and "sklearn" not in sys.modules:
            import sklearn  # type: ignore[import-untyped]  # noqa: F401  # has no types; XGBoost looks whether it is there

        if fullname == "xgboost.spark" and not sys.modules["xgboost.compat"].SKLEARN_INSTALLED:
            for name in ("xgboost.compat", "xgboost.sklearn"):
                importlib.reload(sys.modules[name])


xgb = _import_xgboost()


class Trees:
    """An ensemble of trees as XGBoost holds it: native speed, TreeSHAP, UBJ on disk.

    Thread-safe: prediction is lock-free, contributions use a second booster behind a lock (XGBoost allows
    `inplace_predict` in parallel only with itself).
    """

    def __init__(self, raw: bytes, *, threads: int = 1) -> None:
        self.raw = raw
        self._booster = _load(raw, threads)
        self._explainer: Any = None
        self._lock = threading.Lock()

    def predict(self, matrix: Matrix) -> npt.NDArray[np.float32]:
        """The model's output, one float32 a row."""
        if not len(matrix):
            return np.empty(0, np.float32)
        found: npt.NDArray[np.float32] = self._booster.inplace_predict(matrix, validate_features=False)
        return found

    def contributions(self, matrix: Matrix) -> npt.NDArray[np.float32]:
        """TreeSHAP: (rows, features + 1) in margin units; the last column is the expected value."""
        with self._lock:
            data = xgb.DMatrix(matrix, nthread=1)
            found: npt.NDArray[np.float32] = self._second().predict(data, pred_contribs=True)
        return found

    def leaves(self, matrix: Matrix) -> npt.NDArray[np.int64]:
        """The node at which each row ends in each tree, (rows, trees)."""
        with self._lock:
            found = self._second().predict(xgb.DMatrix(matrix, nthread=1), pred_leaf=True)
        return np.asarray(found, np.int64).reshape(len(matrix), -1)

    def _second(self) -> Any:
        if self._explainer is None:
            self._explainer = _load(self.raw, 1)
        return self._explainer

    def importance(self, width: int) -> npt.NDArray[np.float64]:
        """Total gain per feature, normalised to sum 1."""
        gain = np.zeros(width)
        for name, value in self._booster.get_score(importance_type="total_gain").items():
            gain[int(name[1:])] = value
        return gain / gain.sum() if gain.sum() > 0 else gain


def _load(raw: bytes, threads: int) -> Any:
    booster = xgb.Booster()
    try:
        booster.load_model(bytearray(raw))
    except (xgb.core.XGBoostError, ValueError) as error:
        raise DataError(
            f"not an XGBoost model: {str(error).splitlines()[0][:200]}",
            where="model file of a bundle",
            next_step="train the model again, or import an intact bundle",
        ) from error
    booster.set_param({"nthread": max(1, threads)})
    return booster
