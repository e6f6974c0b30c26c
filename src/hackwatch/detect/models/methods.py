"""The models behind bundles, by method: how each scores, explains itself and is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from hackwatch.detect.features import Matrix
from hackwatch.detect.models.booster import Trees
from hackwatch.detect.models.imported import Imported
from hackwatch.errors import DataError

if TYPE_CHECKING:
    from hackwatch.detect.models.ensemble import Ensemble

__all__ = ["METHODS", "SPARK_ML", "Classifier", "load_model"]

#: What `train` can do.
METHODS: Final = ("supervised", "unsupervised", "permuted")
#: A pipeline that Spark ML trained, imported.
SPARK_ML: Final = "spark-ml"


class Classifier:
    """Trees whose output is the probability of the class `attack` (or `real`, inverted): supervised and permuted."""

    def __init__(self, trees: Trees, width: int) -> None:
        self._trees = trees
        self._width = width

    def score(self, matrix: Matrix) -> npt.NDArray[np.float32]:
        """Probability of attack, (rows,)."""
        return np.clip(self._trees.predict(matrix), 0, 1)

    def contributions(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """TreeSHAP towards attack, (rows, features), in the margin's unit."""
        return self._trees.contributions(matrix)[:, :-1].astype(np.float64)

    def importance(self) -> npt.NDArray[np.float64]:
        """Share of the total gain, (features,)."""
        return self._trees.importance(self._width)

    def files(self) -> dict[str, bytes]:
        return {"model.ubj": self._trees.raw}


def load_model(
    method: str, files: Mapping[str, bytes], *, threads: int, width: int
) -> Classifier | Ensemble | Imported:
    """The model of a bundle from its verified files; `width` is the number of features."""
    if method == "unsupervised":
        # Only who uses one pays for SciPy's spatial trees, at every start.
        from hackwatch.detect.models.ensemble import Ensemble

        return Ensemble.from_files(files, threads=threads, width=width)
    if method == SPARK_ML:
        return Imported.from_files(files, threads=threads)
    if method in METHODS:
        return Classifier(Trees(files["model.ubj"], threads=threads), width)
    known = ", ".join((*METHODS, SPARK_ML))
    raise DataError(f"unknown method {method!r}", where="bundle.json", next_step=f"this hackwatch knows {known}")
