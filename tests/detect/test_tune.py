"""The search for options: better or equal to nothing worse, kept and resumed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hackwatch.detect.training import Options
from hackwatch.detect.training.tune import tune
from hackwatch.errors import ConfigurationError, ResourceError
from tests.detect.support import STREAM, records


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ResourceError) as caught:
        tune(records(500), STREAM, Options(), 1, tmp_path / "study.sqlite")
    assert "hackwatch[tune]" in str(caught.value)


def test_no_trials_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        tune(records(500), STREAM, Options(), 0, tmp_path / "study.sqlite")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:sqlalchemy|optuna|alembic")
def test_a_search_goes_on_where_it_stopped(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    heard: list[tuple[int, float]] = []
    first = tune(records(600), STREAM, Options(), 2, tmp_path / "study.sqlite", lambda *what: heard.append(what))
    second = tune(records(600), STREAM, Options(), 1, tmp_path / "study.sqlite")
    assert [number for number, _ in heard] == [1, 2]
    assert (first.trials, second.trials) == (2, 3)
    assert second.quality >= first.quality == heard[-1][1]
    assert 3 <= second.options.depth <= 8
